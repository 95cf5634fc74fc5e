"""A main layer with what may follow it in the same kernel: an addition, then an activation.

Owns the enumeration and the reading of such regions for plugins (decision 0010); knows no routine. A layer of any
type may be the main one: Conv, Gemm, MatMul, a depthwise Conv, an integer Conv.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from softneuro_core.errors import PluginError
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.passes.canonical import clip_limits
from softneuro_core.passes.rewrite import static_input

ACTIVATIONS = frozenset(
    "Relu Clip LeakyRelu PRelu Sigmoid HardSigmoid HardSwish Swish Tanh Gelu".split()  # noqa: SIM905
)
"""ONNX operators of one operand (constants apart) an epilogue may end with."""


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """An elementwise function of y.

    ``kind`` is the ONNX operator; what ``alpha`` and ``beta`` mean: Clip: the limits (infinite where absent);
    LeakyRelu: slope, 0; HardSigmoid: slope and offset; Swish: the factor inside the sigmoid, 0; Gelu: ``alpha`` is 1
    for the tanh approximation, else 0; the rest have none (0, 0). ``slope`` is PRelu's constant, broadcastable to y.
    """

    kind: str
    alpha: float = 0.0
    beta: float = 0.0
    slope: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Epilogue:
    """``activation(main + bias + residual)``: a region taken apart. At most one of bias and residual is set.

    ``residual`` is an index into ``Region.inputs`` (a value of the main result's shape), ``bias`` the constant of
    the Add (broadcastable to that shape; a bias the main layer has itself stays with it). ``add`` is the Add layer.
    """

    main: Layer
    add: Layer | None = None
    residual: int | None = None
    bias: np.ndarray | None = None
    activation: Activation | None = None


def epilogue_regions(graph: Graph, exit: Layer, mains: Collection[str]) -> Iterator[tuple[Layer, ...]]:
    """Legal regions main [+ Add] [+ activation] ending at ``exit``, the main layer's operator among ``mains``.

    The Add's other operand is a value of exactly the main result's shape, or a constant that broadcasts to it.
    ``(exit,)`` is among them if the exit is a main layer itself.
    """
    for layers in _candidates(graph, exit, mains):
        if len(layers) == 1 or Region(graph, layers).is_legal():
            yield layers


def _candidates(graph: Graph, exit: Layer, mains: Collection[str]) -> Iterator[tuple[Layer, ...]]:
    yield from _up_to_add(graph, exit, mains)
    if exit.domain or exit.type not in ACTIVATIONS or read_activation(exit) is None:
        return
    producer = graph.producers.get(exit.inputs[0]) if exit.inputs[0] is not None else None
    if producer is not None and producer.outputs[0] is exit.inputs[0]:
        for head in _up_to_add(graph, producer, mains):
            yield (*head, exit)


def _up_to_add(graph: Graph, last: Layer, mains: Collection[str]) -> Iterator[tuple[Layer, ...]]:
    if last.op in mains:
        yield (last,)
    if last.op != "Add" or len(last.inputs) != 2:
        return
    for value, other in (last.inputs, last.inputs[::-1]):
        producer = None if value is None else graph.producers.get(value)
        if producer is None or value is None or producer.op not in mains or producer.outputs[0] is not value:
            continue
        if _may_add(value, other):
            yield (producer, last)


def _may_add(value: Value, other: Value | None) -> bool:
    if other is None or other is value or not value.is_static or not other.is_static or other.dtype is not value.dtype:
        return False
    if not other.is_constant:
        return other.shape == value.shape
    try:
        return np.broadcast_shapes(value.static_shape, other.static_shape) == value.static_shape
    except ValueError:
        return False


def read_activation(layer: Layer) -> Activation | None:
    """The activation a layer is; None if it is none, or its parameters are no constants."""
    if layer.domain:
        return None
    attrs = layer.attrs
    kind = layer.type
    if kind == "Clip":
        limits = clip_limits(layer)
        return None if limits is None else Activation(kind, *limits)
    if kind == "PRelu":
        slope = static_input(layer, 1)
        return None if slope is None or slope.data is None else Activation(kind, slope=slope.data)
    if kind == "LeakyRelu":
        return Activation(kind, float(attrs.get("alpha", 0.01)))
    if kind == "HardSigmoid":
        return Activation(kind, float(attrs.get("alpha", 0.2)), float(attrs.get("beta", 0.5)))
    if kind == "Swish":
        return Activation(kind, float(attrs.get("alpha", 1.0)))
    if kind == "Gelu":
        return Activation(kind, float(attrs.get("approximate", "none") == "tanh"))
    return Activation(kind) if kind in ACTIVATIONS else None


def parse_epilogue(region: Region) -> Epilogue:
    """The parts of a region that :func:`epilogue_regions` gave; raises :class:`PluginError` for any other."""
    main, *rest = region.layers
    add = rest.pop(0) if rest and rest[0].op == "Add" else None
    activation = read_activation(rest[0]) if rest else None
    if len(rest) > 1 or (rest and activation is None):
        raise PluginError(f"region {region.name!r} is no main layer with addition and activation")
    if add is None:
        return Epilogue(main, activation=activation)
    (other,) = (v for v in add.inputs if v is not main.outputs[0])
    assert other is not None
    if other.data is not None:
        return Epilogue(main, add, None, other.data, activation)
    position = sum(not v.is_constant for v in main.operands)
    return Epilogue(main, add, position, None, activation)
