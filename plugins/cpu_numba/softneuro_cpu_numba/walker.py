"""The CPU linker: adjacent native steps become tables walked on the target's threads, Python calls in between.

One thread walks alone. With more, a crew helps; it serves one run at a time: a second Session running at the same
moment walks alone, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from softneuro_core.device import Target
from softneuro_core.routine import Call, NativeCall
from softneuro_cpu_numba.blas import keep_blas_to_one_thread
from softneuro_cpu_numba.crew import crew_of, yield_address
from softneuro_cpu_numba.native import ABI, address_of, aligned

STATE_WORDS = 16
"""Words of shared state a step (``kernels.walk.STEP_BYTES``)."""
CHUNKS_PER_THREAD = 4


class Walk:
    """Native calls run in turn, the tasks of each spread over ``threads`` threads, without Python in between.

    ``members`` are kept alive: args and buffers belong to them.
    """

    def __init__(self, calls: Sequence[NativeCall], threads: int, members: Sequence[Call] = ()) -> None:
        split = threads > 1 and any(call.tasks > 1 for call in calls)
        self._threads = threads if split else 1
        most = max(call.scratch_bytes for call in calls)
        self._table = _table(calls, self._threads)
        self._state = aligned(np.zeros(len(calls) * STATE_WORDS, np.int64))
        self._scratch = [aligned(np.zeros(most, np.uint8)) for _ in range(self._threads)]
        self._args = np.array(
            [len(calls), self._table.ctypes.data, self._state.ctypes.data, yield_address()]
            + [own.ctypes.data for own in self._scratch],
            np.int64,
        )
        self._keep = (calls, members)
        self._alone = ABI(address_of("walk", "alone"))
        self._address, self._own = self._args.ctypes.data, self._scratch[0].ctypes.data

    def __call__(self) -> None:
        if self._threads > 1:
            crew = crew_of(self._threads)
            if crew.free.acquire(blocking=False):
                try:
                    crew.lead(self._address)
                finally:
                    crew.free.release()
                return
        self._alone(self._address, 0, 0, self._own)

    def __del__(self) -> None:
        if getattr(self, "_threads", 1) > 1:
            crew_of(self._threads).wait_until_left(self._address)


def _table(calls: Sequence[NativeCall], threads: int) -> np.ndarray:
    rows = [
        (call.address, call.args.ctypes.data, call.tasks, -(-call.tasks // (threads * CHUNKS_PER_THREAD)))
        for call in calls
    ]
    return np.array(rows, np.int64)


def link(target: Target, calls: Sequence[Call]) -> Callable[[], None] | None:
    """The body of ``softneuro_link`` for ``cpu``: native runs walked, Python calls made in between.

    BLAS, in this process, keeps to one thread from here on."""
    if target.device.name != "cpu":
        return None
    keep_blas_to_one_thread()
    if not any(call.native for call in calls):
        return None
    pieces: list[Callable[[], None]] = []
    for native, group in groupby(calls, key=lambda call: call.native is not None):
        members = list(group)
        if not native:
            pieces += [call.run for call in members]
            continue
        steps = [call.native for call in members if call.native and call.native.tasks > 0]
        if steps:
            pieces.append(Walk(steps, target.threads, members))
    if len(pieces) == 1:
        return pieces[0]

    def run() -> None:
        for piece in pieces:
            piece()

    return run
