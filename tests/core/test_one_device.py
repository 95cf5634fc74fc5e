"""A joint plan stays only where it is seen to be faster than the best plan of one device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import fake_device
import onnx
import pytest
from onnx import helper

import softneuro_core as sn
from softneuro_core.candidates import Request, enumerate_candidates
from softneuro_core.costs import CostDatabase
from softneuro_core.one_device import HOPELESS, settle_devices
from softneuro_core.plan import Plan
from softneuro_core.pricing import Pricing
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.progress import Silent
from softneuro_core.selection import Prices
from softneuro_core.settling import as_seen
from softneuro_core.task import Task, Tuned, select_plan
from softneuro_core.tuner.exact import ExactTuner
from tests.core.models import model

CATALOG = sn.load_plugins(only=(), modules=[fake_device])


def relu_and_add() -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", ["x"], ["r"], "relu"), helper.make_node("Add", ["r", "r"], ["y"], "add")]
    return model(nodes, {"x": [1, 64]}, ["y"], {})


@pytest.fixture
def task(tmp_path: Path) -> Iterator[Task]:
    with CostDatabase(tmp_path / "costs.sqlite") as database:
        yield Task(CATALOG, 1, Request(), None, True, database, ExactTuner(), Silent())


def devices(plan: Plan) -> set[str]:
    return {step.routine.partition("/")[0] for step in plan.kernel_steps}


def settled(task: Task, joint_us: float, cpu_us: float, alone_ns: int = 60_000) -> tuple[Tuned, list[int]]:
    """Relu is cheap on the fake device, Add on the CPU; whole plans take what is said."""
    found = enumerate_candidates(sn.load(relu_and_add(), catalog=CATALOG), CATALOG, 1, task.request)
    with Pricing(found, CATALOG, 1, task.database, Silent(), None, {}, False) as pricing:
        guessed = pricing.prices({})
    cheap = {("fake", "Relu"), ("cpu", "Add")}
    times = {c: 50_000 if (c.routine.device, c.region.exit.type) in cheap else alone_ns for c in guessed.kernels}
    prices = Prices(
        {c: replace(p, time_ns=times[c]) for c, p in guessed.kernels.items()},
        {a: replace(p, time_ns=0) for a, p in guessed.adapters.items()},
    )
    select = lambda other: select_plan(found, other, task, {}, {})  # noqa: E731
    joint = select(prices)
    runs: list[int] = []

    def seen(plan: Plan) -> InPlace:
        us = joint_us if len(devices(plan)) == 2 else cpu_us if devices(plan) == {"cpu"} else 1000.0
        each = [us / len(plan.steps)] * len(plan.steps)
        return InPlace(us, us, each, each, 9)

    def in_turns(plans: Sequence[Plan]) -> list[InPlace]:
        runs.append(len(plans))
        return [seen(plan) for plan in plans]

    assert devices(joint.plan) == {"cpu", "fake"}
    joint = as_seen(joint, prices, seen(joint.plan))
    return settle_devices(joint, prices, select, seen, in_turns, task), runs


@pytest.fixture(autouse=True)
def no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a run on the fake device is free here."""
    monkeypatch.setattr(CATALOG.devices["fake"], "segment_us", 0.0)


def test_the_joint_plan_stays_where_it_is_faster(task: Task) -> None:
    found, runs = settled(task, joint_us=90.0, cpu_us=100.0)
    assert devices(found.plan) == {"cpu", "fake"} and runs == [3] and not found.plan.notes[1:]


def test_one_device_is_taken_where_that_is_faster_and_the_plan_says_so(task: Task) -> None:
    found, _ = settled(task, joint_us=110.0, cpu_us=100.0)
    assert devices(found.plan) == {"cpu"} and found.plan.predictions["whole_us"] == 100.0
    assert "on cpu alone: 100.0 us a run, 110.0 with fake" in found.plan.notes[-1]


def test_a_joint_plan_far_slower_than_predicted_gives_way(task: Task) -> None:
    """The limit is one of what was seen: contention is in no prediction."""
    found, runs = settled(task, joint_us=400.0, cpu_us=200.0, alone_ns=250_000)
    assert devices(found.plan) == {"cpu"} and runs == [3]


def test_a_device_that_is_far_slower_alone_is_not_run(task: Task) -> None:
    found, runs = settled(task, joint_us=110.0, cpu_us=1.0, alone_ns=round(110_000 * HOPELESS))
    assert devices(found.plan) == {"cpu", "fake"} and runs == []
