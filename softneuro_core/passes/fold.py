"""Folds what has become constant: shape arithmetic, weights prepared in the graph (limits: importer.limits)."""

from __future__ import annotations

from softneuro_core.graph import Graph


def fold_constants(graph: Graph) -> Graph:
    """The graph with every layer of constant operands computed; shapes are followed on the way."""
    from softneuro_core.importer.infer import infer

    if not any(_may_fold(graph, i) for i in range(len(graph.layers))):
        return graph
    return infer(graph, {}, fold=True)


def _may_fold(graph: Graph, number: int) -> bool:
    layer = graph.layers[number]
    if layer.type in ("Shape", "Size"):
        return any(v.is_static for v in layer.operands)
    return bool(layer.operands) and all(v.is_constant for v in layer.operands)
