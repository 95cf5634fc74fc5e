"""Moving between grids: Concat, Reshape, Transpose and the like on integers, through tables where grids differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from softneuro_cpu_numba.copies import Block, PlacedCopy, is_whole
from softneuro_cpu_numba.movement import Move, parts_of
from softneuro_cpu_numba.native import aligned

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import EXACT, Kernel, Offer, Routine
from softneuro_core.spec import Layout
from softneuro_qint8.numbers import ONE_STEP
from softneuro_qint8.regions import Between, between_grids, read_between
from softneuro_qint8.tables import as_table, lookup_kernel, quantised, regrid, stored

MOVES = (
    *("Concat", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Expand"),
    *("DepthToSpace", "SpaceToDepth", "Pad"),
)
"""Operators whose every result is one of the operands' elements, or a constant."""


class QMove(Routine):
    """[DequantizeLinear ... +] an operator of :data:`MOVES` [+ Relu or Clip] + QuantizeLinear."""

    name = "cpu/qmove"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return between_grids(graph, exit, MOVES)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        for between, source, result, blocks in _ways(region):
            ins, outs = between.specs([source] * len(region.inputs), result)
            if not _is_plain(between):
                yield Offer(ins, outs, accuracy=ONE_STEP)
                continue
            alias = 0 if is_whole(blocks, region.outputs[0].size) else None
            parts = {between.places[number]: place for number, place in parts_of(between.main).items()}
            yield Offer(ins, outs, accuracy=EXACT, inplace=alias, parts=parts)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        layouts = offer.inputs[0].layout, offer.outputs[0].layout
        between, blocks = next((b, blocks) for b, *way, blocks in _ways(region) if tuple(way) == layouts)
        blocks = [replace(block, source=_source(block, between)) for block in blocks]
        if _is_plain(between):
            return PlacedCopy.of(blocks, 1)
        tables = {i: regrid(grid, between.result) for i, grid in zip(between.places, between.sources, strict=True)}
        same = as_table(stored(between.result.grid))
        each = [same if isinstance(b.source, np.ndarray) else tables[b.source] for b in blocks]
        return lookup_kernel(blocks, each, target)


def _ways(region: Region) -> Iterator[tuple[Between, Layout, Layout, list[Block]]]:
    """Layouts of inputs and output, and the copies that then do it; sources are as the main layer alone has them."""
    between = read_between(region)
    if between is None:
        return
    for ins, outs, blocks in Move(between.main.op).ways(Region(region.graph, (between.main,))):
        yield between, ins, outs, blocks


def _source(block: Block, between: Between) -> int | np.ndarray:
    """Which of the region's inputs, or the block's constant as integers."""
    if isinstance(block.source, np.ndarray):
        return aligned(quantised(block.source, between.result))
    return between.places[block.source]


def _is_plain(between: Between) -> bool:
    """Whether the integers stay as they are."""
    result = between.result
    return all(grid == result.grid for grid in between.sources) and (result.low, result.high) == result.grid.range
