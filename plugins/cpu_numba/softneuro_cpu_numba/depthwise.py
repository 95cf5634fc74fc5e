"""Depthwise convolution: one input and one output channel a group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NHWC
from softneuro_cpu_numba.conv_direct import Convolution, convolution_of
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, aligned, emitted_address
from softneuro_cpu_numba.rows import activation_kind
from softneuro_cpu_numba.slides import plan_slide
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
    lanes, plan = lanes_of(target), plan_slide(window, target)
    address = emitted_address(
        *("depthwise", "nhwc", isa_of(target)),
        act=activation_kind(act),
        residual=residual is not None,
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
