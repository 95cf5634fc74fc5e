"""Depthwise convolution: one input and one output channel a group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NHWC
from softneuro_cpu_numba.conv_direct import Convolution, convolution_of
from softneuro_cpu_numba.emit.depthwise import Columns
from softneuro_cpu_numba.emit.isa import find_isa, isa_of, lanes_of
from softneuro_cpu_numba.emit.tile import CACHE_LINE
from softneuro_cpu_numba.native import Argument, In, NativeKernel, Out, address_of, aligned, emitted_address
from softneuro_cpu_numba.rows import activation_kind
from softneuro_cpu_numba.tiles import split
from softneuro_cpu_numba.windows import NCHW_F32, NHWC_F32, Window

OUTPUTS = {"avx512": 7, "avx2": 7, "sse": 6, "neon": 7}
"""Outputs of a tile: enough sums to hide the latency of an FMA, and room for up to 7 weights of a kernel row beside
them in 16 registers (AVX2 with 4, 7 and 8: the last two are equal, 4 up to 1.4 times slower). Without FMA a product
needs a register of its own."""
UNROLLED_COLUMNS, TILE_KINDS = 7, 8
"""Wider kernels, or rows that cut into more different tiles, run as loops over the taps: code would grow."""
CACHED_BYTES, CACHED_VECTORS = 24 << 10, 8
"""Input rows under one output row that should stay in the first-level cache, and the most vectors of channels taken
at once for it (measured at 14x14, 576 channels: 8 vectors 26 us, 16 28 us, all 31 us)."""


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
        return _channels_last(conv, target) if offer.outputs[0].layout == NHWC else _planes(conv)


def _planes(conv: Convolution) -> NativeKernel:
    window, act, residual = conv.window, conv.epilogue.activation, conv.epilogue.residual
    three = window.kernel == (3, 3) and window.dilations == (1, 1)
    planes = window.batch * window.channels
    bias = np.zeros(conv.groups, np.float32) if conv.bias is None else conv.bias.astype(np.float32)
    sizes = (planes, window.channels, *window.size, *window.out, *window.kernel, *window.strides)
    return NativeKernel(
        address_of("depthwise", "nchw", act=act.kind, three=three, unit_stride=window.strides[1] == 1),
        (
            *(In(0), aligned(conv.weights.reshape(conv.groups, -1)), aligned(bias)),
            *(None if residual is None else In(residual), Out(0)),
            *(*sizes, *window.dilations, *window.pads[:2], act.p0, act.p1),
        ),
        planes,
    )


def _channels_last(conv: Convolution, target: Target) -> NativeKernel:
    window, act, residual = conv.window, conv.epilogue.activation, conv.epilogue.residual
    lanes, channels = lanes_of(target), window.channels
    shape = Columns(
        *(window.size[1], window.out[1], window.kernel[1]), *(window.strides[1], window.dilations[1], window.pads[1])
    )
    most = OUTPUTS[find_isa(isa_of(target)).name]
    unrolled = window.kernel[1] <= UNROLLED_COLUMNS and len(shape.tiles(most)) <= TILE_KINDS
    address = emitted_address(
        *("depthwise", "nhwc", isa_of(target)),
        channels=channels,
        columns=astuple(shape),
        most=most,
        act=activation_kind(act),
        residual=residual is not None,
        unrolled=unrolled,
    )
    vectors = -(-channels // lanes)
    block = min(vectors, _block(window, lanes))
    blocks = -(-vectors // block)
    stretch = split(window.out[0], 1, window.out[0], window.batch * blocks, target.threads)
    stretches = -(-window.out[0] // stretch)
    bias = np.zeros(channels, np.float32) if conv.bias is None else conv.bias.astype(np.float32)
    weights = _by_vector(conv.weights.reshape(channels, -1), lanes)
    args: list[Argument] = [
        *(In(0), weights, _by_vector(bias.reshape(channels, 1), lanes)),
        *(None if residual is None else In(residual), Out(0)),
        *(window.size[0], window.out[0], window.pads[0], window.kernel[0], window.strides[0], window.dilations[0]),
        *(stretch, stretches, block, blocks, act.p0, act.p1),
    ]
    return NativeKernel(address, tuple(args), window.batch * stretches * blocks)


def _block(window: Window, lanes: int) -> int:
    """Vectors of channels a task works on: whole cache lines, or all where only fewer would stay cached."""
    line = max(1, CACHE_LINE // lanes)
    fitting = CACHED_BYTES // (window.kernel[0] * window.size[1] * lanes * 4) // line * line
    return min(fitting, CACHED_VECTORS) if fitting >= 2 * line else window.channels


def _by_vector(rows: np.ndarray, lanes: int) -> np.ndarray:
    """[channels, n] as [vectors][n][lanes]; the last vector overlaps the one before or is filled with zeros."""
    channels = len(rows)
    if channels < lanes:
        rows = np.pad(rows, ((0, lanes - channels), (0, 0)))
    starts = [min(i, len(rows) - lanes) for i in range(0, channels, lanes)]
    return aligned(np.stack([rows[s : s + lanes].T for s in starts]).astype(np.float32))
