"""Conv in registers, an item alone in its group (``kernels/conv_rows.cl``): for devices with wide vectors, CPUs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.phases import Scatter
from softneuro_core.routine import Kernel, Offer
from softneuro_core.spec import NHWC
from softneuro_core.windows import Window
from softneuro_opencl.convolutions import Convolution, dense_convolution_of
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.launches import Argument, Constant, In, Launch, OpenCLKernel, Out, Scratch
from softneuro_opencl.routine import OpenCLRoutine

TILES = ((14, 2), (6, 4), (8, 2), (7, 2), (14, 1), (4, 4), (4, 2), (2, 4), (1, 4))
"""(pixels, vectors), those with most sums first: at most 28, and the weights of one step, in 32 registers."""
FILE = "conv_rows.cl"
LEAST_MACS, ITEMS_EACH = 400_000, 8
"""Of an item, if every unit of the device then has so many items. An item of one tile of few products spends its time
on being started: 64 to 256 channels at 56x56 2,006 us in tiles of 6 by 4, 1,430 in sixteen such tiles an item; 24 to
144, 534 and 380; 96 to 576 at 14x14, 320 and 259; where there are 1,024 products, 1,029 and 1,010 (the same runs in
turns, one disturbed core of Sapphire Rapids, Intel's runtime; by a script that is not kept)."""
NEAR_BYTES = 16 << 10
"""Weights of a group that are no more stay in the first cache: an item then makes all channels of its pixels."""
MOST_TILES, WASTE = 3, 1.15
"""Offered of one convolution, and what they may compute of what the thriftiest computes. On a core of 96 GFLOP/s by
Intel's runtime (Sapphire Rapids, disturbed): 256 to 64 channels at 56x56 1,043 us in tiles of 6 by 4, 1,697 of 7 by 2;
3x3, 64 to 64, 2,655 of 14 by 2, 3,025 of 6 by 4, 3,144 of 7 by 2. (By a script
that is not kept.) With sizes as constants of the program Intel's compiler crashed on 3x3."""


class RowsConv(OpenCLRoutine):
    """Conv [+ Add] [+ activation], float32, any stride, dilation, padding and groups, 1-D and 2-D."""

    algorithm, mains, layout = "conv_rows", ("Conv",), NHWC

    def read(self, region: Region) -> Convolution | None:
        """What the region asks for, None where it is not this routine's."""
        return dense_convolution_of(region)

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, self.mains)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv, spec = self.read(region), self.stored(self.layout)
        if conv is not None:
            for pixels, vectors in tiles_for(conv, self.opencl(target).lanes):
                params = {"pixels": pixels, "vectors": vectors}
                yield Offer([spec] * len(region.inputs), [spec], params, flops=conv.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = self.read(region)
        assert conv is not None
        return rows_kernel(self.opencl(target), conv, int(offer.params["pixels"]), int(offer.params["vectors"]))


def _flat(window: Window) -> Window:
    """A pointwise convolution's image as one row."""
    if not window.is_pointwise:
        return window
    pixels = window.batch * window.pixels
    return Window(1, window.channels, (1, pixels), (1, pixels), (1, 1), (1, 1), (1, 1), (0, 0, 0, 0))


def tiles_for(conv: Convolution, lanes: int) -> list[tuple[int, int]]:
    """(pixels, vectors) worth offering on a device of so many lanes."""
    width, columns = _flat(conv.window).out[1], conv.out_channels // conv.groups

    def computed(tile: tuple[int, int]) -> int:
        pixels, channels = tile[0], tile[1] * lanes
        return -(-width // pixels) * pixels * -(-columns // channels) * channels

    fitting = [tile for tile in TILES if tile[0] <= width]
    most = WASTE * min(map(computed, fitting))
    return [tile for tile in fitting if computed(tile) <= most][:MOST_TILES]


@dataclass(frozen=True, slots=True)
class Bordered:
    """An input with zeros around it, as ``bordered`` writes it; nothing to do where there are none."""

    window: Window

    @property
    def size(self) -> tuple[int, int]:
        top, left, bottom, right = self.window.pads
        return self.window.size[0] + top + bottom, self.window.size[1] + left + right

    @property
    def is_needed(self) -> bool:
        return any(self.window.pads)

    @property
    def nbytes(self) -> int:
        return 4 * self.window.batch * self.window.channels * self.size[0] * self.size[1] if self.is_needed else 0

    @property
    def launches(self) -> tuple[Launch, ...]:
        if not self.is_needed:
            return ()
        window = self.window
        numbers = (window.channels, *window.size, *window.pads[:2], *self.size)
        work = (window.batch * self.size[0],)
        return (Launch(FILE, "bordered", Tiling(1, 1, 1).defines, (In(0), Scratch(), *numbers), work, (1,)),)


@dataclass(frozen=True, slots=True)
class Tiling:
    """What an item holds at a time: ``pixels`` neighbours by ``vectors`` of ``lanes`` output channels, a panel."""

    pixels: int
    vectors: int
    lanes: int

    @property
    def width(self) -> int:
        return self.vectors * self.lanes

    @property
    def defines(self) -> dict[str, object]:
        return {"LANES": self.lanes, "PIXELS": self.pixels, "VECTORS": self.vectors}

    def items(self, device: OpenCLDevice, tiles: int, groups: int, panels: int, depth: int) -> Items:
        """Over so many tiles of pixels and panels of each group, ``depth`` products a sum."""
        span = panels if 4 * panels * self.width * depth <= NEAR_BYTES else 1
        wanted = -(-LEAST_MACS // (self.pixels * self.width * depth * span))
        most = tiles * groups * panels // (span * ITEMS_EACH * device.units)
        count = max(1, min(wanted, most, tiles))
        return Items(count, span, (-(-tiles // count), groups * panels // span, 1))


@dataclass(frozen=True, slots=True)
class Items:
    """``count`` tiles of pixels, ``span`` panels of each by one item; ``work`` items."""

    count: int
    span: int
    work: tuple[int, int, int]


def rows_kernel(device: OpenCLDevice, conv: Convolution, pixels: int, vectors: int) -> OpenCLKernel:
    """The prepared step; packs the weights."""
    flat = replace(conv, window=_flat(conv.window))
    height, columns = flat.window.out
    border, dense = Bordered(flat.window), Scatter(height * columns, columns, 1, 0)
    main = rows_launch(device, flat, Tiling(pixels, vectors, device.lanes), dense)
    return OpenCLKernel(device, (*border.launches, main), border.nbytes)


def rows_launch(device: OpenCLDevice, conv: Convolution, tiling: Tiling, places: Scatter) -> Launch:
    """The convolution of an input that has its border, results at ``places``."""
    window, finish, border, width = conv.window, conv.finish, Bordered(conv.window), tiling.width
    (height, columns), channels = window.out, conv.out_channels
    in_group, out_group = window.channels // conv.groups, channels // conv.groups
    panels = -(-out_group // width)
    in_height, in_width = border.size
    tiles = -(-columns // tiling.pixels) * window.batch * height
    items = tiling.items(device, tiles, conv.groups, panels, in_group * window.kernel[0] * window.kernel[1])
    arguments: tuple[Argument, ...] = (
        *(Scratch() if border.is_needed else In(0), Constant(device, _panels(conv, panels, width))),
        *(Constant(device, _padded(finish.bias, conv.groups, panels * width)),),
        *(None if finish.residual is None else In(finish.residual), Out(0)),
        *(in_group, window.channels, in_width * window.channels, in_height * in_width * window.channels),
        *(*window.kernel, *window.dilations, *window.strides, window.batch, height, columns, out_group),
        *(places.column * channels, places.row * channels, places.image * channels, places.origin * channels),
        *(panels, items.count, items.span, in_group, out_group, finish.activation.p0, finish.activation.p1),
    )
    return Launch(FILE, "conv_rows", {**tiling.defines, **finish.defines}, arguments, items.work, (1, 1, 1))


@dataclass(frozen=True, eq=False)
class Factors:
    """Constant matrices [entry, depth, columns] that matrices of rows are multiplied by, entry by entry."""

    device: OpenCLDevice
    matrices: np.ndarray
    tiling: Tiling

    @property
    def panels(self) -> int:
        return -(-self.matrices.shape[2] // self.tiling.width)

    @cached_property
    def packed(self) -> Constant:
        by_column = self.matrices.transpose(0, 2, 1)[..., None]
        return Constant(self.device, _packed(by_column, self.panels, self.tiling.width))

    @cached_property
    def nothing(self) -> Constant:
        return Constant(self.device, np.zeros((len(self.matrices), self.panels * self.tiling.width), np.float32))

    def launch(self, rows: int, x: Argument, y: Argument) -> Launch:
        """y[entry] = x[entry] @ matrices[entry], ``rows`` rows each, one matrix behind the other."""
        entries, depth, columns = self.matrices.shape
        items = self.tiling.items(self.device, -(-rows // self.tiling.pixels), entries, self.panels, depth)
        arguments = (
            *(x, self.packed, self.nothing, None, y),
            *(depth, depth, rows * depth, rows * depth, 1, 1, 1, 1, 1, 1, 1, 1, rows, columns, columns, 0, 0, 0),
            *(self.panels, items.count, items.span, rows * depth, rows * columns, 0.0, 0.0),
        )
        return Launch(FILE, "conv_rows", self.tiling.defines, arguments, items.work, (1, 1, 1))


def _panels(conv: Convolution, panels: int, width: int) -> np.ndarray:
    """[group][panel][tap][channel][width], zeros behind the output channels."""
    by_group = conv.weights.reshape(conv.groups, conv.out_channels // conv.groups, conv.weights.shape[1], -1)
    return _packed(by_group, panels, width)


def _packed(factors: np.ndarray, panels: int, width: int) -> np.ndarray:
    """[group][panel][tap][channel][width] of [group, column, channel, tap]."""
    groups, columns, channels, taps = factors.shape
    padded = np.zeros((groups, panels * width, channels, taps), np.float32)
    padded[:, :columns] = factors
    split = padded.reshape(groups, panels, width, channels, taps)
    return np.ascontiguousarray(split.transpose(0, 1, 4, 3, 2))


def _padded(bias: np.ndarray, groups: int, columns: int) -> np.ndarray:
    made = np.zeros((groups, columns), np.float32)
    made[:, : len(bias) // groups] = bias.reshape(groups, -1)
    return made
