"""What explain says is what the tuner does when told to."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

import softneuro_core as sn
from softneuro_core.candidates import Request
from softneuro_core.costs import CostDatabase
from softneuro_core.errors import InputError, SelectionError
from softneuro_core.plan import AdapterStep
from softneuro_core.report import Explanation, explain
from softneuro_core.selection import plan_steps
from softneuro_core.task import Tuned
from softneuro_core.tuning import tune_fully
from tests.core.models import residual

FORCED = 200


def _forced_ns(case: Tuned, number: int) -> int | None:
    """The tuner's own answer when nothing else may compute the layers of one option; None if it finds no plan."""
    problem = case.form.problem
    wanted = problem.options[number]
    kept = [i for i, o in enumerate(problem.options) if i == number or not set(o.layers) & set(wanted.layers)]
    alone = replace(problem, options=tuple(problem.options[i] for i in kept))
    try:
        answer = case.tuner.select(alone)
    except SelectionError:
        return None
    assert kept.index(number) in answer.chosen
    return answer.time_ns


def test_two_hundred_forced_alternatives_cost_what_was_said(free: Tuned, tuned: Tuned) -> None:
    cases = [(case, a) for case in (free, tuned) for row in explain(case).rows for a in row.alternatives]
    assert len(cases) >= FORCED
    impossible = 0
    for case, alternative in random.Random(0).sample(cases, FORCED):
        said = None if alternative.forced_us is None else round(alternative.forced_us * 1000)
        assert _forced_ns(case, alternative.number) == said
        impossible += said is None
    assert impossible < FORCED / 2


def test_the_choice_costs_the_plan(tuned: Tuned) -> None:
    found = explain(tuned)
    assert found.table_us == pytest.approx(tuned.selection.time_ns / 1000)
    assert found.best_us == found.table_us
    for row in found.rows:
        assert row.chosen is not None
        assert row.chosen.forced_us == pytest.approx(found.table_us)
        assert row.chosen.routine == row.routine
        assert row.alternatives[0].forced_us == min(a.forced_us for a in row.alternatives if a.forced_us is not None)


def test_steps_conversions_and_segments_add_up(tuned: Tuned) -> None:
    found = explain(tuned)
    assert found.table_us is not None
    assert found.segments_us > 0
    total = sum(r.us for r in found.rows) + found.conversions_us + found.segments_us
    assert total == pytest.approx(found.table_us, rel=1e-6)
    made = [s for s in tuned.plan.steps if isinstance(s, AdapterStep)]
    assert [c.value for c in found.conversions] == [s.value for s in made]
    assert [c for r in found.rows for c in r.conversions] == [c for c in found.conversions if c.after]


def test_reference_layers_are_named(tuned: Tuned) -> None:
    found = explain(tuned)
    by_layer = {name: row for row in found.rows for name in row.layers}
    assert by_layer["conv1"].device == by_layer["conv2"].device == "fake"
    assert "fc" in found.reference_layers
    assert "conv1" not in found.reference_layers
    assert "reference: " in found.text()


def test_text_names_every_choice_and_one_layer_alone(tuned: Tuned) -> None:
    found = explain(tuned)
    text = found.text()
    for row in found.rows:
        assert f"[{row.index}] {row.name}" in text
    assert "starting runs of steps on devices" in text
    assert "conversions: " in text
    one = found.text("conv2")
    assert "conv2" in one
    assert "conv1" not in one
    assert sum(line.startswith("[") for line in found.text("Conv").splitlines()) == 2
    with pytest.raises(InputError, match="no layer is called 'conv7'"):
        found.text("conv7")


def test_limit_shows_fewer_alternatives(free: Tuned) -> None:
    found = explain(free)
    assert len(found.text(limit=1).splitlines()) < len(found.text(limit=0).splitlines())
    assert "(--all)" in found.text(limit=1)


def test_json_survives_and_holds_everything(tuned: Tuned) -> None:
    found = explain(tuned)
    data = json.loads(json.dumps(found.to_json()))
    assert len(data["rows"]) == len(found.rows)
    assert data["certificate"]["exact"] is True
    assert data["rows"][0]["alternatives"][0]["forced_us"] > 0


def test_another_plan_is_judged_by_the_same_table(catalog: sn.Catalog, database: CostDatabase, tuned: Tuned) -> None:
    graph = sn.load(residual(), catalog=catalog)
    best = tune_fully(graph, Request(), threads=1, budget_s=0, catalog=catalog, database=database)
    judged = explain(best, tuned.plan)
    assert judged.table_us == pytest.approx(tuned.selection.time_ns / 1000)
    assert judged.best_us == pytest.approx(best.selection.time_ns / 1000)
    assert judged.best_us <= judged.table_us
    conv1 = next(row for row in judged.rows if "conv1" in row.layers)
    assert conv1.chosen is not None
    assert conv1.chosen.routine.startswith("fake/")


def test_a_plan_whose_steps_are_gone_is_still_explained(
    catalog: sn.Catalog, database: CostDatabase, tuned: Tuned
) -> None:
    graph = sn.load(residual(), catalog=catalog)
    host = tune_fully(graph, Request(forbid=("fake",)), 1, 0, catalog=catalog, database=database)
    judged: Explanation = explain(host, tuned.plan)
    assert judged.table_us is None
    conv1 = next(row for row in judged.rows if "conv1" in row.layers)
    assert conv1.chosen is None
    assert "not offered here now" in judged.text()


def test_steps_shown_are_those_of_the_selection(free: Tuned) -> None:
    found = explain(free)
    steps = plan_steps(free.form, free.selection)
    assert [r.routine for r in found.rows] == [s.routine for s in steps if not isinstance(s, AdapterStep)]
