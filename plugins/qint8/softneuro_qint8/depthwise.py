"""Depthwise Conv between grids: no matrix product, so a kernel of its own."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from softneuro_cpu_numba.depthwise import by_vector
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.native import NativeKernel, emitted_address
from softneuro_cpu_numba.slides import plan_slide

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import NHWC
from softneuro_qint8.conv import IntegerConv, integer_conv_of
from softneuro_qint8.numbers import ONE_STEP, integers_of
from softneuro_qint8.regions import between_grids

EXACT_TERMS = 2**24 // (255 * 255)
"""Products of two 9-bit numbers whose sum float32 surely holds."""


def _depthwise_of(region: Region) -> IntegerConv | None:
    conv = integer_conv_of(region)
    return conv if conv is not None and conv.is_depthwise and conv.weights.size // conv.groups <= EXACT_TERMS else None


class QDepthwise(Routine):
    """[DequantizeLinear +] Conv with as many groups as channels [+ Relu or Clip] + QuantizeLinear, NHWC."""

    name = "cpu/qdepthwise"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return between_grids(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv = _depthwise_of(region)
        if conv is not None:
            ins, outs = conv.between.specs([NHWC], NHWC)
            yield Offer(ins, outs, accuracy=ONE_STEP, flops=conv.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = _depthwise_of(region)
        assert conv is not None
        finish, grid, lanes = conv.finish, conv.between.sources[0], lanes_of(target)
        plan = plan_slide(conv.window, target)
        address = emitted_address(
            *("softneuro_qint8.emit.windows", "depthwise", isa_of(target)),
            signed=grid.is_signed,
            shifted=grid.zero != 0,
            finish=finish.target.finish,
            **plan.params,
        )
        starts = [min(i, max(0, conv.groups - lanes)) for i in range(0, conv.groups, lanes)]
        weights = integers_of(conv.weights, 0).reshape(conv.groups, -1).astype(np.float32)
        by_channel = [by_vector(n, starts, lanes) for n in (weights, finish.factors[:, None], finish.shifts[:, None])]
        return NativeKernel(address, (*plan.args, *by_channel, grid.zero, *finish.target.words), plan.tasks)
