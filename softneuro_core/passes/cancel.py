"""Joins Transposes with Transposes and reshapes with reshapes; a pair that cancels goes away."""

from __future__ import annotations

import numpy as np

from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.passes.rewrite import Rewrite, constant, static_input, sweep, version_of
from softneuro_core.spec import INT64

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def cancel_moves(graph: Graph) -> Graph:
    """The graph with chains of moves as short as they can be. The inner one stays if others read it."""
    return sweep(graph, _match)


def _match(rewrite: Rewrite, layer: Layer) -> bool:
    source = static_input(layer, 0)
    if source is None or len(layer.outputs) != 1 or layer.outputs[0] is None:
        return False
    if layer.type == "Transpose":
        inner = rewrite.producer(source, "Transpose")
        return inner is not None and _transposes(rewrite, inner, layer)
    if layer.type in RESHAPES:
        inner = rewrite.producer(source, *RESHAPES)
        return inner is not None and _reshapes(rewrite, inner, layer)
    return False


def _order(layer: Layer, rank: int) -> tuple[int, ...]:
    return tuple(layer.attrs.get("perm") or range(rank - 1, -1, -1))


def _transposes(rewrite: Rewrite, inner: Layer, outer: Layer) -> bool:
    start, middle, end = inner.inputs[0], inner.outputs[0], outer.outputs[0]
    assert start is not None and end is not None and middle is not None
    if start.shape is None:
        return False
    first, second = _order(inner, len(start.shape)), _order(outer, len(start.shape))
    order = tuple(first[axis] for axis in second)
    return _joined(rewrite, inner, outer, start, order == tuple(range(len(order))), order)


def _reshapes(rewrite: Rewrite, inner: Layer, outer: Layer) -> bool:
    start, end = inner.inputs[0], outer.outputs[0]
    assert start is not None and end is not None
    if not (start.is_static and end.is_static) or end.size == 0:
        return False
    return _joined(rewrite, inner, outer, start, start.shape == end.shape, None)


def _joined(
    rewrite: Rewrite, inner: Layer, outer: Layer, start: Value, cancels: bool, order: tuple[int, ...] | None
) -> bool:
    """Replaces ``outer`` by one move from ``start``, or by nothing."""
    end = outer.outputs[0]
    assert end is not None
    if cancels and not start.is_constant and rewrite.redirect(end, start):
        rewrite.replace(outer)
        rewrite.touched.add(inner)
        return True
    if order is not None:
        new = Layer(outer.name, "Transpose", (start,), (end,), {"perm": order}, version=outer.version)
    else:
        shape = constant(f"{outer.name}/shape", np.array(end.static_shape), INT64)
        version = version_of(rewrite.graph, "Reshape", 5)
        new = Layer(outer.name, "Reshape", (start, shape), (end,), version=version)
    rewrite.replace(outer, new)
    rewrite.touched.add(inner)
    return True
