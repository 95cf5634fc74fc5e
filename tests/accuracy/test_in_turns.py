"""Plans that may be the fastest are run in turns before one is taken."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from softneuro_core.accuracy.bounded import RIVALS, Point, fastest
from softneuro_core.plan import Plan
from softneuro_core.profiling.in_place import InPlace


def _point(number: int, predicted_us: float, us: float) -> Point:
    tuned: Any = SimpleNamespace(plan=number)
    return Point(tuned, predicted_us, us, 0.0, 0.0, 0.0)


def test_a_plan_looked_at_in_a_bad_moment_wins_in_turns() -> None:
    points = [_point(0, 18.0, 16.7), _point(1, 28.0, 12.5), _point(2, 37.0, 18.0)]
    medians = [9.5, 12.6, 19.0]

    def run(plans: Sequence[Plan]) -> list[InPlace]:
        return [InPlace(medians[cast(int, plan)], 1.0, [], [], 9) for plan in plans]

    assert fastest(points, run) == 0
    medians[0] = 13.0
    assert fastest(points, run) == 1


def test_only_likely_ones_and_the_fastest_seen_run_again() -> None:
    points = [_point(n, 10.0 + n, 50.0 - n) for n in range(9)]
    asked: list[Plan] = []
    assert fastest(points, asked.extend) == 8  # nothing could be run: the fastest seen
    assert asked == [*range(RIVALS), 8]


def test_one_plan_is_not_run_again() -> None:
    assert fastest([_point(0, 1.0, 1.0)], lambda plans: [][0]) == 0
