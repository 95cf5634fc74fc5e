"""What a file says becomes a graph: names, scopes, constants, functions, control flow, host objects."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from evaluate import feeds_for, model, ops, run_graph
from onnx import helper, numpy_helper

from softneuro_core.errors import ModelError
from softneuro_core.importer import load, specialise
from softneuro_core.spec import FLOAT16, OBJECT

SCALED = """g (float[1,4] x) => (float[1,4] y) <float[4] w = {1, 2, 3, 4}> { t = Mul(x, w) y = Relu(t) }"""


def test_initialisers_listed_as_inputs_are_constants() -> None:
    made = model(SCALED, opset=7, ir=3)
    made.graph.input.append(helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4]))
    graph = load(made)
    assert [v.name for v in graph.inputs] == ["x"]
    assert [v.name for v in graph.constants] == ["w"]


def test_names_are_those_of_the_file_and_else_made_of_operator_and_place() -> None:
    made = model("g (float[2] x) => (float[2] y) { a = Relu(x) b = Abs(a) c = Relu(b) y = Neg(c) }")
    made.graph.node[1].name = "mine"
    made.graph.node[3].name = "mine"
    for _ in range(2):
        assert [la.name for la in load(made).layers] == ["Relu_0", "mine", "Relu_2", "mine_1"]


def test_names_do_not_change_with_shapes() -> None:
    graph = load(
        model("g (float[N,4] x) => (float[N,2,2] y) <int64[3] s = {-1,2,2}> { a = Relu(x) y = Reshape(a, s) }")
    )
    for batch in (1, 5):
        fixed = specialise(graph, {"x": (batch, 4)})
        assert [la.name for la in fixed.layers] == [la.name for la in graph.layers]
        assert fixed.outputs[0].shape == (batch, 2, 2)
        assert fixed.origin is graph.origin


def test_nodes_in_any_order() -> None:
    made = model("g (float[2] x) => (float[2] y) { y = Neg(b) b = Abs(a) a = Relu(x) }")
    assert ops(load(made)) == ["Relu", "Abs", "Neg"]


def test_absent_optional_inputs_keep_their_places() -> None:
    graph = load(model('g (float[4] x) => (float[4] y) <float m = {1}> { y = Clip(x, "", m) }'))
    assert graph.layers[0].inputs[1] is None and graph.layers[0].inputs[2] is not None
    assert run_graph(graph, {"x": np.array([-2, 0, 1, 3], np.float32)})["y"].tolist() == [-2, 0, 1, 1]


def test_attributes_become_python_values() -> None:
    nodes = '{ y = Conv <auto_pad = "VALID", strides = [2, 2], group = 1> (x, w) }'
    made = model(f"g (float[1,1,4,4] x) => (float[1,1,2,2] y) <float[1,1,1,1] w = {{2}}> {nodes}")
    assert load(made).layers[0].attrs == {"auto_pad": "VALID", "strides": (2, 2), "group": 1}


def test_versions_are_those_that_defined_the_operator() -> None:
    graph = load(model("g (float[2,2] x) => (float[2,2] y) { a = Relu(x) y = Softmax(a) }", opset=12))
    assert [(la.op, la.version) for la in graph.layers] == [("Relu", 6), ("Softmax", 11)]


def test_deprecated_operators_keep_their_last_meaning() -> None:
    made = model("g (float[1,1,2,2] x) => (float[1,1,4,4] y) <float[4] s = {1,1,2,2}> { y = Upsample(x, s) }", opset=11)
    graph = load(made)
    assert graph.layers[0].version == 9
    found = run_graph(graph, {"x": np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)})["y"]
    assert found[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_local_functions_are_written_out() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
    g (float[4] x) => (float[4] y) { a = mine.twice(x) y = mine.twice(a) }
    <domain: "mine", opset_import: ["" : 17]> twice (p) => (q) { q = Add(p, p) }"""
    graph = load(onnx.parser.parse_model(text))
    assert ops(graph) == ["Add", "Add"]
    assert run_graph(graph, {"x": np.ones(4, np.float32)})["y"].tolist() == [4, 4, 4, 4]


IF = """g (bool c, float[4] x) => (float[4] y) {
    k = Relu(x)
    y = If (c) <then_branch = t () => (float[4] a) { a = Add(x, k) },
                else_branch = e () => (float[4] b) { b = Neg(k) }>
}"""


def test_captured_values_become_inputs_of_the_body() -> None:
    graph = load(model(IF))
    layer = graph.layers[-1]
    assert [v.name for v in layer.captures] == ["x", "k", "k"]
    assert [len(b.inputs) for b in layer.bodies.values()] == [2, 1]
    assert layer.outputs[0] is not None and layer.outputs[0].shape == (4,)
    x = np.array([-1, 2, -3, 4], np.float32)
    for condition, wanted in ((True, [-1, 4, -3, 8]), (False, [0, -2, 0, -4])):
        assert run_graph(graph, {"c": np.array(condition), "x": x})["y"].tolist() == wanted


def test_captures_reach_through_two_bodies() -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = t () => (float[2] a) {
            a = If (c) <then_branch = tt () => (float[2] p) { p = Neg(x) },
                        else_branch = te () => (float[2] q) { q = Identity(x) }> },
          else_branch = e () => (float[2] b) { b = Abs(x) }>
    }"""
    graph = load(model(text))
    x = np.array([-1, 2], np.float32)
    assert run_graph(graph, {"c": np.array(True), "x": x})["y"].tolist() == [1, -2]
    assert run_graph(graph, {"c": np.array(False), "x": x})["y"].tolist() == [1, 2]


def test_an_if_with_a_constant_condition_becomes_its_branch() -> None:
    text = IF.replace("(bool c, float[4] x)", "(float[4] x)").replace("{\n    k", "<bool c = {1}> {\n    k", 1)
    graph = load(model(text))
    assert ops(graph) == ["Relu", "Add"]
    assert run_graph(graph, {"x": np.array([-1, 2, -3, 4], np.float32)})["y"].tolist() == [-1, 4, -3, 8]
    assert ops(load(model(text), passes=False)) == ["Relu", "If"]


LOOP = """g (float[3] x) => (float[3] last, float[K,3] all) <int64 n = {4}, bool go = {1}> {
    last, all = Loop (n, go, x) <body = b (int64 i, bool c, float[3] s) => (bool d, float[3] t, float[3] u) {
        d = Identity(c) t = Add(s, x) u = Neg(t) }>
}"""


def test_a_loop_of_known_length_is_static() -> None:
    graph = load(model(LOOP))
    assert [v.shape for v in graph.outputs] == [(3,), (4, 3)]
    found = run_graph(graph, {"x": np.ones(3, np.float32)})
    assert found["last"].tolist() == [5, 5, 5] and found["all"][:, 0].tolist() == [-2, -3, -4, -5]


def test_a_loop_that_grows_what_it_carries_is_not() -> None:
    text = LOOP.replace("float[3] t", "float[L] t").replace("Add(s, x)", "Concat <axis = 0> (s, x)")
    text = text.replace("float[3] s", "float[M] s").replace("float[3] last", "float[L] last")
    graph = load(model(text.replace("float[K,3] all", "float[K,P] all").replace("float[3] u", "float[Q] u")
                       .replace("u = Neg(t)", "u = Neg(x)")))  # fmt: skip
    assert graph.outputs[0].is_object
    assert run_graph(graph, {"x": np.ones(3, np.float32)})["last"].shape == (15,)


def test_a_loop_without_a_turn() -> None:
    graph = load(model(LOOP.replace("{4}", "{0}")))
    found = run_graph(graph, {"x": np.ones(3, np.float32)})
    assert found["last"].tolist() == [1, 1, 1] and found["all"].shape == (0, 3)


def test_scan_directions_and_axes() -> None:
    text = """g (float[2] s, float[2,3] x) => (float[2] t, float[2,3] all) {
        t, all = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1], scan_input_directions = [1],
            body = b (float[2] p, float[2] q) => (float[2] r, float[2] u) { r = Add(p, q) u = Identity(r) }> (s, x)
    }"""
    graph = load(model(text))
    assert [v.shape for v in graph.outputs] == [(2,), (2, 3)]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = run_graph(graph, {"s": np.zeros(2, np.float32), "x": x})
    assert found["all"].tolist() == [[2, 3, 3], [5, 9, 12]] and found["t"].tolist() == [3, 12]


def test_half_precision_weights() -> None:
    made = model(SCALED.replace("float[", "float16["))
    graph = load(made)
    assert graph.constants[0].dtype is FLOAT16
    assert run_graph(graph, feeds_for(graph))["y"].dtype == np.float16


def test_strings_sequences_and_optionals_are_host_objects() -> None:
    text = """g (string[2] s, float[3] x, seq(float[3]) q) => (string[2] t, seq(float[3]) r, float[3] last) {
        t = StringConcat(s, s) r = SequenceInsert(q, x) n = SequenceLength(r) one = Constant <value_int = 1> ()
        i = Sub(n, one) last = SequenceAt(r, i)
    }"""
    graph = load(model(text, opset=20, ir=9))
    assert [v.dtype for v in graph.outputs[:2]] == [OBJECT, OBJECT]
    assert graph.outputs[1].type is not None and not graph.outputs[2].is_object
    feeds = {"s": np.array(["a", "b"], object), "x": np.ones(3, np.float32), "q": [np.zeros(3, np.float32)]}
    found = run_graph(graph, feeds)
    assert found["t"].tolist() == ["aa", "bb"] and len(found["r"]) == 2 and found["last"].tolist() == [1, 1, 1]


def test_sparse_initialisers_are_unfolded() -> None:
    made = model("g (float[4] x) => (float[4] y) { y = Mul(x, w) }")
    values = numpy_helper.from_array(np.array([3, 5], np.float32), "w")
    indices = numpy_helper.from_array(np.array([1, 3], np.int64))
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    assert load(made).constants[0].data.tolist() == [0, 3, 0, 5]  # type: ignore[union-attr]


def test_constant_nodes_of_every_kind() -> None:
    kinds = ["value_float = 1.5", "value_floats = [1.0, 2.0]", "value_int = 3", "value_ints = [4, 5]"]
    for kind, dtype in zip(kinds, ["float32", "float32", "int64", "int64"], strict=True):
        made = model(f"g (float[2] x) => (float[2] y) {{ c = Constant <{kind}> () y = CastLike(c, x) }}")
        del made.graph.output[0].type.tensor_type.shape.dim[:]
        made.graph.output[0].type.tensor_type.ClearField("shape")
        (value,) = [v for v in load(made, passes=False).constants if v.name == "c"]
        assert value.dtype.name == dtype


def test_a_graph_without_outputs() -> None:
    made = model("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    del made.graph.output[:]
    with pytest.raises(ModelError, match="no outputs"):
        load(made)


def test_an_output_that_is_an_input_or_a_constant() -> None:
    graph = load(model("g (float[2] x) => (float[2] x, float[2] k, float[2] y) <float[2] k = {1, 2}> { y = Neg(k) }"))
    found = run_graph(graph, {"x": np.ones(2, np.float32)})
    assert {k: v.tolist() for k, v in found.items()} == {"x": [1, 1], "k": [1, 2], "y": [-1, -2]}
