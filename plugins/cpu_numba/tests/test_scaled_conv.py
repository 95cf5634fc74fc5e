"""Mul by one factor a channel and the 1x1 Conv behind it: sizes, order of operands, epilogues, what is left alone."""

from __future__ import annotations

import pytest
from harness import ROUTINES, check, graph_of, node, random

from softneuro_core.graph import Graph

NAME = "cpu/conv_scaled"


def scaled(cin, cout, size, *more, swapped=False, batch=1, **attrs):
    nodes = [node("Mul", ["s", "x"] if swapped else ["x", "s"], "m"), node("Conv", "mwb", "c"), *more]
    if attrs:
        nodes[1] = node("Conv", "mwb", "c", **attrs)
    inputs = {"x": random(batch, cin, *size), "s": random(batch, cin, 1, 1, seed=5)}
    kernel = attrs.get("kernel_shape", (1, 1))
    return nodes, inputs, {"w": random(cout, cin // attrs.get("group", 1), *kernel, seed=1), "b": random(cout, seed=2)}


@pytest.mark.parametrize("cin, cout, size", [(96, 24, (14, 14)), (5, 3, (7, 9)), (144, 40, (1, 1)), (33, 17, (1, 2))])
@pytest.mark.parametrize("swapped", [False, True])
def test_against_the_reference(cin, cout, size, swapped):
    check(*scaled(cin, cout, size, swapped=swapped), expect=[NAME])


def test_with_a_residual_and_an_activation():
    nodes, inputs, constants = scaled(24, 16, (9, 11), node("Add", ["r", "c"], "a"), node("Relu", "a", "y"))
    check(nodes, inputs | {"r": random(1, 16, 9, 11, seed=9)}, constants, expect=[NAME])


def regions_in(graph: Graph) -> list[tuple[str, ...]]:
    found = [r for layer in graph.layers for r in ROUTINES[NAME].regions(graph, layer)]
    return [tuple(layer.op for layer in layers) for layers in found]


def test_the_residual_may_not_be_the_scaled_tensor():
    nodes, inputs, constants = scaled(8, 8, (4, 4), node("Add", ["c", "m"], "y"))
    assert NAME not in dict(check(nodes, inputs, constants))


@pytest.mark.parametrize(
    "attrs", [{"batch": 2}, {"group": 2}, {"strides": [2, 2]}, {"kernel_shape": [3, 3]}, {"pads": [1, 1, 1, 1]}]
)
def test_other_convolutions_are_left_alone(attrs):
    assert NAME not in dict(check(*scaled(8, 6, (6, 6), **attrs)))


def test_a_scaled_tensor_used_elsewhere_stays():
    nodes, inputs, constants = scaled(8, 6, (6, 6), node("Relu", "m", "z"))
    assert regions_in(graph_of(nodes, inputs, constants)) == []


def test_a_mul_of_two_tensors_is_another_layer():
    nodes, inputs, constants = scaled(8, 6, (6, 6))
    inputs["s"] = random(1, 8, 6, 6, seed=5)
    assert regions_in(graph_of(nodes, inputs, constants)) == []
