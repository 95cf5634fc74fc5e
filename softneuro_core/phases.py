"""ConvTranspose as plain convolutions: one for each phase of the output (row and column modulo the strides), whose taps
are those of the kernel that reach it and whose results are scattered. Plain numbers; compiles nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from softneuro_core.graph import Layer
from softneuro_core.windows import Window, text


@dataclass(frozen=True, slots=True)
class Scatter:
    """Where the pixels of a result lie that is not dense: pixels between images, rows and columns, and before the
    first one."""

    image: int
    row: int
    column: int
    origin: int


def begin_pads(layer: Layer, size: tuple[int, ...], out: tuple[int, ...], kernel: tuple[int, ...]) -> list[int]:
    """Pads cut from the front of every spatial axis, as the operator derives them."""
    spatial = len(kernel)
    attrs = layer.attrs
    mode = text(attrs.get("auto_pad") or "NOTSET")
    if mode == "NOTSET" and "output_shape" not in attrs:
        return [int(p) for p in (attrs.get("pads") or [0] * (2 * spatial))[:spatial]]
    strides = attrs.get("strides") or [1] * spatial
    dilations = attrs.get("dilations") or [1] * spatial
    extra = attrs.get("output_padding") or [0] * spatial
    found = []
    for n, o, k, s, d, e in zip(size, out, kernel, strides, dilations, extra, strict=True):
        total = max(0, s * (n - 1) + e + (k - 1) * d + 1 - o)
        found.append(total // 2 if mode != "SAME_LOWER" else total - total // 2)
    return found


def has_phases(layer: Layer, weights: Sequence[int]) -> bool:
    """No dilation, and every output pixel is reached by some tap of ``weights``' shape."""
    spatial = len(weights) - 2
    strides = layer.attrs.get("strides") or [1] * spatial
    dense = set(layer.attrs.get("dilations") or [1]) == {1}
    return dense and all(k >= s for k, s in zip(weights[2:], strides, strict=True))


def phase_flops(layer: Layer, weights: int) -> float:
    """Of the phases of a ConvTranspose of so many weights."""
    assert layer.inputs[0] is not None
    batch, _, *pixels = layer.inputs[0].static_shape
    return 2.0 * batch * math.prod(pixels) * weights


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """The output pixels of one row and column modulo the strides: a plain convolution whose results are scattered."""

    window: Window
    weights: np.ndarray  # (groups, taps, channels of a group, outputs of a group), a view
    scatter: Scatter


def phases_of(layer: Layer, weights: np.ndarray) -> Iterator[Phase]:
    """Of a ConvTranspose with phases (:func:`has_phases`); ``weights`` as the operator has them, of any type."""
    assert layer.inputs[0] is not None
    shape, made = layer.inputs[0].static_shape, layer.results[0].static_shape
    strides = list(layer.attrs.get("strides") or [1] * (weights.ndim - 2))
    pads = begin_pads(layer, shape[2:], made[2:], weights.shape[2:])
    if weights.ndim == 3:
        weights, strides, pads = weights[:, :, None], [1, *strides], [0, *pads]
        shape, made = (*shape[:2], 1, shape[2]), (*made[:2], 1, made[2])
    groups = int(layer.attrs.get("group", 1))
    grouped = weights.reshape(groups, shape[1] // groups, *weights.shape[1:])
    for phase in np.ndindex(*strides):
        out = [-(-(size - p) // s) for size, p, s in zip(made[2:], phase, strides, strict=True)]
        if min(out) < 1:
            continue
        firsts = [(p + pad) % s for p, pad, s in zip(phase, pads, strides, strict=True)]
        taps = grouped[:, :, :, firsts[0] :: strides[0], firsts[1] :: strides[1]][..., ::-1, ::-1]
        count = taps.shape[3:]
        ahead = [(p + pad - f) // s for p, pad, f, s in zip(phase, pads, firsts, strides, strict=True)]
        top, left = (n - 1 - c for n, c in zip(count, ahead, strict=True))
        window = Window(
            *(int(shape[0]), int(shape[1]), (int(shape[2]), int(shape[3])), (int(out[0]), int(out[1]))),
            *((int(count[0]), int(count[1])), (1, 1), (1, 1), (int(top), int(left), 0, 0)),
        )
        matrix = taps.transpose(0, 3, 4, 1, 2).reshape(groups, -1, taps.shape[1], taps.shape[2])
        width = made[3]
        scatter = Scatter(made[2] * width, strides[0] * width, strides[1], phase[0] * width + phase[1])
        yield Phase(window, matrix, scatter)
