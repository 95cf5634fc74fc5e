"""Old versions of operators whose meaning changed, which ``onnx.reference`` computes by today's or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_gemm import Gemm_7
from onnx.reference.ops.op_rnn import RNN_7
from onnx.reference.ops.op_scatter_elements import scatter_elements

Array = np.ndarray


class _Flattened(OpRun):
    """Before opset 13 the input counts as a matrix, split at ``axis`` (default 1); onnx's takes the one axis."""

    op_domain = ""

    def _run(self, x: Array, axis: int | None = None) -> tuple[Array]:
        given = any(a.name == "axis" for a in self.onnx_node.attribute)
        split = int(axis) if given and axis is not None else 1
        split += x.ndim if split < 0 else 0
        rows = int(np.prod(x.shape[:split], dtype=np.int64))
        columns = int(np.prod(x.shape[split:], dtype=np.int64))
        return (self.rows(x.reshape(rows, columns)).reshape(x.shape).astype(x.dtype),)

    def rows(self, x: Array) -> Array:
        raise NotImplementedError


class Softmax(_Flattened):
    def rows(self, x: Array) -> Array:
        if not x.size:
            return x
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)


class LogSoftmax(_Flattened):
    def rows(self, x: Array) -> Array:
        if not x.size:
            return x
        shifted = x - x.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


class Hardmax(_Flattened):
    def rows(self, x: Array) -> Array:
        y = np.zeros_like(x)
        if x.size:
            y[np.arange(len(x)), x.argmax(axis=1)] = 1
        return y


class BatchNormalization(OpRun):
    """Before opset 14 one output means inference; onnx's takes the statistics of the batch then."""

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, bias: Array, mean: Array, var: Array,
        epsilon: float = 1e-5, momentum: float = 0.9, **_: Any,
    ) -> tuple[Array, ...]:  # fmt: skip
        spatial = next((a.i for a in self.onnx_node.attribute if a.name == "spatial"), 1)
        shape = (1, -1, *(1,) * (x.ndim - 2)) if spatial else (1, *x.shape[1:])
        training = len([o for o in self.onnx_node.output if o]) > 1
        if training:
            axes = tuple(i for i in range(x.ndim) if i != 1)
            now_mean, now_var = x.mean(axis=axes), x.var(axis=axes)
            kept = momentum * mean + (1 - momentum) * now_mean, momentum * var + (1 - momentum) * now_var
            mean, var = now_mean, now_var
        s, b, m, v = (a.reshape(shape) for a in (scale, bias, mean, var))
        y = (s * (x - m) / np.sqrt(v + epsilon) + b).astype(x.dtype)
        if not training:
            return (y,)
        extra = (*kept, mean, var)[: len(self.onnx_node.output) - 1]
        return (y, *(a.astype(x.dtype) for a in extra))


def _aligned(a: Array, b: Array, axis: int | None) -> Array:
    """``b`` reshaped so that its first axis meets ``axis`` of ``a``; without an axis the last ones meet."""
    if axis is None:
        return b
    start = axis + a.ndim if axis < 0 else axis
    return b.reshape(b.shape + (1,) * (a.ndim - start - b.ndim))


def _binary(name: str, function: Callable[[Array, Array], Array]) -> type[OpRun]:
    """Before opset 7 operands broadcast only one way, by attributes onnx's implementation does not know."""

    def _run(self: OpRun, a: Array, b: Array, **_: Any) -> tuple[Array]:
        given = {attribute.name: attribute.i for attribute in self.onnx_node.attribute}
        if not given.get("broadcast", 0) and a.shape != b.shape:
            raise ValueError(f"{name} of shapes {a.shape} and {b.shape} without broadcast")
        result = function(a, _aligned(a, b, given.get("axis")))
        return (result if result.dtype == bool else result.astype(a.dtype),)

    return type(name, (OpRun,), {"op_domain": "", "_run": _run, "__doc__": _binary.__doc__})


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind not in "iu":
        return a / b
    quotient = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -quotient, quotient)


class Clip(OpRun):
    """Version 1 has its limits as attributes."""

    op_domain = ""

    def _run(self, x: Array, min: float | None = None, max: float | None = None, **_: Any) -> tuple[Array]:
        given = {a.name: a.f for a in self.onnx_node.attribute}
        low, high = given.get("min", -np.inf), given.get("max", np.inf)
        return (np.clip(x, low, high).astype(x.dtype),)


class Dropout(OpRun):
    """Versions 1 and 6: inference only; the mask has the type of the data."""

    op_domain = ""

    def _run(self, x: Array, **_: Any) -> tuple[Array, ...]:
        return (x, np.ones_like(x))[: len(self.onnx_node.output)]


class Gemm(Gemm_7):
    """Version 1 has the attribute ``broadcast``; numpy's rule covers what it allows."""

    op_domain = ""

    def _run(self, a: Array, b: Array, c: Array, alpha: float = 1.0, beta: float = 1.0,
             transA: int = 0, transB: int = 0, **_: Any) -> tuple[Array]:  # fmt: skip
        return super()._run(a, b, c, alpha, beta, transA, transB)


class Reshape(OpRun):
    """Version 1 has the shape as attribute."""

    op_domain = ""

    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        shape = next((list(a.ints) for a in self.onnx_node.attribute if a.name == "shape"), [])
        return (x.reshape([x.shape[i] if d == 0 else d for i, d in enumerate(shape)]),)


class Split(OpRun):
    """Version 1: sizes as attribute or second input."""

    op_domain = ""

    def _run(self, x: Array, sizes: Array | None = None, **_: Any) -> tuple[Array, ...]:
        axis = next((a.i for a in self.onnx_node.attribute if a.name == "axis"), 0)
        given = next((list(a.ints) for a in self.onnx_node.attribute if a.name == "split"), None)
        parts = len(self.onnx_node.output)
        lengths = given or ([x.shape[axis] // parts] * parts if sizes is None else sizes.tolist())
        return tuple(np.split(x, np.cumsum(lengths)[:-1], axis))


class RNN(RNN_7):
    """Version 1 takes what version 7 takes."""

    op_domain = ""


class Scatter(OpRun):
    """The first name of ScatterElements."""

    op_domain = ""

    def _run(self, data: Array, indices: Array, updates: Array, axis: int = 0) -> tuple[Array]:
        return (scatter_elements(data, indices, updates, axis=axis),)


class Concat(OpRun):
    """Version 1 joins along axis 1 unless told otherwise."""

    op_domain = ""

    def _run(self, *parts: Array, **_: Any) -> tuple[Array]:
        axis = next((a.i for a in self.onnx_node.attribute if a.name == "axis"), 1)
        return (np.concatenate(parts, axis),)


class Tile(OpRun):
    """Version 1 repeats one axis."""

    op_domain = ""

    def _run(self, x: Array, tiles: Array, axis: Array) -> tuple[Array]:
        return (np.concatenate([x] * int(tiles.item()), axis=int(axis.item())),)


def _scaled(x: Array, scales: Sequence[float], mode: str) -> Array:
    """Nearest (rounding down) or linear along each axis, output element i standing at i / scale."""
    y = x
    for axis, scale in enumerate(float(s) for s in scales):
        size = y.shape[axis]
        out = int(np.floor(size * scale))
        if scale == 1.0:
            continue
        at = np.arange(out, dtype=np.float64) / scale
        low = np.minimum(np.floor(at).astype(np.int64), size - 1)
        if mode == "nearest":
            y = np.take(y, low, axis)
            continue
        weight = np.clip(at - low, 0, 1).reshape((-1,) + (1,) * (y.ndim - axis - 1))
        high = np.minimum(low + 1, size - 1)
        y = np.take(y, low, axis) * (1 - weight) + np.take(y, high, axis) * weight
    return y.astype(x.dtype)


class Resize(OpRun):
    """Version 10: scales are the second input, positions asymmetric; onnx's expects those of version 11."""

    op_domain = ""

    def _run(self, x: Array, scales: Array, **_: Any) -> tuple[Array]:
        mode = next((a.s.decode() for a in self.onnx_node.attribute if a.name == "mode"), "nearest")
        return (_scaled(x, scales.tolist(), mode),)


class Upsample(OpRun):
    """All versions; onnx's has neither linear mode nor scales that are no whole number."""

    op_domain = ""

    def _run(self, x: Array, scales: Array | None = None, **_: Any) -> tuple[Array]:
        given = {a.name: a for a in self.onnx_node.attribute}
        mode = given["mode"].s.decode() if "mode" in given else "nearest"
        if scales is not None:
            factors = scales.tolist()
        elif "scales" in given:
            factors = list(given["scales"].floats)
        else:
            factors = [1.0, 1.0, given["height_scale"].f, given["width_scale"].f]
        return (_scaled(x, factors, "nearest" if mode == "nearest" else "linear"),)


_OLD_BINARY: list[tuple[str, Callable[[Array, Array], Array]]] = [
    ("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", _divide), ("Pow", np.power),
    ("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor),
    ("Equal", np.equal), ("Greater", np.greater), ("Less", np.less),
]  # fmt: skip

LEGACY: list[tuple[int, int, type[OpRun]]] = [
    (1, 12, Softmax), (1, 12, LogSoftmax), (1, 12, Hardmax), (1, 13, BatchNormalization), (1, 5, Clip),
    (1, 6, Dropout), (1, 5, Gemm), (1, 4, Reshape), (1, 1, Split), (1, 6, RNN), (1, 10, Scatter), (1, 3, Concat),
    (1, 5, Tile), (10, 10, Resize), (1, 9, Upsample),
    *((1, 6, _binary(name, function)) for name, function in _OLD_BINARY),
]  # fmt: skip
"""(first opset, last opset, class)"""
