"""Whole files as onnxruntime's quantiser and optimiser write them, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import softneuro_core as sn
from softneuro_core.catalog import Catalog
from softneuro_core.graph import Graph

ort = pytest.importorskip("onnxruntime")
node = helper.make_node
LAST_STEP = 1.01 / 256
"""Of the Softmax at the end, whose grid onnxruntime chooses; the file turns it into float32."""
SHAPE = (2, 3, 12, 12)


Kinds = tuple[str, str, bool]
"""Type of activations, type of weights, whether weights are rounded by channel."""
KINDS = pytest.mark.parametrize(
    "kinds", [("QUInt8", "QInt8", True), ("QUInt8", "QUInt8", False), ("QInt8", "QInt8", True)]
)


class Drawn:
    """Weights of a network under construction, by name."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.arrays: dict[str, np.ndarray] = {}

    def __call__(self, *shape: int, scale: float | None = None) -> str:
        name = f"w{len(self.arrays)}"
        fan = scale or 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])
        self.arrays[name] = (self.rng.standard_normal(shape) * fan).astype(np.float32)
        return name

    def known(self, array: Any) -> str:
        name = f"w{len(self.arrays)}"
        self.arrays[name] = np.asarray(array)
        return name

    def model(self, nodes: list[onnx.NodeProto], *inputs: onnx.ValueInfoProto) -> onnx.ModelProto:
        stored = [numpy_helper.from_array(a, n) for n, a in self.arrays.items()]
        outputs = [helper.make_tensor_value_info("y", 1, None)]
        graph = helper.make_graph(nodes, "g", list(inputs), outputs, stored)
        opsets = [helper.make_opsetid("", 17)]
        return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def small_network() -> onnx.ModelProto:
    """Residual, LeakyRelu, AveragePool, Sigmoid, Mul, Concat, GlobalAveragePool, Gemm, Softmax."""
    w = Drawn(1)
    nodes = [
        node("Conv", ["x", w(8, 3, 3, 3), w(8)], ["c1"], pads=[1] * 4),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", w(8, 8, 3, 3), w(8)], ["c2"], pads=[1] * 4),
        node("Add", ["c2", "r1"], ["a"]),
        node("LeakyRelu", ["a"], ["l"], alpha=0.1),
        node("AveragePool", ["l"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", w(8, 8, 1, 1), w(8)], ["c3"]),
        node("Sigmoid", ["c3"], ["s"]),
        node("Mul", ["s", "c3"], ["m"]),
        node("Concat", ["m", "p"], ["k"], axis=1),
        node("GlobalAveragePool", ["k"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", w(10, 16), w(10)], ["z"], transB=1),
        node("Softmax", ["z"], ["y"]),
    ]
    return w.model(nodes, helper.make_tensor_value_info("x", 1, SHAPE))


def samples() -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    for _ in range(8):
        yield {"x": rng.standard_normal(SHAPE).astype(np.float32)}


class Reader:
    """What the quantiser calibrates with."""

    def __init__(self) -> None:
        self.left = samples()

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


def quantised(folder: Path, form: str, types: Kinds) -> Path:
    activations, weights, per_channel = types
    quantization = pytest.importorskip("onnxruntime.quantization")
    kinds = quantization.QuantType
    source, made = folder / "float.onnx", folder / f"{form}.onnx"
    onnx.save(small_network(), source)
    quantization.quantize_static(
        source,
        made,
        Reader(),
        quant_format=quantization.QuantFormat[form],
        activation_type=kinds[activations],
        weight_type=kinds[weights],
        per_channel=per_channel,
        reduce_range=activations != weights,  # onnxruntime overflows in pairs without VNNI otherwise
    )
    return made


def optimised(source: Path, level: str) -> onnx.ModelProto:
    """What onnxruntime makes of a file before it runs it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.__members__[level]
    options.optimized_model_filepath = str(source.with_suffix(".optimised.onnx"))
    options.log_severity_level = 4
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


def foreign(model: onnx.ModelProto) -> set[str]:
    return {n.op_type for n in model.graph.node if n.domain == "com.microsoft"}


Agree = Callable[..., Graph]


@KINDS
def test_of_quantised_operators(agree_on_file: Agree, tmp_path: Path, kinds: Kinds) -> None:
    model = onnx.load(quantised(tmp_path, "QOperator", kinds))
    names = "Add LeakyRelu AveragePool Sigmoid Mul Concat GlobalAveragePool Softmax"
    assert foreign(model) == {f"QLinear{name}" for name in names.split()} | {"QGemm"}
    agree_on_file(model, next(samples()), error=LAST_STEP)


@KINDS
@pytest.mark.parametrize("level", ["ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_of_quantised_layers_then_optimised(agree_on_file: Agree, tmp_path: Path, level: str, kinds: Kinds) -> None:
    model = optimised(quantised(tmp_path, "QDQ", kinds), level)
    assert {"QLinearLeakyRelu", "QGemm", "QLinearSoftmax"} <= foreign(model)
    agree_on_file(model, next(samples()), error=LAST_STEP)


def test_of_quantised_operators_runs_in_integers(everything: Catalog, tmp_path: Path) -> None:
    """Every layer between grids has an integer routine, and a plan of them all is as near onnxruntime as any other."""
    path = quantised(tmp_path, "QOperator", ("QUInt8", "QInt8", True))
    graph = sn.load(path, catalog=everything)
    force = ["cpu/qconv@Conv", "cpu/qadd@Add", "cpu/qmul@Mul", "cpu/qgemm@Gemm", "cpu/qmove@Concat"]
    force += ["cpu/qfunction@LeakyRelu", "cpu/qfunction@Sigmoid", "cpu/qpool@AveragePool"]
    force += ["cpu/qpool@GlobalAveragePool"]
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=everything, force=force)
    assert {name.partition("@")[0] for name in force} <= {step.routine for step in plan.kernel_steps}
    feeds = next(samples())
    (wanted,) = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)
    np.testing.assert_allclose(sn.Session(graph, plan, catalog=everything).run(feeds)["y"], wanted, atol=LAST_STEP)


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_EXTENDED"])
def test_of_dynamic_scales(agree_on_file: Agree, tmp_path: Path, level: str) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    made = tmp_path / "dynamic.onnx"
    onnx.save(small_network(), tmp_path / "float.onnx")
    quantization.quantize_dynamic(
        tmp_path / "float.onnx", made, weight_type=quantization.QuantType.QInt8, reduce_range=True
    )
    model = optimised(made, level)
    assert ("DynamicQuantizeMatMul" in foreign(model)) == (level != "ORT_DISABLE_ALL")
    agree_on_file(model, next(samples()), error=1e-4)


def test_of_a_float_network_optimised(agree_on_file: Agree, tmp_path: Path) -> None:
    onnx.save(small_network(), tmp_path / "float.onnx")
    model = optimised(tmp_path / "float.onnx", "ORT_ENABLE_EXTENDED")
    assert {"FusedConv", "QuickGelu"} <= foreign(model)
    agree_on_file(model, next(samples()))


HIDDEN, HEADS, LENGTH = 16, 2, 6


def transformer() -> onnx.ModelProto:
    """One block of BERT as PyTorch exports it: embeddings, attention, a residual, Gelu, a residual."""
    w = Drawn(3)
    nodes: list[onnx.NodeProto] = []

    def add(op: str, *ins: str, **attrs: Any) -> str:
        nodes.append(node(op, list(ins), [f"v{len(nodes)}"], name=f"{op}_{len(nodes)}", **attrs))
        return f"v{len(nodes) - 1}"

    def dense(x: str, inner: int, outer: int) -> str:
        return add("Add", add("MatMul", x, w(inner, outer)), w(outer))

    def norm(x: str) -> str:
        return add("LayerNormalization", x, w(HIDDEN, scale=1.0), w(HIDDEN), axis=-1, epsilon=1e-12)

    def heads(x: str, perm: list[int]) -> str:
        split = add("Reshape", x, w.known(np.array([0, 0, HEADS, HIDDEN // HEADS])))
        return add("Transpose", split, perm=perm)

    x = norm(add("Add", add("Gather", w(30, HIDDEN, scale=1.0), "ids"), w(1, LENGTH, HIDDEN, scale=1.0)))
    q, k, v = (heads(dense(x, HIDDEN, HIDDEN), perm) for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    wide = add("Unsqueeze", add("Unsqueeze", "mask", w.known(np.array([1]))), w.known(np.array([2])))
    wide = add("Cast", wide, to=1)
    masked = add("Mul", add("Sub", w.known(np.float32(1)), wide), w.known(np.float32(-10000)))
    scores = add("Add", add("Div", add("MatMul", q, k), w.known(np.float32(np.sqrt(HIDDEN // HEADS)))), masked)
    mixed = add("Transpose", add("MatMul", add("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    mixed = dense(add("Reshape", mixed, w.known(np.array([0, 0, HIDDEN]))), HIDDEN, HIDDEN)
    x = norm(add("Add", mixed, x))
    inner = dense(x, HIDDEN, 32)
    erf = add("Add", add("Erf", add("Div", inner, w.known(np.float32(np.sqrt(2))))), w.known(np.float32(1)))
    gelu = add("Mul", add("Mul", inner, erf), w.known(np.float32(0.5)))
    norm(add("Add", dense(gelu, 32, HIDDEN), x))
    nodes[-1].output[0] = "y"
    ids, mask = (helper.make_tensor_value_info(n, 7, [2, LENGTH]) for n in ("ids", "mask"))
    return w.model(nodes, ids, mask)


def tokens() -> dict[str, np.ndarray]:
    ids = np.random.default_rng(4).integers(0, 30, (2, LENGTH))
    return {"ids": ids, "mask": np.array([[1] * LENGTH, [1] * 4 + [0] * (LENGTH - 4)])}


@pytest.fixture
def fused(tmp_path: Path) -> Path:
    """The block after onnxruntime's own fusions for transformers."""
    pytest.importorskip("sympy", reason="onnxruntime's optimiser for transformers needs sympy")
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
    onnx.save(transformer(), tmp_path / "block.onnx")
    made = optimizer.optimize_model(
        str(tmp_path / "block.onnx"), "bert", num_heads=HEADS, hidden_size=HIDDEN, opt_level=0, only_onnxruntime=False
    )
    made.save_model_to_file(str(tmp_path / "fused.onnx"))
    return tmp_path / "fused.onnx"


def test_of_a_transformer_optimised(agree_on_file: Agree, tmp_path: Path) -> None:
    onnx.save(transformer(), tmp_path / "block.onnx")
    model = optimised(tmp_path / "block.onnx", "ORT_ENABLE_EXTENDED")
    assert {"SkipLayerNormalization", "FusedMatMul", "Gelu"} <= foreign(model)
    agree_on_file(model, tokens())


def test_of_a_transformer_after_its_fusions(agree_on_file: Agree, fused: Path) -> None:
    model = onnx.load(fused)
    assert {"Attention", "BiasGelu", "SkipLayerNormalization"} <= foreign(model)
    agree_on_file(model, tokens())


def test_of_a_transformer_of_dynamic_scales(agree_on_file: Agree, fused: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    made = fused.with_name("dynamic.onnx")
    quantization.quantize_dynamic(fused, made, weight_type=quantization.QuantType.QInt8, reduce_range=True)
    model = optimised(made, "ORT_ENABLE_EXTENDED")
    assert {"QAttention", "DynamicQuantizeMatMul"} <= foreign(model)
    agree_on_file(model, tokens(), error=0.02)
