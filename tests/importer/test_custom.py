"""Operators of other domains: by shape rule and OpRun class, or by a function that is kept as one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from evaluate import model
from onnx.reference.op_run import OpRun

from softneuro_core.builtin.reference import LayerEvaluator, evaluate
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.errors import ModelError
from softneuro_core.export import save
from softneuro_core.graph import Layer, Region
from softneuro_core.importer import load
from softneuro_core.operators import Operator
from softneuro_core.spec import DType

TEXT = "g (float[2,3] x) => (float[A,B] y) {{ y = mine.{name} <times = 3> (x) }}"


class RepeatReference(OpRun):
    op_domain = "elsewhere"  # the operator's own domain and name count

    def _run(self, x: np.ndarray, times: int = 1) -> tuple[np.ndarray]:
        return (np.concatenate([x] * times),)


def repeated_shape(layer: Layer) -> Sequence[tuple[DType, Sequence[int]]]:
    (x,) = layer.operands
    return [(x.dtype, (x.static_shape[0] * layer.attrs["times"], x.static_shape[1]))]


def scaled() -> onnx.FunctionProto:
    text = """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]> g (float[1] x) => (float[1] y) { y = Relu(x) }
    <domain: "mine", opset_import: ["" : 17]> Scaled <times> (p) => (q) {
        t = Constant <value_int: int = @times> () f = CastLike(t, p) q = Mul(p, f) }"""
    return onnx.parser.parse_model(text).functions[0]


@pytest.fixture
def catalog() -> Catalog:
    operators = [
        Operator("mine", "Repeat", shape_rule=repeated_shape, reference=RepeatReference),
        Operator("mine", "Scaled", function=scaled()),
    ]
    return replace(load_plugins(only=()), operators={o.op: o for o in operators})


def mine(name: str) -> onnx.ModelProto:
    return model(TEXT.format(name=name), domains=', "mine" : 1')


@pytest.mark.parametrize(("name", "shape"), [("Repeat", (6, 3)), ("Scaled", (2, 3))])
def test_an_operator_of_a_plugin_is_one_layer_with_shape_and_reference(
    name: str, shape: tuple[int, ...], catalog: Catalog, tmp_path: Path
) -> None:
    graph = load(mine(name), catalog=catalog)
    assert [la.op for la in graph.layers] == [f"mine::{name}"] and graph.outputs[0].shape == shape
    assert set(graph.functions) == ({("mine", "Scaled")} if name == "Scaled" else set())
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    wanted = np.concatenate([x] * 3) if name == "Repeat" else 3 * x
    (found,) = evaluate(Region(graph, graph.layers), [x], catalog.operators)
    np.testing.assert_array_equal(found, wanted)
    save(graph, tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx", catalog=catalog, passes=False)
    (found,) = LayerEvaluator(again, again.layers[0], catalog.operators)([x])
    np.testing.assert_array_equal(found, wanted)


def test_a_shape_rule_that_fails_names_the_layer(catalog: Catalog) -> None:
    def broken(layer: Layer) -> Any:
        return [layer.attrs["absent"]]

    operator = Operator("mine", "Repeat", shape_rule=broken, reference=RepeatReference)
    operators = {**catalog.operators, operator.op: operator}
    with pytest.raises(ModelError, match="layer Repeat_0: mine::Repeat: 'absent'"):
        load(mine("Repeat"), catalog=replace(catalog, operators=operators))
