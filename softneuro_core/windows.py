"""Geometry of sliding windows (Conv, ConvTranspose, pooling) and of storage, as plain numbers. Compiles nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softneuro_core.graph import Layer
from softneuro_core.spec import FLOAT32, NCHW, NHWC, Layout, TensorSpec

NCHW_F32, NHWC_F32 = TensorSpec("cpu", FLOAT32, NCHW), TensorSpec("cpu", FLOAT32, NHWC)


@dataclass(frozen=True, slots=True)
class Window:
    """Two spatial axes (one-dimensional operators get a height of 1); ``pads`` are top, left, bottom, right."""

    batch: int
    channels: int
    size: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]

    @property
    def pixels(self) -> int:
        """Output positions of one image."""
        return self.out[0] * self.out[1]

    def rows_under(self, rows: int) -> int:
        """Input rows, padding included, under so many output rows."""
        return (rows - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilations[0] + 1

    @property
    def is_pointwise(self) -> bool:
        """One tap, every input position: a plain matrix product."""
        return self.kernel == (1, 1) and self.strides == (1, 1) and not any(self.pads) and self.size == self.out

    @property
    def reads_runs(self) -> bool:
        """Whether pixels of an input row are read one behind the other, without holes."""
        return (self.kernel != (1, 1) or self.strides == (1, 1)) and self.pads[1] >= 0


def as_window(rows: int, depth: int) -> Window:
    """A matrix as an image one pixel wide."""
    return Window(1, depth, (rows, 1), (rows, 1), (1, 1), (1, 1), (1, 1), (0, 0, 0, 0))


def text(attribute: Any) -> str:
    """A string attribute, whether the importer left bytes or text."""
    return attribute.decode() if isinstance(attribute, bytes) else str(attribute)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return (1, int(values[0])) if len(values) == 1 else (int(values[0]), int(values[1]))


def window_of(layer: Layer, shape: Sequence[int], out_shape: Sequence[int], kernel: Sequence[int]) -> Window | None:
    """The window ``layer`` slides over ``shape`` (N, C, spatial ...); None for more than two spatial axes."""
    spatial = len(shape) - 2
    if spatial not in (1, 2) or len(kernel) != spatial or len(out_shape) != spatial + 2:
        return None
    attrs = layer.attrs
    strides = list(attrs.get("strides") or [1] * spatial)
    dilations = list(attrs.get("dilations") or [1] * spatial)
    pads = _pads(attrs, shape[2:], out_shape[2:], kernel, strides, dilations)
    if min(pads) < 0:
        return None
    whole = (0, pads[0], 0, pads[1]) if spatial == 1 else tuple(pads)
    return Window(
        int(shape[0]),
        int(shape[1]),
        _pair(shape[2:]),
        _pair(out_shape[2:]),
        _pair(kernel),
        _pair(strides),
        _pair(dilations),
        (int(whole[0]), int(whole[1]), int(whole[2]), int(whole[3])),
    )


def _pads(
    attrs: Any,
    size: Sequence[int],
    out: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Pads as ONNX orders them (all begins, then all ends), ``auto_pad`` resolved."""
    mode = text(attrs.get("auto_pad") or "NOTSET")
    count = len(size)
    if mode == "NOTSET":
        return [int(p) for p in attrs.get("pads") or [0] * (2 * count)]
    if mode == "VALID":
        return [0] * (2 * count)
    begins, ends = [], []
    for n, o, k, s, d in zip(size, out, kernel, strides, dilations, strict=True):
        total = max(0, (o - 1) * s + (k - 1) * d + 1 - n)
        small = total // 2
        begins.append(small if mode == "SAME_UPPER" else total - small)
        ends.append(total - begins[-1])
    return begins + ends


def storage_strides(layout: Layout, shape: Sequence[int]) -> list[int]:
    """Stride in elements of every ONNX axis of a dense value stored in ``layout`` (no inner blocks)."""
    order = layout.permutation(len(shape))
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= int(shape[axis])
    return strides


def image_strides(layout: Layout, shape: Sequence[int]) -> list[int]:
    """Strides in elements along N, C, H, W; a three-dimensional value has a height of 1."""
    strides = storage_strides(layout, shape)
    return strides if len(shape) == 4 else [strides[0], strides[1], 0, strides[2]]


def is_f32(*values: Any) -> bool:
    """Whether every value is a float32 tensor of known, non-empty shape."""
    return all(v is not None and v.dtype is FLOAT32 and v.is_static and 0 not in v.shape for v in values)


def product(numbers: Sequence[int]) -> int:
    return int(np.prod(list(numbers), dtype=np.int64))
