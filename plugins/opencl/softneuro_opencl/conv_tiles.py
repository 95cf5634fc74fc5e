"""Conv as a product of tiles in local memory (``kernels/conv_tiles.cl``): for devices with many narrow cores, GPUs."""

from __future__ import annotations

from collections.abc import Iterable

from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.routine import SUMS, Kernel, Offer
from softneuro_core.spec import TensorSpec
from softneuro_opencl.conv_rows import RowsConv
from softneuro_opencl.convolutions import Convolution
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.launches import Argument, Constant, In, Launch, OpenCLKernel, Out
from softneuro_opencl.programs import Defines
from softneuro_opencl.register_tiles import NO_BIAS, Products
from softneuro_opencl.routine import accuracy_in, storage

SIDE, TILE = 16, 64
"""Items of a work group on a side, and what they make of pixels and of output channels."""


class TilesConv(RowsConv):
    """What :class:`RowsConv` computes, by tiles in local memory."""

    algorithm = "conv_tiles"

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv = self.read(region)
        if conv is not None and self.opencl(target).most_items >= SIDE * SIDE:
            for spec in self.storages(self.layout):
                yield Offer([spec] * len(region.inputs), [spec], accuracy=accuracy_in(spec, SUMS), flops=conv.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = self.read(region)
        assert conv is not None
        return tiles_kernel(self.opencl(target), conv, offer.outputs[0])


def tiles_kernel(device: OpenCLDevice, conv: Convolution, spec: TensorSpec) -> OpenCLKernel:
    """The prepared step, tensors stored as ``spec`` says; orders the weights."""
    window, finish = conv.window, conv.finish
    out_group, in_group = conv.out_channels // conv.groups, window.channels // conv.groups
    by_group = conv.weights.reshape(conv.groups, out_group, in_group, -1).transpose(0, 3, 2, 1)
    pixels = window.batch * window.pixels
    arguments: tuple[Argument, ...] = (
        *(In(0), Constant(device, by_group.astype(spec.dtype.numpy)), Constant(device, finish.bias)),
        *(None if finish.residual is None else In(finish.residual), Out(0)),
        *(in_group, window.channels, *window.size, *window.pads[:2], *window.kernel, *window.dilations),
        *(*window.strides, window.batch, *window.out, out_group, conv.out_channels, in_group, out_group),
        *(finish.activation.p0, finish.activation.p1),
    )
    work, defines = _work(out_group, pixels, conv.groups), {**finish.defines, **storage(spec)}
    launch = Launch("conv_tiles.cl", "conv_tiles", defines, arguments, work, (SIDE, SIDE, 1))
    return OpenCLKernel(device, (launch,))


def tiles_products(products: Products, x: Argument, w: Argument, y: Argument, defines: Defines) -> Launch:
    """The products by ``conv_tiles``; ``w`` as its matrices lie."""
    rows, depth, columns = products.rows, products.depth, products.columns
    arguments = (
        *(x, w, None, None, y),
        *(depth, depth, 1, rows, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, rows, columns, columns),
        *(products.x_step, rows * columns, 0.0, 0.0),
    )
    work, defines = _work(columns, rows, products.entries), {**defines, **NO_BIAS}
    return Launch("conv_tiles.cl", "conv_tiles", defines, arguments, work, (SIDE, SIDE, 1))


def _work(columns: int, rows: int, groups: int) -> tuple[int, int, int]:
    return -(-columns // TILE) * SIDE, -(-rows // TILE) * SIDE, groups
