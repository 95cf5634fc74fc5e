"""Worker threads that walk native steps beside the calling thread: awake while runs follow each other, parked on a
lock, at no cost, when none comes for a millisecond. Knows nothing of layers or plans.

A worker is woken on a core other than its leader's and free to move from there, or pinned to it with
SOFTNEURO_PIN_THREADS=1. Left to itself Linux now and then wakes it on the leader's own core and leaves it there, the
other idle: a convolution on two threads then took 2.7 ms instead of 1.5.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from softneuro_core.knobs import PIN_THREADS
from softneuro_cpu_numba.native import ABI, address_of, aligned

LINE_WORDS, POST, YIELD, WORKERS, CALLS, WHERE, PATIENCE, FIRST_WORKER = 16, 0, 32, 48, 64, 80, 96, 112
"""Places, in words of eight bytes, of what ``kernels.walk`` describes in bytes (it cannot be read without numba)."""
HOLDS, PARKED = 0, 1
LYING_DOWN, CALLED, WAKING = 1, 2, 3
LONG_PATIENCE = 200_000
"""Yields before a roused worker parks: about 0.1 s."""
LAST_GENERATION = 0x7FFF_FFFF


class Crew:
    """``threads - 1`` workers. One walk has them at a time: hold ``free`` while leading."""

    def __init__(self, threads: int) -> None:
        self.free = threading.Lock()
        self._process = os.getpid()
        self.words = aligned(np.zeros(FIRST_WORKER + (threads - 1) * LINE_WORDS, np.int64))
        self.words[YIELD], self.words[WHERE], self.words[WORKERS] = yield_address(), _core_address(), threads - 1
        self._holds, self._parked = (self.words[FIRST_WORKER + word :: LINE_WORDS] for word in (HOLDS, PARKED))
        self._address = self.words.ctypes.data
        self._generation = 1
        self._lead, self._go_on = ABI(address_of("walk", "lead")), ABI(address_of("walk", "go_on"))
        self._nothing = np.zeros(6 + threads, np.int64)  # a walk of no steps
        self._parked[:] = LYING_DOWN
        self._workers = [Worker(self._address, place) for place in range(1, threads)]

    def lead(self, job: int) -> None:
        """Walks the steps at address ``job`` with everybody; returns when they are done. The caller holds ``free``."""
        self._generation = (self._generation + 2) & LAST_GENERATION
        generation = self._generation
        try:
            self._lead(self._address, generation, job, None)
            if self.words[CALLS]:
                self._see_to_workers()
                self._go_on(self._address, generation, job, None)
        except BaseException:  # an interrupt between two native calls leaves workers inside a walk that is over
            self.words[POST] = 0
            self.wait_until_left(job)
            raise

    def _see_to_workers(self) -> None:
        """Wakes those asleep and moves those away that share our core."""
        cores = _cores_but_ours()
        for number, worker in enumerate(self._workers):
            worker.move_to(cores[number % len(cores)] if cores else None)
            if self._parked[number] == CALLED:
                self._parked[number] = WAKING
                worker.wake()
            else:
                worker.let_move()

    def rouse(self) -> None:
        """Returns when every worker is awake; each then waits about 0.1 s for work before it parks."""
        self.words[PATIENCE] = LONG_PATIENCE
        with self.free:
            self.lead(self._nothing.ctypes.data)
        while (self._parked == WAKING).any():
            time.sleep(0)

    def wait_until_left(self, job: int) -> None:
        """Returns when no worker reads the walk at address ``job`` any more; it must not be open."""
        while (self._holds == job).any() and os.getpid() == self._process and not sys.is_finalizing():
            time.sleep(0)


class Worker:
    """One thread, parked on a lock whenever ``serve`` returns."""

    def __init__(self, crew: int, place: int) -> None:
        self._call = threading.Lock()
        self._call.acquire()
        self._thread = threading.Thread(
            target=self._work, args=(crew, place), name=f"softneuro-cpu-{place}", daemon=True
        )
        self._allowed: set[int] = set()
        self._thread.start()

    def wake(self) -> None:
        self._call.release()

    def move_to(self, core: int | None) -> None:
        """Puts the thread on a core, now or when it is woken next."""
        if core is not None:
            self._allowed = os.sched_getaffinity(0)
            _set_affinity(self._thread.native_id, {core})

    def let_move(self) -> None:
        """Takes :meth:`move_to` back: the system may move the thread on."""
        if self._allowed and PIN_THREADS.get() != "1":
            _set_affinity(self._thread.native_id, self._allowed)

    def _work(self, crew: int, place: int) -> None:
        serve = ABI(address_of("walk", "serve"))
        while True:
            self._call.acquire()
            self.let_move()
            serve(crew, place, 0, None)


def _cores_but_ours() -> list[int]:
    """Cores this thread may use, without the one it is on; none where the system does not tell."""
    address = _core_address()
    if not address:
        return []
    here = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    return sorted(core for core in os.sched_getaffinity(0) if core != here)


def _set_affinity(thread: int | None, cores: set[int]) -> None:
    with contextlib.suppress(OSError):  # a core went offline or a container forbids it: the thread stays where it is
        os.sched_setaffinity(thread or 0, cores)


@cache
def _crew(process: int, threads: int) -> Crew:
    return Crew(threads)


_STARTING: dict[int, threading.Lock] = {}
"""By process: a child must not wait for a lock that a thread of its parent held when it was forked."""


def crew_of(threads: int) -> Crew:
    """One crew per thread count and process, started when first needed. A child has none of its parent's threads."""
    process = os.getpid()
    with _STARTING.setdefault(process, threading.Lock()):
        return _crew(process, threads)


@cache
def yield_address() -> int:
    """Address of the system's function that lets another thread have the core."""
    library = ctypes.windll.kernel32 if sys.platform == "win32" else ctypes.CDLL(None)  # type: ignore[attr-defined]
    return _address_of(library.SwitchToThread if sys.platform == "win32" else library.sched_yield)


@cache
def _core_address() -> int:
    """Address of ``sched_getcpu``; 0 outside Linux, where threads cannot be moved either."""
    if not sys.platform.startswith("linux"):
        return 0
    function = getattr(ctypes.CDLL(None), "sched_getcpu", None)
    return 0 if function is None else _address_of(function)


def _address_of(function: Callable[..., Any]) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
