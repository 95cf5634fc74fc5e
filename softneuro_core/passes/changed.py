"""Changes a user allowed, made to a loaded graph: the graph before stays with it, for that is what hashes are of."""

from __future__ import annotations

from dataclasses import replace

from softneuro_core.changes import Changes
from softneuro_core.graph import Graph
from softneuro_core.passes.equalised import equalised, shifted
from softneuro_core.passes.unrounded import unrounded


def changed(graph: Graph, changes: Changes) -> Graph:
    """The graph as loaded, changed so (whatever was changed before); raises :class:`PlanError` for what it has not."""
    if graph.changes == changes:
        return graph
    before = graph.unchanged or graph
    if not changes:
        return before
    made = unrounded(before) if changes.unrounded else before
    made = shifted(equalised(made, changes.equalised), changes.shifts)
    return replace(made.replace().check(), changes=changes, unchanged=before)
