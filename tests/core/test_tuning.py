"""Tuning end to end on the host and the fake device: measured, exact, replayed, forced, limited, and honest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fake_device
import numpy as np
import onnx
import pytest
import simulated_device
from onnx import helper

import softneuro_core as sn
from softneuro_core.candidates import Request
from softneuro_core.corrections import Likeness, Seen, corrected
from softneuro_core.costs import CostDatabase
from softneuro_core.errors import InputError, PlanError, SelectionError
from softneuro_core.plan import AdapterStep
from softneuro_core.pricing import CONTROL_STEP_NS
from softneuro_core.selection import Price, Prices
from softneuro_core.task import Tuned
from softneuro_core.tuning import tune_fully
from tests.core.models import FLOAT, expected, image, residual

SEGMENT_US = fake_device.FakeDevice().segment_us


@pytest.fixture(scope="module")
def catalog() -> sn.Catalog:
    return sn.load_plugins(only=(), modules=[fake_device])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CostDatabase]:
    """One database for the module: each candidate is measured once, by whichever test comes first."""
    with CostDatabase(tmp_path_factory.mktemp("costs") / "costs.sqlite") as opened:
        yield opened


def _tune(catalog: sn.Catalog, database: CostDatabase, **request: object) -> Tuned:
    graph = sn.load(residual(), catalog=catalog)
    return tune_fully(graph, Request(**request), threads=1, catalog=catalog, database=database)  # type: ignore[arg-type]


def _check(plan: sn.Plan, catalog: sn.Catalog) -> None:
    made = sn.Session(residual(), plan, catalog=catalog).run({"x": image()})["y"]
    np.testing.assert_allclose(made, expected(residual(), {"x": image()})[0], rtol=1e-4, atol=1e-4)


def test_every_step_is_measured_and_the_choice_is_exact(catalog: sn.Catalog, database: CostDatabase) -> None:
    tuned = _tune(catalog, database)
    assert tuned.plan.certificate["exact"] is True
    assert {s.source for s in tuned.plan.steps} <= {"measured", "in-situ"}
    assert set(tuned.plan.predictions) == {"isolated_us", "in_situ_us", "whole_us", "best_us"}
    assert not tuned.problems
    assert [layer for s in tuned.plan.kernel_steps for layer in s.layers] == [
        layer.name for layer in tuned.form.graph.layers
    ]
    _check(tuned.plan, catalog)


def test_a_second_tuning_measures_nothing(catalog: sn.Catalog, database: CostDatabase) -> None:
    _tune(catalog, database)
    before = len(database)
    measured: list[str] = []

    class Watch:
        def start(self, total: int, what: str) -> None:
            measured.append(what)

        def advance(self, count: int = 1, text: str = "") -> None:
            """Not of interest."""

        def note(self, text: str) -> None:
            """Not of interest."""

    graph = sn.load(residual(), catalog=catalog)
    tune_fully(graph, Request(), threads=1, catalog=catalog, database=database, progress=Watch())
    assert len(database) == before
    assert "measuring" not in measured


def test_a_forced_device_is_used_with_its_transfers_and_one_segment(
    catalog: sn.Catalog, database: CostDatabase
) -> None:
    plan = _tune(catalog, database, force=("fake@conv1", "fake@conv2")).plan
    by_layer = {layer: s for s in plan.kernel_steps for layer in s.layers}
    assert by_layer["conv1"].routine.startswith("fake/")
    assert by_layer["conv2"].routine.startswith("fake/")
    transfers = [s for s in plan.steps if isinstance(s, AdapterStep) and s.adapter == "cpu/transfer"]
    assert {s.src.partition(":")[0] for s in transfers} == {"cpu", "fake"}
    _check(plan, catalog)


def test_segments_are_part_of_the_objective(catalog: sn.Catalog, database: CostDatabase) -> None:
    tuned = _tune(catalog, database, force=("fake@conv1", "cpu@relu1", "fake@conv2"))
    options = [tuned.form.problem.options[i] for i in tuned.selection.chosen]
    kernels = sum(o.time_ns for o in options)
    edges = sum(
        tuned.form.problem.conversions[value][edge].time_ns
        for value, tree in tuned.selection.conversions.items()
        for edge in tree
    )
    runs = sum(
        1 for a, b in zip([None, *options], options, strict=False) if b.device and (not a or a.device != b.device)
    )
    assert runs >= 2
    assert tuned.selection.time_ns == kernels + edges + runs * SEGMENT_US * 1000


def test_forbidden_routines_and_devices_are_not_used(catalog: sn.Catalog, database: CostDatabase) -> None:
    plan = _tune(catalog, database, forbid=("fake",)).plan
    assert {s.routine.partition("/")[0] for s in plan.kernel_steps} == {"cpu"}
    with pytest.raises(SelectionError, match="no routine is left for Conv") as caught:
        _tune(catalog, database, forbid=("cpu@Conv", "fake@Conv"))
    assert caught.value.layer == "conv1"


def test_contradicting_pins_are_told(catalog: sn.Catalog, database: CostDatabase) -> None:
    with pytest.raises(SelectionError, match="no routine is left"):
        _tune(catalog, database, force=("fake@fc", "cpu@fc"))
    with pytest.raises(InputError, match="no layer or operator is called 'nope'"):
        _tune(catalog, database, force=("cpu@nope",))


def test_what_is_seen_of_a_region_corrects_its_layers_alone_too(catalog: sn.Catalog, database: CostDatabase) -> None:
    prices = _tune(catalog, database).form.prices
    seen = max(prices.kernels, key=lambda c: len(c.region.layers))
    longest_us = max(price.time_ns for price in prices.kernels.values()) / 1000
    step = Seen("all", 2 * longest_us, longest_us)
    after = corrected(prices, dict.fromkeys(Likeness.of(seen), step)).kernels
    alike = {c for c in prices.kernels if set(Likeness.of(c)) & set(Likeness.of(seen))}
    assert {c.region.exit for c in alike} >= set(seen.region.layers)
    for candidate, price in prices.kernels.items():
        assert after[candidate].time_ns == price.time_ns * (2 if candidate in alike else 1)


def test_a_short_step_moves_a_long_region_by_its_own_time(catalog: sn.Catalog, database: CostDatabase) -> None:
    """A Relu of 1 us that takes 20 in place says nothing of what the Conv takes that it is fused with."""
    region = next(c for c in _tune(catalog, database).form.candidates if len(c.region.layers) == 2)
    long, short = Likeness.of(region)
    prices = Prices({region: Price(10_000_000)}, {})

    def moved_us(seen: dict[Likeness, Seen]) -> float:
        return corrected(prices, seen).kernels[region].time_ns / 1000

    relu = Seen("relu", 20.0, 1.0)
    assert moved_us({long: Seen("conv", 9_999.0, 9_999.0), short: relu}) == moved_us({short: relu}) == 10_019.0
    assert moved_us(dict.fromkeys((long, short), Seen("both", 20_000.0, 10_000.0))) == 20_000.0


def test_limits_are_checked(catalog: sn.Catalog, database: CostDatabase) -> None:
    with pytest.raises(InputError, match="unknown limits"):
        _tune(catalog, database, limits={"beauty": 1.0})
    with pytest.raises(InputError, match="not a finite number"):
        _tune(catalog, database, limits={"error": float("inf")})
    generous = _tune(catalog, database, limits={"constant_bytes": 1e9})
    assert generous.selection.uses[0] <= 1e9
    with pytest.raises(SelectionError, match=r"error takes .* at least, -1 are allowed"):
        _tune(catalog, database, limits={"error": -1.0})
    with pytest.raises(SelectionError, match=r"constant_bytes takes [1-9][\d,.e+]* at least, 0 are allowed"):
        _tune(catalog, database, limits={"constant_bytes": 0.0})


def test_a_simulated_clock_needs_a_declared_scale(database: CostDatabase) -> None:
    mixed = sn.load_plugins(only=(), modules=[simulated_device])
    graph = sn.load(residual(), catalog=mixed)
    plain = tune_fully(graph, Request(), threads=1, catalog=mixed, database=database)
    assert "simulated" in plain.problems["device sim"]
    assert not any(s.routine.startswith("sim/") for s in plain.plan.kernel_steps)
    scaled = tune_fully(
        graph, Request(clocks={"sim": 2.0}, force=("sim@conv1",)), threads=1, catalog=mixed, database=database
    )
    assert any(s.routine.startswith("sim/") for s in scaled.plan.kernel_steps)
    assert any("simulated" in note for note in scaled.plan.notes)
    _check(scaled.plan, mixed)


def test_a_missing_device_is_named_when_a_plan_is_replayed(catalog: sn.Catalog, database: CostDatabase) -> None:
    plan = _tune(catalog, database, force=("fake@conv1",)).plan
    alone = sn.load_plugins(only=())
    with pytest.raises(PlanError, match=r"fake_device.* is not installed"):
        sn.Session(residual(), plan, catalog=alone)
    with pytest.warns(sn.SoftneuroNotice, match="relaxed"):
        session = sn.Session(residual(), plan, catalog=alone, relaxed=True)
    assert {s.routine.partition("/")[0] for s in session.plan.kernel_steps} == {"cpu"}
    _check(session.plan, alone)


def test_a_plan_from_another_machine_runs_and_says_so(
    catalog: sn.Catalog, database: CostDatabase, tmp_path: Path
) -> None:
    plan = _tune(catalog, database).plan
    plan.save(tmp_path / "p.json")
    text = (tmp_path / "p.json").read_text().replace(plan.machine["cpu"], "Another CPU")
    (tmp_path / "p.json").write_text(text)
    with pytest.warns(sn.SoftneuroNotice, match="from another machine"):
        session = sn.Session(residual(), tmp_path / "p.json", catalog=catalog)
    assert session.plan.steps == plan.steps


def test_free_shapes_cannot_be_tuned(catalog: sn.Catalog) -> None:
    with pytest.raises(InputError, match="free dimensions") as caught:
        sn.tune(sn.load(residual("batch"), catalog=catalog), catalog=catalog, budget_s=0)
    assert "shapes=" in str(caught.value)


def test_a_used_up_budget_still_gives_a_plan(catalog: sn.Catalog) -> None:
    graph = sn.load(residual(), catalog=catalog)
    with CostDatabase(":memory:") as empty:
        plan = sn.tune(graph, threads=1, budget_s=0.01, catalog=catalog, database=empty)
    assert any("unprofiled" in note for note in plan.notes)
    _check(plan, catalog)


def _branching() -> onnx.ModelProto:
    """An If between Relu and two products, over a captured value."""

    def branch(name: str, nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}_y", FLOAT, [32, 32])])

    then = branch("cheap", [helper.make_node("Relu", ["h"], ["cheap_y"], "cheap_relu")])
    products = [
        helper.make_node("MatMul", ["h", "h"], ["p"], "first"),
        helper.make_node("MatMul", ["p", "h"], ["dear_y"], "second"),
    ]
    nodes = [
        helper.make_node("Neg", ["x"], ["h"], "neg"),
        helper.make_node("If", ["c"], ["y"], "if", then_branch=then, else_branch=branch("dear", products)),
    ]
    inputs = [
        helper.make_tensor_value_info("x", FLOAT, [32, 32]),
        helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []),
    ]
    graph = helper.make_graph(nodes, "if", inputs, [helper.make_tensor_value_info("y", FLOAT, [32, 32])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(("condition", "body"), [(True, "if.then_branch"), (False, "if.else_branch")])
def test_an_if_costs_what_the_branch_taken_costs(
    condition: bool, body: str, catalog: sn.Catalog, database: CostDatabase
) -> None:
    x = np.random.default_rng(3).standard_normal((32, 32)).astype(np.float32)
    feeds = {"x": x, "c": np.array(condition)}
    graph = sn.load(_branching(), catalog=catalog)
    request = Request(force=("cpu/control@If",))
    tuned = tune_fully(graph, request, threads=1, sample=feeds, catalog=catalog, database=database)
    (price,) = [p for c, p in tuned.form.prices.kernels.items() if c.routine.name == "cpu/control"]
    assert price.source == "bodies"
    assert price.time_ns == CONTROL_STEP_NS + round(tuned.plan.bodies[body].predicted_us * 1000)
    made = sn.Session(graph, tuned.plan, catalog=catalog).run(feeds)["y"]
    np.testing.assert_allclose(made, np.maximum(-x, 0) if condition else -(x @ x @ x), rtol=1e-4, atol=1e-3)
