"""Lays a grid of integers over every value that has a range: what 8-bit routines of a float model go by.

The float graph stays the meaning: nothing is rounded unless a plan stores a value on its grid, which the user allows.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from softneuro_core.calibration.collect import observed
from softneuro_core.calibration.ranges import Ranges
from softneuro_core.errors import InputError
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.grids import lay_weights
from softneuro_core.passes.changed import changed
from softneuro_core.plan import fingerprint
from softneuro_core.spec import QParams

MOVERS = frozenset(
    {"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split", "Dropout"}
    | {"DepthToSpace", "SpaceToDepth", "Expand", "Gather", "Tile", "Concat"}
)
"""Operators whose results hold numbers of their inputs and no others: on one grid they are no arithmetic. Resize to
the nearest is one, too."""


def lay_grids(graph: Graph, ranges: Ranges) -> Graph:
    """The graph, its float values given scale and zero point (uint8, asymmetric), its weights scales by channel;
    changed as the ranges say.

    What only moves numbers shares one grid over all of them. Raises :class:`InputError` for ranges of another model.
    """
    mine = fingerprint(graph)
    for part, what in (("graph", "layers"), ("constants", "weights")):
        if ranges.model.get(part) != mine[part]:
            cause = f"the ranges are of a model with other {what}"
            raise InputError(cause, file=graph.name, remedy="run softneuro calibrate on this one")
    graph = changed(graph, ranges.changes.of_any_plan)
    lay_weights(graph, ranges.changes.per_tensor)
    for group in _sharing(graph):
        known = [ranges.values[value.name] for value in group if value.name in ranges.values]
        numbers = grid_over(min(low for low, _ in known), max(high for _, high in known)) if known else None
        for value in group:
            value.qparams = numbers
    return replace(graph, offsets=ranges.changes.shifts)


def grid_over(low: float, high: float) -> QParams | None:
    """256 steps from low to high, 0 on one of them; None where there is nothing to tell apart."""
    scale = np.float32((high - low) / 255)
    if not np.isfinite(scale) or scale < np.finfo(np.float32).tiny:
        return None
    zero = np.uint8(np.clip(np.rint(-low / float(scale)), 0, 255))
    return QParams(np.asarray(scale), np.asarray(zero))


def _only_moves(layer: Layer) -> bool:
    nearest = layer.op in ("Resize", "Upsample") and layer.attrs.get("mode", b"nearest") in (b"nearest", "nearest")
    return nearest or layer.op in MOVERS


def _sharing(graph: Graph) -> list[list[Value]]:
    """The observed values, those together that movers connect (disjoint sets, by Galler and Fischer)."""
    above = {value: value for value in observed(graph)}

    def root(value: Value) -> Value:
        while above[value] is not value:
            above[value] = above[above[value]]
            value = above[value]
        return value

    for layer in graph.layers:
        if _only_moves(layer):
            ends = [value for value in (*layer.operands, *layer.results) if value in above]
            for value in ends[1:]:
                above[root(value)] = root(ends[0])
    groups: dict[Value, list[Value]] = defaultdict(list)
    for value in above:
        groups[root(value)].append(value)
    return list(groups.values())
