"""Mul by one factor a channel -> 1x1 Conv, as squeeze-and-excite ends (Hu et al., CVPR 2018): the factors go to the
rows of the weights inside the product, so that the scaled tensor never exists.

Two multiplications more for every twelve multiply-adds; a Mul of its own reads and writes the whole tensor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.windows import NHWC_F32, is_f32
from softneuro_cpu_numba.conv_direct import Convolution, convolution_of
from softneuro_cpu_numba.epilogues import pitched_result
from softneuro_cpu_numba.rows import RowProduct


@dataclass(frozen=True, slots=True)
class ScaledConvolution:
    """``conv`` of x * scale; the numbers are places among ``Region.inputs``."""

    conv: Convolution
    x: int
    scale: int
    residual: int | None


class ScaledConv(Routine):
    """Mul by [1, C, 1, 1] -> 1x1 Conv [+ Add] [+ activation], float32, NHWC, one image."""

    name = "cpu/conv_scaled"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        for layers in epilogue_regions(graph, exit, ("Conv",)):
            x = layers[0].inputs[0]
            mul = None if x is None else graph.producers.get(x)
            if mul is None or _factors(mul) is None:
                continue
            if Region(graph, (mul, *layers)).is_legal():
                yield (mul, *layers)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = scaled_convolution(region)
        if found is not None:
            inputs, pitched = (NHWC_F32,) * len(region.inputs), pitched_result(region, found.residual)
            yield Offer(inputs, (NHWC_F32,), accuracy=SUMS, flops=found.conv.flops, pitched=pitched)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = scaled_convolution(region)
        assert found is not None
        conv, epilogue = found.conv, found.conv.epilogue
        matrix = conv.weights.reshape(1, conv.out_channels, conv.k).transpose(0, 2, 1)
        return RowProduct(
            matrix, conv.bias, epilogue.activation, found.residual, window=conv.window, x=found.x, scale=found.scale
        ).kernel(target)


def _factors(mul: Layer) -> tuple[Value, Value] | None:
    """The tensor [1, C, H, W] and the factors [1, C, 1, 1] a Mul combines, None if it is another Mul."""
    if mul.op != "Mul" or len(mul.inputs) != 2:
        return None
    a, b = mul.inputs
    for x, scale in ((a, b), (b, a)):
        if x is None or scale is None or x is scale or scale.is_constant or not (x.is_static and scale.is_static):
            continue
        shape = x.static_shape
        if len(shape) == 4 and shape[0] == 1 and scale.static_shape == (1, shape[1], 1, 1) and is_f32(x, scale):
            return x, scale
    return None


def scaled_convolution(region: Region) -> ScaledConvolution | None:
    """The region as a 1x1 Conv of one scaled image, or None."""
    mul, *layers = region.layers
    factors = _factors(mul)
    rest = Region(region.graph, tuple(layers))
    conv = convolution_of(rest)
    if factors is None or conv is None or not conv.window.is_pointwise or conv.groups != 1:
        return None
    residual = None if conv.epilogue.residual is None else rest.inputs[conv.epilogue.residual]
    if residual is mul.outputs[0]:
        return None
    x, scale = (region.inputs.index(value) for value in factors)
    return ScaledConvolution(conv, x, scale, None if residual is None else region.inputs.index(residual))
