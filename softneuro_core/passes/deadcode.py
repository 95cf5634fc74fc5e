"""Removes layers nobody reads, and optional outputs nobody asks for."""

from __future__ import annotations

from dataclasses import replace

import onnx

from softneuro_core.export import schema_of
from softneuro_core.graph import Graph, Layer, Value

_OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional


def remove_dead(graph: Graph) -> Graph:
    """The graph without layers none of whose results is used; ONNX operators have no side effects."""
    needed: set[Value] = set(graph.outputs)
    kept: list[Layer] = []
    for layer in reversed(graph.layers):
        if needed.isdisjoint(layer.results):
            continue
        kept.append(_trimmed(layer, needed))
        needed.update(layer.operands)
    kept.reverse()
    if len(kept) == len(graph.layers) and all(a is b for a, b in zip(kept, graph.layers, strict=True)):
        return graph
    return graph.replace(kept)


def _trimmed(layer: Layer, needed: set[Value]) -> Layer:
    """The layer without optional outputs that are not needed (a Dropout's mask, a MaxPool's indices)."""
    schema = schema_of(layer.type, layer.version, layer.domain)
    if schema is None or needed.issuperset(layer.results):
        return layer
    outputs: list[Value | None] = []
    for value, formal in zip(layer.outputs, schema.outputs, strict=False):
        outputs.append(None if value not in needed and formal.option == _OPTIONAL else value)
    if len(outputs) < len(layer.outputs):
        return layer
    while outputs and outputs[-1] is None:
        outputs.pop()
    return layer if tuple(outputs) == layer.outputs else replace(layer, outputs=tuple(outputs))
