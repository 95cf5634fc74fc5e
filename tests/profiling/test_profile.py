"""Profiling with routines that misbehave, in isolation and out of it; races, budgets, resumption."""

from __future__ import annotations

import importlib
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

sys.path.insert(0, str(Path(__file__).parent))

from setting import QUICK, CountingDatabase, Notes, catalog, jobs, plugin, relus

from softneuro_core.catalog import load_plugins
from softneuro_core.costs import Cost, CostDatabase, adapter_key
from softneuro_core.profiling.jobs import AdapterJob, Job
from softneuro_core.profiling.profile import STRIKES, Profiler, profile
from softneuro_core.spec import FLOAT32, INT8, QParams, TensorSpec, host
from softneuro_core.testing.build import build_graph

SHAPE = (2, 3, 5, 7)
REASONS = {
    "wrong": r"wrong: output 0 is off by 0\.\d+ of its largest element, allowed 0",
    "not_a_number": r"wrong: output 0 has NaN in 1 of 210 elements where the reference has none",
    "leaves_out": r"wrong: output 0 has NaN in 30 of 210 elements",
    "strays": r"writes outside its buffers: output 0 \('y0'\): 4 bytes behind its end",
    "spoils_input": r"changes its input: input 0 \('x0'\) was changed",
    "segfaults": r"crashed \((SIGSEGV|SIGBUS|access violation)\)",
    "hangs": r"hangs \(> 4 s in check\)",
    "hangs_with_the_lock": r"hangs \(> 4 s in check\)",
    "raises": r"raises in run: ArithmeticError: no more numbers",
    "exits": r"raises in run: SystemExit: enough",
    "leaves": r"crashed \(exit code 3\)",
    "fails_to_prepare": r"raises in prepare: RuntimeError: cannot compile$",
    "wrong_later": r"wrong when run again: output 0 is off by",
}
GOOD = ("relu", "prints", "reads", "slow", "reference")


@pytest.mark.skipif(sys.platform == "win32", reason="one of the planted routines calls the C library's sleep")
def test_every_planted_fault_is_named_and_the_others_are_measured() -> None:
    found, graph, notes, database = catalog("planted_routines"), relus(SHAPE), Notes(), CountingDatabase()
    work = jobs(graph, found)
    costs = profile(graph, work, catalog=found, threads=1, database=database, progress=notes, effort=QUICK, hang_s=4)
    by_routine = {job.routine.removeprefix("cpu/"): costs[job.key] for job in work}
    assert set(by_routine) == {*REASONS, *GOOD}
    for name, reason in REASONS.items():
        assert by_routine[name].status == "failed"
        assert re.search(reason, by_routine[name].reason), (name, by_routine[name].reason)
        assert sum(f"cpu/{name} failed" in note for note in notes.notes) == 1
    for name in GOOD:
        cost = by_routine[name]
        assert cost.ok and cost.time_ns >= cost.min_ns > 0 and cost.samples >= 1 and cost.error == 0.0, (name, cost)
    assert len(database.put_keys) == len(work) == notes.done - 1  # one layer of reference values
    assert by_routine["slow"].min_ns > 2_000_000


def test_nothing_known_is_measured_again(tmp_path: Path) -> None:
    found, graph, file = catalog("planted_routines"), relus(SHAPE), tmp_path / "costs"
    work = jobs(graph, found, ["cpu/relu", "cpu/wrong", "cpu/reference"])
    with CountingDatabase(file) as database:
        first = profile(graph, work[:2], catalog=found, threads=1, database=database, effort=QUICK, isolate=False)
        assert len(database.put_keys) == 2
    with CountingDatabase(file) as database:
        again = profile(graph, work, catalog=found, threads=1, database=database, effort=QUICK, isolate=False)
        assert database.put_keys == [work[2].key] and first.items() <= again.items()
        notes = Notes()
        profile(graph, work, catalog=found, threads=1, database=database, progress=notes)
        assert len(database.put_keys) == 1 and not notes.phases  # not even a worker is started


def test_identical_layers_are_measured_once() -> None:
    found, graph, database = catalog("planted_routines"), relus(SHAPE, SHAPE, (4, 4), SHAPE), CountingDatabase()
    work = jobs(graph, found, ["cpu/relu"])
    costs = profile(graph, work, catalog=found, threads=1, database=database, effort=QUICK, isolate=False)
    assert len(work) == 4 and len(costs) == len(database.put_keys) == 2


def test_hopeless_candidates_cost_little() -> None:
    found, graph, database = catalog("planted_routines"), relus((64, 64)), CostDatabase(":memory:")
    work = jobs(graph, found, ["cpu/relu", "cpu/slow"])
    work.sort(key=lambda job: job.routine != "cpu/relu")
    costs = profile(graph, work, catalog=found, threads=1, database=database, effort=QUICK, isolate=False)
    quick, slow = costs[work[0].key], costs[work[1].key]
    assert quick.samples == QUICK.samples and slow.ok and slow.samples <= QUICK.first_look


@pytest.mark.parametrize("times, expected", [([1000, 990, 1], 990), ([1000, 300, 290, 1], 290), ([9, 3, 2, 1, 0], 1)])
def test_a_disturbed_machine_is_measured_until_it_agrees(
    monkeypatch: pytest.MonkeyPatch, times: list[int], expected: int
) -> None:
    found, graph = catalog("planted_routines"), relus(SHAPE)
    work = jobs(graph, found, ["cpu/relu", "cpu/reference"])
    seen = {job.key: iter(times) for job in work}

    def measured(self: Profiler, job: Job, best: dict[str, int], deadline: float | None, before: Cost | None) -> Cost:
        cost = Cost("ok", time := next(seen[job.key]), time, 0, 5)
        return cost if before is None else before.better_of(cost)

    monkeypatch.setattr(Profiler, "_measure", measured)
    effort, database = replace(QUICK, heats=2), CostDatabase(":memory:")
    costs = profile(graph, work, catalog=found, threads=1, database=database, effort=effort, isolate=False)
    assert {cost.time_ns for cost in costs.values()} == {expected}


@pytest.mark.skipif(os.name != "posix", reason="counts crashes by signal")
def test_a_routine_that_keeps_crashing_is_given_up() -> None:
    found, notes, database = catalog("planted_routines"), Notes(), CountingDatabase()
    graph = relus(*[(2, n) for n in range(3, 9)])
    work = jobs(graph, found, ["cpu/segfaults", "cpu/relu"])
    with Profiler(graph, catalog=found, threads=1, database=database, progress=notes, effort=QUICK) as profiler:
        costs = profiler.measure(work)
        worker = profiler.worker()
        assert worker is not None and worker.starts == STRIKES + 1
    bad = [costs[job.key] for job in work if job.routine == "cpu/segfaults"]
    assert [cost.ok for cost in bad] == [False] * 6
    assert sum("SIGSEGV" in cost.reason for cost in bad) == STRIKES
    assert all(costs[job.key].ok for job in work if job.routine == "cpu/relu")
    assert len(database.put_keys) == 6 + STRIKES  # what was not measured is not stored


def test_budget_zero_measures_nothing_and_the_most_valuable_come_first() -> None:
    found, graph, notes, database = catalog("planted_routines"), relus((2, 2), (64, 64)), Notes(), CountingDatabase()
    work = [
        replace(job, estimate_ns=float(graph.layer_by_name[job.layers[0]].results[0].size))
        for job in jobs(graph, found, ["cpu/relu", "cpu/reference"])
    ]
    assert profile(graph, work, catalog=found, threads=1, database=database, progress=notes, budget_s=0) == {}
    assert "4 of 4 candidates not measured" in notes.notes[0]
    profile(graph, work, catalog=found, threads=1, database=database, effort=QUICK, isolate=False)
    big = {job.key for job in work if job.layers == ("Relu_1",)}
    assert [key in big for key in database.put_keys] == [True, False, True, False]


def test_interruption_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    found, graph, notes = catalog("many_routines"), relus(SHAPE), Notes()
    work = jobs(graph, found, ["cpu/many"])

    class Interrupted(CountingDatabase):
        def put(self, key, cost: Cost) -> None:  # type: ignore[no-untyped-def]
            super().put(key, cost)
            if len(self.put_keys) == 5:
                raise KeyboardInterrupt

    database = Interrupted()
    costs = profile(graph, work, catalog=found, threads=1, database=database, progress=notes, effort=QUICK)
    assert "interrupted: going on with what was measured" in notes.notes
    assert 4 <= len(costs) < len(work) and len(database) == 5


def test_plugin_no_other_process_can_import_is_measured_here() -> None:
    planted = plugin("planted_routines")

    class Here:
        from softneuro_core.hookspecs import hookimpl

        @hookimpl
        def softneuro_routines(self) -> list[object]:
            return [planted.Planted("here", planted.relu)]

    found = load_plugins(only=(), modules=[Here()])
    assert found.recipe is not None and found.recipe.unreachable == ("Here",)
    graph, notes = relus(SHAPE), Notes()
    work = jobs(graph, found)
    costs = profile(
        graph, work, catalog=found, threads=1, database=CostDatabase(":memory:"), progress=notes, effort=QUICK
    )
    assert all(cost.ok for cost in costs.values()) and len(costs) == 2
    assert any("cpu/here cannot be loaded by another process" in note for note in notes.notes)


def test_sample_inputs_are_used(tmp_path: Path) -> None:
    found, graph = catalog("planted_routines"), relus((2, 4))
    work = jobs(graph, found, ["cpu/not_a_number"])
    sample = {"x0": np.full((2, 4), np.nan, np.float32)}
    costs = profile(
        graph, work, catalog=found, threads=1, database=CostDatabase(":memory:"), sample=sample, effort=QUICK
    )
    assert costs[work[0].key].ok  # where the reference has NaN the routine may have one


def test_quantised_values_reach_the_worker_with_their_numbers() -> None:
    found, graph = catalog("quantised_routines"), relus(SHAPE)
    graph.inputs[0].qparams = QParams(np.array(0.03, np.float32), np.array(5, np.int8))
    scales = np.array([0.02, 0.01, 0.015], np.float32)
    graph.outputs[0].qparams = QParams(scales, np.array([-100, 0, 3], np.int8), 1)
    work: list[Job] = list(jobs(graph, found, ["cpu/q_relu", "cpu/q_wrong"], frozenset({"int8"})))
    adapter, plain, small = found.adapters["cpu/quantise"], host(FLOAT32), host(INT8)
    for value, src, dst in ((graph.inputs[0], plain, small), (graph.outputs[0], small, plain)):
        key = adapter_key(value, adapter, src, dst, found, 1)
        work.append(AdapterJob(key, value.name, adapter.name, src, dst))
    database, notes = CostDatabase(":memory:"), Notes()
    costs = profile(graph, work, catalog=found, threads=1, database=database, effort=QUICK, progress=notes)
    right, wrong, *conversions = (costs[job.key] for job in work)
    assert right.ok and right.error == 0.0 and re.search(r"off by up to \d+ steps, allowed 1", wrong.reason)
    assert [cost.ok for cost in conversions] == [True, True]
    assert len(notes.notes) == 1  # the wrong one; everything was measured by the worker


@pytest.mark.parametrize("module", ["fake_device", "simulated_device"])
def test_a_device_with_memory_of_its_own_is_measured_in_the_worker(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    found, graph, notes = load_plugins(only=(), modules=[importlib.import_module(module)]), relus(SHAPE), Notes()
    device = {"fake_device": "fake", "simulated_device": "sim"}[module]
    work: list[Job] = list(jobs(graph, found, [f"{device}/relu"]))
    transfer, value = found.adapters["cpu/transfer"], graph.inputs[0]
    far = TensorSpec(device, FLOAT32)
    for src, dst in ((host(FLOAT32), far), (far, host(FLOAT32))):
        key = adapter_key(value, transfer, src, dst, found, 1)
        work.append(AdapterJob(key, value.name, transfer.name, src, dst))
    costs = profile(
        graph, work, catalog=found, threads=1, database=CostDatabase(":memory:"), effort=QUICK, progress=notes
    )
    assert len(costs) == len(work) == 4 and not notes.notes
    clock = "wall" if device == "fake" else "sim"
    assert all(cost.ok and cost.clock == clock and cost.error == 0.0 for cost in costs.values()), costs
    if device == "sim":  # a declared clock has no spread, and its fixed cost is not part of a step
        assert all(cost.spread_ns == 0 and cost.time_ns < 50_000 for cost in costs.values())


def test_layers_without_inputs_are_left_out_and_said_so() -> None:
    nodes = [helper.make_node("Identity", ["x"], ["i"]), helper.make_node("Neg", ["i"], ["y"])]
    graph, found, notes = build_graph(nodes, {"x": np.zeros((3,), np.float32)}, {}, ["y"]), catalog(), Notes()
    for value in graph.values:  # as if their shapes depended on data, with no sample to know them by
        value.shape = (None,)
    work = jobs(graph, found)
    costs = profile(
        graph, work, catalog=found, threads=1, database=CostDatabase(":memory:"), effort=QUICK, progress=notes
    )
    assert costs == {} and "2 candidates are not measured for want of an input" in notes.notes[-1]
