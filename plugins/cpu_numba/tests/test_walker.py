"""The linker: same results on any number of threads, idle workers, late workers, several sessions at once."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest
from harness import DEVICE, target
from softneuro_cpu_numba import walker
from softneuro_cpu_numba.copies import Block, copy_kernel
from softneuro_cpu_numba.native import native_call
from softneuro_cpu_numba.strides import Axis

from softneuro_core.routine import Call

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


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_every_step_waits_for_the_one_before(threads):
    calls, first, last = chain(12)
    run = walker.link(target(threads), calls)
    assert run is not None
    for turn in range(1, 30):
        first[:] = turn
        run()
        assert (last == turn).all()


def test_python_calls_run_in_their_place():
    calls, first, last = chain(4)
    middle = calls[1]
    seen = []
    calls[1] = Call(lambda: (seen.append(threading.get_ident()), middle.run())[0])
    run = walker.link(target(2), calls)
    assert run is not None
    first[:] = 7
    run()
    assert (last == 7).all() and seen == [threading.get_ident()]


def test_one_thread_starts_no_workers():
    before = threading.active_count()
    calls, first, last = chain(2)
    run = walker.link(target(1), calls)
    assert run is not None
    first[:] = 1
    run()
    assert threading.active_count() == before and (last == 1).all()


def test_workers_cost_nothing_between_runs():
    calls, first, _ = chain(2)
    run = walker.link(target(2), calls)
    assert run is not None
    first[:] = 1
    run()
    time.sleep(0.05)
    start = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - start < 0.05


def test_two_sessions_at_the_same_time():
    """One has the crew, the other walks alone; both are right."""
    chains = [chain(6) for _ in range(2)]
    runs = [walker.link(target(2), calls) for calls, _, _ in chains]
    wrong: list[int] = []

    def work(number: int) -> None:
        _, first, last = chains[number]
        run = runs[number]
        assert run is not None
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


def test_a_worker_of_an_old_run_does_nothing(monkeypatch):
    """A job begun after its run is over finds another generation and touches no task."""
    jobs = []
    monkeypatch.setattr(walker.Worker, "wake", lambda self, job: jobs.append(job))
    calls, first, last = chain(3)
    run = walker.link(target(2), calls)
    assert run is not None
    for turn in (1, 2):
        first[:] = turn
        run()
    last[:] = -1
    for job in jobs:
        job()
    assert (last == -1).all()


def test_other_devices_and_pure_python_are_left_to_the_core():
    assert walker.link(target(1), [Call(lambda: None)]) is None


def test_a_step_without_tasks_is_skipped():
    calls, first, last = chain(2)
    native = calls[0].native
    assert native is not None
    calls.insert(1, native_call(native.address, native.args, 0, None, 0))
    run = walker.link(target(2), calls)
    assert run is not None
    first[:] = 3
    run()
    assert (last == 3).all()
