"""Which axes operators work along and what they take of each, read from attributes and constant inputs."""

from __future__ import annotations

import math

import numpy as np

from softneuro_core.graph import Layer
from softneuro_core.spec import NCHW, Layout


def integers(layer: Layer, position: int, attribute: str = "") -> list[int] | None:
    """Integers given as a constant input or, in older opsets, as an attribute; None where neither is there."""
    value = layer.inputs[position] if position < len(layer.inputs) else None
    if value is not None:
        return None if value.data is None else [int(v) for v in np.asarray(value.data).reshape(-1)]
    return [int(v) for v in layer.attrs[attribute]] if attribute in layer.attrs else None


def is_computed(layer: Layer, position: int) -> bool:
    """Whether an input is there and no constant."""
    value = layer.inputs[position] if position < len(layer.inputs) else None
    return value is not None and value.data is None


def reduced_axes(layer: Layer) -> frozenset[int] | None:
    """The axes a reduction or a global pooling runs over; None where they are computed."""
    x = layer.inputs[0]
    assert x is not None
    rank = len(x.static_shape)
    if layer.op.startswith("Global"):
        return frozenset(range(2, rank))
    if is_computed(layer, 1):
        return None
    listed = integers(layer, 1, "axes")
    if not listed:
        return frozenset() if layer.attrs.get("noop_with_empty_axes") else frozenset(range(rank))
    return frozenset(a % rank for a in listed)


def softmax_extents(layer: Layer, layout: Layout) -> tuple[int, int, int] | None:
    """(outer, normalised together, inner) of a Softmax or LogSoftmax, in storage order: since version 13 one axis,
    before all from ``axis`` on, which lie together in NCHW only."""
    shape = layer.operands[0].static_shape
    rank = len(shape)
    if layer.version < 13:
        axis = int(layer.attrs.get("axis", 1))
        axis = axis + rank if axis < 0 else axis
        return (math.prod(shape[:axis]), math.prod(shape[axis:]), 1) if layout == NCHW else None
    order = list(layout.permutation(rank))
    place = order.index(int(layer.attrs.get("axis", -1)) % rank)
    stored = [shape[a] for a in order]
    return math.prod(stored[:place]), stored[place], math.prod(stored[place + 1 :])


def sliced(layer: Layer) -> list[tuple[int, int]] | None:
    """(first index, step) a Slice takes along every axis; None where its numbers are computed. How many: see the
    result's shape."""
    if any(is_computed(layer, position) for position in range(1, len(layer.inputs))):
        return None
    shape = layer.operands[0].static_shape
    starts = integers(layer, 1, "starts")
    assert starts is not None
    axes = integers(layer, 3, "axes") or range(len(starts))
    steps = integers(layer, 4) or [1] * len(starts)
    found = [(0, 1)] * len(shape)
    for start, axis, step in zip(starts, axes, steps, strict=True):
        axis %= len(shape)
        found[axis] = slice(start, None, step).indices(shape[axis])[0], step
    return found
