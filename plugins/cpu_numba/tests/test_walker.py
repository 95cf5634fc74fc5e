"""The linker: same results on any number of threads, idle workers, late workers, several sessions at once."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time

import numpy as np
import pytest
from harness import DEVICE, target
from softneuro_cpu_numba import walker
from softneuro_cpu_numba.copies import Block, copy_kernel
from softneuro_cpu_numba.crew import CALLS, LYING_DOWN, PATIENCE, Crew, crew_of
from softneuro_cpu_numba.native import native_call
from softneuro_cpu_numba.walk import Walk

from softneuro_core.routine import Call
from softneuro_core.strides import Axis

COUNT = 64 * 1024


def chain(length: int) -> tuple[list[Call], np.ndarray, np.ndarray]:
    """Copies buffer to buffer, ``length`` of them; the source and the last destination."""
    kernel = copy_kernel([Block((Axis(COUNT, (1, 1)),), 0)], 4)
    assert kernel.tasks > 1
    buffers = [DEVICE.buffer(DEVICE.alloc(4 * COUNT), 0, (COUNT,), np.dtype(np.float32)) for _ in range(length + 1)]
    for buffer in buffers:
        buffer.array[:] = 0
    calls = [kernel.bind([a], [b], None) for a, b in itertools.pairwise(buffers)]
    return calls, buffers[0].array, buffers[-1].array


def linked(threads, calls):
    run = walker.link(target(threads), calls)
    assert run is not None
    return run


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_every_step_waits_for_the_one_before(threads):
    calls, first, last = chain(12)
    run = linked(threads, calls)
    for turn in range(1, 30):
        first[:] = turn
        run()
        assert (last == turn).all()


def test_python_calls_run_in_their_place():
    calls, first, last = chain(4)
    middle = calls[1]
    seen = []
    calls[1] = Call(lambda: (seen.append(threading.get_ident()), middle.run())[0])
    run = linked(2, calls)
    first[:] = 7
    run()
    assert (last == 7).all() and seen == [threading.get_ident()]


def test_one_thread_starts_no_workers():
    before = set(threading.enumerate())
    calls, first, last = chain(2)
    run = linked(1, calls)
    first[:] = 1
    run()
    assert set(threading.enumerate()) <= before and (last == 1).all()


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="no clock of one thread on this system")
def test_workers_cost_nothing_between_runs():
    calls, first, _ = chain(2)
    run = linked(2, calls)
    first[:] = 1
    run()
    crew = crew_of(2)
    sleeping(crew)
    clocks = [time.pthread_getcpuclockid(worker._thread.ident) for worker in crew._workers]
    start = [time.clock_gettime(clock) for clock in clocks]
    time.sleep(0.3)
    assert all(time.clock_gettime(clock) - begin < 0.05 for clock, begin in zip(clocks, start, strict=True))


def test_two_sessions_at_the_same_time():
    """One has the crew, the other walks alone; both are right."""
    chains = [chain(6) for _ in range(2)]
    runs = [linked(2, calls) for calls, _, _ in chains]
    wrong: list[int] = []

    def work(number: int) -> None:
        _, first, last = chains[number]
        run = runs[number]
        for turn in range(1, 40):
            first[:] = turn
            run()
            if not (last == turn).all():
                wrong.append(turn)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_worker_that_comes_late_does_nothing():
    """A walk begun after its run is over finds another generation and touches no task."""
    calls, first, last = chain(3)
    walk = Walk([call.native for call in calls if call.native], 2)
    crew = crew_of(2)
    old = crew._generation
    for turn in (1, 2):
        first[:] = turn
        walk()
    last[:] = -1
    crew._go_on(crew._address, old + 2, walk._address, None)  # the first run's generation
    assert (last == -1).all()


def test_workers_made_ready_stay_awake_and_those_that_lay_down_are_called(monkeypatch):
    """With patience without end: the usual 0.1 s pass unseen while other processes have the cores."""
    monkeypatch.setattr("softneuro_cpu_numba.crew.LONG_PATIENCE", 1 << 60)
    calls, first, last = chain(2)
    run = linked(2, calls)
    first[:] = 1
    crew = crew_of(2)
    sleeping(crew)
    run.ready()  # type: ignore[attr-defined]
    assert not crew._parked.any()
    sleeping(crew)
    run()
    assert crew.words[CALLS] == 1 and (last == 1).all()


def sleeping(crew: Crew) -> None:
    """Waits until every worker is parked. Patience is counted in yields, which take milliseconds each where other
    processes want the cores: what is left of a long one is taken away."""
    crew.words[PATIENCE] = 0
    deadline = time.monotonic() + 300
    while not (crew._parked == LYING_DOWN).all():
        assert time.monotonic() < deadline, crew._parked
        time.sleep(0.01)


def test_a_walk_is_freed_only_when_no_worker_reads_it():
    """The table of a walk goes while workers are awake; what they read next is another walk."""
    for turn in range(50):
        calls, first, last = chain(2)
        run = linked(3, calls)
        first[:] = turn
        run()
        assert (last == turn).all()
        address = run._address  # type: ignore[attr-defined]
        del run
        gc.collect()
        assert not (crew_of(3)._holds == address).any()


def test_a_walk_that_never_ran_starts_no_crew_when_it_is_freed():
    before = set(threading.enumerate())
    calls, _, _ = chain(2)
    run = walker.link(target(7), calls)
    del run
    gc.collect()
    assert set(threading.enumerate()) <= before


def test_an_interrupt_between_two_native_calls_leaves_the_crew_usable(monkeypatch):
    calls, first, last = chain(3)
    run = linked(2, calls)
    run()
    crew = crew_of(2)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(crew, "_lead", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run()
    first[:] = 5
    run()
    assert (last == 5).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_crew_of_its_own():
    calls, first, last = chain(3)
    run = linked(2, calls)
    first[:] = 1
    run()
    child = os.fork()
    if child == 0:
        first[:] = 2
        run()
        os._exit(0 if (last == 2).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be placed on this system")
def test_pinned_workers_stay_on_one_core(monkeypatch):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    monkeypatch.setenv("SOFTNEURO_PIN_THREADS", "1")
    crew = crew_of(2)
    sleeping(crew)
    crew.rouse()
    worker = crew._workers[0]._thread.native_id
    assert worker is not None and len(os.sched_getaffinity(worker)) == 1
    monkeypatch.delenv("SOFTNEURO_PIN_THREADS")
    sleeping(crew)
    crew.rouse()
    assert os.sched_getaffinity(worker) == os.sched_getaffinity(0)


def test_other_devices_and_pure_python_are_left_to_the_core():
    assert walker.link(target(1), [Call(lambda: None)]) is None


def test_a_step_without_tasks_is_skipped():
    calls, first, last = chain(2)
    native = calls[0].native
    assert native is not None
    calls.insert(1, native_call(native.address, native.args, 0, None, 0))
    run = linked(2, calls)
    first[:] = 3
    run()
    assert (last == 3).all()
