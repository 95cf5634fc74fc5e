"""Conv as a product of tiles in local memory (``kernels/conv_tiles.cl``): for devices with many narrow cores, GPUs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.routine import Kernel, Offer
from softneuro_opencl.conv_rows import RowsConv
from softneuro_opencl.convolutions import Convolution
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.launches import Argument, Constant, In, Launch, OpenCLKernel, Out

SIDE, TILE = 16, 64
"""Items of a work group on a side, and what they make of pixels and of output channels."""


class TilesConv(RowsConv):
    """What :class:`RowsConv` computes, by tiles in local memory."""

    algorithm = "conv_tiles"

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv, spec = self.read(region), self.stored(self.layout)
        if conv is not None and self.opencl(target).most_items >= SIDE * SIDE:
            yield Offer([spec] * len(region.inputs), [spec], flops=conv.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = self.read(region)
        assert conv is not None
        return tiles_kernel(self.opencl(target), conv)


def tiles_kernel(device: OpenCLDevice, conv: Convolution) -> OpenCLKernel:
    """The prepared step; orders the weights."""
    window, finish = conv.window, conv.finish
    out_group, in_group = conv.out_channels // conv.groups, window.channels // conv.groups
    by_group = conv.weights.reshape(conv.groups, out_group, in_group, -1).transpose(0, 3, 2, 1)
    pixels = window.batch * window.pixels
    arguments: tuple[Argument, ...] = (
        *(In(0), Constant(device, by_group.astype(np.float32)), Constant(device, finish.bias)),
        *(None if finish.residual is None else In(finish.residual), Out(0)),
        *(in_group, window.channels, *window.size, *window.pads[:2], *window.kernel, *window.dilations),
        *(*window.strides, window.batch, *window.out, out_group, conv.out_channels),
        *(finish.activation.p0, finish.activation.p1),
    )
    work = (-(-out_group // TILE) * SIDE, -(-pixels // TILE) * SIDE, conv.groups)
    launch = Launch("conv_tiles.cl", "conv_tiles", finish.defines, arguments, work, (SIDE, SIDE, 1))
    return OpenCLKernel(device, (launch,))
