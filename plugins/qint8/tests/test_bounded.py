"""Mixed precision within a bound: a small network calibrated, tuned, saved, loaded again; and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

import softneuro_core as sn
from softneuro_core.accuracy import bounded
from softneuro_core.accuracy.bounded import INTEGERS, Bounded, tune_bounded
from softneuro_core.accuracy.metrics import METRICS
from softneuro_core.accuracy.trial import Trial, outputs_of
from softneuro_core.calibration.apply import lay_grids
from softneuro_core.calibration.collect import calibrate
from softneuro_core.candidates import Candidate, Request, enumerate_adapters, enumerate_candidates, rounds
from softneuro_core.catalog import load_plugins
from softneuro_core.cli.root import cli
from softneuro_core.costs import CostDatabase
from softneuro_core.errors import SelectionError
from softneuro_core.graph import Graph
from softneuro_core.plan import AdapterStep
from softneuro_core.pricing import Pricing
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.program import prepare
from softneuro_core.report.kept import bound_reasons
from softneuro_core.selection import Price, Prices, chosen_candidates
from softneuro_core.spec import NHWC
from softneuro_core.task import Tuned, select_plan
from softneuro_core.tuning import task_of

CATALOG = load_plugins()
RNG = np.random.default_rng(5)
DATA = RNG.standard_normal((12, 1, 8, 16, 16)).astype(np.float32)


def network() -> bytes:
    """Conv, Relu, depthwise, HardSwish, Conv, Add, GlobalAveragePool, Flatten, Gemm."""
    shapes = {"w1": (64, 8, 3, 3), "w2": (64, 1, 3, 3), "w3": (64, 64, 1, 1), "w4": (10, 64)}
    he = {n: RNG.standard_normal(s) * np.sqrt(2 / np.prod(s[1:])) for n, s in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "depthwise", pads=[1] * 4, group=64),
        helper.make_node("HardSwish", ["c2"], ["h"], "swish"),
        helper.make_node("Conv", ["h", "w3"], ["c3"], "conv3"),
        helper.make_node("Add", ["c3", "r1"], ["a"], "add"),
        helper.make_node("GlobalAveragePool", ["a"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w4"], ["y"], "fc", transB=1),
    ]
    stored = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in he.items()]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 8, 16, 16]), ("y", [1, 10]))]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


MODEL = network()
SAMPLES = [{"x": x} for x in DATA]


def laid() -> Graph:
    graph = sn.load(MODEL, catalog=CATALOG)
    return lay_grids(
        graph, calibrate(sn.load(MODEL, catalog=CATALOG), SAMPLES[:6], "minmax", threads=1, catalog=CATALOG)
    )


@pytest.fixture(scope="module")
def database() -> CostDatabase:
    return CostDatabase(":memory:")


FLOAT_ROUTINES = [n for n in CATALOG.routines if (o := CATALOG.owners.get(n)) is not None and o.name == "cpu_numba"]
REQUEST = Request(forbid=tuple(f"{name}@Conv" for name in FLOAT_ROUTINES))
"""Convolutions are left to the slow reference, or to integers: which is faster does not depend on the moment."""


def tuned(database: CostDatabase, max_drop: float) -> Bounded:
    with task_of(REQUEST, 1, None, None, CATALOG, database) as task:
        return tune_bounded(laid(), REQUEST, SAMPLES[6:], METRICS["signal"], max_drop, task)


@pytest.fixture(scope="module")
def loose(database: CostDatabase) -> Bounded:
    return tuned(database, 0.5)


def test_every_point_is_a_plan_and_the_last_rounds_nothing(loose: Bounded) -> None:
    assert len(loose.points) >= 2
    *others, exact = loose.points
    assert not exact.rounded_layers and exact.drop == 0.0
    assert all(point.rounded_layers and point.drop > 0 for point in others)
    predicted = [point.predicted_us for point in others]
    assert predicted == sorted(predicted)
    noise = [point.noise for point in others if not point.aim.all_rounded]
    assert noise == sorted(noise, reverse=True), "what takes longer has less noise"


def test_the_chosen_plan_is_one_that_holds_the_bound(loose: Bounded) -> None:
    assert loose.chosen in loose.points and loose.chosen.drop <= loose.max_drop
    assert any("are allowed" in note for note in loose.tuned.plan.notes)


def test_noise_of_parts_adds_up_to_about_what_is_seen(loose: Bounded) -> None:
    fastest = loose.points[0]
    assert 0.2 < fastest.seen_noise / fastest.noise < 5


def test_a_rounding_plan_runs_from_its_file_on_a_model_loaded_anew(loose: Bounded, tmp_path: Path) -> None:
    rounding = loose.points[0].tuned.plan
    assert rounding.grids
    rounding.save(tmp_path / "plan.json")
    again = sn.Plan.load(tmp_path / "plan.json")
    assert again.grids == rounding.grids
    made = sn.Session(MODEL, again, catalog=CATALOG).run(SAMPLES[0])
    (here,) = outputs_of(laid(), rounding, SAMPLES[:1], CATALOG)
    np.testing.assert_array_equal(made["y"], here["y"])


def test_what_steps_take_in_place_decides(database: CostDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers are faster by isolated costs (``loose``), and planted to be slow among others."""
    integers = [n for n in CATALOG.routines if (o := CATALOG.owners.get(n)) is not None and o.name == "qint8"]

    def seen(self: Pricing, plan: sn.Plan) -> InPlace:
        us = [1e6 if getattr(step, "routine", "") in integers else 1.0 for step in plan.steps]
        return InPlace(sum(us), sum(us), us, [0.0] * len(us), 9)

    monkeypatch.setattr(Pricing, "run_in_place", seen)
    monkeypatch.setattr(Pricing, "run_in_turns", lambda self, plans: None)
    found = tuned(database, 0.5)
    assert not found.chosen.rounded_layers
    assert [point.aim.all_rounded for point in found.points if point.rounded_layers] == [True]  # tried in any case


def test_the_plan_that_rounds_all_it_can_is_tried_where_prices_say_nothing_should(
    database: CostDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = Pricing.prices

    def dear(self: Pricing, bodies: dict[str, Price]) -> Prices:
        found = prices(self, bodies)
        kernels = {c: p.scaled(1e6) if rounds(c) else p for c, p in found.kernels.items()}
        return Prices(kernels, found.adapters)

    monkeypatch.setattr(Pricing, "prices", dear)
    monkeypatch.setattr(Pricing, "run_in_place", lambda self, plan: None)
    tried, exact = tuned(database, 0.5).points
    assert tried.aim.all_rounded and tried.predicted_us > exact.predicted_us
    assert {"conv1", "fc"} <= tried.rounded_layers


def test_the_chosen_plan_is_held_against_plans_of_one_device(
    database: CostDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Tuned] = []
    monkeypatch.setattr(bounded, "settle_devices", lambda found, *how: asked.append(found) or found)
    found = tuned(database, 0.5)
    assert len(asked) == 1 and rounding_of(asked[0]) == found.chosen.rounded_layers


def test_a_settled_plan_keeps_its_place_on_the_front(database: CostDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rivals are priced by other prices than those the front was drawn from."""

    def settled(found: Tuned, *how: object) -> Tuned:
        seen = replace(found.plan, predicted_us=1e9, predictions={**found.plan.predictions, "best_us": 7.0})
        return replace(found, plan=seen)

    monkeypatch.setattr(bounded, "settle_rivals", settled)
    monkeypatch.setattr(bounded, "settle_devices", lambda found, *how: found)
    found = tuned(database, 0.5)
    *others, _ = [point.predicted_us for point in found.points]
    assert others == sorted(others) and found.chosen.predicted_us < 1e9
    assert found.chosen.us == 7.0 and found.tuned.plan.predicted_us == 1e9


def rounding_of(tuned: Tuned) -> frozenset[str]:
    return frozenset(n for c in chosen_candidates(tuned.form, tuned.selection) if rounds(c) for n in names(c))


def test_a_bound_of_nothing_keeps_float(database: CostDatabase) -> None:
    found = tuned(database, 0.0)
    assert not found.chosen.rounded_layers and not found.tuned.plan.grids


def within(database: CostDatabase, constant_bytes: float, max_drop: float) -> Bounded:
    request = replace(REQUEST, limits={"constant_bytes": constant_bytes})
    with task_of(request, 1, None, None, CATALOG, database) as task:
        return tune_bounded(laid(), request, SAMPLES[6:], METRICS["signal"], max_drop, task)


def constants_of(found: Bounded) -> list[int]:
    return [prepare(laid(), point.tuned.plan, CATALOG).constant_bytes for point in found.points]


def test_memory_and_the_bound_are_held_together(database: CostDatabase, loose: Bounded) -> None:
    *rounding, exact = constants_of(loose)
    limit = (min(rounding) + exact) // 2
    found = within(database, limit, 0.5)
    assert max(constants_of(found)) <= limit < exact
    assert found.chosen.rounded_layers and 0 < found.chosen.drop <= 0.5


def test_noise_known_from_another_tuning_is_not_tried_again(
    database: CostDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = laid()
    with task_of(REQUEST, 1, None, None, CATALOG, database) as task:
        found = tune_bounded(graph, REQUEST, SAMPLES[6:], METRICS["signal"], 0.5, task)
        monkeypatch.delattr(Trial, "_noise_alone")
        again = tune_bounded(graph, REQUEST, SAMPLES[6:], METRICS["signal"], 0.5, task, known=found.noise)
    assert again.noise == found.noise and len(found.noise) > 3


def test_where_nothing_holds_both_the_drop_is_told(database: CostDatabase, loose: Bounded) -> None:
    """What is lost is judged against the float plan, though that takes too much memory itself."""
    with pytest.raises(SelectionError, match=r"drops by .* at least, 0 are allowed"):
        within(database, min(constants_of(loose)), 0.0)


def test_what_is_kept_in_float_says_what_it_would_have_cost(database: CostDatabase, loose: Bounded) -> None:
    found = tuned(database, 0.0)
    plan = sn.Plan.from_json(found.tuned.plan.to_json())
    assert plan.bound == found.record and not plan.grids and plan.bound.grids_left
    reasons = bound_reasons(found.table, plan)
    assert reasons is not None and len(reasons.kept) == len(found.noise) > 3
    assert dict(reasons.others) == {"Flatten": 1}
    form, noise = found.table.form, {frozenset(n.name for n in part.layers): seen for part, seen in found.noise.items()}
    exact = [i for i, c in enumerate(form.candidates) if not rounds(c)]
    base = min(marginals_of(found, exact))
    for part in reasons.kept:
        mine = [i for i, c in enumerate(form.candidates) if rounds(c) and names(c) == set(part.layers)]
        forced = marginals_of(found, [*exact, *mine])[len(exact) :]
        assert part.noise == noise[frozenset(part.layers)] > 0
        assert part.more_us is not None and part.more_us * 1000 == pytest.approx(min(forced) - base, abs=1)
    rounding = replace(loose.points[0].tuned.plan, bound=loose.record)
    left = bound_reasons(loose.table, rounding)
    assert left is not None and "conv1" in {n for part in left.parts if part.is_rounded for n in part.layers}


def names(candidate: Candidate) -> set[str]:
    return {layer.name for layer in candidate.region.layers}


def marginals_of(found: Bounded, kept: list[int]) -> list[int]:
    """The best plan with each of these options, among them."""
    problem = found.table.form.problem
    some = replace(problem, options=tuple(problem.options[i] for i in kept))
    return [m for m in found.table.tuner.min_marginals(some, found.table.tuner.select(some)) if m is not None]


def dense() -> Graph:
    """Two Gemms of one row, calibrated."""
    rng = np.random.default_rng(11)
    weights = [rng.standard_normal((300, 300)).astype(np.float32) / 17 for _ in range(2)]
    nodes = [helper.make_node("Gemm", [a, f"w{i}"], [b], f"fc{i}", transB=1) for i, (a, b) in enumerate(("xh", "hy"))]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 300]) for n in "xy"]
    stored = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    made = helper.make_model(
        helper.make_graph(nodes, "dense", ends[:1], ends[1:], stored),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return sn.load(made, catalog=CATALOG)


ROWS = [{"x": np.random.default_rng(n).standard_normal((1, 300)).astype(np.float32)} for n in range(8)]


def test_weights_alone_on_grids_are_noise_that_is_bounded_and_replay(database: CostDatabase) -> None:
    """Values stay float32: the plan must still say that it rounds, and bring the grids back."""
    graph = lay_grids(dense(), calibrate(dense(), ROWS, "minmax", threads=1, catalog=CATALOG))
    others = [n for n in CATALOG.routines if n not in ("cpu/qweights", "cpu/reference")]
    request = Request(forbid=tuple(f"{name}@Gemm" for name in others))
    with task_of(request, 1, None, None, CATALOG, database) as task:
        found = tune_bounded(graph, request, ROWS, METRICS["signal"], 0.5, task)
        nothing = tune_bounded(graph, request, ROWS, METRICS["signal"], 0.0, task)
    assert {part.constants for part in found.noise} == {True} and all(0 < n < 1e-3 for n in found.noise.values())
    assert found.chosen.rounded_layers == {"fc0", "fc1"} and 0 < found.chosen.drop < 0.5
    assert not nothing.chosen.rounded_layers and not nothing.tuned.plan.grids
    plan = sn.Plan.from_json(found.tuned.plan.to_json())
    assert {step.routine for step in plan.kernel_steps} == {"cpu/qweights"}
    again = sn.Session(dense(), plan, catalog=CATALOG).run(ROWS[0])["y"]
    (here,) = outputs_of(graph, found.tuned.plan, ROWS[:1], CATALOG)
    np.testing.assert_array_equal(again, here["y"])


def test_a_real_value_takes_no_detour_over_integers(database: CostDatabase) -> None:
    """However dear converting float32 is: a plan that may not round converts no value onto its grid and off again."""
    request = Request(allow=INTEGERS)
    found = enumerate_candidates(laid(), CATALOG, 1, request)
    choices = enumerate_adapters(found, CATALOG, {})
    adapters = {a: Price(10**6 if a.src.dtype is a.dst.dtype else 1, 0) for a in choices}
    every = {c: Price(100 if c.offer.outputs[0].layout == NHWC else 10**8, 0) for c in found}
    exact = {c: price for c, price in every.items() if not rounds(c)}
    with task_of(request, 1, catalog=CATALOG, database=database) as task:
        plain = select_plan(found, Prices(exact, adapters), task, {}, {}).plan
        mixed = select_plan(found, Prices(every, adapters), task, {}, {}).plan
    converted = [step for step in plain.steps if isinstance(step, AdapterStep)]
    assert converted and all("float32" in step.src and "float32" in step.dst for step in converted)
    assert not plain.grids
    onto = {step.value for step in mixed.steps if isinstance(step, AdapterStep) and "int8" in step.dst}
    assert onto and onto <= set(mixed.grids)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def test_from_the_command_line(tmp_path: Path) -> None:
    model, ranges, front = tmp_path / "m.onnx", tmp_path / "r.json", tmp_path / "front.json"
    model.write_bytes(MODEL)
    np.save(tmp_path / "seen.npy", DATA[:6, 0])
    np.savez(tmp_path / "unseen.npz", x=DATA[6:, 0], labels=np.zeros(6, np.int64))
    assert run("calibrate", model, "--data", tmp_path / "seen.npy", "-o", ranges, "--threads", 1).exit_code == 0
    bound = ("--calibration", ranges, "--data", tmp_path / "unseen.npz", "--max-drop", "50%", "--metric", "signal")
    made = run("tune", model, *bound, "--threads", 1, "--pareto", front, "-o", tmp_path / "p.json")
    assert made.exit_code == 0, made.output
    page = tmp_path / "page.html"
    why = run("explain", model, "--plan", tmp_path / "p.json", "--html", page)
    assert why.exit_code == 0, why.output
    assert "plans tried on 6 samples" in why.stdout and "kept in float" in why.stdout
    moves = {step.routine for step in sn.Plan.load(tmp_path / "p.json").kernel_steps} & {"cpu/qmove", "cpu/flatten"}
    assert ("no routine rounds Flatten x1" in why.stdout) == (moves == {"cpu/flatten"})
    assert "Kept in float" in page.read_text() and page.read_text().count("<circle") > 1
    assert "drop of signal" in made.stdout and "noisiest on their grids" in made.stdout and "chosen" in made.stdout
    told = json.loads(front.read_text())
    assert told["samples"] == 6 and told["front"][-1]["rounded_layers"] == []
    drawn, again = tmp_path / "front.svg", tmp_path / "again.json"  # a tuning of its own: its times may differ
    assert run("tune", model, *bound, "--threads", 1, "--pareto", drawn, "-o", again).exit_code == 0
    kept = sn.Plan.load(again).bound
    assert kept is not None and drawn.read_text().count("<circle") == len(kept.front)


def test_equalised_weights_and_shifted_biases_travel_with_the_plan(tmp_path: Path) -> None:
    model, ranges, plan = tmp_path / "m.onnx", tmp_path / "r.json", tmp_path / "p.json"
    model.write_bytes(MODEL)
    np.save(tmp_path / "seen.npy", DATA[:6, 0])
    np.save(tmp_path / "unseen.npy", DATA[6:, 0])
    asked = ("--equalise", "--bias-correction", "--weights", "tensor", "--threads", 1)
    told = run("calibrate", model, "--data", tmp_path / "seen.npy", "-o", ranges, *asked)
    assert told.exit_code == 0 and "weights rounded by tensor alone make noise of -" in told.stderr, told.output
    assert "4 layers have biases corrected" in told.stdout and "0 pairs" in told.stdout, "relu1 is read twice"
    bound = ("--calibration", ranges, "--data", tmp_path / "unseen.npy", "--max-drop", "90%", "--metric", "signal")
    pins = [text for name in FLOAT_ROUTINES for text in ("--forbid", f"{name}@Conv")]
    made = run("tune", model, *bound, "--threads", 1, *pins, "-o", plan)
    assert made.exit_code == 0 and "weights rounded by tensor alone" in made.stderr, made.output
    kept = sn.Plan.load(plan)
    assert kept.changes.per_tensor and "conv1" in kept.changes.shifts
    rounded = {n for s in kept.kernel_steps if any("int8" in spec for spec in s.outputs) for n in s.layers}
    assert set(kept.changes.shifts) <= rounded, "layers kept in float keep their biases"
    here = sn.Session(MODEL, kept, catalog=CATALOG).run(SAMPLES[0])["y"]
    without = replace(kept, changes=replace(kept.changes, shifts={}))
    there = sn.Session(MODEL, without, catalog=CATALOG).run(SAMPLES[0])["y"]
    assert (here != there).any(), "the shifts are in what is computed"
    assert run("run", model, "--plan", plan).exit_code == 0
    assert "one grid a tensor" in run("explain", model, "--plan", plan).stdout


def test_a_metric_of_the_users_own(tmp_path: Path) -> None:
    model, ranges, mine = tmp_path / "m.onnx", tmp_path / "r.json", tmp_path / "mine.py"
    model.write_bytes(MODEL)
    np.save(tmp_path / "seen.npy", DATA[:6, 0])
    np.save(tmp_path / "unseen.npy", DATA[6:, 0])
    mine.write_text(
        "def closeness(outputs, reference, labels):\n"
        "    return -100 * abs(outputs['y'] - reference['y']).max(axis=1)\n"
        "def nothing(outputs, reference, labels):\n    return float('nan')\n"
    )
    assert run("calibrate", model, "--data", tmp_path / "seen.npy", "-o", ranges, "--threads", 1).exit_code == 0
    bound = ("--calibration", ranges, "--data", tmp_path / "unseen.npy", "--max-drop", "50", "--threads", 1)
    made = run("tune", model, *bound, "--metric", f"{mine}:closeness")
    assert made.exit_code == 0 and "mine.py:closeness drops by" in made.output, made.output
    for name, complaint in (("nothing", "gave nan"), ("absent", "no function 'absent'")):
        assert complaint in run("tune", model, *bound, "--metric", f"{mine}:{name}").output
    assert "cannot be imported" in run("tune", model, *bound, "--metric", "no.such:thing").output
    assert "no metric 'top5'" in run("tune", model, *bound[:-3], "1%", "--metric", "top5").output


@pytest.mark.parametrize(
    "options, complaint",
    [
        (["--calibration", "r.json"], "an accuracy bound needs --data, too"),
        (["--max-drop", "1%"], "an accuracy bound needs --calibration, too"),
        (["--calibration", "absent", "--data", "x.npy", "--max-drop", "1%"], "no ranges"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, options: list[str], complaint: str) -> None:
    (tmp_path / "m.onnx").write_bytes(MODEL)
    made = run("tune", tmp_path / "m.onnx", *options)
    assert made.exit_code != 0 and complaint in made.output
