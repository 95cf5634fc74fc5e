"""Evens out the ranges of a layer's output channels against the layer that reads them, and shifts biases.

Cross-layer equalisation: M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
arXiv 1906.04721, section 4.1. Factors are powers of two: floating point loses nothing, the results stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from softneuro_core.errors import PlanError
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.passes.rewrite import constant, static_input
from softneuro_core.spec import FLOAT32


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers of constant float32 weights, Relu or nothing in between, what is in between read by nobody else."""

    first: Layer
    second: Layer


def pairs(graph: Graph) -> list[Pair]:
    """Every pair, in order of the first layer. A bounded activation (Clip, Relu6) stands in the way: it does not
    commute with factors."""
    found = []
    for layer in graph.layers:
        second = _reader(graph, layer) if _is_main(layer) else None
        if second is not None and second.op == "Relu":
            second = _reader(graph, second)
        if second is not None and _is_main(second) and len(_incoming(second)) == len(_outgoing(layer)):
            found.append(Pair(layer, second))
    return found


def _reader(graph: Graph, layer: Layer) -> Layer | None:
    """The only layer that reads the result, as its first operand."""
    (result,) = layer.results
    users = graph.consumers.get(result, ())
    if len(users) != 1 or result in graph.outputs or users[0].operands.count(result) != 1:
        return None
    return users[0] if users[0].inputs[:1] == (result,) else None


def _is_main(layer: Layer) -> bool:
    weights, bias = static_input(layer, 1), static_input(layer, 2)
    if layer.op not in ("Conv", "Gemm") or weights is None or weights.data is None or weights.dtype is not FLOAT32:
        return False
    if layer.op == "Gemm" and (layer.attrs.get("transA") or weights.data.ndim != 2):
        return False
    return bias is None or (bias.data is not None and bias.data.size in (1, len(_outgoing(layer))))


def channel_ranges(pair: Pair, weights: Mapping[Layer, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Largest weight of each channel in between, in the first layer and in the second."""
    into, onto = weights[pair.first], weights[pair.second]
    return np.abs(_by_output(pair.first, into)).max(axis=1), np.abs(_by_input(pair.second, onto)).max(axis=1)


def _outgoing(layer: Layer) -> np.ndarray:
    return _by_output(layer, weights_of(layer))


def _incoming(layer: Layer) -> np.ndarray:
    return _by_input(layer, weights_of(layer))


def weights_of(layer: Layer) -> np.ndarray:
    """The layer's constant weights."""
    value = layer.inputs[1]
    assert value is not None and value.data is not None
    return value.data


def _by_output(layer: Layer, weights: np.ndarray) -> np.ndarray:
    """[output channel, its weights]."""
    whole = weights if layer.op == "Conv" or layer.attrs.get("transB") else weights.T
    return whole.reshape(len(whole), -1)


def _by_input(layer: Layer, weights: np.ndarray) -> np.ndarray:
    """[input channel, the weights it meets]."""
    if layer.op == "Gemm":
        whole = weights.T if layer.attrs.get("transB") else weights
        return whole.reshape(len(whole), -1)
    groups = layer.attrs.get("group", 1)
    split = weights.reshape(groups, len(weights) // groups, weights.shape[1], -1)
    return split.transpose(0, 2, 1, 3).reshape(groups * weights.shape[1], -1)


def scaled_weights(layer: Layer, weights: np.ndarray, out: np.ndarray | None, into: np.ndarray | None) -> np.ndarray:
    """Weights with every output channel times ``out`` and every input channel times ``into``."""
    if out is not None:
        along = (1, -1) if layer.op == "Gemm" and not layer.attrs.get("transB") else (-1,) + (1,) * (weights.ndim - 1)
        weights = weights * out.reshape(along)
    if into is None:
        return weights
    if layer.op == "Gemm":
        return weights * into.reshape((1, -1) if layer.attrs.get("transB") else (-1, 1))
    groups = layer.attrs.get("group", 1)
    by_group = np.repeat(into.reshape(groups, -1), len(weights) // groups, axis=0)
    return weights * by_group.reshape(*weights.shape[:2], *(1,) * (weights.ndim - 2))


def equalised(graph: Graph, powers: Mapping[str, tuple[str, tuple[int, ...]]]) -> Graph:
    """The graph with channels scaled as ``Changes.equalised`` says; raises :class:`PlanError` where it has no such
    pair."""
    if not powers:
        return graph
    known = {(pair.first.name, pair.second.name): pair for pair in pairs(graph)}
    out: dict[Layer, np.ndarray] = {}
    into: dict[Layer, np.ndarray] = {}
    for name, (second, exponents) in powers.items():
        pair = known.get((name, second))
        if pair is None or len(_outgoing(pair.first)) != len(exponents):
            raise PlanError("has nothing to equalise with " + repr(second), file=graph.name, layer=name)
        factors = np.exp2(np.asarray(exponents, np.float32))
        out[pair.first], into[pair.second] = factors, 1 / factors
    changed = {layer: _scaled(layer, out.get(layer), into.get(layer)) for layer in dict.fromkeys((*out, *into))}
    return graph.replace([changed.get(layer, layer) for layer in graph.layers])


def _scaled(layer: Layer, out: np.ndarray | None, into: np.ndarray | None) -> Layer:
    data, x, w = scaled_weights(layer, weights_of(layer), out, into), layer.inputs[0], layer.inputs[1]
    assert w is not None
    weights = constant(w.name, data, FLOAT32)
    bias = static_input(layer, 2)
    if bias is not None and bias.data is not None and out is not None:
        bias = constant(bias.name, bias.data * out.reshape(-1) if bias.data.ndim < 2 else bias.data * out, FLOAT32)
    return replace(layer, inputs=(x, weights) if bias is None else (x, weights, bias))


def shifted(graph: Graph, shifts: Mapping[str, tuple[float, ...]]) -> Graph:
    """The graph with numbers added to the biases of the layers named, one a channel; raises :class:`PlanError`."""
    if not shifts:
        return graph
    layers = graph.layer_by_name
    for name, numbers in shifts.items():
        if name not in layers or not can_shift(layers[name], len(numbers)):
            raise PlanError("has no bias to shift so", file=graph.name, layer=name)
    return graph.replace(_shifted(x, np.asarray(shifts[x.name])) if x.name in shifts else x for x in graph.layers)


def can_shift(layer: Layer, channels: int) -> bool:
    """Whether a constant for each of so many channels can be added to the layer's result by its bias."""
    return _is_main(layer) and len(_outgoing(layer)) == channels


def _shifted(layer: Layer, shift: np.ndarray) -> Layer:
    old: Value | None = static_input(layer, 2)
    before = np.zeros(1) if old is None or old.data is None else old.data.reshape(-1).astype(np.float64)
    beta = layer.attrs.get("beta", 1.0) if layer.op == "Gemm" else 1.0
    bias = constant(f"{layer.name}/shifted", before + shift / beta, FLOAT32)
    return replace(layer, inputs=(*layer.inputs[:2], bias))
