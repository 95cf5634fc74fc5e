"""A run of native steps as one table, walked without Python in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from softneuro_core.routine import Call, NativeCall
from softneuro_cpu_numba.crew import Crew, crew_of, yield_address
from softneuro_cpu_numba.native import ABI, address_of, aligned

STATE_WORDS = 16
"""Words of shared state a step (``kernels.walk.STEP_BYTES``)."""
FINEST = 32
"""Parts a thread's share of a step's tasks is cut into at most."""


class Walk:
    """Native calls run in turn, the tasks of each spread over ``threads`` threads, without Python in between.

    ``members`` are kept alive: args and buffers belong to them. ``ready`` is there for who takes its time
    (see ``softneuro_link``).
    """

    def __init__(self, calls: Sequence[NativeCall], threads: int, members: Sequence[Call] = ()) -> None:
        split = threads > 1 and any(call.tasks > 1 for call in calls)
        self._threads = threads if split else 1
        most = max(8, *(call.scratch_bytes for call in calls))
        self._table = _table(calls, self._threads)
        self._state = aligned(np.zeros(len(calls) * STATE_WORDS, np.int64))
        self._scratch = [aligned(np.zeros(most, np.uint8)) for _ in range(self._threads)]
        self._args = np.array(
            [len(calls), self._table.ctypes.data, self._state.ctypes.data, yield_address(), self._threads]
            + [own.ctypes.data for own in self._scratch],
            np.int64,
        )
        self._keep = (calls, members)
        self._crew: Crew | None = None  # the one that may still read the table
        self.ready: Callable[[], None] | None = None
        self._alone = ABI(address_of("walk", "alone"))
        self._address, self._own = self._args.ctypes.data, self._scratch[0].ctypes.data

    def __call__(self) -> None:
        if self._threads > 1:
            self._crew = crew_of(self._threads)
            if self._crew.free.acquire(blocking=False):
                try:
                    self._crew.lead(self._address)
                finally:
                    self._crew.free.release()
                return
        self._alone(self._address, 0, 0, self._own)

    def __del__(self) -> None:
        if (crew := getattr(self, "_crew", None)) is not None:
            crew.wait_until_left(self._address)


def _table(calls: Sequence[NativeCall], threads: int) -> np.ndarray:
    rows = [(call.address, call.args.ctypes.data, call.tasks, -(-call.tasks // (threads * FINEST))) for call in calls]
    return np.array(rows, np.int64)
