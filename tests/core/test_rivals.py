"""What was close is decided in place: rivals run in turns with the plan, and taken only where that was seen to pay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import fat_routines
import numpy as np
import onnx
import pytest
from onnx import helper

import softneuro_core as sn
from softneuro_core.candidates import Candidates, Request, enumerate_candidates
from softneuro_core.costs import CostDatabase
from softneuro_core.hookspecs import hookimpl
from softneuro_core.plan import Plan
from softneuro_core.pricing import Pricing
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.progress import Silent
from softneuro_core.rivals import REACH, settle_rivals
from softneuro_core.routine import Routine
from softneuro_core.selection import Price, Prices
from softneuro_core.task import Task, Tuned, select_plan
from softneuro_core.tuner.exact import ExactTuner
from tests.core.models import model


class Both(fat_routines.Planted):
    """Two Relus in one pass."""

    pattern = ("Relu", "Relu")

    def __init__(self) -> None:
        super().__init__(fat=False)
        self.name = "cpu/both"


class Pairs:
    """The plugin that has it."""

    __name__ = "pairs"

    @hookimpl
    def softneuro_routines(self) -> list[Routine]:
        return [Both()]


CATALOG = sn.load_plugins(only=(), modules=[fat_routines, Pairs()])
STEPS = 3
Seen = Callable[[Sequence[Plan]], Sequence[InPlace] | None]


def relus() -> onnx.ModelProto:
    names = ["x", *(f"v{i}" for i in range(STEPS - 1)), "y"]
    nodes = [helper.make_node("Relu", [names[i]], [names[i + 1]], f"relu{i}") for i in range(STEPS)]
    return model(nodes, {"x": [1, 64]}, ["y"], {})


@pytest.fixture
def found() -> Candidates:
    return enumerate_candidates(sn.load(relus(), catalog=CATALOG), CATALOG, 1, Request())


@pytest.fixture
def task(tmp_path: Path) -> Iterator[Task]:
    with CostDatabase(tmp_path / "costs.sqlite") as database:
        yield Task(CATALOG, 1, Request(), None, True, database, ExactTuner(), Silent())


def priced(found: Candidates, lean_ns: int = 1200, both_ns: int = 90_000) -> Prices:
    """Fat is the best by isolated costs."""
    times = {"cpu/fat": 1000, "cpu/lean": lean_ns, "cpu/both": both_ns}
    return Prices({c: Price(times.get(c.routine.name, 90_000), 4, 0.5) for c in found}, {})


def settled(found: Candidates, prices: Prices, task: Task, run: Seen) -> tuple[Tuned, Tuned]:
    """Before, and after."""
    select = lambda other: select_plan(found, other, task, {}, {})  # noqa: E731
    tuned = select(prices)
    return tuned, settle_rivals(tuned, prices, select, run, task)


def seen_as(us: dict[str, float], runs: list[int], plans: Sequence[Plan]) -> list[InPlace]:
    """Steps take what their routine takes."""
    runs.append(len(plans))
    steps = [[us[s.routine] for s in plan.kernel_steps] for plan in plans]
    return [InPlace(sum(each), sum(each), each, [0.0] * len(each), 9) for each in steps]


def routines(tuned: Tuned) -> list[str]:
    return [step.routine for step in tuned.plan.kernel_steps]


def test_a_rival_seen_to_be_faster_takes_the_place(found: Candidates, task: Task) -> None:
    runs: list[int] = []
    before, after = settled(found, priced(found), task, partial(seen_as, {"cpu/fat": 2.0, "cpu/lean": 1.0}, runs))
    assert routines(before) == ["cpu/fat"] * STEPS and routines(after) == ["cpu/lean"] * STEPS
    assert runs == [2, 2]  # the plan and its rivals; the plan and the one selected by that
    assert after.plan.certificate["exact"] is True and after.plan.predicted_us == STEPS * 1.0
    assert after.plan.predictions["isolated_us"] == pytest.approx(STEPS * 1.2)


def test_a_region_seen_to_be_faster_takes_the_place_of_two_steps(found: Candidates, task: Task) -> None:
    runs: list[int] = []
    us = {"cpu/fat": 2.0, "cpu/lean": 9.0, "cpu/both": 3.0}
    before, after = settled(found, priced(found, both_ns=2100), task, partial(seen_as, us, runs))
    assert routines(before) == ["cpu/fat"] * STEPS and sorted(routines(after)) == ["cpu/both", "cpu/fat"]
    assert after.plan.predicted_us == 5.0 and runs == [3, 2]  # lean in every place is a plan of its own


def test_two_steps_seen_to_be_faster_take_the_place_of_a_region(found: Candidates, task: Task) -> None:
    runs: list[int] = []
    us = {"cpu/fat": 2.0, "cpu/lean": 9.0, "cpu/both": 5.0}
    before, after = settled(found, priced(found, 90_000, both_ns=1900), task, partial(seen_as, us, runs))
    assert sorted(routines(before)) == ["cpu/both", "cpu/fat"] and routines(after) == ["cpu/fat"] * STEPS
    assert after.plan.predicted_us == 6.0 and runs == [2, 2]


def test_what_is_chosen_stays_where_rivals_are_no_faster(found: Candidates, task: Task) -> None:
    runs: list[int] = []
    before, after = settled(found, priced(found), task, partial(seen_as, {"cpu/fat": 1.0, "cpu/lean": 0.99}, runs))
    assert after is before and runs == [2]


def test_a_plan_that_is_slower_whole_is_not_taken(found: Candidates, task: Task) -> None:
    def run(plans: Sequence[Plan]) -> list[InPlace]:
        seen = seen_as({"cpu/fat": 2.0, "cpu/lean": 1.0}, [], plans)
        return [InPlace(9.0 - s.whole_us, 1.0, s.step_us, s.spread_us, 9) for s in seen]

    before, after = settled(found, priced(found), task, run)
    assert after is before


def test_candidates_far_off_are_not_run(found: Candidates, task: Task) -> None:
    def never(plans: Sequence[Plan]) -> None:
        raise AssertionError("nothing is close")

    before, after = settled(found, priced(found, round(1000 * REACH) + 1), task, never)
    assert after is before


def test_nothing_is_run_when_time_is_up_or_plans_cannot_be(found: Candidates, task: Task) -> None:
    before, after = settled(found, priced(found), task, lambda plans: None)
    assert after is before
    late = Task(CATALOG, 1, Request(), time.monotonic(), True, task.database, ExactTuner(), Silent())
    runs: list[int] = []
    before, after = settled(found, priced(found), late, partial(seen_as, {"cpu/fat": 2.0, "cpu/lean": 1.0}, runs))
    assert after is before and not runs


def test_turns_are_timed_in_the_worker_and_remembered(found: Candidates, task: Task) -> None:
    """Lean sleeps two milliseconds; a second look reads what the first stored."""
    prices = priced(found)
    fat = select_plan(found, prices, task, {}, {}).plan
    only_lean = {c: p for c, p in prices.kernels.items() if c.routine.name != "cpu/fat"}
    lean = select_plan(found, Prices(only_lean, {}), task, {}, {}).plan
    sample = {"x": np.ones((1, 64), np.float32)}
    with Pricing(found, CATALOG, 1, task.database, Silent(), sample, {}) as pricing:
        seen = pricing.run_in_turns([fat, lean])
        rows = len(task.database)
        again = pricing.run_in_turns([fat, lean])
        alone = pricing.run_in_place(fat)
    assert seen is not None and seen == again and alone is not None
    assert rows == 2 * (1 + STEPS) and len(task.database) == rows + 1 + STEPS
    assert min(seen[1].step_us) > 2000 > max(seen[0].step_us) and seen[0].runs == seen[1].runs
