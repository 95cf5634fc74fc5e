"""ConvTranspose between grids, in integers: a convolution for each phase of its output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from softneuro_cpu_numba.conv_transpose import joined
from softneuro_cpu_numba.epilogues import pitched_result

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.phases import Phase, has_phases, phase_flops, phases_of
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import NHWC
from softneuro_qint8.matrix import UNIT, matrix_kernel, suits
from softneuro_qint8.numbers import ONE_STEP, Requantise, integers_of, weight_scales
from softneuro_qint8.regions import Between, between_grids, read_between
from softneuro_qint8.rows import IntegerRows


@dataclass(frozen=True, slots=True, eq=False)
class IntegerTransposed:
    """A region of a ConvTranspose of one group."""

    between: Between
    weights: Value
    bias: np.ndarray | None

    @property
    def finish(self) -> Requantise:
        scales = weight_scales(self.weights, 1)
        assert scales is not None
        return Requantise.of(scales, self.between.sources[0], self.between.result, self.bias)

    @property
    def flops(self) -> float:
        return phase_flops(self.between.main, self.weights.size)


def _transposed_of(region: Region) -> IntegerTransposed | None:
    between = read_between(region)
    if between is None or len(region.inputs) != 1:
        return None
    layer = between.main
    x, weights = layer.inputs[:2]
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    if x is None or x.is_constant or weights is None or weight_scales(weights, 1) is None:
        return None
    fits = len(weights.static_shape) in (3, 4) and int(layer.attrs.get("group", 1)) == 1
    if not fits or (bias is not None and bias.data is None) or not has_phases(layer, weights.static_shape):
        return None
    found = IntegerTransposed(between, weights, None if bias is None else bias.data)
    return found if found.finish.fits(weights.size // weights.static_shape[1]) else None


class QConvTranspose(Routine):
    """[DequantizeLinear +] ConvTranspose [+ Relu or Clip] [+ QuantizeLinear], NHWC, int8 and uint8, one group; weights
    on an 8-bit grid. ``unit: amx`` is the matrix unit."""

    name = "cpu/qconv_transpose"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return between_grids(graph, exit, ("ConvTranspose",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = _transposed_of(region)
        if found is None:
            return
        ins, outs = found.between.specs([NHWC], NHWC)
        pitched = pitched_result(region, None)
        yield Offer(ins, outs, accuracy=ONE_STEP, flops=found.flops, pitched=pitched)
        if suits(target, found.weights, found.between.computed[0].static_shape[1]):
            yield Offer(ins, outs, UNIT, accuracy=ONE_STEP, flops=found.flops, pitched=pitched)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = _transposed_of(region)
        assert found is not None
        source, finish = found.between.sources[0], found.finish

        def rows(phase: Phase) -> IntegerRows:
            return IntegerRows(
                phase.window,
                phase.weights,
                finish,
                source.stored_zero,
                source.is_signed,
                pitched=bool(offer.pitched),
                scatter=phase.scatter,
            )

        phases = map(rows, phases_of(found.between.main, integers_of(found.weights, 1)))
        if offer.params == UNIT:
            return joined((matrix_kernel(phase, target) for phase in phases), target)
        return joined((phase.kernel(target) for phase in phases), target)
