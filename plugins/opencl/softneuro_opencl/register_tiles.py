"""What ``kernels/conv_rows.cl`` is launched with: borders, tiles in registers, how many of them an item makes, packed
weights; for convolutions and for products of matrices entry by entry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softneuro_core.phases import Scatter
from softneuro_core.spec import TensorSpec
from softneuro_core.windows import Window
from softneuro_opencl.convolutions import Convolution
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.launches import Argument, Constant, In, Launch, Out, Scratch
from softneuro_opencl.programs import Defines
from softneuro_opencl.routine import storage

FILE = "conv_rows.cl"
LEAST_MACS, ITEMS_EACH = 400_000, 8
"""Of an item, if every unit of the device then has so many items. An item of one tile of few products spends its time
on being started: 64 to 256 channels at 56x56 2,006 us in tiles of 6 by 4, 1,430 in sixteen such tiles an item; 24 to
144, 534 and 380; 96 to 576 at 14x14, 320 and 259; where there are 1,024 products, 1,029 and 1,010 (the same runs in
turns, one disturbed core of Sapphire Rapids, Intel's runtime; by a script that is not kept)."""
NEAR_BYTES = 128 << 10
"""Weights of a group that are no more stay near: an item then makes all channels of its pixels, and writes whole rows.
(In turns, as above: 16 to 96 channels at 112x112 1,373 and 1,008 us, 32 to 192 at 28x28 224 and 157.)"""
NO_BIAS = {"NO_BIAS": ""}
"""Products are sums of nothing else."""
FAR_BYTES = 1 << 20
"""An input as large is no longer in a core's own cache when it is read."""


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
    def elements(self) -> int:
        return self.window.batch * self.window.channels * self.size[0] * self.size[1] if self.is_needed else 0

    def launches(self, spec: TensorSpec) -> tuple[Launch, ...]:
        if not self.is_needed:
            return ()
        window = self.window
        numbers = (window.channels, *window.size, *window.pads[:2], *self.size)
        work = (window.batch * self.size[0],)
        defines = {**Tiling(1, 1, 1).defines, **storage(spec)}
        return (Launch(FILE, "bordered", defines, (In(0), scratch_of(spec), *numbers), work, (1,)),)


def scratch_of(spec: TensorSpec) -> Scratch:
    """Scratch of elements as the tensors'."""
    return Scratch(0, spec.dtype.numpy.itemsize)


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


def rows_launch(device: OpenCLDevice, conv: Convolution, tiling: Tiling, spec: TensorSpec, places: Scatter) -> Launch:
    """The convolution of an input that has its border, results at ``places``."""
    window, finish, border, width = conv.window, conv.finish, Bordered(conv.window), tiling.width
    (height, columns), pixel, channels = window.out, window.channels, conv.out_channels
    in_group, out_group = pixel // conv.groups, channels // conv.groups
    panels, tiles = -(-out_group // width), -(-columns // tiling.pixels) * window.batch * height
    in_height, in_width = border.size
    down, across = window.kernel
    items = tiling.items(device, tiles, conv.groups, panels, in_group * down * across)
    run = in_group
    if conv.groups == 1 and window.dilations[1] == 1:  # taps of a row lie together, with all their channels
        run, across = in_group * across, 1
    weights = packed_weights(conv, panels, width).astype(spec.dtype.numpy)
    arguments: tuple[Argument, ...] = (
        *(scratch_of(spec) if border.is_needed else In(0), Constant(device, weights)),
        Constant(device, packed_bias(finish.bias, conv.groups, panels * width)),
        *(None if finish.residual is None else In(finish.residual), Out(0)),
        *(run, pixel, in_width * pixel, in_height * in_width * pixel, down, across, *window.dilations),
        *(*window.strides, window.batch, height, columns, out_group),
        *(places.column * channels, places.row * channels, places.image * channels, places.origin * channels),
        *(panels, items.count, items.span, in_group, out_group, finish.activation.p0, finish.activation.p1),
    )
    defines = {**tiling.defines, **finish.defines, **storage(spec)}
    if window.is_pointwise and 4 * window.batch * window.pixels * pixel >= FAR_BYTES:
        defines["NEXT_PIXELS"] = ""
    return Launch(FILE, "conv_rows", defines, arguments, items.work, (1, 1, 1))


@dataclass(frozen=True, slots=True)
class Products:
    """y[entry] = x[entry] @ w[entry], matrices of ``rows`` by ``depth`` and ``depth`` by ``columns`` one behind the
    other; ``one_x``: all entries share one x."""

    entries: int
    rows: int
    depth: int
    columns: int
    one_x: bool = False

    @property
    def x_step(self) -> int:
        """Elements from x of an entry to that of the next."""
        return 0 if self.one_x else self.rows * self.depth

    def panels(self, tiling: Tiling) -> int:
        """Of an entry."""
        return -(-self.columns // tiling.width)


def rows_products(
    device: OpenCLDevice, products: Products, tiling: Tiling, x: Argument, w: Argument, y: Argument, defines: Defines
) -> Launch:
    """The products by ``conv_rows``; ``w`` in panels: [entry][panel][depth][width]."""
    rows, depth, columns, panels = products.rows, products.depth, products.columns, products.panels(tiling)
    items = tiling.items(device, -(-rows // tiling.pixels), products.entries, panels, depth)
    arguments = (
        *(x, w, None, None, y),
        *(depth, depth, rows * depth, rows * depth, 1, 1, 1, 1, 1, 1, 1, 1, rows, columns, columns, 0, 0, 0),
        *(panels, items.count, items.span, products.x_step, rows * columns, 0.0, 0.0),
    )
    return Launch(FILE, "conv_rows", {**tiling.defines, **defines, **NO_BIAS}, arguments, items.work, (1, 1, 1))


def panelled(products: Products, tiling: Tiling, w: Argument, y: Argument, spec: TensorSpec) -> Launch:
    """Computed matrices, packed on the device; an item makes a panel."""
    work, defines = (products.panels(tiling), products.entries), {**tiling.defines, **storage(spec)}
    return Launch(FILE, "panelled", defines, (w, y, products.depth, products.columns), work, (1, 1))


def packed(device: OpenCLDevice, matrices: np.ndarray, tiling: Tiling) -> Constant:
    """Constant matrices [entry, depth, columns], packed."""
    panels = -(-matrices.shape[2] // tiling.width)
    return Constant(device, _packed(matrices.transpose(0, 2, 1)[..., None], panels, tiling.width))


def packed_weights(conv: Convolution, panels: int, width: int) -> np.ndarray:
    """A convolution's, [group][panel][tap][channel][width], zeros behind the output channels."""
    by_group = conv.weights.reshape(conv.groups, conv.out_channels // conv.groups, conv.weights.shape[1], -1)
    return _packed(by_group, panels, width)


def _packed(factors: np.ndarray, panels: int, width: int) -> np.ndarray:
    """[group][panel][tap][channel][width] of [group, column, channel, tap]."""
    groups, columns, channels, taps = factors.shape
    padded = np.zeros((groups, panels * width, channels, taps), np.float32)
    padded[:, :columns] = factors
    split = padded.reshape(groups, panels, width, channels, taps)
    return np.ascontiguousarray(split.transpose(0, 1, 4, 3, 2))


def packed_bias(bias: np.ndarray, groups: int, columns: int) -> np.ndarray:
    """[group][column], zeros behind the output channels."""
    made = np.zeros((groups, columns), np.float32)
    made[:, : len(bias) // groups] = bias.reshape(groups, -1)
    return made
