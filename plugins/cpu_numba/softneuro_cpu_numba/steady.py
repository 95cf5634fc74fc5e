"""Waits until threads really run side by side, for who measures times that should not depend on the moment.

On a virtual machine the host may put two virtual cores on one core of its own for tenths of a second, most often after
one of them was idle: everything on two threads then takes as long as on one (seen: a convolution 2.64 ms instead of
1.34, a quarter of the time). The linker's ``ready`` comes here before a routine is timed; nothing else does.
"""

from __future__ import annotations

import time
from functools import cache

import numpy as np

from softneuro_core.routine import NativeCall
from softneuro_cpu_numba.crew import crew_of
from softneuro_cpu_numba.native import address_of
from softneuro_cpu_numba.walk import Walk

REPETITIONS, SCRATCH_BYTES = 150, 16 * 1024
"""About 20 us of multiply-adds that use both of a core's multipliers all the time."""
ALONE_TRIES = 50
STEADY = 1.4
"""Everybody's time over that of one alone below which cores do not share multipliers; it is 2 where they do."""
PATIENCE_S, PAUSE_S, DISAPPOINTMENTS = 0.1, 0.005, 3


class Gauge:
    """The same work for one thread and for each of ``threads``; remembers whether waiting ever helped."""

    def __init__(self, threads: int) -> None:
        args = np.array([REPETITIONS], np.int64)
        one, all_ = (NativeCall(address_of("walk", "work"), args, n, SCRATCH_BYTES) for n in (1, threads))
        alone = Walk([one], 1)
        self._together = Walk([all_], threads)
        self._alone_ns = min(_took(alone) for _ in range(ALONE_TRIES))
        self._disappointed = 0

    def is_steady(self) -> bool:
        return _took(self._together) < STEADY * self._alone_ns

    def settle(self) -> None:
        """Returns when the cores are steady, or soon if they never were: two threads of one core stay that."""
        if self._disappointed == DISAPPOINTMENTS:
            return
        end = time.monotonic() + PATIENCE_S
        while not (self.is_steady() or self.is_steady()):
            if time.monotonic() > end:
                self._disappointed += 1
                return
            time.sleep(PAUSE_S)
        self._disappointed = 0


def _took(run: Walk) -> int:
    begin = time.perf_counter_ns()
    run()
    return time.perf_counter_ns() - begin


@cache
def _gauge(threads: int) -> Gauge:
    return Gauge(threads)


def settle(threads: int) -> None:
    """Wakes the crew, as earlier steps of a plan would have, and waits for its cores (at most 0.1 s)."""
    crew_of(threads).rouse()
    _gauge(threads).settle()
