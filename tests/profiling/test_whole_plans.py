"""What was seen of a whole plan is kept: chosen again, it is not run again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from softneuro_core.catalog import load_plugins
from softneuro_core.costs import CostDatabase
from softneuro_core.graph import Graph
from softneuro_core.importer import load
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.profiling.profile import Profiler
from softneuro_core.profiling.whole_plans import Rows, recall, remember
from softneuro_core.tuning import tune


def two(first: str, second: str) -> Graph:
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    return load(
        onnx.parser.parse_model(f"{head} g (float[3,17] x) => (float[3,17] y) {{ r = {first}(x) y = {second}(r) }}")
    )


@pytest.fixture
def graph() -> Graph:
    return two("Relu", "Sigmoid")


def test_a_plan_chosen_again_is_not_run_again(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[object] = []
    run = Profiler.run_in_turns
    monkeypatch.setattr(Profiler, "run_in_turns", lambda self, plan: (runs.append(plan), run(self, plan))[1])
    catalog = load_plugins(only=())
    with CostDatabase(tmp_path / "costs.db") as database:
        first = tune(graph, threads=1, catalog=catalog, database=database)
        assert runs
        runs.clear()
        again = tune(graph, threads=1, catalog=catalog, database=database)
    assert not runs and again.to_json() == first.to_json()


def test_another_plan_graph_or_thread_count_is_another_key(graph: Graph) -> None:
    catalog = load_plugins(only=())
    plan = tune(graph, threads=1, catalog=catalog, budget_s=0)
    keys = Rows.of(plan, catalog, 1).keys
    assert len(keys) == len(plan.steps) + 1 == len(set(keys))
    other = two("Relu", "Tanh")
    other_plan = tune(other, threads=1, catalog=catalog, budget_s=0)
    assert not {*keys} & {*Rows.of(plan, catalog, 2).keys, *Rows.of(other_plan, catalog, 1).keys}


def test_what_is_remembered_is_recalled_whole_or_not_at_all(graph: Graph) -> None:
    catalog = load_plugins(only=())
    plan = tune(graph, threads=1, catalog=catalog, budget_s=0)
    rows = Rows.of(plan, catalog, 1)
    steps = [float(us) for us in np.arange(1, len(rows.keys))]
    seen = InPlace(12.5, 11.25, steps, [0.5] * len(steps), 9)
    with CostDatabase(":memory:") as database:
        assert recall(database, rows) is None
        remember(database, rows, seen)
        assert recall(database, rows) == seen
        assert recall(database, Rows([*rows.keys, *Rows.of(plan, catalog, 3).keys[:1]], rows.context)) is None
