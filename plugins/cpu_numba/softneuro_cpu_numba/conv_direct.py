"""Convolution as a matrix product over register tiles; there is never a patch matrix.

1x1 convolutions read their input in place. NHWC runs ``emit.conv.rows``; images of few channels may also come in the
other layout, so that a first layer needs no conversion. NCHW is for 1x1 (``emit.planes``): wider kernels there reached
at most 0.82 of NHWC's speed in 441 layers measured (decision 0033); few output channels have ``conv_im2col``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NHWC, Layout
from softneuro_core.windows import NCHW_F32, NHWC_F32, Window, image_strides, is_f32, product, window_of
from softneuro_cpu_numba import short_weights
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.epilogues import Epilogue, parse_epilogue, pitched_result
from softneuro_cpu_numba.native import In, NativeKernel, Out, aligned, emitted_address
from softneuro_cpu_numba.rows import (
    GEMV_VECTORS,
    MAX_STREAMED_ROWS,
    NARROW_ROWS,
    RowProduct,
    activation_kind,
    best_tile,
)
from softneuro_cpu_numba.tiles import split

THIN = 4
"""Channels up to which reading the other layout costs less than converting it."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """A Conv region this plugin can compute: sizes, constants, epilogue."""

    window: Window
    groups: int
    weights: np.ndarray  # (OC, C / groups, KH, KW)
    bias: np.ndarray | None
    epilogue: Epilogue

    @property
    def out_channels(self) -> int:
        return int(self.weights.shape[0])

    @property
    def k(self) -> int:
        """Length of the sums."""
        return product(self.weights.shape[1:])

    @property
    def is_depthwise(self) -> bool:
        return self.weights.shape[1] == 1 and self.groups == self.window.channels

    @property
    def flops(self) -> float:
        return 2.0 * self.window.batch * self.window.pixels * self.out_channels * self.k


def convolution_of(region: Region) -> Convolution | None:
    """The region as a float32 Conv with constant weights, or None."""
    epilogue = parse_epilogue(region, axis=1)
    if epilogue is None:
        return None
    conv = epilogue.main
    x, w = conv.inputs[:2]
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    if x is None or w is None or x.is_constant or w.data is None or not is_f32(x, w, *region.outputs):
        return None
    if bias is not None and bias.data is None:
        return None
    y = conv.results[0]
    kernel = w.static_shape[2:]
    window = window_of(conv, x.static_shape, y.static_shape, kernel)
    if window is None or not is_f32(y):
        return None
    weights = w.data.reshape(w.data.shape[0], w.data.shape[1], *window.kernel)
    groups = int(conv.attrs.get("group", 1))
    total = epilogue.bias
    if bias is not None:
        total = bias.data if total is None else bias.data + total
    return Convolution(window, groups, weights, total, epilogue)


def geometry_table(window: Window, channels: int, layout: Layout, channel_first: bool) -> tuple[int, ...]:
    """The 18 numbers ``kernels.patches.pack_patches`` reads, for one group of ``channels``."""
    shape = (window.batch, window.channels, *window.size)
    pads = window.pads[:2]
    sizes = (channels, *window.size, *window.out, *window.kernel, *window.strides, *window.dilations, *pads)
    return (*sizes, *image_strides(layout, shape), int(channel_first))


class DirectConv(Routine):
    """Conv [+ Add] [+ activation], float32, any stride, dilation, padding and group count, 1-D and 2-D."""

    name = "cpu/conv_direct"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv = convolution_of(region)
        if conv is None:
            return
        residual = conv.epilogue.residual is not None
        ways = [(NHWC_F32, NHWC_F32)]
        if conv.window.channels <= THIN:
            ways.append((NCHW_F32, NHWC_F32))
        if conv.window.is_pointwise:
            ways.append((NCHW_F32, NCHW_F32))
        for x, out in ways:
            pitched = pitched_result(region, conv.epilogue.residual) if out == NHWC_F32 else frozenset[int]()
            yield Offer((x, out) if residual else (x,), (out,), accuracy=SUMS, flops=conv.flops, pitched=pitched)
        if _streams_short(conv, target):
            ins, params, uses = (NHWC_F32,) * len(region.inputs), {"weights": "int16"}, frozenset(("int16",))
            yield Offer(ins, (NHWC_F32,), params, accuracy=short_weights.ERROR, flops=conv.flops, uses=uses)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = convolution_of(region)
        assert conv is not None
        if offer.outputs[0].layout == NHWC:
            return rows_kernel(conv, offer.inputs[0].layout, target, offer.params.get("weights", "float32"))
        return planes_kernel(conv, target)


def _streams_short(conv: Convolution, target: Target) -> bool:
    """Whether reading the weights is the work, and int16 may hold them."""
    window = conv.window
    if conv.groups != 1 or not window.is_pointwise or window.batch * window.pixels > MAX_STREAMED_ROWS:
        return False
    matrix = conv.weights.reshape(conv.out_channels, -1).T
    return short_weights.suits(matrix, GEMV_VECTORS * lanes_of(target), conv.epilogue.activation)


def rows_kernel(conv: Convolution, layout: Layout, target: Target, stored: str = "float32") -> NativeKernel:
    """NHWC output: pixels are rows, output channels columns, weights are kept ``stored`` by panels of columns."""
    group_in, group_out = conv.weights.shape[1], conv.out_channels // conv.groups
    matrix = conv.weights.reshape(conv.groups, group_out, group_in, -1).transpose(0, 3, 2, 1)
    epilogue = conv.epilogue
    return RowProduct(
        matrix, conv.bias, epilogue.activation, epilogue.residual, window=conv.window, layout=layout, stored=stored
    ).kernel(target)


def planes_kernel(conv: Convolution, target: Target) -> NativeKernel:
    """NCHW, pointwise: output channels are rows, pixels columns, nothing is packed."""
    window, groups, k = conv.window, conv.groups, conv.k
    group_out = conv.out_channels // groups
    rows, vectors = best_tile(target, group_out, window.pixels)
    columns = vectors * lanes_of(target)
    bias = np.zeros(conv.out_channels, np.float32) if conv.bias is None else conv.bias
    planes = window.batch * groups
    block = split(window.pixels, columns, window.pixels + columns, planes, target.threads)
    pixel_tasks = -(-window.pixels // block)
    channel_block = split(group_out, rows, group_out + rows, planes * pixel_tasks, target.threads)
    channel_tasks = -(-group_out // channel_block)
    act, residual = conv.epilogue.activation, conv.epilogue.residual
    return NativeKernel(
        emitted_address(
            *("planes", "pointwise", isa_of(target)),
            pieces=tuple(range(rows, 0, -1)),
            vectors=vectors,
            narrow_pieces=NARROW_ROWS,
            act=activation_kind(act),
            residual=residual is not None,
        ),
        (
            *(In(0), aligned(conv.weights.reshape(-1, k)), aligned(bias.astype(np.float32))),
            *(None if residual is None else In(residual), Out(0), window.pixels, k, groups, group_out),
            *(pixel_tasks, block, channel_tasks, channel_block, act.p0, act.p1),
        ),
        planes * pixel_tasks * channel_tasks,
    )
