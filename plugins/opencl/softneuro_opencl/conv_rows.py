"""Conv in registers, an item alone in its group (``kernels/conv_rows.cl``): for devices with wide vectors, CPUs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.phases import Scatter
from softneuro_core.routine import SUMS, Kernel, Offer
from softneuro_core.spec import NHWC, TensorSpec
from softneuro_core.windows import Window
from softneuro_opencl.convolutions import Convolution, dense_convolution_of
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.launches import OpenCLKernel
from softneuro_opencl.register_tiles import Bordered, Tiling, rows_launch
from softneuro_opencl.routine import OpenCLRoutine, accuracy_in

TILES = ((14, 2), (6, 4), (8, 2), (7, 2), (14, 1), (4, 4), (4, 2), (2, 4), (1, 4))
"""(pixels, vectors), those with most sums first: at most 28, and the weights of one step, in 32 registers."""
MOST_TILES, WASTE = 3, 1.15
"""Offered of one convolution, and what they may compute of what the thriftiest computes. On a core of 96 GFLOP/s by
Intel's runtime (Sapphire Rapids, disturbed): 256 to 64 channels at 56x56 1,043 us in tiles of 6 by 4, 1,697 of 7 by 2;
3x3, 64 to 64, 2,655 of 14 by 2, 3,025 of 6 by 4, 3,144 of 7 by 2. (By a script
that is not kept.) With sizes as constants of the program Intel's compiler crashed on 3x3."""


class RowsConv(OpenCLRoutine):
    """Conv [+ Add] [+ activation], float32, any stride, dilation, padding and groups, 1-D and 2-D."""

    algorithm = "conv_rows"
    mains: tuple[str, ...] = ("Conv",)
    layout = NHWC

    def read(self, region: Region) -> Convolution | None:
        """What the region asks for, None where it is not this routine's."""
        return dense_convolution_of(region)

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, self.mains)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv = self.read(region)
        if conv is None:
            return
        width, columns = _flat(conv.window).out[1], conv.out_channels // conv.groups
        for spec in self.storages(self.layout):
            for pixels, vectors in tiles_for(width, columns, self.opencl(target).lanes):
                params, accuracy = {"pixels": pixels, "vectors": vectors}, accuracy_in(spec, SUMS)
                yield Offer([spec] * len(region.inputs), [spec], params, accuracy=accuracy, flops=conv.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = self.read(region)
        assert conv is not None
        device = self.opencl(target)
        tiling = Tiling(int(offer.params["pixels"]), int(offer.params["vectors"]), device.lanes)
        return rows_kernel(device, conv, tiling, offer.outputs[0])


def _flat(window: Window) -> Window:
    """A pointwise convolution's image as one row."""
    if not window.is_pointwise:
        return window
    pixels = window.batch * window.pixels
    return Window(1, window.channels, (1, pixels), (1, pixels), (1, 1), (1, 1), (1, 1), (0, 0, 0, 0))


def tiles_for(width: int, columns: int, lanes: int) -> list[tuple[int, int]]:
    """(pixels, vectors) worth offering for rows of so many pixels and so many output channels of a group, on a device
    of so many lanes."""

    def computed(tile: tuple[int, int]) -> int:
        pixels, channels = tile[0], tile[1] * lanes
        return -(-width // pixels) * pixels * -(-columns // channels) * channels

    fitting = [tile for tile in TILES if tile[0] <= width]
    most = WASTE * min(map(computed, fitting))
    return [tile for tile in fitting if computed(tile) <= most][:MOST_TILES]


def rows_kernel(device: OpenCLDevice, conv: Convolution, tiling: Tiling, spec: TensorSpec) -> OpenCLKernel:
    """The prepared step, tensors stored as ``spec`` says; packs the weights."""
    flat = replace(conv, window=_flat(conv.window))
    height, columns = flat.window.out
    border, dense = Bordered(flat.window), Scatter(height * columns, columns, 1, 0)
    main = rows_launch(device, flat, tiling, spec, dense)
    return OpenCLKernel(device, (*border.launches(spec), main), border.elements * spec.dtype.numpy.itemsize)
