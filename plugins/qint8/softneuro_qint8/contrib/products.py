"""Products of integers: between grids (QLinearConv, QGemm), or real numbers from exact sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from softneuro_core.graph import Value
from softneuro_core.spec import FLOAT32, UINT8
from softneuro_qint8.contrib.between import channels_first, channels_last
from softneuro_qint8.contrib.signature import WINDOW, Absent, Signature
from softneuro_qint8.contrib.spelling import Spelling, Writer

CONV = "x:byte x_scale:float32 x_zero_point:byte w:byte w_scale:float32 w_zero_point:byte "
CONV += "y_scale:float32 y_zero_point:byte B:int32?"
GEMM = "A:byte a_scale:float32 a_zero_point:byte B:byte b_scale:float32 b_zero_point:byte C:int32? "
GEMM += "y_scale:float32? y_zero_point:byte?"
TO_FLOAT = "A:byte B:byte a_scale:float32 b_scale:float32 a_zero_point:byte? b_zero_point:byte? bias:float32?"
DYNAMIC = "A:float32 B:byte b_scale:float32 b_zero_point:byte? bias:float32?"
GRID = "x:grid x_scale:real x_zero_point:grid?"
ONTO_GRID = "x:real y_scale:real y_zero_point:grid?"


def spellings() -> Iterator[Spelling]:
    yield Spelling("QLinearConv", Signature(CONV, WINDOW | {"channels_last": 0}), _conv)
    yield Spelling("QGemm", Signature(GEMM, {"transA": 0, "transB": 0, "alpha": 1.0}), _gemm)
    yield Spelling("MatMulIntegerToFloat", Signature(TO_FLOAT), _to_float)
    yield Spelling("DynamicQuantizeMatMul", Signature(DYNAMIC), _dynamic)
    yield Spelling("DequantizeLinear", Signature(GRID, {"axis": Absent(int)}), _dequantize)
    yield Spelling("QuantizeLinear", Signature(ONTO_GRID, {"axis": Absent(int)}), _quantize)


def _conv(w: Writer) -> Sequence[Value]:
    x, weights, last = w["x"], w["w"], w.attrs["channels_last"]
    moved = channels_first(w, x) if last else x
    operands = [w.real(moved, w["x_scale"], w["x_zero_point"])]
    operands.append(w.real(weights, w["w_scale"], w["w_zero_point"], axis=0))
    if (bias := w.get("B")) is not None:
        operands.append(_counted(w, bias, [w["x_scale"], w["w_scale"]]))
    real = w.add("Conv", *operands, **w.given("channels_last"))
    stored = w.stored(real, w["y_scale"], w["y_zero_point"], w["y_zero_point"].dtype)
    return [channels_last(w, stored, w.rank(x)) if last else stored]


def _gemm(w: Writer) -> Sequence[Value]:
    """C counts products of the two scales, and alpha multiplies it like them: onnxruntime adds it to the sums."""
    a = w.real(w["A"], w["a_scale"], w["a_zero_point"])
    b = w.real(w["B"], w["b_scale"], w["b_zero_point"], axis=0 if w.attrs["transB"] else 1)
    alpha, c = w.attrs["alpha"], w.get("C")
    factors = [w["a_scale"], w["b_scale"], w.constant(np.float32(alpha))]
    added = None if c is None else _counted(w, c, factors)
    real = w.add("Gemm", a, b, added, **w.given())
    scale, zero = w.get("y_scale"), w.get("y_zero_point")
    if scale is None and zero is None:
        return [real]
    if scale is None or zero is None:
        w.refuse("y_scale and y_zero_point belong together, one is absent")
    return [w.stored(real, w["y_scale"], w["y_zero_point"], w["y_zero_point"].dtype)]


def _counted(w: Writer, counts: Value, scales: Sequence[Value]) -> Value:
    """What a bias in steps of a product of scales means; those of channels stand along the last axis."""
    real = w.add("Cast", counts, to=FLOAT32.onnx)
    unit = scales[0]
    for scale in scales[1:]:
        unit = w.add("Mul", unit, scale)
    return w.add("Mul", real, unit)


def _to_float(w: Writer) -> Sequence[Value]:
    a_zero, b_zero = w.get("a_zero_point"), w.get("b_zero_point")
    scale = w.add("Mul", w.scalar(w["a_scale"]), w["b_scale"])
    return [summed(w, w["A"], a_zero and w.scalar(a_zero), w["B"], b_zero, scale, w.get("bias"))]


def _dynamic(w: Writer) -> Sequence[Value]:
    a, a_scale, a_zero = w.several("DynamicQuantizeLinear", 3, w["A"])
    scale = w.add("Mul", a_scale, w["b_scale"])
    return [summed(w, a, a_zero, w["B"], w.get("b_zero_point"), scale, w.get("bias"))]


def summed(
    w: Writer, a: Value, a_zero: Value | None, b: Value, b_zero: Value | None, scale: Value, bias: Value | None
) -> Value:
    """Exact sums of products, times a scale (of each column perhaps), plus a bias."""
    sums = w.add("MatMulInteger", a, b, a_zero, b_zero)
    real = w.add("Mul", w.add("Cast", sums, to=FLOAT32.onnx), scale)
    return real if bias is None else w.add("Add", real, bias)


def _dequantize(w: Writer) -> Sequence[Value]:
    return [w.real(w["x"], w["x_scale"], w.get("x_zero_point"), _axis(w, w["x_scale"]))]


def _quantize(w: Writer) -> Sequence[Value]:
    zero = w.get("y_zero_point")
    axis = _axis(w, w["y_scale"])
    return [w.stored(w["x"], w["y_scale"], zero, UINT8 if zero is None else zero.dtype, axis)]


def _axis(w: Writer, scale: Value) -> int | None:
    """Where scales are counted; without the attribute a vector of them lies along axis 1."""
    axis = w.attrs["axis"]
    return axis if axis is not None or scale.shape in ((), (1,)) else 1
