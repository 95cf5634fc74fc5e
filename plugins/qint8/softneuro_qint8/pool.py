"""Pooling between grids: AveragePool, GlobalAveragePool, MaxPool and GlobalMaxPool."""

from __future__ import annotations

from collections.abc import Iterable

from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.native import NativeKernel, emitted_address
from softneuro_cpu_numba.slides import plan_slide

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import NHWC
from softneuro_core.windows import Window, window_of
from softneuro_qint8.numbers import ONE_STEP
from softneuro_qint8.regions import Between, between_grids, read_between

KINDS = {"AveragePool": "average", "GlobalAveragePool": "average", "MaxPool": "max", "GlobalMaxPool": "max"}
EXACT_TAPS = 2**24 // 255
"""9-bit numbers whose sum float32 surely holds."""


class QPool(Routine):
    """[DequantizeLinear +] pooling [+ Relu or Clip] + QuantizeLinear, NHWC, of one or two spatial axes."""

    name = "cpu/qpool"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return between_grids(graph, exit, tuple(KINDS))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = _pool_of(region)
        if found is not None:
            ins, outs = found[0].specs([NHWC], NHWC)
            yield Offer(ins, outs, accuracy=ONE_STEP)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = _pool_of(region)
        assert found is not None
        between, window = found
        source, result = between.sources[0], between.result
        plan = plan_slide(window, target)
        address = emitted_address(
            *("softneuro_qint8.emit.windows", "pool", isa_of(target)),
            kind=KINDS[between.main.op],
            right=window.pads[3],
            count_pads=bool(between.main.attrs.get("count_include_pad", 0)),
            signed=source.is_signed,
            shifted=source.zero != 0,
            finish=result.finish,
            **plan.params,
        )
        words = (window.pads[2], source.zero, *result.words, source.scale / result.grid.scale)
        return NativeKernel(address, (*plan.args, *words), plan.tasks)


def _pool_of(region: Region) -> tuple[Between, Window] | None:
    between = read_between(region)
    if between is None or len(region.inputs) != 1 or len(between.main.results) != 1:
        return None
    layer, x = between.main, between.main.inputs[0]
    assert x is not None
    shape, out = x.static_shape, layer.results[0].static_shape
    window = window_of(layer, shape, out, layer.attrs.get("kernel_shape") or shape[2:])
    if window is None or window.kernel[0] * window.kernel[1] > EXACT_TAPS:
        return None
    fits = 255 * between.sources[0].scale < 2**30 * between.result.grid.scale
    return (between, window) if fits else None
