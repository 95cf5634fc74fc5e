"""Resize and Upsample between grids: pixels copied where nothing changes, else blended in float32 and rounded."""

from __future__ import annotations

from collections.abc import Iterable

from softneuro_cpu_numba.resize import resize_kernel

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.resizing import Resizing, resizing_of
from softneuro_core.routine import EXACT, Kernel, Offer, Routine
from softneuro_core.spec import NHWC
from softneuro_qint8.numbers import ONE_STEP
from softneuro_qint8.regions import Between, between_grids, read_between


class QResize(Routine):
    """[DequantizeLinear +] Resize or Upsample, nearest or linear [+ Relu or Clip] + QuantizeLinear, NHWC."""

    name = "cpu/qresize"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return between_grids(graph, exit, ("Resize", "Upsample"))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = _resize_of(region)
        if found is not None:
            ins, outs = found[0].specs([NHWC], NHWC)
            yield Offer(ins, outs, accuracy=EXACT if _is_copy(*found) else ONE_STEP)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = _resize_of(region)
        assert found is not None
        between, resizing = found
        source, result = between.sources[0], between.result
        if _is_copy(between, resizing):
            return resize_kernel(resizing, NHWC, "uint8")
        factor = source.scale / result.grid.scale
        finish = factor, result.grid.zero - source.zero * factor, float(result.low), float(result.high)
        return resize_kernel(resizing, NHWC, source.dtype.name, result.grid.dtype.name, finish)


def _resize_of(region: Region) -> tuple[Between, Resizing] | None:
    between = read_between(region)
    resizing = None if between is None or len(region.inputs) != 1 else resizing_of(between.main)
    return None if between is None or resizing is None else (between, resizing)


def _is_copy(between: Between, resizing: Resizing) -> bool:
    """Whether every result is one of the integers read."""
    result = between.result
    plain = between.sources[0] == result.grid and (result.low, result.high) == result.grid.range
    return plain and resizing.is_nearest
