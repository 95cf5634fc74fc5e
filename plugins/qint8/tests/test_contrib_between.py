"""com.microsoft's operators between integers against onnxruntime: within one step in every way to compute them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import softneuro_core as sn
from softneuro_core.graph import Graph
from softneuro_core.testing.case import Const

Agree = Callable[..., Graph]
BOTH = pytest.mark.parametrize("kind", ["uint8", "int8"])
RNG = np.random.default_rng(11)


def integers(kind: str, *shape: int) -> np.ndarray:
    limits = np.iinfo(kind)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(kind)


def grid(scale: float, zero: int, kind: str) -> tuple[Const, Const]:
    """Scale and zero point, which is counted from the middle of the type."""
    return Const(np.float32(scale)), Const(np.array(zero + (128 if kind == "uint8" else 0), kind))


@BOTH
@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 1), (4,), ()])
def test_two_operands(agree: Agree, op: str, shape: tuple[int, ...], kind: str) -> None:
    a, b = integers(kind, 2, 3, 4), integers(kind, *shape)
    numbers = grid(0.02, -8, kind), grid(0.03, 5, kind), grid(0.04, 1, kind)
    graph = agree(f"QLinear{op}", a, *numbers[0], b, *numbers[1], *numbers[2], force=[f"cpu/q{op.lower()}"])
    assert [la.op for la in graph.layers] == ["DequantizeLinear"] * 2 + [op, "QuantizeLinear"]


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_a_constant_operand_and_an_absent_zero_point(agree: Agree, op: str) -> None:
    (scale, zero), (of_c, _) = grid(0.02, -8, "uint8"), grid(0.04, 0, "uint8")
    agree(f"QLinear{op}", integers("uint8", 2, 5), scale, zero, Const(integers("uint8", 5)), scale, zero, of_c)


@BOTH
@pytest.mark.parametrize("op, attrs", [("Sigmoid", {}), ("LeakyRelu", {}), ("LeakyRelu", {"alpha": 0.2})])
def test_functions_become_tables(agree: Agree, op: str, attrs: dict[str, Any], kind: str) -> None:
    numbers = (*grid(0.05, 9, kind), *grid(0.004 if op == "Sigmoid" else 0.03, -128, kind))
    agree(f"QLinear{op}", integers(kind, 3, 70), *numbers, force=["cpu/qfunction"], **attrs)


@BOTH
@pytest.mark.parametrize("axis, since", [(-1, 13), (1, 13), (0, 13), (1, 11), (2, 11), (0, 11)])
def test_softmax(agree: Agree, made: Any, axis: int, since: int, kind: str) -> None:
    """Before opset 13 all that stands behind the axis is one row."""
    x, numbers = integers(kind, 2, 3, 5), (*grid(0.05, 9, kind), *grid(1 / 256, -128, kind))
    agree("QLinearSoftmax", x, *numbers, axis=axis, opset=since)


@BOTH
@pytest.mark.parametrize("last", [0, 1])
def test_global_average_pool(agree: Agree, last: int, kind: str) -> None:
    numbers = (*grid(0.05, 9, kind), *grid(0.03, -7, kind))
    graph = agree(
        "QLinearGlobalAveragePool",
        integers(kind, 2, 5, 6, 7),
        *numbers,
        channels_last=last,
        force=["cpu/qpool@GlobalAveragePool"],
    )
    assert [la.op for la in graph.layers].count("Transpose") == 2 * last


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(
    "attrs",
    [
        {"strides": [2, 1], "pads": [1, 0, 1, 1]},
        {"pads": [1, 0, 1, 1], "count_include_pad": 1},
        {"strides": [2, 2], "ceil_mode": 1},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ],
)
def test_average_pool(agree: Agree, attrs: dict[str, Any], last: int) -> None:
    numbers = (*grid(0.05, 9, "uint8"), *grid(0.03, -7, "uint8"))
    shape = (2, 6, 7, 5) if last else (2, 5, 6, 7)
    agree("QLinearAveragePool", integers("uint8", *shape), *numbers, kernel_shape=[3, 2], channels_last=last, **attrs)


@BOTH
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reduce_mean(made: Any, everything: Any, keepdims: int, kind: str) -> None:
    """onnxruntime has the operator's schema and no kernel for it: its formula in float64 instead."""
    x, numbers = integers(kind, 2, 3, 4), (*grid(0.05, 9, kind), *grid(0.03, -7, kind))
    graph = sn.load(made("QLinearReduceMean", x, *numbers, axes=[-1, 0], keepdims=keepdims), catalog=everything)
    (scale, zero), (new, shift) = (tuple(n.array for n in pair) for pair in (numbers[:2], numbers[2:]))
    mean = ((x.astype(float) - zero) * scale).mean((-1, 0), keepdims=bool(keepdims))
    wanted = np.clip(np.rint(mean / new) + shift, np.iinfo(kind).min, np.iinfo(kind).max)
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=everything)
    found = sn.Session(graph, plan, catalog=everything).run({"x0": x})["y0"]
    assert found.dtype == kind and found.shape == wanted.shape and np.abs(found - wanted).max() <= 1


@BOTH
def test_where(agree: Agree, kind: str) -> None:
    condition = RNG.integers(0, 2, (2, 1, 4)).astype(bool)
    x, y = integers(kind, 2, 3, 4), integers(kind, 3, 1)
    agree("QLinearWhere", condition, x, *grid(0.02, 4, kind), y, *grid(0.03, 2, kind), *grid(0.04, -9, kind))


@BOTH
@pytest.mark.parametrize("axis", [1, -1])
def test_concat(agree: Agree, axis: int, kind: str) -> None:
    parts = []
    for count, scale in ((3, 0.02), (1, 0.03), (2, 0.04)):
        shape = (2, count, 4) if axis == 1 else (2, 3, count)
        parts += [integers(kind, *shape), *grid(scale, count, kind)]
    agree("QLinearConcat", *grid(0.04, -9, kind), *parts, axis=axis, force=["cpu/qmove"])


def test_max_pool_of_pixels(agree: Agree) -> None:
    attrs = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    agree("NhwcMaxPool", integers("uint8", 2, 6, 7, 5), **attrs)
