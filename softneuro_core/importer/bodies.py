"""Shapes inside and after If, Loop and Scan; branches of an If whose condition is known.

Knows the formal inputs of ONNX's own control flow; bodies of other operators are left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from softneuro_core.export import capture_counts
from softneuro_core.graph import Dim, Graph, Layer, Value
from softneuro_core.spec import BOOL, INT64

if TYPE_CHECKING:
    from softneuro_core.importer.infer import Inference

MAX_ROUNDS = 4
"""Of generalising what a Loop carries; each round only opens dimensions, so few are needed."""


def constant_branch(walk: Inference, layer: Layer) -> str | None:
    """``then_branch`` or ``else_branch`` where the condition of an If is known."""
    if layer.type != "If" or layer.domain or not layer.inputs or layer.inputs[0] is None:
        return None
    condition = walk.data(layer.inputs[0])
    if condition is None or condition.size != 1:
        return None
    return "then_branch" if condition.item() else "else_branch"


def inlined(walk: Inference, old: Layer, layer: Layer, branch: str) -> list[Layer]:
    """The layers of the branch in place of the If; an Identity gives each result the name it had."""
    body: Graph = layer.attrs[branch]
    names = list(layer.bodies)
    counts = capture_counts(layer)
    start = sum(counts[n] for n in names[: names.index(branch)])
    walk.bind(body.inputs, layer.captures[start : start + counts[branch]])
    unique = {v: replace(v, name=f"{layer.name}/{v.name}") for la in body.layers for v in la.results}
    made: list[Layer] = []
    for inner in body.layers:
        renamed = replace(inner, outputs=tuple(None if v is None else unique[v] for v in inner.outputs))
        made += walk.layer(renamed)
        walk.bind(inner.results, [walk.now(v) for v in renamed.results])
    for i, (outer, result) in enumerate(zip(old.outputs, body.outputs, strict=False)):
        if outer is not None:
            name = layer.name if len(old.results) == 1 else f"{layer.name}/{i}"
            made += walk.layer(Layer(name, "Identity", (walk.now(result),), (outer,), version=1))
    return made


def with_known_captures(layer: Layer) -> Layer:
    """The layer with captured constants placed inside its bodies, where they can be folded."""
    if not any(v.is_constant for v in layer.captures):
        return layer
    counts, start = capture_counts(layer), 0
    attrs = dict(layer.attrs)
    kept: list[Value] = []
    for name, body in layer.bodies.items():
        captured = layer.captures[start : start + counts[name]]
        start += counts[name]
        formal = len(body.inputs) - len(captured)
        pairs = list(zip(body.inputs[formal:], captured, strict=True))
        constants = {inner: outer for inner, outer in pairs if outer.is_constant}
        inputs = body.inputs[:formal] + tuple(inner for inner, outer in pairs if not outer.is_constant)
        kept += [outer for _, outer in pairs if not outer.is_constant]
        attrs[name] = substituted(body, constants).replace(inputs=inputs)
    return replace(layer, attrs=attrs, captures=tuple(kept))


def substituted(graph: Graph, new: dict[Value, Value]) -> Graph:
    """The graph reading other values in place of some of its own."""
    layers = []
    for layer in graph.layers:
        inputs = tuple(v and new.get(v, v) for v in layer.inputs)
        layers.append(replace(layer, inputs=inputs, captures=tuple(new.get(v, v) for v in layer.captures)))
    return graph.replace(layers, outputs=[new.get(v, v) for v in graph.outputs])


def inferred(walk: Inference, layer: Layer) -> Layer:
    """The layer with shapes inside its bodies, as far as its operands tell them."""
    if layer.domain:
        return layer
    if layer.type == "Loop":
        return _loop(walk, layer)
    walk.impossible.clear()
    attrs = dict(layer.attrs)
    counts, start = capture_counts(layer), 0
    for name, body in layer.bodies.items():
        captured = layer.captures[start : start + counts[name]]
        start += counts[name]
        formal = _formal(layer, body.inputs[: len(body.inputs) - len(captured)])
        attrs[name] = body_graph(walk, name, body, [*formal, *captured])
    return replace(layer, attrs=attrs)


def _formal(layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    """What the formal inputs of a body look like; as declared where this operator is not known here."""
    if layer.type != "Scan" or layer.version < 9:
        return list(inputs)
    scanned = int(layer.attrs.get("num_scan_inputs", 0))
    states = len(inputs) - scanned
    axes = layer.attrs.get("scan_input_axes") or (0,) * scanned
    made = []
    for i, (formal, operand) in enumerate(zip(inputs, layer.inputs, strict=False)):
        if operand is None or operand.shape is None or i < states:
            # A state may change its shape from turn to turn: only its type is certain.
            made.append(formal if operand is None else replace(formal, dtype=operand.dtype))
            continue
        dims = list(operand.shape)
        del dims[axes[i - states]]
        made.append(replace(formal, dtype=operand.dtype, shape=tuple(dims)))
    return made


def body_graph(walk: Inference, name: str, body: Graph, operands: Sequence[Value]) -> Graph:
    """The body called ``name`` with the types of ``operands`` at its inputs and what follows from them inside."""
    from softneuro_core.importer.infer import Inference

    inner = Inference(walk.graph, walk.operators, walk.fold, lenient=True)
    inner.bindings = walk.bindings
    inputs = tuple(
        Value(v.name, like.dtype, like.shape, type=like.type) for v, like in zip(body.inputs, operands, strict=True)
    )
    inner.bind(body.inputs, inputs)
    layers = inner.layers(body.layers)
    walk.folded_bytes += inner.folded_bytes
    if inner.failed:
        walk.impossible.add(name)
    return body.replace(layers, inputs, [inner.now(v) for v in body.outputs])


def _loop(walk: Inference, layer: Layer) -> Layer:
    """Infers the body until what it carries has the same type before and after a turn."""
    body: Graph = layer.attrs["body"]
    formal = body.inputs[: len(body.inputs) - len(layer.captures)]
    trip = layer.inputs[0] if layer.inputs else None
    count = Value("", INT64 if trip is None else trip.dtype, ())
    carried = [v for v in layer.inputs[2:] if v is not None]
    if len(carried) != len(formal) - 2:
        return layer
    for _ in range(MAX_ROUNDS):
        known = body_graph(walk, "body", body, [count, Value("", BOOL, ()), *carried, *layer.captures])
        after = [_general(a, b) for a, b in zip(carried, known.outputs[1:], strict=False)]
        if [v.shape for v in after] == [v.shape for v in carried]:
            return replace(layer, attrs={**layer.attrs, "body": known})
        carried = after
    return replace(layer, attrs={**layer.attrs, "body": body_graph(walk, "body", body, [*formal, *layer.captures])})


def general_shape(a: tuple[Dim, ...] | None, b: tuple[Dim, ...] | None) -> tuple[Dim, ...] | None:
    """What two shapes have in common."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if x == y else None for x, y in zip(a, b, strict=True))


def _general(a: Value, b: Value) -> Value:
    return Value(a.name, a.dtype, general_shape(a.shape, b.shape), type=a.type if a.type is not None else b.type)


def result_values(walk: Inference, layer: Layer) -> list[Value | None]:
    """The outputs of an If (what both branches agree on) or a Loop (what it carries, then what it collects)."""
    if layer.type == "If":
        one, other = layer.attrs["then_branch"], layer.attrs["else_branch"]
        possible = [layer.attrs[n] for n in ("then_branch", "else_branch") if n not in walk.impossible]
        if not possible:
            walk.failed = True
        if len(possible) == 1:
            return list(possible[0].outputs)
        return [_general(a, b) for a, b in zip(one.outputs, other.outputs, strict=False)]
    body: Graph = layer.attrs["body"]
    carried = len(layer.inputs) - 2
    results: list[Value | None] = []
    for before, after in zip(layer.inputs[2:], body.outputs[1:], strict=False):
        results.append(after if before is None else _general(before, after))
    turns = _turns(walk, layer, body)
    for collected in body.outputs[1 + carried :]:
        shape = None if collected.shape is None else (turns, *collected.shape)
        results.append(Value("", collected.dtype, shape, type=collected.type))
    return results


def _turns(walk: Inference, layer: Layer, body: Graph) -> int | None:
    """The number of turns, where it is known and the loop cannot end early."""
    trip, condition = layer.inputs[0], layer.inputs[1] if len(layer.inputs) > 1 else None
    limit = None if trip is None else walk.data(trip)
    start = np.True_ if condition is None else walk.data(condition)
    if limit is None or start is None or not np.all(start):
        return None
    end = body.outputs[0]
    producer = body.producers.get(end)
    passed_on = producer is not None and producer.type == "Identity" and producer.inputs[0] is body.inputs[1]
    always = end is body.inputs[1] or passed_on or (end.data is not None and bool(np.all(end.data)))
    return max(0, int(limit.item())) if always and limit.size == 1 else None
