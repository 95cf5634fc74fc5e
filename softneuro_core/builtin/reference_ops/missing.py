"""Operators ``onnx.reference`` does not have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

Array = np.ndarray


class GlobalLpPool(OpRun):
    """The p-norm over all spatial axes."""

    op_domain = ""

    def _run(self, x: Array, p: float = 2, **_: Any) -> tuple[Array]:
        axes = tuple(range(2, x.ndim))
        total = (np.abs(x).astype(np.float64) ** p).sum(axis=axes, keepdims=True)
        return ((total ** (1.0 / p)).astype(x.dtype),)


class MaxRoiPool(OpRun):
    """Maximum over each cell of a grid laid on a region of interest, as in Fast R-CNN (Girshick 2015).

    Regions are [batch, x1, y1, x2, y2], corners included and rounded after scaling; an empty cell gives 0.
    """

    op_domain = ""

    def _run(
        self, x: Array, rois: Array, pooled_shape: Any = None, spatial_scale: float = 1.0, **_: Any
    ) -> tuple[Array]:
        rows, columns = (int(n) for n in pooled_shape)
        result = np.zeros((len(rois), x.shape[1], rows, columns), x.dtype)
        for number, roi in enumerate(rois):
            x1, y1, x2, y2 = (math.floor(float(v) * float(spatial_scale) + 0.5) for v in roi[1:])
            picture = x[int(roi[0])]
            spans_y = _cells(y1, y2, rows, picture.shape[1])
            spans_x = _cells(x1, x2, columns, picture.shape[2])
            for i, (top, bottom) in enumerate(spans_y):
                for j, (left, right) in enumerate(spans_x):
                    if bottom > top and right > left:
                        result[number, :, i, j] = picture[:, top:bottom, left:right].max(axis=(1, 2))
        return (result,)


def _cells(first: int, last: int, count: int, size: int) -> list[tuple[int, int]]:
    """Where each of ``count`` cells of the span begins and ends, inside the picture."""
    step = max(last - first + 1, 1) / count
    edges = [(first + math.floor(i * step), first + math.ceil((i + 1) * step)) for i in range(count)]
    return [(min(max(a, 0), size), min(max(b, 0), size)) for a, b in edges]


class Multinomial(OpRun):
    """Draws class numbers by unnormalised log probabilities; the generator behind a seed is not specified."""

    op_domain = ""

    def _run(
        self, x: Array, dtype: int | None = None, sample_size: int = 1, seed: float | None = None, **_: Any
    ) -> tuple[Array]:
        generator = np.random.default_rng(None if seed is None else abs(int(seed)))
        odds = np.exp(x - x.max(axis=1, keepdims=True)).astype(np.float64)
        limits = np.cumsum(odds, axis=1) / odds.sum(axis=1, keepdims=True)
        draws = generator.random((len(x), int(sample_size)))
        drawn = (draws[:, :, None] >= limits[:, None, :-1]).sum(axis=2)
        return (drawn.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype or onnx.TensorProto.INT32)),)


MISSING: list[tuple[int, int, type[OpRun]]] = [(1, 10**6, cls) for cls in (GlobalLpPool, MaxRoiPool, Multinomial)]
"""(first opset, last opset, class)"""
