"""ConvTranspose for any number of groups: ``onnx.reference`` cuts the weights wrongly for most grouped ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

Array = np.ndarray


class ConvTranspose(OpRun):
    """Adds what each kernel position contributes into a strided view of the whole result, then crops the pads."""

    op_domain = ""

    def _run(self, x: Array, w: Array, bias: Array | None = None, **attributes: Any) -> tuple[Array]:
        kernel = w.shape[2:]
        strides = attributes.get("strides") or [1] * len(kernel)
        dilations = attributes.get("dilations") or [1] * len(kernel)
        groups = attributes.get("group") or 1
        extra = attributes.get("output_padding") or [0] * len(kernel)
        sizes = x.shape[2:]
        full = [
            s * (n - 1) + (k - 1) * d + 1 + e
            for s, n, k, d, e in zip(strides, sizes, kernel, dilations, extra, strict=True)
        ]
        starts, out = _crop(full, sizes, strides, attributes)
        batch, per_group = x.shape[0], w.shape[1]
        wide = np.float32 if x.dtype == np.float16 else x.dtype
        data = x.reshape(batch, groups, -1, *sizes).astype(wide)
        weights = w.reshape(groups, -1, per_group, *kernel).astype(wide)
        ends = [max(b + n, f) for b, n, f in zip(starts, out, full, strict=True)]
        result = np.zeros((batch, groups, per_group, *ends), wide)
        for place in itertools.product(*(range(k) for k in kernel)):
            part = np.einsum("ngc...,gcm->ngm...", data, weights[_at(place)])
            begins = [p * d for p, d in zip(place, dilations, strict=True)]
            where = [slice(b, b + s * (n - 1) + 1, s) for b, s, n in zip(begins, strides, sizes, strict=True)]
            result[_at(where)] += part
        crop = [slice(b, b + n) for b, n in zip(starts, out, strict=True)]
        result = result[_at(crop)].reshape(batch, groups * per_group, *out)
        if bias is not None:
            result = result + bias.reshape(-1, *(1,) * len(kernel)).astype(wide)
        return (result.astype(x.dtype),)


def _at(spatial: Sequence[Any]) -> tuple[Any, ...]:
    return (..., *spatial)


def _crop(
    full: Sequence[int], sizes: Sequence[int], strides: Sequence[int], attributes: dict[str, Any]
) -> tuple[list[int], list[int]]:
    """Where the result starts in the whole, and its sizes, along each spatial axis."""
    rank = len(sizes)
    auto = attributes.get("auto_pad") or "NOTSET"
    wanted = attributes.get("output_shape")
    if not wanted and auto.startswith("SAME"):
        wanted = [n * s for n, s in zip(sizes, strides, strict=True)]
    if wanted:
        totals = [max(0, f - n) for f, n in zip(full, wanted[-rank:], strict=True)]
        starts = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in totals]
        return starts, list(wanted[-rank:])
    pads = (attributes.get("pads") if auto == "NOTSET" else None) or [0] * (2 * rank)
    return list(pads[:rank]), [f - pads[i] - pads[i + rank] for i, f in enumerate(full)]


CONVOLUTION: list[tuple[int, int, type[OpRun]]] = [(1, 10**6, ConvTranspose)]
"""(first opset, last opset, class)"""
