"""Plans as one would choose them by hand: one layout for everything, or one routine for every convolution."""

from __future__ import annotations

from collections import defaultdict

import softneuro_core as sn
from softneuro_core.candidates import Request, enumerate_candidates

REFERENCE = "cpu/reference"


def single_choices(graph: sn.Graph, catalog: sn.Catalog, threads: int) -> dict[str, tuple[str, ...]]:
    """Name -> descriptors to force. A layout is pinned wherever it is possible, a routine on every convolution (one
    that cannot do them all is no such choice); the rest stays free, so each is the best plan of its kind."""
    found = [c for c in enumerate_candidates(graph, catalog, threads, Request()) if c.routine.name != REFERENCE]
    layouts: dict[str, dict[str, None]] = defaultdict(dict)
    routines: dict[str, dict[str, None]] = defaultdict(dict)
    for candidate in found:
        names = [layer.name for layer in candidate.region.layers]
        used = {spec.layout.axes for spec in candidate.offer.inputs + candidate.offer.outputs}
        if len(used) == 1:
            layouts[used.pop()].update(dict.fromkeys(names))
        routines[candidate.routine.name].update(dict.fromkeys(names))
    convolutions = [layer.name for layer in graph.layers if layer.op == "Conv"]
    choices = {f"all {axes}": (f"*::{axes}@{','.join(names)}",) for axes, names in layouts.items()}
    for routine, able in routines.items():
        if convolutions and set(convolutions) <= set(able):
            choices[f"all convolutions {routine}"] = (f"{routine}@{','.join(convolutions)}",)
    return dict(sorted(choices.items()))
