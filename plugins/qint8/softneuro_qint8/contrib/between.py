"""Operators that are ONNX's between integers: DequantizeLinear for every input, the layer, QuantizeLinear.

All but a few are one line of a table: the ONNX operator, and which attributes it takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from softneuro_core.graph import Value
from softneuro_qint8.contrib.signature import Signature
from softneuro_qint8.contrib.spelling import Spelling, Writer

ONE = "X:byte X_scale:float32 X_zero_point:byte? Y_scale:float32 Y_zero_point:byte?"
TWO = "A:byte A_scale:float32 A_zero_point:byte? B:byte B_scale:float32 B_zero_point:byte? "
TWO += "C_scale:float32 C_zero_point:byte?"
POOLED = "X:byte X_scale:float32 X_zero_point:byte Y_scale:float32 Y_zero_point:byte"
SOFTMAX = "X:byte X_scale:float32 X_zero_point:byte? Y_scale:float32 Y_zero_point:byte"
WHERE = "condition:bool X:byte X_scale:float32 X_zero_point:byte Y:byte Y_scale:float32 Y_zero_point:byte "
WHERE += "Z_scale:float32 Z_zero_point:byte"
Inner = Callable[[Writer, Value], Value]


def spellings() -> Iterator[Spelling]:
    for type in ("Add", "Mul"):
        yield Spelling(f"QLinear{type}", Signature(TWO), partial(_binary, type))
    for type, attributes in (("Sigmoid", {}), ("LeakyRelu", {"alpha": 0.01})):
        yield Spelling(f"QLinear{type}", Signature(ONE, attributes), partial(_unary, partial(_same, type)))
    yield Spelling("QLinearReduceMean", Signature(ONE, {"axes": tuple, "keepdims": int}), partial(_unary, _mean))
    yield Spelling("QLinearSoftmax", Signature(SOFTMAX, {"axis": -1, "opset": int}), partial(_unary, _softmax))
    last = {"channels_last": 0}
    yield Spelling(
        "QLinearGlobalAveragePool", Signature(POOLED, last), partial(_unary, partial(_same, "GlobalAveragePool"))
    )
    window = {"kernel_shape": tuple, "auto_pad": "NOTSET", "ceil_mode": 0, "count_include_pad": 0}
    window |= {"pads": (), "strides": ()}
    yield Spelling("QLinearAveragePool", Signature(ONE, window | last), partial(_unary, partial(_same, "AveragePool")))
    yield Spelling("QLinearWhere", Signature(WHERE), _where)
    yield Spelling("QLinearConcat", Signature("Y_scale:float32 Y_zero_point:byte inputs:any*", {"axis": int}), _concat)
    largest = {"kernel_shape": tuple, "auto_pad": "NOTSET", "ceil_mode": 0, "dilations": (), "pads": (), "strides": ()}
    yield Spelling("NhwcMaxPool", Signature("x:byte", largest), _nhwc_max_pool)


def channels_first(w: Writer, x: Value) -> Value:
    """A tensor whose channels stand last as ONNX has them, on axis 1."""
    rank = w.rank(x)
    return w.transposed(x, (0, rank - 1, *range(1, rank - 1)))


def channels_last(w: Writer, x: Value, rank: int) -> Value:
    return w.transposed(x, (0, *range(2, rank), 1))


def _unary(inner: Inner, w: Writer) -> Sequence[Value]:
    x = w["X"]
    moved = channels_first(w, x) if w.attrs.get("channels_last") else x
    real = w.real(moved, w["X_scale"], w.get("X_zero_point"))
    stored = w.stored(inner(w, real), w["Y_scale"], w.get("Y_zero_point"), x.dtype)
    return [stored if moved is x else channels_last(w, stored, w.rank(x))]


def _same(type: str, w: Writer, real: Value) -> Value:
    return w.add(type, real, **w.given("channels_last"))


def _mean(w: Writer, real: Value) -> Value:
    return w.add("ReduceMean", real, w.integers(w.attrs["axes"]), keepdims=w.attrs["keepdims"])


def _softmax(w: Writer, real: Value) -> Value:
    """Up to opset 12 everything from ``axis`` on is one row."""
    axis, rank = w.attrs["axis"], w.rank(w["X"])
    if w.attrs["opset"] >= 13 or axis in (-1, rank - 1):
        return w.add("Softmax", real, axis=axis)
    rows = w.add("Softmax", w.add("Flatten", real, axis=axis), axis=1)
    return w.add("Reshape", rows, w.add("Shape", w["X"]))


def _binary(type: str, w: Writer) -> Sequence[Value]:
    a = w.real(w["A"], w["A_scale"], w.get("A_zero_point"))
    b = w.real(w["B"], w["B_scale"], w.get("B_zero_point"))
    return [w.stored(w.add(type, a, b), w["C_scale"], w.get("C_zero_point"), w["A"].dtype)]


def _where(w: Writer) -> Sequence[Value]:
    x, y = (w.real(w[name], w[f"{name}_scale"], w[f"{name}_zero_point"]) for name in "XY")
    return [w.stored(w.add("Where", w["condition"], x, y), w["Z_scale"], w["Z_zero_point"], w["X"].dtype)]


def _concat(w: Writer) -> Sequence[Value]:
    """Behind scale and zero point of the result: value, scale and zero point of each input."""
    rest = w.layer.inputs[2:]
    if not rest or len(rest) % 3:
        w.refuse(f"takes scale, zero point and three inputs for each part, not {len(w.layer.inputs)} inputs")
    parts = []
    for x, scale, zero in zip(*(rest[i::3] for i in range(3)), strict=True):
        assert x is not None and scale is not None  # the signature says so
        parts.append(w.real(x, scale, zero))
    return [
        w.stored(
            w.add("Concat", *parts, axis=w.attrs["axis"]), w["Y_scale"], w["Y_zero_point"], w["Y_zero_point"].dtype
        )
    ]


def _nhwc_max_pool(w: Writer) -> Sequence[Value]:
    pooled = w.add("MaxPool", channels_first(w, w["x"]), **w.given())
    return [channels_last(w, pooled, w.rank(w["x"]))]
