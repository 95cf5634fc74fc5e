"""Shapes follow from the inputs; constants are folded within the limits; bombs are left alone."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from evaluate import feeds_for, model, ops, run_graph

from softneuro_core.importer import load, specialise
from softneuro_core.importer.limits import MAX_BYTES

FLATTEN = """g (float[N,2,H] x) => (float[N,K] y) <int64[1] axes = {0}, int64 one = {1}, int64[1] minus = {-1}> {
    s = Shape(x) n = Gather(s, one) d = Unsqueeze(n, axes) first = Shape <start = 0, end = 1> (x)
    target = Concat <axis = 0> (first, minus) y = Reshape(x, target)
}"""


def test_shape_arithmetic_is_folded_for_fixed_shapes() -> None:
    graph = load(model(FLATTEN), {"x": (3, 2, 5)})
    assert ops(graph) == ["Reshape"] and graph.outputs[0].shape == (3, 10)
    assert run_graph(graph, feeds_for(graph))["y"].shape == (3, 10)


def test_shape_arithmetic_is_followed_without_passes() -> None:
    graph = load(model(FLATTEN), {"x": (3, 2, 5)}, passes=False)
    assert len(graph.layers) == 6 and graph.outputs[0].shape == (3, 10)


def test_free_dimensions_keep_their_names() -> None:
    graph = load(model(FLATTEN))
    assert graph.inputs[0].shape == ("N", 2, "H") and graph.free_dims == {"x": ("N", 2, "H")}
    assert graph.outputs[0].is_object
    x = np.ones((2, 2, 4), np.float32)
    assert run_graph(graph, {"x": x})["y"].shape == (2, 8)


def test_a_dimension_fixed_once_is_fixed_wherever_it_stands() -> None:
    graph = load(model("g (float[N,2] a, float[N,2] b) => (float[N,2] y) { y = Add(a, b) }"), {"a": (7, 2)})
    assert [v.shape for v in graph.inputs] == [(7, 2), (7, 2)] and not graph.free_dims


def test_specialise_starts_from_the_file() -> None:
    graph = load(model(FLATTEN), {"x": (3, 2, 5)})
    other = specialise(graph, {"x": (1, 2, 8)})
    assert other.outputs[0].shape == (1, 16) and other.origin is graph.origin
    assert graph.outputs[0].shape == (3, 10)


def test_constants_are_folded_and_shared() -> None:
    text = "g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1,2,3,4}> { t = Transpose(w) y = MatMul(x, t) }"
    graph = load(model(text))
    assert ops(graph) == ["MatMul"]
    assert graph.constants[0].name == "t" and graph.constants[0].data.tolist() == [[1, 3], [2, 4]]  # type: ignore[union-attr]


def test_a_folded_output_keeps_its_name() -> None:
    graph = load(model("g (float[2] x) => (float[2] z, int64[1] y) { z = Relu(x) y = Shape(x) }"))
    assert [v.name for v in graph.outputs] == ["z", "y"] and graph.outputs[1].is_constant


def test_unfolded_weights_remember_their_grid() -> None:
    text = """g (float[1,2] x) => (float[1,3] y)
    <int8[2,3] w = {1,-2,3,4,-5,6}, float[3] s = {0.5, 0.25, 2}, int8[3] z = {0, 1, -1}> {
        f = DequantizeLinear <axis = 1> (w, s, z) y = MatMul(x, f)
    }"""
    (weights,) = load(model(text)).constants
    assert weights.qparams is not None and weights.qparams.axis == 1 and weights.data is not None
    q = np.rint(weights.data / weights.qparams.scale) + weights.qparams.zero_point
    assert q.tolist() == [[1, -2, 3], [4, -5, 6]]


def test_quantised_activations_carry_scale_and_zero_point() -> None:
    text = "g (float[4] x) => (uint8[4] y) <float s = {0.5}, uint8 z = {7}> { y = QuantizeLinear(x, s, z) }"
    qparams = load(model(text)).outputs[0].qparams
    assert qparams is not None and qparams.scale == 0.5 and qparams.zero_point == 7 and qparams.axis is None
    assert not qparams.on_grid


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_what_is_dequantised_lies_on_its_grid(kind: str) -> None:
    text = f"g ({kind}[4] x) => (float[4] y) <float s = {{0.5}}> {{ y = DequantizeLinear(x, s) }}"
    qparams = load(model(text)).outputs[0].qparams
    assert qparams is not None and qparams.on_grid and qparams.zero_point.dtype == kind


def test_the_type_of_a_quantised_value_may_be_an_attribute() -> None:
    text = "g (float[4] x) => (int8[4] y) <float s = {0.5}> { y = QuantizeLinear <output_dtype = 3> (x, s) }"
    qparams = load(model(text, opset=21, ir=10)).outputs[0].qparams
    assert qparams is not None and qparams.zero_point.dtype == np.int8


BOMBS = {
    "ConstantOfShape": "<int64[2] n = {60000, 60000}> { y = ConstantOfShape(n) }",
    "Range": "<int64 a = {0}, int64 n = {1000000000000}, int64 d = {1}> { r = Range(a, n, d) y = Cast <to = 1> (r) }",
    "Tile": "<float[2] c = {1, 2}, int64[1] n = {1000000000}> { y = Tile(c, n) }",
    "Expand": "<float[1] c = {1}, int64[2] n = {70000, 70000}> { y = Expand(c, n) }",
    "Resize": '<float[1,1,2,2] c = {1,2,3,4}, float[4] n = {1,1,30000,30000}> { y = Resize(c, "", n) }',
    "Pad": "<float[2] c = {1, 2}, int64[2] n = {0, 1000000000}> { y = Pad(c, n) }",
    "OneHot": "<int64[1] c = {1}, int64 n = {1000000000}, float[2] v = {0, 1}> { y = OneHot(c, n, v) }",
    "EyeLike": "<int64[2] n = {50000, 50000}> { c = ConstantOfShape(n) y = EyeLike(c) }",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_resource_bombs_are_not_folded(kind: str) -> None:
    tracemalloc.start()
    try:
        graph = load(model(f"g (float[1] x) => (float[1] z, float[U,V] y) {BOMBS[kind].replace('{', '{', 1)}"
                           .replace("> {", "> { z = Relu(x)")))  # fmt: skip
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kind in ops(graph)
    assert peak < MAX_BYTES


def test_a_loop_of_2_to_the_62_turns_stays_a_loop() -> None:
    text = """g (float[1] x) => (float[1] y) <int64 n = {4611686018427387904}, bool go = {1}, float[1] s = {0}> {
        t = Loop (n, go, s) <body = b (int64 i, bool c, float[1] p) => (bool d, float[1] q) {
            d = Identity(c) q = Identity(p) }>
        y = Add(t, x)
    }"""
    assert "Loop" in ops(load(model(text)))


def test_random_layers_are_not_folded() -> None:
    graph = load(model("g (float[3] x) => (float[3] y) { r = RandomNormal <shape = [3]> () y = Add(x, r) }"))
    assert ops(graph) == ["RandomNormal", "Add"]


def test_a_branch_that_cannot_run_does_not_decide_the_shape() -> None:
    text = """g (bool c, float[2,3] x) => (float[U] y) <int64[1] a = {0}> {
        y = If (c) <then_branch = t () => (float[U] p) { s = ReduceSum <keepdims = 0> (x, a) p = Relu(s) },
                    else_branch = e () => (float[V] q) { q = Squeeze(x, a) }>
    }"""
    graph = load(model(text, opset=13))
    assert graph.outputs[0].shape == (3,)
