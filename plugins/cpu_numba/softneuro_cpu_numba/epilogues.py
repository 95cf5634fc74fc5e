"""What may follow a Conv, Gemm or MatMul inside the same kernel: a residual sum, then an activation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_cpu_numba.windows import text


@dataclass(frozen=True, slots=True)
class Activation:
    """Kind (a key of ``kernels.base.ACTIVATIONS``) and its two numbers."""

    kind: str
    p0: float = 0.0
    p1: float = 0.0


IDENTITY = Activation("clip", -math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Epilogue:
    """A region taken apart: the layer in front, what is added to its result, what is applied last.

    ``residual`` is the number of the added value among ``Region.inputs``.
    """

    main: Layer
    residual: int | None
    activation: Activation


def activation_of(layer: Layer) -> Activation | None:
    """The activation ``layer`` is, None if it is none or its bounds are not constant."""
    attrs, kind = layer.attrs, layer.op
    match kind:
        case "Relu":
            return Activation("clip", 0.0, math.inf)
        case "Clip":
            return _clip(layer)
        case "LeakyRelu":
            return Activation("leaky", float(attrs.get("alpha", 0.01)))
        case "HardSigmoid":
            return Activation("hardsigmoid", float(attrs.get("alpha", 0.2)), float(attrs.get("beta", 0.5)))
        case "HardSwish":
            return Activation("hardswish", 1 / 6, 0.5)
        case "Swish":
            return Activation("swish", float(attrs.get("alpha", 1.0)))
        case "Gelu":
            return Activation("gelu" if text(attrs.get("approximate") or "none") == "none" else "gelu_tanh")
        case "Sigmoid" | "Tanh":
            return Activation(kind.lower())
    return None


def _clip(layer: Layer) -> Activation | None:
    bounds = [layer.attrs.get("min", -math.inf), layer.attrs.get("max", math.inf)]
    for i, value in enumerate(layer.inputs[1:3]):
        if value is not None:
            if value.data is None:
                return None
            bounds[i] = float(np.asarray(value.data).reshape(-1)[0])
    return Activation("clip", float(bounds[0]), float(bounds[1]))


def epilogue_regions(graph: Graph, exit: Layer, mains: Iterable[str]) -> Iterable[tuple[Layer, ...]]:
    """Regions ending at ``exit``: a main layer, then possibly an Add, then possibly an activation."""
    mains = frozenset(mains)
    for tail in _tails(graph, exit):
        for value in tail[0].operands if tail else (None,):
            front = exit if value is None else graph.producers.get(value)
            if front is not None and front.op in mains:
                yield (front, *tail)


def _tails(graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
    yield ()
    if exit.op == "Add":
        yield (exit,)
    elif activation_of(exit) is not None and exit.inputs[0] is not None:
        yield (exit,)
        before = graph.producers.get(exit.inputs[0])
        if before is not None and before.op == "Add":
            yield (before, exit)


def parse_epilogue(region: Region) -> Epilogue | None:
    """The parts of a region made by :func:`epilogue_regions`; None if it is not of that form."""
    main, *rest = region.layers
    residual, activation, made = None, IDENTITY, main.results[0]
    if len(main.results) != 1:
        return None
    if rest and rest[0].op == "Add":
        add = rest.pop(0)
        others = [v for v in add.inputs if v is not made and v is not None]
        if len(others) != 1 or others[0].is_constant or others[0].shape != made.shape:
            return None
        residual = _position(region, main, others[0])
        made = add.results[0]
    if rest:
        found = activation_of(rest[0])
        if found is None or rest[0].inputs[0] is not made:
            return None
        activation = found
        rest = rest[1:]
    return None if rest or residual == -1 else Epilogue(main, residual, activation)


def _position(region: Region, main: Layer, value: Value) -> int:
    """Where the residual stands among the region's inputs: behind those of the main layer."""
    before = sum(1 for v in main.operands if not v.is_constant)
    return before if region.inputs[before : before + 1] == (value,) else -1
