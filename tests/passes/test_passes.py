"""Every pass does its rewrite, keeps the result, and leaves alone what it must not touch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from evaluate import assert_passes_keep_the_result, feeds_for, model, ops, run_graph
from onnx import helper, numpy_helper

from softneuro_core.errors import PluginError
from softneuro_core.graph import Graph
from softneuro_core.importer import load
from softneuro_core.passes import Pass
from softneuro_core.passes.pipeline import PASSES, ordered, run_passes


def with_constants(
    text: str, opset: int = 17, seed: int = 1, **arrays: np.ndarray | tuple[int, ...]
) -> onnx.ModelProto:
    """A model in text form with further initialisers: arrays, or shapes filled at random."""
    made = model(text, opset=opset)
    rng = np.random.default_rng(seed)
    for name, given in arrays.items():
        array = given if isinstance(given, np.ndarray) else rng.uniform(0.5, 1.5, given).astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    return made


BN = {"s": (4,), "b": (4,), "m": (4,), "v": (4,)}


@pytest.mark.parametrize("opset", [7, 9, 14, 17])
@pytest.mark.parametrize("bias", ["", ", c"])
def test_batch_normalization_into_conv(opset: int, bias: str) -> None:
    text = (
        f"g (float[2,3,5,5] x) => (float[2,4,5,5] y) {{ t = Conv(x, w{bias}) y = BatchNormalization(t, s, b, m, v) }}"
    )
    graph = assert_passes_keep_the_result(with_constants(text, opset, w=(4, 3, 1, 1), c=(4,), **BN))
    assert ops(graph) == ["Conv"]


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_normalization_into_conv_transpose(groups: int) -> None:
    text = """g (float[1,6,4,4] x) => (float[1,4,8,8] y) {
        t = ConvTranspose <group = %d, strides = [2, 2]> (x, w) y = BatchNormalization(t, s, b, m, v) }"""
    graph = assert_passes_keep_the_result(with_constants(text % groups, w=(6, 4 // groups, 2, 2), **BN))
    assert ops(graph) == ["ConvTranspose"]


@pytest.mark.parametrize("trans", [0, 1])
def test_batch_normalization_into_gemm(trans: int) -> None:
    text = """g (float[3,5] x) => (float[3,4] y) {
        t = Gemm <transB = %d, alpha = 0.5, beta = 2.0> (x, w, c) y = BatchNormalization(t, s, b, m, v) }"""
    graph = assert_passes_keep_the_result(with_constants(text % trans, w=(4, 5) if trans else (5, 4), c=(4,), **BN))
    assert ops(graph) == ["Gemm"]


def test_a_chain_of_scales_and_shifts_into_conv() -> None:
    text = """g (float[1,3,5,5] x) => (float[1,4,5,5] y) {
        t = Conv(x, w) u = Mul(t, k) a = Add(k, k) p = Sub(u, a) y = Div(p, k) }"""
    assert ops(assert_passes_keep_the_result(with_constants(text, w=(4, 3, 1, 1), k=(1, 4, 1, 1)))) == ["Conv"]


def test_what_others_read_is_not_folded_away() -> None:
    text = """g (float[1,3,5,5] x) => (float[1,4,5,5] y, float[1,4,5,5] t) {
        t = Conv(x, w) y = BatchNormalization(t, s, b, m, v) }"""
    graph = assert_passes_keep_the_result(with_constants(text, w=(4, 3, 1, 1), **BN))
    assert ops(graph) == ["Conv", "BatchNormalization"]


def test_a_bias_that_varies_over_pixels_is_not_folded() -> None:
    text = "g (float[1,3,2,2] x) => (float[1,4,2,2] y) { t = Conv(x, w) y = Add(t, k) }"
    assert ops(assert_passes_keep_the_result(with_constants(text, w=(4, 3, 1, 1), k=(2, 2)))) == ["Conv", "Add"]


@pytest.mark.parametrize("opset", [2, 11, 18])
def test_pad_into_conv(opset: int) -> None:
    pads = np.array([0, 0, 1, 2, 0, 0, 2, 1])
    pad = "Pad <pads = [0, 0, 1, 2, 0, 0, 2, 1]> (x)" if opset == 2 else "Pad(x, p)"
    text = f"g (float[1,3,5,5] x) => (float[1,4,Y,X] y) {{ t = {pad} y = Conv <pads = [1, 0, 0, 1]> (t, w) }}"
    graph = assert_passes_keep_the_result(with_constants(text, opset, w=(4, 3, 2, 3), p=pads))
    assert ops(graph) == ["Conv"] and graph.layers[0].attrs["pads"] == (2, 2, 2, 2)


def test_pad_with_axes_into_average_pool() -> None:
    text = """g (float[1,3,6,6] x) => (float[1,3,Y,X] y) <int64[4] p = {1, 1, 1, 1}, int64[2] a = {-2, 3}> {
        t = Pad(x, p, "", a) y = AveragePool <kernel_shape = [2, 2]> (t) }"""
    graph = assert_passes_keep_the_result(model(text, opset=18))
    assert ops(graph) == ["AveragePool"] and graph.layers[0].attrs["count_include_pad"] == 1


@pytest.mark.parametrize(
    "pad", ["Pad <mode = \"edge\"> (x, p)", "Pad(x, p, one)", "Pad(x, channels)"]
)  # fmt: skip
def test_pads_that_are_no_zeros_around_the_picture_stay(pad: str) -> None:
    text = f"g (float[1,3,5,5] x) => (float[1,4,Y,X] y) {{ t = {pad} y = Conv(t, w) }}"
    channels = 4 if "channels" in pad else 3
    arrays = {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "channels": np.array([0, 1, 0, 0, 0, 0, 0, 0])}
    made = with_constants(text, w=(4, channels, 2, 2), one=np.array(1, np.float32), **arrays)
    assert ops(assert_passes_keep_the_result(made)) == ["Pad", "Conv"]


def test_max_pool_takes_only_the_lowest_number() -> None:
    text = "g (float[1,1,4,4] x) => (float[1,1,Y,X] y) { t = Pad(x, p, f) y = MaxPool <kernel_shape = [2, 2]> (t) }"
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    zero = with_constants(text, p=pads, f=np.array(0, np.float32))
    lowest = with_constants(text, p=pads, f=np.array(-np.inf, np.float32))
    assert ops(assert_passes_keep_the_result(zero)) == ["Pad", "MaxPool"]
    assert ops(assert_passes_keep_the_result(lowest)) == ["MaxPool"]


def test_identities_and_dropout_go_away_and_outputs_keep_their_names() -> None:
    text = """g (float[2,3] x) => (float[2,3] y) { a = Identity(x) b, mask = Dropout(a) c = Relu(b) d = Identity(c)
        e = Reshape(d, s) f = Cast <to = 1> (e) g = Concat <axis = 0> (f) y = Identity(g) }"""
    graph = assert_passes_keep_the_result(with_constants(text, s=np.array([2, 3])))
    assert ops(graph) == ["Relu"] and graph.layers[0].outputs[0] is graph.outputs[0]


def test_identity_from_input_to_output_stays() -> None:
    graph = assert_passes_keep_the_result(
        model("g (float[2] x) => (float[2] y, float[2] z) { y = Identity(x) z = Identity(x) }")
    )
    assert [v.name for v in graph.outputs] == ["y", "z"]


def test_one_value_under_two_output_names() -> None:
    text = "g (float[2] x) => (float[2] y, float[2] z) { t = Relu(x) y = Identity(t) z = Identity(t) }"
    graph = assert_passes_keep_the_result(model(text))
    assert [v.name for v in graph.outputs] == ["y", "z"] and len({v.name for v in graph.values}) == len(graph.values)


def test_dead_layers_and_unasked_outputs_go_away() -> None:
    text = """g (float[1,1,4,4] x) => (float[1,1,3,3] y) {
        y, index = MaxPool <kernel_shape = [2, 2]> (x) dead = Relu(x) deader = Abs(dead) }"""
    graph = assert_passes_keep_the_result(model(text))
    assert ops(graph) == ["MaxPool"] and len(graph.layers[0].outputs) == 1


def test_cancelling_transposes() -> None:
    text = """g (float[2,3,4] x) => (float[2,3,4] y, float[4,3,2] z) {
        a = Transpose <perm = [0, 2, 1]> (x) b = Relu(a) c = Transpose <perm = [0, 2, 1]> (a) y = Neg(c)
        d = Transpose <perm = [1, 2, 0]> (x) e = Transpose <perm = [1, 0, 2]> (d) z = Neg(e) }"""
    graph = assert_passes_keep_the_result(model(text))
    assert sorted(ops(graph)) == ["Neg", "Neg", "Transpose"]
    assert next(la for la in graph.layers if la.type == "Transpose").attrs["perm"] == (2, 1, 0)


def test_chains_of_reshapes_become_one_or_none() -> None:
    text = """g (float[2,3,4] x) => (float[6,4] y, float[2,3,4] z) <int64[1] one = {1}, int64[3] back = {2, 3, 4}> {
        a = Unsqueeze(x, one) b = Flatten <axis = 3> (a) y = Relu(b) c = Reshape(a, back) z = Neg(c) }"""
    graph = assert_passes_keep_the_result(model(text))
    assert sorted(ops(graph)) == ["Neg", "Relu", "Reshape"]


def test_matmul_with_a_row_of_biases_is_a_gemm() -> None:
    text = "g (float[3,5] x) => (float[3,4] y) { t = MatMul(x, w) y = Add(c, t) }"
    assert ops(assert_passes_keep_the_result(with_constants(text, w=(5, 4), c=(4,)))) == ["Gemm"]
    three = "g (float[1,3,5] x) => (float[1,3,4] y) { t = MatMul(x, w) y = Add(t, c) }"
    assert ops(assert_passes_keep_the_result(with_constants(three, w=(5, 4), c=(4,)))) == ["MatMul", "Add"]


NUMBERS = {
    "root2": 2**0.5, "rroot2": 0.5**0.5, "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "six": 6.0, "zero": 0.0,
    "c": 0.044715, "s2pi": 0.7978845608, "sixth": 1 / 6, "quick": 1.702,
}  # fmt: skip

SPELLINGS = {
    "Gelu none": [
        "d = Div(x, root2) e = Erf(d) a = Add(e, one) p = Mul(x, a) y = Mul(p, half)",
        "d = Mul(x, rroot2) e = Erf(d) a = Add(one, e) h = Mul(half, x) y = Mul(h, a)",
        "d = Div(x, root2) e = Erf(d) a = Add(e, one) h = Mul(a, half) y = Mul(x, h)",
        "d = Div(x, root2) e = Erf(d) a = Add(e, one) p = Mul(x, a) y = Div(p, two)",
    ],
    "Gelu tanh": [
        "k = Pow(x, three) l = Mul(k, c) m = Add(x, l) n = Mul(m, s2pi) t = Tanh(n) a = Add(t, one) h = Mul(x, half) "
        "y = Mul(h, a)",
        "q = Mul(x, x) k = Mul(q, x) l = Mul(c, k) m = Add(l, x) n = Mul(s2pi, m) t = Tanh(n) a = Add(one, t) "
        "b = Mul(half, a) y = Mul(x, b)",
        "q = Mul(x, x) l = Mul(c, q) m = Add(one, l) w = Mul(s2pi, x) n = Mul(w, m) t = Tanh(n) a = Add(one, t) "
        "b = Mul(x, a) y = Mul(b, half)",
    ],
    "Swish": ["s = Sigmoid(x) y = Mul(x, s)", "s = Sigmoid(x) y = Mul(s, x)",
              "q = Mul(x, quick) s = Sigmoid(q) y = Mul(x, s)"],
    "HardSwish": [
        "s = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x) y = Mul(x, s)",
        "a = Add(x, three) b = Clip(a, zero, six) p = Mul(x, b) y = Div(p, six)",
        "a = Add(three, x) b = Clip(a, zero, six) p = Mul(b, sixth) y = Mul(x, p)",
        "a = Add(x, three) b = Clip(a, zero, six) p = Div(b, six) y = Mul(p, x)",
    ],
}  # fmt: skip


def spelled(body: str, opset: int = 17) -> onnx.ModelProto:
    numbers = {k: np.array(v, np.float32) for k, v in NUMBERS.items()}
    return with_constants(f"g (float[3,40] x) => (float[3,40] y) {{ {body} }}", opset, **numbers)


@pytest.mark.parametrize(("kind", "body"), [(k, b) for k, bodies in SPELLINGS.items() for b in bodies])
def test_spelled_out_activations_become_one_layer(kind: str, body: str) -> None:
    graph = assert_passes_keep_the_result(spelled(body))
    name, _, approximate = kind.partition(" ")
    assert ops(graph) == [name]
    if name == "Gelu":
        assert graph.layers[0].attrs.get("approximate", "none") == approximate
    assert graph.layers[0].version == {"Gelu": 20, "Swish": 24, "HardSwish": 14}[name]


@pytest.mark.parametrize(
    "body",
    [
        "d = Div(x, two) e = Erf(d) a = Add(e, one) p = Mul(x, a) y = Mul(p, half)",
        "d = Div(x, root2) e = Erf(d) a = Add(e, two) p = Mul(x, a) y = Mul(p, half)",
        "a = Add(x, two) b = Clip(a, zero, six) p = Mul(x, b) y = Div(p, six)",
        "s = HardSigmoid(x) y = Mul(x, s)",
        "n = Neg(x) s = Sigmoid(n) y = Mul(x, s)",
        "s = Sigmoid(x) p = Mul(x, s) y = Add(p, s)",
    ],
)
def test_what_only_looks_like_an_activation_stays(body: str) -> None:
    graph = assert_passes_keep_the_result(spelled(body))
    assert not {"Gelu", "Swish", "HardSwish"} & set(ops(graph))


@pytest.mark.parametrize("square", ["Pow(d, two)", "Mul(d, d)"])
@pytest.mark.parametrize(
    "tail", ["y = Div(d, r)", "n = Div(d, r) y = Mul(n, k)", "n = Div(d, r) p = Mul(k, n) y = Add(p, b)"]
)
def test_spelled_out_layer_normalization(square: str, tail: str) -> None:
    text = f"""g (float[2,3,8] x) => (float[2,3,8] y) {{ m = ReduceMean <axes = [-1]> (x) d = Sub(x, m) q = {square}
        v = ReduceMean <axes = [-1]> (q) e = Add(v, eps) r = Sqrt(e) {tail} }}"""
    numbers = {"two": np.array(2, np.float32), "eps": np.array(1e-5, np.float32)}
    graph = assert_passes_keep_the_result(with_constants(text, k=(8,), b=(8,), **numbers))
    assert ops(graph) == ["LayerNormalization"] and graph.layers[0].outputs[0] is graph.outputs[0]


def test_passes_reach_into_bodies() -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = t () => (float[2] a) { i = Identity(x) s = Sigmoid(i) a = Mul(i, s) },
                    else_branch = e () => (float[2] b) { n = Neg(x) b = Identity(n) }>
    }"""
    graph = load(model(text))
    assert [ops(b) for b in graph.layers[0].bodies.values()] == [["Swish"], ["Neg"]]
    x = np.array([1, -2], np.float32)
    assert run_graph(graph, {"c": np.array(False), "x": x})["y"].tolist() == [-1, 2]
    np.testing.assert_allclose(run_graph(graph, {"c": np.array(True), "x": x})["y"], x / (1 + np.exp(-x)), rtol=1e-6)


def test_plugin_passes_stand_after_the_one_they_name() -> None:
    mine = Pass("mine", lambda g: g, after="fold")
    last = Pass("last", lambda g: g)
    names = [p.name for p in ordered([mine, last])]
    assert names[names.index("fold") + 1] == "mine" and names[-1] == "last" and len(names) == len(PASSES) + 2
    with pytest.raises(PluginError, match="wants to run after 'nothing'"):
        ordered([Pass("mine", lambda g: g, after="nothing")])
    with pytest.raises(PluginError, match="two passes are called 'fold'"):
        ordered([Pass("fold", lambda g: g)])


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    graph = load(model("g (float[2] x) => (float[2] y) { a = Relu(x) y = Neg(a) }"))
    broken = Pass("broken", lambda g: g.replace(g.layers[1:]))
    with pytest.raises(PluginError, match="pass 'broken' left a broken graph"):
        run_passes(graph, [broken])
    renamed = Pass("renaming", lambda g: g.replace(outputs=[g.layers[0].outputs[0]]))  # type: ignore[list-item]
    with pytest.raises(PluginError, match="'renaming' changed inputs or outputs"):
        run_passes(graph, [renamed])


def test_the_debug_knob_shows_what_changed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SOFTNEURO_DEBUG", "2")
    load(model("g (float[2] x) => (float[2] y) { a = Identity(x) y = Neg(a) }"))
    text = capsys.readouterr().err
    assert "pass identity: 2 -> 1 layers" in text and "-Identity_0: a[float32:2] = Identity-16(x[float32:2]) {}" in text


def random_graph(seed: int) -> onnx.ModelProto:
    """A graph of elementwise layers, moves and constants with shared values, some read by nobody."""
    rng = np.random.default_rng(seed)
    values, nodes = ["x"], []
    unary = ["Relu", "Identity", "Sigmoid", "Neg", "Dropout", "Transpose", "Flatten"]
    for i in range(int(rng.integers(3, 25))):
        a, b = (values[int(rng.integers(len(values)))] for _ in range(2))
        kind = str(rng.choice([*unary, "Add", "Mul", "Mul", "Sub", "Const"]))
        if kind == "Const":
            nodes.append(helper.make_node("Mul", [a, "k"], [f"v{i}"]))
        elif kind in unary:
            nodes.append(helper.make_node(kind, [a], [f"v{i}"]))
        else:
            nodes.append(helper.make_node(kind, [a, b], [f"v{i}"]))
        values.append(f"v{i}")
    outputs = {values[-1], values[int(rng.integers(1, len(values)))]}
    infos = [helper.make_tensor_value_info(name, 1, [4, 4]) for name in sorted(outputs)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, [4, 4])], infos)
    graph.initializer.append(numpy_helper.from_array(np.array([0.5, 1, 2, 4], np.float32), "k"))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_random_graphs_keep_their_results() -> None:
    shorter = 0
    for seed in range(120):
        proto = random_graph(seed)
        graph: Graph = assert_passes_keep_the_result(proto, 1e-4)
        shorter += len(graph.layers) < len(proto.graph.node)
    assert shorter > 60
    assert feeds_for(graph)


def integers(dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng(3).integers(info.min, info.max, shape, endpoint=True).astype(dtype)


QUANTISED = {
    "s": np.array(0.02, np.float32),
    "z": np.array(131, np.uint8),
    "t": np.array([0.5], np.float32),
    "u": np.array([7], np.uint8),
}
SINGLE = {"ws": np.array(0.03, np.float32), "wz": np.array(-4, np.int8)}


@pytest.mark.parametrize("channels", [(), (4,)])
def test_qlinear_conv_is_spelled_out(channels: tuple[int, ...]) -> None:
    text = """g (uint8[1,3,5,5] x) => (uint8[1,4,5,5] y) {
        y = QLinearConv <pads = [1, 1, 1, 1]> (x, s, z, w, ws, wz, t, u, c) }"""
    weights = {
        "w": integers("int8", 4, 3, 3, 3),
        "ws": np.full(channels, 0.03, np.float32),
        "wz": integers("int8", *channels),
    }
    made = with_constants(text, **QUANTISED, **weights, c=np.array([-900, 5, 0, 4000], np.int32))
    _assert_within_one_step(made, ["DequantizeLinear", "Conv", "QuantizeLinear"])


@pytest.mark.parametrize("constant", [True, False])
def test_qlinear_matmul_is_spelled_out(constant: bool) -> None:
    operand = "" if constant else ", int8[6,4] w"
    text = f"g (uint8[5,6] x{operand}) => (uint8[5,4] y) {{ y = QLinearMatMul(x, s, z, w, ws, wz, t, u) }}"
    weights = {"w": integers("int8", 6, 4)} if constant else {}
    made = with_constants(text, **QUANTISED, **weights, **SINGLE)
    _assert_within_one_step(made, ["DequantizeLinear"] * (1 if constant else 2) + ["MatMul", "QuantizeLinear"])


def _assert_within_one_step(made: onnx.ModelProto, wanted: list[str]) -> None:
    before, graph = load(made, passes=False), load(made)
    assert ops(graph) == wanted
    assert graph.outputs[0].qparams is not None
    feeds = {v.name: integers(v.dtype.name, *v.static_shape) for v in graph.inputs}
    (one,), (other,) = (run_graph(g, feeds).values() for g in (before, graph))
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_qlinear_conv_of_computed_numbers_stays() -> None:
    text = """g (uint8[1,3,5,5] x, float s) => (uint8[1,4,3,3] y) { y = QLinearConv(x, s, z, w, ws, wz, t, u) }"""
    numbers = {k: v for k, v in QUANTISED.items() if k != "s"}
    made = with_constants(text, **numbers, w=integers("int8", 4, 3, 3, 3), **SINGLE)
    assert ops(load(made)) == ["QLinearConv"]
