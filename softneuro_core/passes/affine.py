"""Folds per-channel scales and shifts (BatchNormalization, Mul, Add ... of constants) into Conv, ConvTranspose, Gemm.

New weights are computed in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.passes.rewrite import Rewrite, constant, static_input, sweep

MAINS = ("Conv", "ConvTranspose", "Gemm")
BINARY = ("Mul", "Div", "Add", "Sub")


def fold_affine(graph: Graph) -> Graph:
    """The graph with every such layer inside the one it follows, where only it reads the result."""
    return sweep(graph, _match)


def _match(rewrite: Rewrite, layer: Layer) -> bool:
    if len(layer.results) != 1:
        return False
    for value in dict.fromkeys(v for v in layer.inputs[:2] if v is not None):
        main = rewrite.producer(value, *MAINS)
        if main is None or not rewrite.is_private(value, layer) or not _has_constant_weights(main, value):
            continue
        affine = _affine(layer, value)
        if affine is None:
            continue
        new = _scaled(main, layer, *affine)
        if new is not None:
            rewrite.replace(layer, new, also=(main,))
            return True
    return False


def _has_constant_weights(main: Layer, result: Value) -> bool:
    weight, bias = static_input(main, 1), static_input(main, 2)
    if weight is None or weight.data is None or not weight.dtype.is_float or result.shape is None:
        return False
    return bias is None or bias.data is not None


def _affine(layer: Layer, value: Value) -> tuple[np.ndarray, np.ndarray] | None:
    """Scale and shift for each channel (axis 1) this layer applies to ``value``; float64."""
    assert value.shape is not None
    channels = value.shape[1] if len(value.shape) > 1 else None
    if not isinstance(channels, int):
        return None
    if layer.type == "BatchNormalization":
        return _batch_norm(layer, value, channels)
    if layer.type not in BINARY or len(layer.inputs) != 2:
        return None
    return _elementwise(layer, value, channels)


def _batch_norm(layer: Layer, value: Value, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    if layer.inputs[0] is not value or layer.attrs.get("training_mode", 0) or not layer.attrs.get("spatial", 1):
        return None
    numbers = [None if v is None or v.data is None else v.data.astype(np.float64) for v in layer.inputs[1:5]]
    if len(numbers) < 4 or any(n is None or n.shape != (channels,) for n in numbers):
        return None
    scale, shift, mean, variance = (n for n in numbers if n is not None)
    factor = scale / np.sqrt(variance + layer.attrs.get("epsilon", 1e-5))
    return factor, shift - mean * factor


def _elementwise(layer: Layer, value: Value, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    left, right = layer.inputs
    other = right if left is value else left
    if other is None or other.data is None or other is value or layer.version < 7:
        return None
    if right is not other and layer.type in ("Div", "Sub"):
        return None
    numbers = _per_channel(other.data, len(value.shape or ()), channels)
    if numbers is None:
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    if layer.type == "Div":
        return None if (numbers == 0).any() else (1.0 / numbers, zeros)
    return {"Mul": (numbers, zeros), "Add": (ones, numbers), "Sub": (ones, -numbers)}[layer.type]


def _per_channel(data: np.ndarray, rank: int, channels: int) -> np.ndarray | None:
    """A constant that varies along axis 1 only, as one float64 number for each channel."""
    if data.ndim > rank:
        return None
    shape = (1,) * (rank - data.ndim) + data.shape
    if any(dim != 1 for axis, dim in enumerate(shape) if axis != 1) or shape[1] not in (1, channels):
        return None
    return np.broadcast_to(data.astype(np.float64).reshape(-1), (channels,))


def _scaled(main: Layer, layer: Layer, factor: np.ndarray, shift: np.ndarray) -> Layer | None:
    """``main`` followed by y * factor + shift, as one layer under the name of the later one."""
    weight, bias = main.inputs[1], static_input(main, 2)
    assert weight is not None and weight.data is not None
    scaled = weight.data.astype(np.float64) * _along_output(main, weight.data, factor)
    old = np.zeros(1) if bias is None or bias.data is None else bias.data.astype(np.float64)
    if main.type == "Gemm":
        old = old * main.attrs.get("beta", 1.0)
        if old.ndim == 2 and old.shape[0] != 1:
            return None  # a bias that varies over rows
        old = old.reshape(-1)
    shifted = np.broadcast_to(old, factor.shape) * factor + shift
    if not (np.isfinite(scaled).all() and np.isfinite(shifted).all()):
        return None
    attrs = dict(main.attrs)
    if main.type == "Gemm":
        attrs["beta"] = 1.0
    new_weight = weight if (factor == 1.0).all() else constant(f"{layer.name}/weight", scaled, weight.dtype)
    new_bias = constant(f"{layer.name}/bias", shifted, weight.dtype)
    inputs = (main.inputs[0], new_weight, new_bias)
    return replace(main, name=layer.name, inputs=inputs, outputs=layer.outputs[:1], attrs=attrs)


def _along_output(main: Layer, weight: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The factors shaped to multiply the weights along their output channels."""
    if main.type == "Gemm":
        return factor[:, None] if main.attrs.get("transB", 0) else factor[None, :]
    spatial = (1,) * (weight.ndim - 2)
    if main.type == "Conv":
        return factor.reshape(-1, 1, *spatial)
    groups = main.attrs.get("group", 1)
    per_group = np.repeat(factor.reshape(groups, -1), weight.shape[0] // groups, axis=0)
    return per_group.reshape(weight.shape[0], weight.shape[1], *spatial)
