"""Removes layers that change nothing: Identity, Dropout at inference, casts and moves to what already is."""

from __future__ import annotations

from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.passes.rewrite import Rewrite, ints, static_input, sweep


def remove_identities(graph: Graph) -> Graph:
    """The graph with readers of such a layer reading its input instead."""
    return sweep(graph, _match)


def _match(rewrite: Rewrite, layer: Layer) -> bool:
    source = static_input(layer, 0)
    if source is None or len(layer.results) != 1 or layer.outputs[0] is None:
        return False
    target = layer.outputs[0]
    if not changes_nothing(layer, source, target) or source.is_constant:
        return False
    if not rewrite.redirect(target, source):
        return False
    rewrite.replace(layer)
    return True


def changes_nothing(layer: Layer, source: Value, target: Value) -> bool:
    """Whether ``target`` always equals ``source``, element by element."""
    kind = layer.type
    if kind == "Identity":
        return True
    if kind == "Dropout":
        training = static_input(layer, 2)
        return training is None or (training.data is not None and not training.data.any())
    if not source.is_static or source.shape != target.shape or source.dtype is not target.dtype:
        return False
    if kind in ("Cast", "CastLike", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"):
        return True
    if kind == "Transpose":
        return _keeps_order(layer, source)
    if kind == "Pad":
        pads = layer.attrs.get("pads") or ints(static_input(layer, 1))
        return pads is not None and not any(pads)
    if kind == "Slice":
        steps = static_input(layer, 4)
        return steps is None or (steps.data is not None and bool((steps.data == 1).all()))
    if kind in ("Concat", "Sum", "Max", "Min", "Mean"):
        return len(layer.inputs) == 1
    return kind == "Tile" and all(r == 1 for r in ints(static_input(layer, 1)) or (0,))


def _keeps_order(layer: Layer, source: Value) -> bool:
    rank = len(source.static_shape)
    order = layer.attrs.get("perm") or tuple(range(rank))[::-1]
    return tuple(order) == tuple(range(rank))
