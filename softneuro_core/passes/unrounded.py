"""Leaves out the rounding a quantised file does between layers: QuantizeLinear with its DequantizeLinear becomes Clip.

Saturation stays: exporters leave Relu and Relu6 to it. The value keeps the file's grid as one a plan may store it on,
as calibrated values have it; what QuantizeLinear gives to integer layers or to the caller stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.passes.rewrite import constant, scalar, static_input, version_of
from softneuro_core.spec import FLOAT32, QParams


@dataclass(frozen=True, slots=True)
class _Pair:
    """A QuantizeLinear whose integers only DequantizeLinear layers of the same numbers read."""

    quantise: Layer
    dequantise: tuple[Layer, ...]
    scale: np.ndarray
    zero: np.ndarray

    @property
    def limits(self) -> tuple[float, float]:
        """What it saturates to."""
        info = np.iinfo(self.zero.dtype)
        low, high = ((int(step) - int(self.zero)) * float(self.scale) for step in (info.min, info.max))
        return low, high


def unrounded(graph: Graph) -> Graph:
    """The graph without such pairs; the same object where there are none."""
    pairs = [pair for layer in graph.layers if (pair := _pair(graph, layer)) is not None]
    if not pairs:
        return graph
    new: dict[Layer, tuple[Layer, ...]] = {}
    instead: dict[Value, Value] = {}
    for pair in pairs:
        grid = QParams(pair.scale, pair.zero)
        first, *others = (layer.results[0] for layer in pair.dequantise)
        result = instead[first] = replace(first, qparams=grid)
        instead.update(dict.fromkeys(others, result))
        source, low, high, gone = _bounded_source(graph, pair)
        new |= dict.fromkeys((*pair.dequantise, *gone), ())
        ends = (("low", low), ("high", high))
        bounds = [constant(f"{pair.quantise.name}/{name}", np.asarray(end), FLOAT32) for name, end in ends]
        version = version_of(graph, "Clip", 11)
        new[pair.quantise] = (Layer(pair.quantise.name, "Clip", (source, *bounds), (result,), version=version),)
    layers = [_reading(instead, mine) for layer in graph.layers for mine in new.get(layer, (layer,))]
    return graph.replace(layers, outputs=[instead.get(v, v) for v in graph.outputs])


def _pair(graph: Graph, layer: Layer) -> _Pair | None:
    if layer.op != "QuantizeLinear" or len(layer.results) != 1:
        return None
    real, integers = layer.inputs[0], layer.results[0]
    users = graph.consumers.get(integers, ())
    if real is None or real.is_constant or real.dtype is not FLOAT32 or integers in graph.outputs or not users:
        return None
    numbers = _numbers(layer, integers)
    if numbers is None or integers.dtype.numpy.kind not in "iu":
        return None
    for user in users:
        theirs = None if user.op != "DequantizeLinear" else _numbers(user, integers)
        if theirs is None or theirs != numbers or user.results[0].dtype is not FLOAT32:
            return None
    results = [user.results[0] for user in users]
    if sum(v in graph.outputs for v in results) > 1 or any(v in c.captures for v in results for c in graph.layers):
        return None
    users = tuple(sorted(users, key=lambda user: user.results[0] not in graph.outputs))  # an output keeps its name
    scale, zero = numbers
    return _Pair(layer, users, np.asarray(scale, np.float32), np.asarray(zero, integers.dtype.numpy))


def _numbers(layer: Layer, integers: Value) -> tuple[float, int] | None:
    """Scale and zero point, known and of the whole tensor."""
    scale, zero = scalar(static_input(layer, 1)), static_input(layer, 2)
    if scale is None or (zero is not None and scalar(zero) is None):
        return None
    return scale, int(scalar(zero) or 0)


def _bounded_source(graph: Graph, pair: _Pair) -> tuple[Value, float, float, tuple[Layer, ...]]:
    """What is bounded, to what, and the Relu or Clip in front that the bounds make up for."""
    (low, high), source = pair.limits, pair.quantise.inputs[0]
    assert source is not None
    before = graph.producers.get(source)
    if before is None or graph.consumers[source] != (pair.quantise,) or source in graph.outputs:
        return source, low, high, ()
    if before.op == "Relu":
        inner, bounds = before.inputs[0], (0.0, np.inf)
    elif before.op == "Clip" and before.version >= 11:
        ends = [static_input(before, place) for place in (1, 2)]
        known = [free if end is None else scalar(end) for end, free in zip(ends, (-np.inf, np.inf), strict=True)]
        inner, bounds = before.inputs[0], (known[0], known[1])  # type: ignore[assignment]
    else:
        return source, low, high, ()
    if inner is None or None in bounds or max(low, bounds[0]) > min(high, bounds[1]):
        return source, low, high, ()
    return inner, max(low, bounds[0]), min(high, bounds[1]), (before,)


def _reading(instead: dict[Value, Value], layer: Layer) -> Layer:
    if not any(v in instead for v in layer.operands):
        return layer
    return replace(layer, inputs=tuple(None if v is None else instead.get(v, v) for v in layer.inputs))
