"""com.microsoft's products of integers, QuantizeLinear and DequantizeLinear, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from softneuro_core.graph import Graph
from softneuro_core.testing.case import Const

Agree = Callable[..., Graph]
RNG = np.random.default_rng(12)
TYPES = pytest.mark.parametrize("types", [("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8")])


def activations(kind: str, *shape: int) -> np.ndarray:
    limits = np.iinfo(kind)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(kind)


def weights(kind: str, *shape: int) -> Const:
    """Within 63 of zero: without VNNI onnxruntime adds products of bytes in pairs, in 16 bits, which larger ones
    overflow."""
    return Const((RNG.integers(-63, 64, shape) + middle(kind)).astype(kind))


def middle(kind: str) -> int:
    return 128 if kind == "uint8" else 0


def number(value: float, kind: str = "float32") -> Const:
    return Const(np.array(value, kind))


def scales(count: int) -> Const:
    return Const(RNG.uniform(0.002, 0.004, count).astype(np.float32))


def reals(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@TYPES
@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("last", [0, 1])
def test_conv(agree: Agree, types: tuple[str, str], by_channel: bool, last: int) -> None:
    x_type, w_type = types
    x = activations(x_type, *((2, 6, 7, 8) if last else (2, 8, 6, 7)))
    numbers = [number(0.02), number(middle(x_type) - 9, x_type)]
    zeros = Const(np.full(8 if by_channel else (), middle(w_type), w_type))
    of_w = [weights(w_type, 8, 4, 3, 3), scales(8) if by_channel else number(0.003), zeros]
    out = [number(0.03), number(middle(x_type) + 3, x_type)]
    bias = Const(RNG.integers(-900, 900, 8).astype(np.int32))
    attrs = {"group": 2, "pads": [1, 0, 1, 1], "strides": [1, 2], "channels_last": last}
    agree("QLinearConv", x, *numbers, *of_w, *out, bias, force=["cpu/qconv@Conv"], **attrs)
    agree("QLinearConv", x, *numbers, *of_w, *out, **attrs)


@TYPES
@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("rounded", [False, True])
def test_gemm(agree: Agree, types: tuple[str, str], turned: tuple[int, int], by_column: bool, rounded: bool) -> None:
    a_type, b_type = types
    a = activations(a_type, *((5, 4) if turned[0] else (4, 5)))
    b = weights(b_type, *((7, 5) if turned[1] else (5, 7)))
    of_b = [scales(7), Const(np.full(7, middle(b_type), b_type))] if by_column else [number(0.003), number(1, b_type)]
    c = Const(RNG.integers(-900, 900, (7,) if by_column else (4, 7)).astype(np.int32))
    out = [number(0.02), number(middle(a_type) - 5, a_type)] if rounded else []
    operands = [a, number(0.02), number(middle(a_type) - 9, a_type), b, *of_b, c, *out]
    agree("QGemm", *operands, transA=turned[0], transB=turned[1], alpha=1.5 if rounded else 1.0)


def test_a_gemm_without_bias_runs_in_integers(agree: Agree) -> None:
    operands = [activations("uint8", 4, 5), number(0.02), number(119, "uint8")]
    operands += [weights("int8", 7, 5), number(0.003), number(0, "int8"), None, number(0.02), number(123, "uint8")]
    agree("QGemm", *operands, transB=1, force=["cpu/qgemm"])


@TYPES
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_integers_to_float(agree: Agree, types: tuple[str, str], by_column: bool, biased: bool) -> None:
    a_type, b_type = types
    zeros = Const(RNG.integers(0, 3, 7).astype(b_type)) if by_column else number(1, b_type)
    operands = [activations(a_type, 2, 4, 5), weights(b_type, 5, 7), number(0.02)]
    operands += [scales(7) if by_column else number(0.003), number(middle(a_type) - 9, a_type), zeros]
    agree(
        "MatMulIntegerToFloat",
        *operands,
        *([Const(reals(7))] if biased else []),
        force=["cpu/matmulinteger@MatMulInteger"],
    )
    agree("MatMulIntegerToFloat", *operands[:4])


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_dynamic(agree: Agree, kind: str, by_column: bool, biased: bool) -> None:
    zeros = Const(np.full(7, middle(kind), kind)) if by_column else number(middle(kind) + 1, kind)
    operands = [reals(2, 4, 5), weights(kind, 5, 7), scales(7) if by_column else number(0.003), zeros]
    agree(
        "DynamicQuantizeMatMul",
        *operands,
        *([Const(reals(7))] if biased else []),
        force=["cpu/matmulinteger@MatMulInteger"],
    )
    agree("DynamicQuantizeMatMul", *operands[:3])


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("axis", [None, 1, -2, 0])
def test_onto_a_grid_and_off_it(agree: Agree, kind: str, axis: int | None) -> None:
    x, attrs = 50 * reals(3, 4, 5), {} if axis is None else {"axis": axis}
    count = () if axis is None else (3,) if axis == 0 else (4,)
    scale = Const(RNG.uniform(0.002, 0.4, count).astype(np.float32))
    zero = Const(RNG.integers(0, 99, count).astype(kind))
    agree("QuantizeLinear", x, scale, zero, **attrs)
    agree("DequantizeLinear", activations(kind, 3, 4, 5), scale, zero, **attrs)


def test_numbers_that_are_computed_or_absent(agree: Agree) -> None:
    agree("QuantizeLinear", reals(2, 3), np.array([0.02], np.float32), np.array([3], np.uint8))
    agree("QuantizeLinear", 50 * reals(2, 3), number(0.02))
    agree("DequantizeLinear", RNG.integers(-1000, 1000, (2, 4)).astype(np.int32), number(0.02))
    agree("DequantizeLinear", activations("int16", 2, 4), np.array(0.02, np.float32), np.array(5, np.int16))


def test_sixteen_bits_are_rounded_where_the_file_rounds(agree_on_file: Any) -> None:
    """No 8-bit routine may take what lies on a 16-bit grid; float plans round there all the same."""
    from onnx import helper, numpy_helper

    stored = {"s": np.float32(0.01), "z": np.uint16(32768), "w": reals(6, 4, 3, 3), "wide": np.float32(0.5)}
    steps = [("QuantizeLinear", ["x", "wide", "z"], "a"), ("DequantizeLinear", ["a", "wide", "z"], "b")]
    steps += [("Conv", ["b", "w"], "c"), ("QuantizeLinear", ["c", "s", "z"], "y")]
    nodes = [helper.make_node(op, ins, [out], domain="" if op == "Conv" else "com.microsoft") for op, ins, out in steps]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 4, 8, 8])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in stored.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    x = 4 * reals(1, 4, 8, 8)
    made = agree_on_file(helper.make_model(graph, opset_imports=opsets, ir_version=10), {"x": x})
    assert {la.version for la in made.layers if "Linear" in la.op} == {21}
