"""From spellings to what the core asks for: operators with shapes and reference, and the pass that writes them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from softneuro_core.builtin.reference import LayerEvaluator
from softneuro_core.errors import ModelError
from softneuro_core.graph import Dim, Graph, Layer, Value
from softneuro_core.importer.infer import Inference
from softneuro_core.operators import Operator
from softneuro_core.passes.rewrite import version_of
from softneuro_core.spec import OBJECT, DType
from softneuro_qint8.contrib.signature import DOMAIN, WRONG_FILE
from softneuro_qint8.contrib.spelling import Spelling

MOST_ELEMENTS = 4096
"""Shapes may depend on constants up to this size; larger ones are weights, which need not be computed for them."""


def operators(spellings: Mapping[str, Spelling]) -> list[Operator]:
    """Every spelling as an operator: its shapes are those of its layers, and so is what it computes."""
    return [Operator(DOMAIN, s.name, shape_rule=_shape_rule(s), reference=_reference(s)) for s in spellings.values()]


def written_out(graph: Graph, spellings: Mapping[str, Spelling]) -> Graph:
    """The graph with ONNX layers for each operator that has a spelling; what they make of constants is constant."""
    if not any(layer.op in spellings for layer in graph.layers):
        return graph
    walk = Inference(graph, {}, fold=True)
    layers: list[Layer] = []
    for layer in graph.layers:
        now = replace(
            layer,
            inputs=tuple(None if v is None else walk.now(v) for v in layer.inputs),
            captures=tuple(walk.now(v) for v in layer.captures),
        )
        spelling = spellings.get(layer.op)
        layers += [now] if spelling is None else _typed(spelling, now, walk)
    outputs = [walk.now(v) for v in graph.outputs]
    named = [n if n.name == o.name else replace(n, name=o.name) for n, o in zip(outputs, graph.outputs, strict=True)]
    return graph.replace(layers, outputs=named)


def _typed(spelling: Spelling, layer: Layer, walk: Inference) -> list[Layer]:
    """The layers of a spelling with every shape known, folded as the walk wants it."""
    written = spelling.layers(layer, lambda type, first: version_of(walk.graph, type, first))
    made: list[Layer] = []
    for one in written:
        try:
            made += walk.layer(one)
        except ModelError as error:
            cause = f"{layer.op}: its inputs do not fit: {error.cause}"
            raise ModelError(cause, file=error.file, layer=layer.name, remedy=WRONG_FILE) from error
    return made


def _shape_rule(spelling: Spelling) -> Any:
    def rule(layer: Layer) -> Sequence[tuple[DType, tuple[Dim, ...] | None]]:
        walk = Inference(Graph((), (), ()), {}, fold=False)
        light = replace(layer, inputs=tuple(None if v is None else _light(v) for v in layer.inputs))
        _typed(spelling, light, walk)
        found = [None if v is None else walk.now(v) for v in layer.outputs]
        return [(OBJECT, None) if v is None else (v.dtype, v.shape) for v in found]

    return rule


def _light(value: Value) -> Value:
    """The value without data that no shape depends on."""
    return value if value.data is None or value.data.size <= MOST_ELEMENTS else replace(value, data=None)


def _reference(spelling: Spelling) -> type[OpRun]:
    """A class for ``onnx.reference`` that computes the layers of a spelling one by one."""

    class Written(OpRun):
        op_domain = DOMAIN
        op_schema = None  # onnx would take the schema of its own operator of this name

        def _run(self, *arrays: np.ndarray | None, **_: Any) -> tuple[np.ndarray, ...]:
            layer = _layer_of(self.onnx_node, arrays)
            graph = Graph((layer,), layer.operands, layer.results)
            walk = Inference(graph, {}, fold=False)
            layers = _typed(spelling, layer, walk)
            known: dict[Value, Any] = dict(zip(layer.inputs, arrays, strict=True))
            for one in layers:
                evaluator = LayerEvaluator(graph, one)
                known.update(zip(evaluator.results, evaluator([known[v] for v in evaluator.inputs]), strict=True))
            return tuple(np.zeros(0) if v is None else known[walk.now(v)] for v in layer.outputs)

    return Written


def _layer_of(node: onnx.NodeProto, arrays: Sequence[np.ndarray | None]) -> Layer:
    """A node as a layer on operands of these types and shapes."""
    inputs = [
        None if a is None else Value(f"i{i}", DType.from_numpy(np.asarray(a).dtype), np.shape(a))
        for i, a in enumerate(arrays)
    ]
    outputs = tuple(Value(f"o{i}", OBJECT, None) if name else None for i, name in enumerate(node.output))
    attrs = {a.name: _plain(onnx.helper.get_attribute_value(a)) for a in node.attribute}
    return Layer(node.name or node.op_type, node.op_type, tuple(inputs), outputs, attrs, domain=DOMAIN)


def _plain(value: Any) -> Any:
    """An attribute as layers have it."""
    if isinstance(value, bytes):
        return value.decode()
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
