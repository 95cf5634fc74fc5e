"""Real topologies: the nine light nets of the onnx wheel and synthetic ones, exact within the default budget and
equal to the integer programme. How long it takes is the business of benchmarks/solver.py."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy", reason="scipy is not installed (extra ilp)")

from softneuro_core.tuner import ilp
from softneuro_core.tuner.exact import ExactTuner
from softneuro_core.tuner.price import price
from softneuro_core.tuner.problem import Problem

from .topologies import LIGHT_NETS, Specs, Topology, dense_block, light_problem, nasnet, problem_of, yolo

SEGMENT_NS = 30_000
QUICK_AT_24 = ("bvlc_alexnet", "zfnet512", "vgg19", "squeezenet")


def assert_equal_to_ilp(problem: Problem) -> None:
    selection = ExactTuner().select(problem)
    assert selection.method == "dp"
    assert selection.exact
    assert (selection.time_ns, selection.uses) == price(problem, selection.chosen, selection.conversions)
    answer = ilp.solve(problem)
    assert answer is not None
    assert answer.time_ns == answer.lower_bound_ns == selection.time_ns


@pytest.mark.parametrize("name", LIGHT_NETS)
def test_light_net_at_12_specs(name: str) -> None:
    assert_equal_to_ilp(light_problem(name, 12))


@pytest.mark.parametrize(
    "name", [n if n in QUICK_AT_24 else pytest.param(n, marks=pytest.mark.long) for n in LIGHT_NETS]
)
def test_light_net_at_24_specs_on_two_devices(name: str) -> None:
    """The second device has a fixed cost per segment."""
    assert_equal_to_ilp(light_problem(name, 24, 2, SEGMENT_NS))


@pytest.mark.parametrize(("count", "devices", "most"), [(12, 1, 10_000), (24, 2, 40_000)])
@pytest.mark.parametrize("name", LIGHT_NETS)
def test_light_net_is_proven_within_few_states(name: str, count: int, devices: int, most: int) -> None:
    """Where the layers of inception_v2 are walked one by one, it takes 115,732 states at 12 specs."""
    problem = light_problem(name, count, devices, SEGMENT_NS if devices > 1 else 0)
    selection = ExactTuner(max_states=most, use_ilp=False).select(problem)
    assert (selection.method, selection.exact) == ("dp", True)
    assert (selection.time_ns, selection.uses) == price(problem, selection.chosen, selection.conversions)


@pytest.mark.parametrize("net", [yolo(), nasnet(), dense_block()], ids=["yolo", "nasnet", "densenet"])
def test_synthetic_net_at_12_specs_on_two_devices(net: Topology) -> None:
    assert_equal_to_ilp(problem_of(net, Specs(12, 2), 1, {1: SEGMENT_NS}))


def test_marginals_of_a_real_net_match_forced_solves() -> None:
    """Every tenth option of AlexNet, forced by taking away what else covers its layers."""
    problem = light_problem("bvlc_alexnet", 12)
    selection = ExactTuner().select(problem)
    marginals = ExactTuner().min_marginals(problem, selection)
    assert min(m for m in marginals if m is not None) == selection.time_ns
    for number in range(0, len(problem.options), 10):
        option = problem.options[number]
        rivals = (o for o in problem.options if o is option or not set(o.layers) & set(option.layers))
        forced = Problem(
            problem.layer_count, tuple(rivals), problem.conversions, problem.sources, problem.sinks, problem.segment_ns
        )
        assert ExactTuner().select(forced).time_ns == marginals[number]
