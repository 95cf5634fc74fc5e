"""Moves the zeros of a Pad into the pads of the Conv or AveragePool that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.passes.rewrite import Rewrite, ints, scalar, static_input, sweep


def fold_pad(graph: Graph) -> Graph:
    """The graph with constant padding inside Conv (zeros), AveragePool (zeros) and MaxPool (the lowest number)."""
    return sweep(graph, _match)


def _match(rewrite: Rewrite, layer: Layer) -> bool:
    if layer.type not in ("Conv", "AveragePool", "MaxPool"):
        return False
    pad = rewrite.producer(layer.inputs[0], "Pad")
    if pad is None or pad.outputs[0] is None or not rewrite.is_private(pad.outputs[0], layer):
        return False
    source = pad.inputs[0]
    pads = _pads(pad)
    if source is None or pads is None or min(pads) < 0 or not _fits(pad, layer, source):
        return False
    rank = len(pads) // 2
    if any(pads[:2]) or any(pads[rank : rank + 2]):
        return False  # batch or channels
    spatial = [*pads[2:rank], *pads[rank + 2 :]]
    own = _own_pads(layer, rank - 2)
    if own is None:
        return False
    attrs = {k: v for k, v in layer.attrs.items() if k != "auto_pad"}
    if layer.type == "AveragePool":
        if any(own) and not layer.attrs.get("count_include_pad", 0):
            return False
        attrs["count_include_pad"] = 1
    attrs["pads"] = tuple(a + b for a, b in zip(spatial, own, strict=True))
    inputs = (source, *layer.inputs[1:])
    rewrite.replace(layer, replace(layer, inputs=inputs, attrs=attrs), also=(pad,))
    return True


def _pads(pad: Layer) -> Sequence[int] | None:
    """Begins, then ends, for all axes."""
    source = pad.inputs[0]
    given = pad.attrs.get("pads") if pad.version < 11 else ints(static_input(pad, 1))
    if given is None or source is None or source.shape is None:
        return None
    rank = len(source.shape)
    axes_value = static_input(pad, 3)
    if axes_value is None:
        return list(given) if len(given) == 2 * rank else None
    axes = ints(axes_value)
    if axes is None or len(given) != 2 * len(axes):
        return None
    pads = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        pads[axis % rank] = given[i]
        pads[rank + axis % rank] = given[len(axes) + i]
    return pads


def _fits(pad: Layer, layer: Layer, source: Value) -> bool:
    """Whether what the Pad writes is what the layer itself takes beyond the border."""
    mode = pad.attrs.get("mode", "constant")
    given = static_input(pad, 2)
    filled = scalar(given) if given is not None else float(pad.attrs.get("value", 0.0))
    if mode != "constant" or filled is None or layer.attrs.get("ceil_mode", 0):
        return False
    if layer.type == "AveragePool" and layer.version < 7:
        return False  # count_include_pad came with 7
    if layer.type == "MaxPool":
        if len(layer.results) > 1 or not source.dtype.is_float:
            return False
        return filled <= float(np.finfo(np.float32).min)
    return filled == 0.0


def _own_pads(layer: Layer, spatial: int) -> Sequence[int] | None:
    auto = layer.attrs.get("auto_pad", "NOTSET")
    if auto == "VALID":
        return [0] * (2 * spatial)
    return layer.attrs.get("pads") or [0] * (2 * spatial) if auto == "NOTSET" else None
