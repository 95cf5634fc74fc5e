"""Graphs written as models: the same meaning, the same names back, constants mapped from a data file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from evaluate import feeds_for, model, run_graph
from onnx.reference import ReferenceEvaluator

from softneuro_core.export import save, to_model
from softneuro_core.graph import Graph
from softneuro_core.importer import load
from softneuro_core.mapped import is_mapped

GELU = """g (float[1,4] x) => (float[1,4] y)
<float r = {1.4142135}, float one = {1}, float half = {0.5}, float[4,4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}> {
    m = MatMul(x, w) d = Div(m, r) e = Erf(d) a = Add(e, one) p = Mul(m, a) g = Mul(p, half) y = Softmax(g)
}"""

CONTROL = """g (bool c, float[4] x) => (float[4] y, float[K,4] all) <int64 n = {3}, bool go = {1}> {
    k = Relu(x)
    z = If (c) <then_branch = t () => (float[4] a) { b = Add(x, k) a = Neg(b) },
                else_branch = e () => (float[4] b) { b = Abs(k) }>
    y, all = Loop (n, go, z) <body = b (int64 i, bool p, float[4] s) => (bool q, float[4] t, float[4] u) {
        q = Identity(p) t = Add(s, k) u = Neg(t) }>
}"""


def names(graph: Graph) -> tuple[list[object], list[object]]:
    layers: list[object] = [(la.name, la.op, la.version) for la in graph.layers]
    return layers, [(v.name, v.dtype, v.shape, v.is_constant) for v in graph.values]


@pytest.mark.parametrize("opset", [11, 17, 20])
def test_a_newer_operator_survives_in_an_older_model(opset: int, tmp_path: Path) -> None:
    graph = load(model(GELU, opset=opset))
    assert [la.op for la in graph.layers] == ["MatMul", "Gelu", "Softmax"]
    path = tmp_path / "g.onnx"
    save(graph, path)
    again = load(path, passes=False)
    assert names(again) == names(graph)
    feeds = feeds_for(graph)
    wanted = run_graph(graph, feeds)["y"]
    np.testing.assert_array_equal(run_graph(again, feeds)["y"], wanted)
    np.testing.assert_allclose(ReferenceEvaluator(to_model(graph)).run(None, feeds)[0], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        "s = Sigmoid(x) y = Mul(x, s)",
        "q = Mul(x, k) s = Sigmoid(q) y = Mul(x, s)",
        "s = HardSigmoid <alpha = 0.16666667> (x) y = Mul(x, s)",
        "d = Mul(x, r) e = Erf(d) a = Add(e, one) p = Mul(x, a) y = Mul(p, half)",
    ],
)
def test_written_functions_pass_onnx_own_checker(body: str) -> None:
    constants = "float k = {1.702}, float r = {0.70710678}, float one = {1}, float half = {0.5}"
    proto = model(f"g (float[3] x) => (float[3] y) <{constants}> {{ {body} }}", opset=13 if "Hard" in body else 17)
    graph = load(proto)
    assert len(graph.layers) == 1
    written = to_model(graph)
    onnx.checker.check_model(written, full_check=True)
    feeds = feeds_for(graph)
    wanted = ReferenceEvaluator(proto).run(None, feeds)[0]
    for found in (ReferenceEvaluator(written).run(None, feeds)[0], run_graph(load(written, passes=False), feeds)["y"]):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_plain_graph_passes_onnx_own_checker() -> None:
    onnx.checker.check_model(to_model(load(model(GELU, opset=20))), full_check=True)


def test_bodies_and_captures_come_back(tmp_path: Path) -> None:
    graph = load(model(CONTROL))
    path = tmp_path / "c.onnx"
    save(graph, path, external=True)
    again = load(path, passes=False)
    assert names(again) == names(graph)
    for condition in (True, False):
        feeds = {"c": np.array(condition), "x": np.array([1, -2, 3, -4], np.float32)}
        wanted = run_graph(graph, feeds)
        found = run_graph(again, feeds)
        np.testing.assert_array_equal(found["y"], wanted["y"])
        np.testing.assert_array_equal(found["all"], wanted["all"])
        (y, _) = ReferenceEvaluator(to_model(graph)).run(None, feeds)
        np.testing.assert_array_equal(y, wanted["y"])


def test_large_constants_are_mapped_from_the_data_file(tmp_path: Path) -> None:
    text = "g (float[1,64] x) => (float[1,64] y) <float[64] small = {1}> { a = MatMul(x, w) y = Add(a, small) }"
    made = model(text.replace("<float[64] small = {1}>", ""))
    rng = np.random.default_rng(0)
    for name, shape in (("w", (64, 64)), ("small", (64,))):
        array = rng.standard_normal(shape).astype(np.float32)
        made.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    graph = load(made, passes=False)
    path = tmp_path / "m.onnx"
    save(graph, path, external=True)
    assert (tmp_path / "m.onnx.data").stat().st_size == 64 * 64 * 4
    again = load(path, passes=False)
    weights = next(v for v in again.constants if v.name == "w").data
    assert weights is not None and not weights.flags.owndata
    assert is_mapped(weights)
    feeds = feeds_for(graph)
    np.testing.assert_array_equal(run_graph(again, feeds)["y"], run_graph(graph, feeds)["y"])


@pytest.mark.parametrize("kind", ["int4", "uint4", "float8e4m3fn", "bfloat16", "bool", "float64", "uint16"])
def test_constants_of_every_kind_of_storage(kind: str, tmp_path: Path) -> None:
    made = model("g (float[1] x) => (float[1] y) { y = Relu(x) z = Identity(k) }", opset=21, ir=10)
    number = getattr(onnx.TensorProto, kind.upper().replace("FLOAT64", "DOUBLE"))
    count = 8193
    array = (np.arange(count) % 2).astype(onnx.helper.tensor_dtype_to_np_dtype(number))
    made.graph.initializer.append(onnx.numpy_helper.from_array(array, "k"))
    graph = load(made, passes=False)
    save(graph, tmp_path / "k.onnx", external=True)
    again = load(tmp_path / "k.onnx", passes=False)
    found = next(v for v in again.constants if v.name == "k")
    assert found.dtype.name == kind and found.data is not None
    np.testing.assert_array_equal(found.data.astype(np.float32), array.astype(np.float32))


def test_quantisation_numbers_come_back(tmp_path: Path) -> None:
    text = """g (float[1,2] x) => (float[1,3] y)
    <int8[2,3] w = {1,-2,3,4,-5,6}, float[3] s = {0.5, 0.25, 2}, int8[3] z = {0, 1, -1}> {
        f = DequantizeLinear <axis = 1> (w, s, z) y = MatMul(x, f) }"""
    graph = load(model(text))
    save(graph, tmp_path / "q.onnx")
    (before,), (after,) = graph.constants, load(tmp_path / "q.onnx", passes=False).constants
    assert before.qparams is not None and after.qparams is not None and after.qparams.axis == before.qparams.axis == 1
    np.testing.assert_array_equal(after.qparams.scale, before.qparams.scale)
    np.testing.assert_array_equal(after.qparams.zero_point, before.qparams.zero_point)
    assert after.qparams.zero_point.dtype == np.int8
    assert before.qparams.on_grid and after.qparams.on_grid
