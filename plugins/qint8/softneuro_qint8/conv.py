"""Conv between DequantizeLinear and QuantizeLinear, in integers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from softneuro_cpu_numba.epilogues import pitched_result
from softneuro_cpu_numba.native import In

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import NHWC
from softneuro_core.windows import Window, window_of
from softneuro_qint8.matrix import UNIT, matrix_kernel, suits
from softneuro_qint8.numbers import ONE_STEP, Requantise, integers_of, weight_scales
from softneuro_qint8.regions import Between, added_on_laid_grids, between_grids, read_added, read_between
from softneuro_qint8.residual import Residual
from softneuro_qint8.rows import IntegerRows


@dataclass(frozen=True, slots=True, eq=False)
class IntegerConv:
    """A region of a Conv, as :class:`Between` and by its window."""

    between: Between
    window: Window
    groups: int
    weights: Value
    bias: np.ndarray | None

    @property
    def is_depthwise(self) -> bool:
        """One input and one output channel a group."""
        return self.weights.static_shape[:2] == (self.groups, 1)

    @property
    def flops(self) -> float:
        return 2.0 * self.window.batch * self.window.pixels * self.weights.size

    @property
    def residual(self) -> Residual | None:
        """What is added to the sums before they are rounded."""
        return Residual.of(self.between)

    @property
    def x(self) -> In:
        return In(self.between.places[0])

    @property
    def finish(self) -> Requantise:
        between, scales = self.between, weight_scales(self.weights, 0)
        assert scales is not None
        return Requantise.of(scales, between.sources[0], between.result, self.bias)


def integer_conv_of(region: Region) -> IntegerConv | None:
    """The region as a Conv of 8-bit integers, of one or two spatial axes, or None."""
    between = read_between(region) or read_added(region)
    if between is None or len(between.sources) != len(region.inputs):
        return None
    conv = between.main
    x, weights = conv.inputs[:2]
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    if x is None or x.is_constant or weights is None or weight_scales(weights, 0) is None:
        return None
    kernel = weights.static_shape[2:]
    window = window_of(conv, x.static_shape, conv.results[0].static_shape, kernel)
    if window is None:
        return None
    groups, added = int(conv.attrs.get("group", 1)), None if bias is None else bias.data
    found = IntegerConv(between, window, groups, weights, added)
    return found if found.finish.fits(weights.size // weights.static_shape[0]) else None


class QConv(Routine):
    """[DequantizeLinear +] Conv [+ Relu or Clip] [+ QuantizeLinear], NHWC, int8 and uint8; weights on an 8-bit grid.

    Where grids are only laid a computed value may be added before the activation. ``unit: amx`` is the matrix unit. A
    depthwise Conv would multiply zeros half of the time: :mod:`softneuro_qint8.depthwise` computes it.
    """

    name = "cpu/qconv"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        yield from between_grids(graph, exit, ("Conv",))
        yield from added_on_laid_grids(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv = integer_conv_of(region)
        if conv is None or conv.is_depthwise:
            return
        ins, outs = conv.between.specs([NHWC] * len(region.inputs), NHWC)
        pitched = pitched_result(region, len(region.inputs) - 1 or None)
        yield Offer(ins, outs, accuracy=ONE_STEP, flops=conv.flops, pitched=pitched)
        window = conv.window
        if conv.groups == 1 and suits(target, conv.weights, window.channels, window.reads_runs):
            yield Offer(ins, outs, UNIT, accuracy=ONE_STEP, flops=conv.flops, pitched=pitched)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = integer_conv_of(region)
        assert conv is not None
        integers = integers_of(conv.weights, 0)
        out, group_in = integers.shape[:2]
        by_group = integers.reshape(conv.groups, out // conv.groups, group_in, -1).transpose(0, 3, 2, 1)
        source = conv.between.sources[0]
        rows = IntegerRows(
            conv.window,
            by_group,
            conv.finish,
            source.stored_zero,
            source.is_signed,
            x=conv.x,
            residual=conv.residual,
            pitched=bool(offer.pitched),
        )
        return matrix_kernel(rows, target) if offer.params == UNIT else rows.kernel(target)
