"""ONNX's integer operators: quantise, dequantise, integer and QLinear products."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softneuro_core.testing.case import Case, Const, normal, single, uniform


def number(value: float, dtype: str) -> Const:
    return Const(np.array(value, dtype))


def cases() -> Iterator[Case]:
    yield from _linear()
    yield from _products()


def _linear() -> Iterator[Case]:
    x = 3 * normal(2, 7, 5)
    for dtype, zero in (("uint8", 120), ("int8", -3)):
        scale, point = number(0.05, "float32"), number(zero, dtype)
        yield single(f"quantize-{dtype}", "QuantizeLinear", x, scale, point)
        yield single(f"quantize-saturate-{dtype}", "QuantizeLinear", 100 * x, scale, point)
        low, high = (0, 255) if dtype == "uint8" else (-128, 127)
        yield single(f"dequantize-{dtype}", "DequantizeLinear", uniform(low, high, 3, 17, dtype=dtype), scale, point)
    ties = np.arange(-8, 9, dtype=np.float32) * 0.5
    yield single("quantize-ties", "QuantizeLinear", ties, number(1, "float32"), number(0, "int8"))
    scales, points = Const(uniform(0.02, 0.1, 7)), Const(uniform(-9, 9, 7, dtype="int8"))
    yield single("quantize-channel", "QuantizeLinear", x, scales, points, axis=1)
    yield single(
        "dequantize-channel", "DequantizeLinear", uniform(-99, 99, 2, 7, 5, dtype="int8"), scales, points, axis=1
    )
    big = normal(4, 16, 17, 33)
    yield single("quantize-big", "QuantizeLinear", big, number(0.05, "float32"), number(3, "int8"))
    ints = uniform(-128, 127, 4, 16, 17, 33, dtype="int8")
    yield single("dequantize-big", "DequantizeLinear", ints, number(0.05, "float32"), number(3, "int8"))
    yield single("dynamic-quantize", "DynamicQuantizeLinear", x, outputs=3)


def _products() -> Iterator[Case]:
    a, b = uniform(0, 255, 5, 17, dtype="uint8"), uniform(-128, 127, 17, 7, dtype="int8")
    yield single("matmulinteger", "MatMulInteger", a, Const(b), number(120, "uint8"), number(2, "int8"))
    yield single("matmulinteger-no-zero", "MatMulInteger", a, Const(b))
    x, w = uniform(0, 255, 1, 3, 7, 6, dtype="uint8"), uniform(-128, 127, 8, 3, 3, 3, dtype="int8")
    yield single("convinteger", "ConvInteger", x, Const(w), number(120, "uint8"), pads=[1, 1, 1, 1])
    zero = [number(0.04, "float32"), number(120, "uint8")]
    weight = [number(0.02, "float32"), number(0, "int8")]
    out = [number(0.9, "float32"), number(128, "uint8")]
    bias = Const(uniform(-999, 999, 8, dtype="int32"))
    yield single("qlinearconv", "QLinearConv", x, *zero, Const(w), *weight, *out, bias, pads=[1, 1, 1, 1])
    yield single("qlinearmatmul", "QLinearMatMul", a, *zero, Const(b), *weight, *out)
