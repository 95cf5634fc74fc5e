"""Depthwise convolution: one input and one output channel a group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NHWC, DType
from softneuro_cpu_numba.conv_direct import Convolution, convolution_of
from softneuro_cpu_numba.emit.isa import find_isa, isa_of, lanes_of
from softneuro_cpu_numba.native import In, NativeKernel, Out, aligned, emitted_address
from softneuro_cpu_numba.rows import activation_kind
from softneuro_cpu_numba.slides import plan_slide
from softneuro_cpu_numba.storage import image_specs
from softneuro_cpu_numba.tiles import split


def _depthwise_of(region: Region) -> Convolution | None:
    conv = convolution_of(region)
    return conv if conv is not None and conv.is_depthwise and conv.out_channels == conv.groups else None


class Depthwise(Routine):
    """Conv with as many groups as channels [+ Add] [+ activation], float32, stored so or as bfloat16."""

    name = "cpu/depthwise"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv = _depthwise_of(region)
        if conv is not None:
            for spec, rounding in image_specs(target):
                accuracy = max(SUMS, rounding)
                yield Offer((spec,) * len(region.inputs), (spec,), accuracy=accuracy, flops=conv.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = _depthwise_of(region)
        assert conv is not None
        spec = offer.outputs[0]
        return _channels_last(conv, target, spec.dtype) if spec.layout == NHWC else _planes(conv, target)


COPY_BYTES = 24 << 10
"""Most of the copied rows of a task, so that they stay in the first-level cache, but rows enough for a tile."""
TILE_ROWS = {"avx512": 4, "avx2": 4, "sse": 3, "neon": 4}
"""Output rows at a time: sums enough to hide the latency of an FMA. Without FMA a product needs a register too."""


def _planes(conv: Convolution, target: Target) -> NativeKernel:
    window, act, residual = conv.window, conv.epilogue.activation, conv.epilogue.residual
    lanes, (reach, step, dilation) = lanes_of(target), (window.kernel[1], window.strides[1], window.dilations[1])
    bias = np.zeros(conv.groups, np.float32) if conv.bias is None else conv.bias.astype(np.float32)
    planes = window.batch * window.channels
    pitch = -(-window.out[1] // lanes) * lanes + (reach - 1) * dilation // step
    fitting = next((n for n in range(window.out[0], 1, -1) if 4 * window.rows_under(n) * pitch * step <= COPY_BYTES), 1)
    tile = TILE_ROWS[find_isa(isa_of(target)).name]
    block = split(window.out[0], 1, max(fitting, min(window.out[0], tile)), planes, target.threads)
    stretches = -(-window.out[0] // block)
    phase = window.rows_under(block) * pitch
    return NativeKernel(
        emitted_address(
            *("planes", "depthwise", isa_of(target)),
            pieces=tuple(range(tile, 0, -1)),
            kernel=reach,
            step=step,
            dilation=dilation,
            act=activation_kind(act),
            residual=residual is not None,
        ),
        (
            *(In(0), aligned(conv.weights.reshape(conv.groups, -1)), aligned(bias)),
            *(None if residual is None else In(residual), Out(0), window.channels, *window.size, *window.out),
            *(*window.pads[:2], window.kernel[0], window.strides[0], window.dilations[0]),
            *(block, stretches, pitch, phase, act.p0, act.p1),
        ),
        planes * stretches,
        4 * phase * step,
    )


def _channels_last(conv: Convolution, target: Target, stored: DType) -> NativeKernel:
    window, act, residual = conv.window, conv.epilogue.activation, conv.epilogue.residual
    lanes, plan = lanes_of(target), plan_slide(window, target, stored.itemsize)
    address = emitted_address(
        *("depthwise", "nhwc", isa_of(target)),
        act=activation_kind(act),
        residual=residual is not None,
        stored=stored.name,
        **plan.params,
    )
    bias = np.zeros(conv.groups, np.float32) if conv.bias is None else conv.bias.astype(np.float32)
    starts = [min(i, max(0, conv.groups - lanes)) for i in range(0, conv.groups, lanes)]
    weights = by_vector(conv.weights.reshape(conv.groups, -1), starts, lanes)
    more = (None if residual is None else In(residual), act.p0, act.p1)
    return NativeKernel(address, (*plan.args, weights, by_vector(bias[:, None], starts, lanes), *more), plan.tasks)


def by_vector(rows: np.ndarray, starts: Sequence[int], lanes: int) -> np.ndarray:
    """[channels, n] as [vectors][n][lanes], vectors of the channels from each start on; zeros where there are fewer
    channels than lanes."""
    if len(rows) < lanes:
        rows = np.pad(rows, ((0, lanes - len(rows)), (0, 0)))
    return aligned(np.stack([rows[s : s + lanes].T for s in starts]).astype(np.float32))
