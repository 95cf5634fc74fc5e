"""Depthwise convolution: one input and one output channel a group."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NHWC
from softneuro_cpu_numba.conv_direct import Convolution, convolution_of
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, aligned
from softneuro_cpu_numba.windows import NCHW_F32, NHWC_F32


def _depthwise_of(region: Region) -> Convolution | None:
    conv = convolution_of(region)
    return conv if conv is not None and conv.is_depthwise and conv.out_channels == conv.groups else None


class Depthwise(Routine):
    """Conv with as many groups as channels [+ Add] [+ activation], float32."""

    name = "cpu/depthwise"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv = _depthwise_of(region)
        if conv is not None:
            for spec in (NHWC_F32, NCHW_F32):
                yield Offer((spec,) * len(region.inputs), (spec,), accuracy=SUMS, flops=conv.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = _depthwise_of(region)
        assert conv is not None
        window, act = conv.window, conv.epilogue.activation
        channels_last = offer.outputs[0].layout == NHWC
        weights = conv.weights.reshape(conv.groups, -1)
        bias = np.zeros(conv.groups, np.float32) if conv.bias is None else conv.bias.astype(np.float32)
        three = window.kernel == (3, 3) and window.dilations == (1, 1)
        residual = conv.epilogue.residual
        if channels_last:
            address, outer = address_of("depthwise", "nhwc", act=act.kind, three=three), window.batch
        else:
            flat = window.strides[1] == 1
            address = address_of("depthwise", "nchw", act=act.kind, three=three, unit_stride=flat)
            outer = window.batch * window.channels
        sizes = (outer, window.channels, *window.size, *window.out, *window.kernel, *window.strides)
        return NativeKernel(
            address,
            (
                *(In(0), aligned(weights.T if channels_last else weights), aligned(bias)),
                *(None if residual is None else In(residual), Out(0)),
                *(*sizes, *window.dilations, *window.pads[:2], act.p0, act.p1),
            ),
            window.batch * window.out[0] if channels_last else outer,
        )
