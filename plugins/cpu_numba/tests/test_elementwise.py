"""Elementwise layers and trees of them against the reference, in every layout offered."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check, node, random, target
from softneuro_cpu_numba.storage import stores_bfloat

UNARY = ["Relu", "Sigmoid", "Tanh", "Exp", "Erf", "Sqrt", "Abs", "Neg", "Log", "Sin", "Cos", "Floor", "Round"]
UNARY += ["HardSigmoid", "HardSwish", "LeakyRelu", "Reciprocal", "Softplus", "Softsign"]
SHAPES = [(1,), (17,), (3, 8), (1, 3, 7), (2, 3, 4, 5), (1, 16, 33, 33), ()]


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("shape", SHAPES)
def test_unary(op, shape):
    if op == "Softsign" and shape == ():
        pytest.skip("onnx.reference cannot compute it")
    x = random(*shape)
    x = np.abs(x) + np.float32(0.1) if op in ("Sqrt", "Log") else x * 4
    check([node(op, "x", "y")], {"x": np.asarray(x, np.float32)}, expect=["cpu/map"])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Less", "GreaterOrEqual", "Equal"])
@pytest.mark.parametrize(
    "a, b",
    [
        ((2, 3, 4, 5), (2, 3, 4, 5)),
        ((2, 3, 4, 5), (3, 1, 1)),
        ((2, 3, 4, 5), (1, 3, 1, 1)),
        ((2, 3, 4, 5), (5,)),
        ((2, 3, 4, 5), ()),
        ((4, 17), (4, 1)),
        ((1, 8, 6), (2, 8, 6)),
    ],
)
def test_binary(op, a, b):
    if (op == "PRelu" and len(a) != 4) or (op == "PRelu" and b == ()):
        pytest.skip("PRelu broadcasts one way")
    x, y = random(*a), np.asarray(random(*b, seed=1), np.float32)
    check([node(op, "ab", "y")], {"a": x, "b": y}, expect=["cpu/map"])
    check([node(op, "ab", "y")], {"a": x}, {"b": y}, expect=["cpu/map"])
    if op != "PRelu":
        check([node(op, "ba", "y")], {"a": x, "b": y}, expect=["cpu/map"])


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float64", "float16"])
@pytest.mark.parametrize("op", ["Add", "Less", "Max"])
def test_binary_types(op, dtype):
    a, b = random(3, 17, dtype=dtype), random(3, 17, dtype=dtype, seed=1)
    check([node(op, "ab", "y")], {"a": a, "b": b}, expect=["cpu/map"])


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_logical(op):
    check([node(op, "ab", "y")], {"a": random(3, 9, dtype="bool"), "b": random(9, dtype="bool")}, expect=["cpu/map"])
    check([node("Not", "a", "y")], {"a": random(3, 9, dtype="bool")}, expect=["cpu/map"])


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_where(dtype):
    inputs = {"c": random(2, 3, 1, 5, dtype="bool"), "a": random(2, 3, 4, 5, dtype=dtype), "b": random(1, dtype=dtype)}
    check([node("Where", "cab", "y")], inputs, expect=["cpu/map"])


CASTS = [("float32", 10), ("float16", 1), ("float32", 7), ("int64", 1), ("float32", 9), ("bool", 1), ("int32", 7)]
CASTS += [("float64", 1), ("uint8", 1), ("int64", 2), ("float16", 6), ("bool", 7), ("float64", 10)]


@pytest.mark.parametrize("source, to", CASTS)
def test_cast(source, to):
    x = random(2, 3, 17, dtype=source)
    made = {"x": x * 3 if source.startswith("float") else x}
    check([node("Cast", "x", "y", to=to)], made, expect=["cpu/map"])


@pytest.mark.parametrize("exponent", [2.0, 0.5, 3.0, 1.7])
def test_pow(exponent):
    x = np.abs(random(3, 17))
    check([node("Pow", "xe", "y")], {"x": x}, {"e": np.float32(exponent).reshape(())}, expect=["cpu/map"])


def test_clip_forms():
    low, high = np.float32(-0.5).reshape(()), np.float32(0.25).reshape(())
    check([node("Clip", ["x", "lo", "hi"], "y")], {"x": random(3, 17)}, {"lo": low, "hi": high}, expect=["cpu/map"])
    check([node("Clip", ["x", "", "hi"], "y")], {"x": random(3, 17)}, {"hi": high})
    check([node("Clip", "x", "y", min=-0.5, max=0.5)], {"x": random(3, 17)}, opset=6, expect=["cpu/map"])


def test_max_of_three():
    check([node("Max", "abc", "y")], {"a": random(3, 7), "b": random(7), "c": random(3, 1)}, expect=["cpu/map"])


def test_gelu_tree_is_one_kernel():
    nodes = [
        node("Div", ["x", "root"], "d"),
        node("Erf", "d", "e"),
        node("Add", ["e", "one"], "s"),
        node("Mul", ["x", "s"], "m"),
        node("Mul", ["m", "half"], "y"),
    ]
    scalars = {
        "root": np.float32(2**0.5).reshape(()),
        "one": np.float32(1).reshape(()),
        "half": np.float32(0.5).reshape(()),
    }
    for shape in [(2, 7, 24), (1, 128, 1536)]:
        check(nodes, {"x": random(*shape)}, scalars, expect=["cpu/map"])


@pytest.mark.parametrize("op", ["Exp", "Tanh", "Erf", "Sigmoid", "Relu", "HardSwish"])
def test_extremes(op):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 88.0, 89.5, -87.0, -110.0, 1e30, -1e30] * 3, np.float32)
    if op == "HardSwish":
        x = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        check([node(op, "x", "y")], {"x": x}, expect=["cpu/map"])


@pytest.mark.parametrize("op, low, high", [("Exp", -5, 0), ("Tanh", -1e-3, 1e-3), ("Erf", -1e-3, 1e-3), ("Erf", -4, 4)])
def test_transcendental_accuracy(op, low, high):
    """Small arguments must not lose relative accuracy to the large branch of the approximation."""
    check([node(op, "x", "y")], {"x": np.linspace(low, high, 9999, dtype=np.float32)}, expect=["cpu/map"])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 1, 0])
@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (3, 17)])
def test_quantise(dtype, axis, shape):
    count = () if axis is None else (shape[axis],)
    scale = np.abs(random(*count)) * np.float32(0.02) + np.float32(0.01)
    zero = np.full(count, 3, dtype)
    constants = {"s": np.asarray(scale, np.float32), "z": zero}
    attrs = {} if axis is None else {"axis": axis}
    x = {"x": random(*shape)}
    check([node("QuantizeLinear", "xsz", "y", **attrs)], x, constants, expect=["cpu/quantizelinear"])
    x = {"x": random(*shape, dtype=dtype)}
    check([node("DequantizeLinear", "xsz", "y", **attrs)], x, constants, expect=["cpu/dequantizelinear"])


@pytest.mark.skipif(not stores_bfloat(target()), reason="bfloat16 storage is offered with AVX512-BF16 only")
@pytest.mark.parametrize(
    "shape, wanted",
    [
        ((2, 24, 7, 5), {("bfloat16", "bfloat16", "bfloat16", 0)}),
        ((2, 24, 1, 1), {("bfloat16", "float32", "bfloat16", 0), ("bfloat16", "bfloat16", "bfloat16", 0)}),
        ((24, 1, 1), {("bfloat16", "float32", "bfloat16", 0)}),
    ],
)
def test_bfloat16_operands(shape, wanted):
    """Operands of the result's shape are narrow; the factors of squeeze-and-excite either way."""
    inputs = {"x": random(2, 24, 7, 5), "s": random(*shape, seed=1)}
    made = check([node("Mul", "xs", "y")], inputs, expect=["cpu/map"])
    stored = {(*(s.dtype.name for s in (*o.inputs, *o.outputs)), o.inplace) for _, o in made}
    assert {types for types in stored if types[2] == "bfloat16"} == wanted


def test_bfloat16_is_for_real_results_of_whole_operands():
    x, y = random(2, 24, 7, 5), random(2, 24, 1, 1)
    for nodes, inputs in (([node("Less", "xy", "z")], {"x": x, "y": y}), ([node("Relu", "x", "z")], {"x": x[0, 0]})):
        assert not [o for _, o in check(nodes, inputs) if o.outputs[0].dtype.name == "bfloat16"]
    outer = [node("Add", "xy", "z")]
    assert not [o for _, o in check(outer, {"x": y, "y": x[:, :1]}) if o.outputs[0].dtype.name == "bfloat16"]
