"""What a Conv region asks for, read once for all routines that compute one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from softneuro_core.epilogue import parse_epilogue
from softneuro_core.graph import Layer, Region, Value
from softneuro_core.windows import Window, is_f32, window_of
from softneuro_opencl.activations import Activation, translated


@dataclass(frozen=True, slots=True)
class Finish:
    """What follows a product: ``bias`` by output channel, the number of the added input, the activation."""

    bias: np.ndarray
    residual: int | None
    activation: Activation

    @property
    def defines(self) -> dict[str, str]:
        return {**self.activation.defines, **({} if self.residual is None else {"RESIDUAL": ""})}


@dataclass(frozen=True, slots=True)
class Convolution:
    """``weights``: (OC, C / groups, KH, KW)."""

    window: Window
    groups: int
    weights: np.ndarray
    finish: Finish

    @property
    def out_channels(self) -> int:
        return int(self.weights.shape[0])

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.window.channels == self.out_channels

    @property
    def flops(self) -> float:
        return 2.0 * self.window.batch * self.window.pixels * self.weights.size


def finish_of(region: Region, bias: Value | None, channels: int, axis: int) -> Finish | None:
    """The bias of the main layer and of an Add together, the residual, the activation; channels lie along ``axis`` of
    the result. None for what kernels here do not do."""
    found = parse_epilogue(region)
    activation = translated(found.activation)
    if activation is None or (bias is not None and bias.data is None):
        return None
    total = np.zeros(channels, np.float32)
    if found.bias is not None:
        shape = found.main.results[0].static_shape
        aligned = found.bias.reshape((1,) * (len(shape) - found.bias.ndim) + found.bias.shape)
        if any(n != 1 for i, n in enumerate(aligned.shape) if i != axis % len(shape)):
            return None
        total += aligned.reshape(-1)
    if bias is not None and bias.data is not None:
        total += np.broadcast_to(bias.data.reshape(-1), (channels,))
    return Finish(total, found.residual, activation)


class Product(NamedTuple):
    """What the main layer of a region multiplies by its constant weights, and the bias it adds."""

    layer: Layer
    x: Value
    weights: np.ndarray
    bias: Value | None


def product_of(region: Region) -> Product | None:
    """Of a region whose main layer is a Conv, ConvTranspose, Gemm or MatMul; None unless all is float32 and the second
    factor constant."""
    layer = region.layers[0]
    x, w = layer.inputs[:2]
    if x is None or w is None or x.is_constant or w.data is None or not is_f32(x, w, *layer.results, *region.outputs):
        return None
    return Product(layer, x, w.data, layer.inputs[2] if len(layer.inputs) > 2 else None)


def convolution_of(region: Region) -> Convolution | None:
    """The region as a float32 Conv of one or two spatial axes with constant weights, or None."""
    if (found := product_of(region)) is None:
        return None
    layer, x, w, bias = found
    finish = finish_of(region, bias, w.shape[0], 1)
    window = window_of(layer, x.static_shape, layer.results[0].static_shape, w.shape[2:])
    if finish is None or window is None:
        return None
    weights = w.reshape(*w.shape[:2], *window.kernel)
    return Convolution(window, int(layer.attrs.get("group", 1)), weights, finish)


def dense_convolution_of(region: Region) -> Convolution | None:
    """The same, but for depthwise ones."""
    conv = convolution_of(region)
    return None if conv is None or conv.is_depthwise else conv
