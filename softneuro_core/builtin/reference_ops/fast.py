"""Operators ``onnx.reference`` computes absurdly slowly, or fails at beyond toy sizes: whole-array numpy instead.

Measured (CPU time): MaxPool 3x3 stride 2 of 1x96x111x111 1085 ms there, 2 ms here; a float16 3x3 Conv of 1x64x27x27 to
256 channels 622 ms there, 10 ms here (numpy multiplies float16 matrices without BLAS); a float32 3x3 Conv of
1x64x512x512 to 128 channels 9.7 s there, 1.2 s here.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_conv import Conv as SlowConv
from onnx.reference.ops.op_matmul import MatMul as SlowMatMul
from onnx.reference.ops.op_max_pool import MaxPool as SlowMaxPool

from softneuro_core.builtin.reference_ops.sliding import SlidingWindow

Array = np.ndarray


class MaxPool(SlowMaxPool):
    """One maximum over the whole array for each position in the kernel. Indices are left to onnx's."""

    op_domain = ""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array, ...]:
        if len([o for o in self.onnx_node.output if o]) > 1:
            return super()._run(x, **attributes)
        kernel = attributes["kernel_shape"]
        window = SlidingWindow.of(x.shape[2:], kernel, attributes)
        lowest = -np.inf if x.dtype.kind not in "iu" else np.iinfo(x.dtype).min
        padded = np.pad(x, [(0, 0), (0, 0), *window.pads], constant_values=lowest)
        result: Array | None = None
        for place in itertools.product(*(range(k) for k in kernel)):
            part = padded[window.under(place)]
            result = part.copy() if result is None else np.maximum(result, part, out=result)
        assert result is not None
        return (result,)


class Conv(SlowConv):
    """One matrix product for each position in the kernel, instead of gathering every window by its indices."""

    op_domain = ""

    def _run(self, x: Array, w: Array, bias: Array | None = None, **attributes: Any) -> tuple[Array, ...]:
        groups, rank = attributes.get("group") or 1, x.ndim - 2
        if x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
            return super()._run(x, w, bias, **attributes)  # it says what is wrong
        window = SlidingWindow.of(x.shape[2:], w.shape[2:], attributes)
        padded = np.pad(x, [(0, 0), (0, 0), *window.pads])
        matrices = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
        result = np.zeros((x.shape[0], groups, matrices.shape[1], math.prod(window.out)), np.result_type(x, w))
        for place in itertools.product(*(range(k) for k in w.shape[2:])):
            part = padded[window.under(place)]
            part = part.reshape(x.shape[0], groups, w.shape[1], -1)
            index: tuple[Any, ...] = (..., *place)
            matrix = matrices[index]
            result += matrix[..., :1] * part if w.shape[1] == 1 else matrix @ part
        result = result.reshape(x.shape[0], w.shape[0], *window.out)
        return (result if bias is None else result + bias.reshape(-1, *[1] * rank),)


def _through_float32(base: type[OpRun]) -> type[OpRun]:
    """Multiplies float16 in float32 and rounds once: at least as exact as onnx's, and by BLAS."""

    def _run(self: OpRun, *operands: Array | None, **attributes: Any) -> tuple[Array, ...]:
        first = operands[0]
        if first is None or first.dtype != np.float16:
            return base._run(self, *operands, **attributes)
        wide = [None if a is None else a.astype(np.float32) for a in operands]
        return tuple(r.astype(np.float16) for r in base._run(self, *wide, **attributes))

    return type(base.__name__, (base,), {"op_domain": "", "_run": _run, "__doc__": _through_float32.__doc__})


class GatherElements(OpRun):
    """onnx's stands on ``np.choose``, which takes 64 choices; its way around that fails for matrices."""

    op_domain = ""

    def _run(self, data: Array, indices: Array, axis: int = 0, **_: Any) -> tuple[Array]:
        axis %= data.ndim
        size = data.shape[axis]
        if indices.size and (indices.min() < -size or indices.max() >= size):
            raise IndexError(f"an index is outside -{size}..{size - 1}")
        part = [slice(None) if i == axis else slice(n) for i, n in enumerate(indices.shape)]
        return (np.take_along_axis(data[tuple(part)], indices.astype(np.int64), axis),)


FAST: list[tuple[int, int, type[OpRun]]] = [
    (1, 10**6, MaxPool),
    (1, 10**6, GatherElements),
    (1, 10**6, _through_float32(Conv)),
    (1, 10**6, _through_float32(SlowMatMul)),
]
"""(first opset, last opset, class)"""
