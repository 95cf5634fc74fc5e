"""Plans that may be the fastest are run again before one is taken."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from softneuro_core.accuracy.bounded import RIVALS, TURNS, Point, in_turns
from softneuro_core.plan import Plan
from softneuro_core.profiling.in_place import InPlace


@dataclass
class Machine:
    """Runs a plan (here its number) in the time it is given, as often as asked."""

    times: dict[int, list[float]]
    asked: list[int]

    def run(self, plan: Plan) -> InPlace | None:
        number = cast(int, plan)
        self.asked.append(number)
        left = self.times[number]
        return cast(InPlace, SimpleNamespace(best_us=left.pop(0))) if left else None


def _point(number: int, predicted_us: float, us: float) -> Point:
    tuned: Any = SimpleNamespace(plan=number)
    return Point(tuned, predicted_us, us, 0.0, 0.0, 0.0)


def test_a_plan_looked_at_in_a_bad_moment_wins_in_turns() -> None:
    points = [_point(0, 18.0, 16.7), _point(1, 28.0, 12.5), _point(2, 37.0, 18.0)]
    machine = Machine({0: [17.0, 9.0, 9.5], 1: [12.6, 12.4, 20.0], 2: [18.0, 19.0, 20.0]}, [])
    found = in_turns(points, machine.run)
    assert [found[id(p)].us for p in points] == [9.0, 12.4, 18.0]
    assert machine.asked == [0, 1, 2] * TURNS


def test_only_likely_ones_and_the_fastest_seen_run_again() -> None:
    points = [_point(n, 10.0 + n, 50.0 - n) for n in range(9)]
    machine = Machine({n: [] for n in range(9)}, [])
    found = in_turns(points, machine.run)
    assert set(machine.asked) == {*range(RIVALS), 8}
    assert all(found[id(points[n])] is points[n] for n in (*range(RIVALS), 8))
