"""Small models in onnx's text form, and running a graph layer by layer with the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from softneuro_core.builtin.reference import LayerEvaluator
from softneuro_core.graph import Graph, Value
from softneuro_core.importer import load


def model(text: str, opset: int = 17, ir: int = 8, domains: str = "") -> onnx.ModelProto:
    """A model from ``name (inputs) => (outputs) <initialisers> { nodes }``."""
    return onnx.parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}{domains}]> {text}')


def run_graph(graph: Graph, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Every output of the graph; static results must have the shape and type the graph gives them."""
    known: dict[Value, Any] = {v: feeds[v.name] for v in graph.inputs}
    for layer in graph.layers:
        evaluator = LayerEvaluator(graph, layer)
        for value, made in zip(evaluator.results, evaluator([known[v] for v in evaluator.inputs]), strict=True):
            if not value.is_object:
                assert made.shape == value.static_shape, (layer, value, made.shape)
                assert made.dtype == value.dtype.numpy, (layer, value, made.dtype)
            known[value] = made
    return {v.name: v.data if v.is_constant else known[v] for v in graph.outputs}


def feeds_for(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays for every input of a static graph."""
    rng = np.random.default_rng(seed)
    return {v.name: rng.standard_normal(v.static_shape).astype(v.dtype.numpy) for v in graph.inputs}


def assert_passes_keep_the_result(proto: onnx.ModelProto, tolerance: float = 1e-5) -> Graph:
    """The graph after the passes, checked to compute what the file says (relative to the largest output)."""
    plain, passed = load(proto, passes=False), load(proto)
    feeds = feeds_for(plain)
    wanted, found = run_graph(plain, feeds), run_graph(passed, feeds)
    assert list(wanted) == list(found)
    for name, array in wanted.items():
        assert found[name].shape == array.shape and found[name].dtype == array.dtype
        bound = tolerance * max(1.0, float(np.abs(array).max(initial=0)))
        np.testing.assert_allclose(found[name], array, rtol=0, atol=bound)
    return passed


def ops(graph: Graph) -> list[str]:
    """Operators in order."""
    return [layer.op for layer in graph.layers]
