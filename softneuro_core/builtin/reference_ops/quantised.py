"""QuantizeLinear and DequantizeLinear where ``onnx.reference`` lacks a version or overflows."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops._quant_utils import reshape_input
from onnx.reference.ops.op_dequantize_linear import DequantizeLinear_19
from onnx.reference.ops.op_quantize_linear import (
    QuantizeLinear_10,
    QuantizeLinear_19,
    QuantizeLinear_21,
    QuantizeLinear_23,
    QuantizeLinear_25,
)

Array = np.ndarray


class DequantizeLinear(DequantizeLinear_19):
    """Versions 10 and 13, which onnx's lacks; an int32 input needs no rounding through float32 here."""

    op_domain = ""

    def _run(
        self, x: Array, x_scale: Array, x_zero_point: Array | None = None, axis: int = 1, **_: Any
    ) -> tuple[Array]:
        scale = reshape_input(x_scale, x.shape, axis, 0)
        shifted = x.astype(np.int64)
        if x_zero_point is not None:
            shifted = shifted - reshape_input(x_zero_point, x.shape, axis, 0).astype(np.int64)
        return ((shifted.astype(np.float32) * scale).astype(x_scale.dtype),)


def _saturating(base: type[OpRun]) -> type[OpRun]:
    """onnx's casts the quotient to int32 before it saturates: from 2^31 on the result has the wrong sign."""

    def _run(self: OpRun, x: Array, y_scale: Array, *rest: Any, axis: int = 1, **attributes: Any) -> tuple[Array]:
        if x.dtype.kind == "f" and np.abs(x).max(initial=0) >= 2.0**30 * np.abs(y_scale).min(initial=np.inf):
            scale = reshape_input(y_scale, x.shape, axis, attributes.get("block_size") or 0)
            limit = np.abs(scale).astype(x.dtype) * x.dtype.type(2**14 if x.dtype == np.float16 else 2**30)
            x = np.clip(x, -limit, limit)
        known = {k: v for k, v in attributes.items() if k in self.accepted}
        return base._run(self, x, y_scale, *rest, axis=axis, **known)

    accepted = frozenset(inspect.signature(base._run).parameters)
    return type("QuantizeLinear", (base,), {"op_domain": "", "_run": _run, "accepted": accepted})


QUANTISED: list[tuple[int, int, type[OpRun]]] = [
    (10, 18, DequantizeLinear),
    (10, 18, _saturating(QuantizeLinear_10)),
    (19, 20, _saturating(QuantizeLinear_19)),
    (21, 22, _saturating(QuantizeLinear_21)),
    (23, 24, _saturating(QuantizeLinear_23)),
    (25, 10**6, _saturating(QuantizeLinear_25)),
]
"""(first opset, last opset, class)"""
