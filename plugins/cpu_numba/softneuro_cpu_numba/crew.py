"""Worker threads that walk native steps beside the calling thread: awake while runs follow each other, parked on a
lock, at no cost, when none comes for a millisecond. Knows nothing of layers or plans.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache

import numpy as np

from softneuro_cpu_numba.native import ABI, address_of, aligned

LINE_WORDS, POST, JOB, YIELD, WORKERS, SLEEPERS, FIRST_WORKER = 16, 0, 16, 32, 48, 64, 80
"""Places, in words of eight bytes, of what ``kernels.walk`` describes in bytes (it cannot be read without numba)."""
HOLDS, PARKED = 0, 1
AWAKE, LYING_DOWN, CALLED = 0, 1, 2
LAST_GENERATION = 0x7FFF_FFFF


class Crew:
    """``threads - 1`` workers. One walk has them at a time: hold ``free`` while leading."""

    def __init__(self, threads: int) -> None:
        self.free = threading.Lock()
        self.words = aligned(np.zeros(FIRST_WORKER + (threads - 1) * LINE_WORDS, np.int64))
        self.words[YIELD], self.words[WORKERS] = yield_address(), threads - 1
        self._address = self.words.ctypes.data
        self._generation = 1
        self._lead, self._go_on = ABI(address_of("walk", "lead")), ABI(address_of("walk", "go_on"))
        self._calls = [threading.Lock() for _ in range(threads - 1)]
        for number, call in enumerate(self._calls):
            call.acquire()
            self.words[FIRST_WORKER + number * LINE_WORDS + PARKED] = LYING_DOWN
            work = (ABI(address_of("walk", "serve")), self._address, number + 1, call)
            threading.Thread(target=_work, args=work, name=f"softneuro-cpu-{number + 1}", daemon=True).start()

    def lead(self, job: int) -> None:
        """Walks the steps at address ``job`` with everybody; returns when they are done. The caller holds ``free``."""
        self._generation = (self._generation + 2) & LAST_GENERATION
        generation = self._generation
        try:
            self._lead(self._address, generation, job, None)
            if self.words[SLEEPERS]:
                for number, call in enumerate(self._calls):
                    if self.words[FIRST_WORKER + number * LINE_WORDS + PARKED] == CALLED:
                        call.release()
                self._go_on(self._address, generation, job, None)
        except BaseException:  # an interrupt between two native calls leaves workers inside a walk that is over
            self.words[POST] = 0
            self.wait_until_left(job)
            raise

    def wait_until_left(self, job: int) -> None:
        """Returns when no worker reads the walk at address ``job`` any more; it must not be open."""
        while (self.words[FIRST_WORKER + HOLDS :: LINE_WORDS] == job).any() and not sys.is_finalizing():
            time.sleep(0)


def _work(serve: ctypes._FuncPointer, crew: int, place: int, call: threading.Lock) -> None:
    while True:
        call.acquire()
        serve(crew, place, 0, None)


@cache
def crew_of(threads: int) -> Crew:
    """One crew per thread count and process, started when first needed."""
    return Crew(threads)


@cache
def yield_address() -> int:
    """Address of the system's function that lets another thread have the core."""
    library = ctypes.windll.kernel32 if sys.platform == "win32" else ctypes.CDLL(None)  # type: ignore[attr-defined]
    function = library.SwitchToThread if sys.platform == "win32" else library.sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=crew_of.cache_clear)
