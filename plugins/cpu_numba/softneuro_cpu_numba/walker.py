"""The CPU linker: adjacent steps become tables walked natively on the target's threads.

Workers are parked on a lock between runs and cost no CPU; with one thread there are none. A crew of workers serves
one run at a time: a second Session running at the same moment walks alone, with the same result.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby

import numpy as np

from softneuro_core.device import Target
from softneuro_core.routine import Call, NativeCall
from softneuro_cpu_numba.blas import set_blas_threads
from softneuro_cpu_numba.native import ABI, address_of, aligned

STATE_WORDS = 16
"""Words of shared state a step (``kernels.walk.STEP_BYTES``)."""
CHUNKS_PER_THREAD = 4


class Worker:
    """One parked thread. ``job`` is what to call once when woken."""

    def __init__(self) -> None:
        self.job: Callable[[], object] | None = None
        self._go = threading.Lock()
        self._go.acquire()
        threading.Thread(target=self._work, name="softneuro-cpu", daemon=True).start()

    def wake(self, job: Callable[[], object]) -> None:
        """Hands over a job and unparks; a job not yet begun is replaced (its run is over by then)."""
        self.job = job
        if self._go.locked():
            self._go.release()

    def _work(self) -> None:
        while True:
            self._go.acquire()
            job = self.job
            if job is not None:
                job()


class Crew:
    """The ``threads - 1`` workers beside the calling thread."""

    def __init__(self, threads: int) -> None:
        self.workers = [Worker() for _ in range(threads - 1)]
        self.free = threading.Lock()


@cache
def crew(threads: int) -> Crew:
    """One crew per thread count and process, started when first needed."""
    return Crew(threads)


@cache
def _yield_address() -> int:
    library = ctypes.windll.kernel32 if sys.platform == "win32" else ctypes.CDLL(None)  # type: ignore[attr-defined]
    function = library.SwitchToThread if sys.platform == "win32" else library.sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _scratch(calls: Sequence[NativeCall]) -> np.ndarray:
    return aligned(np.zeros(max(call.scratch_bytes for call in calls), np.uint8))


def _table(calls: Sequence[NativeCall], threads: int) -> np.ndarray:
    rows = [
        (call.address, call.args.ctypes.data, call.tasks, -(-call.tasks // (threads * CHUNKS_PER_THREAD)))
        for call in calls
    ]
    return np.array(rows, np.int64)


def walk_alone(calls: Sequence[NativeCall]) -> Callable[[], None]:
    """One function that runs the calls in turn on the calling thread, without Python in between."""
    table, scratch = _table(calls, 1), _scratch(calls)
    args = np.array([len(calls), table.ctypes.data], np.int64)
    function = ABI(address_of("walk", "alone"))
    pointer, own = args.ctypes.data, scratch.ctypes.data

    def run(_keep: object = (table, scratch, args, calls)) -> None:
        function(pointer, 0, 0, own)

    return run


def walk_shared(calls: Sequence[NativeCall], threads: int) -> Callable[[], None]:
    """One function that runs the calls in turn, the tasks of each spread over ``threads`` threads."""
    table = _table(calls, threads)
    state = aligned(np.zeros(len(calls) * STATE_WORDS, np.int64))
    args = np.array([len(calls), table.ctypes.data, state.ctypes.data, _yield_address()], np.int64)
    scratch = [_scratch(calls) for _ in range(threads)]
    walk, ready = ABI(address_of("walk", "shared")), ABI(address_of("walk", "open_generation"))
    pointer = args.ctypes.data
    helpers, generation = crew(threads), [0]

    def job_for(number: int, place: int) -> Callable[[], object]:
        def job(_keep: object = (table, state, args, scratch)) -> None:  # a late worker still reads these
            walk(pointer, number, 0, place)

        return job

    def run(_keep: object = (table, state, args, scratch, calls)) -> None:
        generation[0] += 1
        number = generation[0]
        ready(pointer, number, 0, None)
        ours = helpers.free.acquire(blocking=False)
        try:
            if ours:
                for worker, own in zip(helpers.workers, scratch[1:], strict=True):
                    worker.wake(job_for(number, own.ctypes.data))
            walk(pointer, number, 0, scratch[0].ctypes.data)
        finally:
            if ours:
                helpers.free.release()

    return run


def link(target: Target, calls: Sequence[Call]) -> Callable[[], None] | None:
    """The body of ``softneuro_link`` for ``cpu``: native runs walked, Python calls made in between.

    BLAS, in this process, keeps to the target's threads from here on."""
    if target.device.name != "cpu":
        return None
    set_blas_threads(target.threads)
    if not any(call.native for call in calls):
        return None
    pieces: list[Callable[[], None]] = []
    for native, group in groupby(calls, key=lambda call: call.native is not None):
        members = list(group)
        if not native:
            pieces += [call.run for call in members]
            continue
        steps = [call.native for call in members if call.native and call.native.tasks > 0]
        if not steps:
            continue
        split = target.threads > 1 and any(step.tasks > 1 for step in steps)
        walk = walk_shared(steps, target.threads) if split else walk_alone(steps)
        pieces.append(_holding(walk, members))
    if len(pieces) == 1:
        return pieces[0]

    def run() -> None:
        for piece in pieces:
            piece()

    return run


def _holding(walk: Callable[[], None], members: Sequence[Call]) -> Callable[[], None]:
    """``walk`` with the calls kept alive: their args and buffers belong to them."""

    def run(_keep: object = members) -> None:
        walk()

    return run
