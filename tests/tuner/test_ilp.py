"""The integer programme agrees with the dynamic programme, and is not fooled by conversions that feed each other."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (extra ilp)")

from softneuro_core.tuner import ilp
from softneuro_core.tuner.exact import ExactTuner
from softneuro_core.tuner.infeasible import Infeasible
from softneuro_core.tuner.price import price
from softneuro_core.tuner.problem import Conversion, Option, Problem

from .small_problems import random_problem
from .topologies import Specs, Topology, dense_block, nasnet, problem_of, yolo


def test_conversions_cannot_justify_each_other() -> None:
    """1 -> 2 and 2 -> 1 cost 2 together and deliver nothing; the way in costs 10 more."""
    edges = {(0, 1): Conversion(10), (1, 2): Conversion(1), (2, 1): Conversion(1)}
    options = (Option((0,), (), ((0, 0),), 0, 0), Option((1,), ((0, 1), (0, 2)), ((1, 0),), 0, 0))
    problem = Problem(2, options, {0: edges}, sinks=((1, 0),))
    answer = ilp.solve(problem)
    assert answer is not None
    assert answer.time_ns == answer.lower_bound_ns == 11 == ExactTuner().select(problem).time_ns


@pytest.mark.parametrize("limits", [0, 2])
def test_same_optimum_on_random_problems(limits: int) -> None:
    solved = impossible = 0
    for seed in range(100, 160):
        problem = random_problem(seed, 6, 4, limits)
        answer = ilp.solve(problem)
        try:
            best = ExactTuner().select(problem)
        except Infeasible:
            assert answer is None
            impossible += 1
            continue
        assert answer is not None
        assert answer.time_ns == best.time_ns == answer.lower_bound_ns
        assert price(problem, answer.chosen, answer.conversions)[0] == answer.time_ns
        solved += 1
    assert solved >= 15
    assert impossible >= 10


@pytest.mark.parametrize("net", [yolo(3, 1), nasnet(2), dense_block(5)], ids=["yolo", "nasnet", "densenet"])
@pytest.mark.parametrize(("count", "devices"), [(8, 1), (8, 2)])
def test_same_optimum_on_synthetic_nets(net: Topology, count: int, devices: int) -> None:
    """The second device has a fixed cost per segment of consecutive steps."""
    segments = {1: 20_000} if devices > 1 else {}
    problem = problem_of(net, Specs(count, devices), 3, segments)
    answer = ilp.solve(problem)
    assert answer is not None
    assert answer.time_ns == answer.lower_bound_ns == ExactTuner().select(problem).time_ns
