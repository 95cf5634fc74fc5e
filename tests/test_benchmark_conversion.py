"""ONNX on its way to other formats: rewrites and torch forms keep every value, and what is not meant stays as it is."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from benchmarks.convert.rewrites import rewritten
from benchmarks.nets import build, macs, sample
from benchmarks.nets.builder import Builder
from benchmarks.processes import ROOT, EngineError, Process, python_of


def convolutions(b: Builder) -> list[str]:
    """Everything that works on images, and the flattening of YOLO's cells."""
    x = b.conv(b.input("image", (1, 3, 16, 16)), 8, 3, 2, act="relu6")
    x = b.depthwise(x, 3, act="hardswish")
    x = b.same("Add", x, b.squeeze_excite(x, 4, "silu", "hardsigmoid"))
    pooled = b.max_pool(b.conv(x, 6, 3, dilation=2), 3, 2, pad=1)
    x = b.concat(b.upsample(pooled), b.up_conv(pooled, 4))
    cells = b.transpose(b.reshape(b.act(x, "sigmoid"), (1, 10, 64)), (0, 2, 1))
    return [cells, b.gemm(b.flat(b.global_pool(x)), 5)]


def sentences(b: Builder) -> list[str]:
    """Everything that works on tokens."""
    ids, mask = (b.input(name, (1, 6), TensorProto.INT64) for name in ("input_ids", "attention_mask"))
    x = b.layer_norm(b.node("Gather", [b.weights((8192, 8), 1.0), ids], (1, 6, 8), axis=0))
    kept = b.node("Cast", [b.reshape(mask, (1, 6, 1))], (1, 6, 1), to=TensorProto.FLOAT)
    x = b.same("Sub", b.act(b.linear(x, 12), "gelu"), kept)
    x = b.same("Softmax", b.matmul(b.transpose(x, (0, 2, 1)), x), axis=-1)
    limits = [b.constant(np.array([number], np.int64)) for number in (0, 1, 1)]
    first = b.node("Slice", [x, *limits], (1, 1, 12))
    return [x, b.same("Tanh", b.reshape(first, (1, 12)))]


NETS = {net.__name__: net for net in (convolutions, sentences)}
Values = dict[str, np.ndarray]


@pytest.fixture(params=list(NETS))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Values, Values]:
    """(model, inputs, outputs by the reference)"""
    builder = Builder(request.param)
    path = builder.save(tmp_path, *NETS[request.param](builder))
    return path, (feeds := sample(path)), run(onnx.load(path), feeds)


def run(model: onnx.ModelProto, feeds: Values) -> Values:
    names = [value.name for value in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model).run(None, feeds), strict=True))


def assert_same(found: Values, expected: Values) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5 * np.abs(array).max(), err_msg=name)


def test_rewrites_keep_every_value(case):
    path, feeds, expected = case
    before = Counter(node.op_type for node in onnx.load(path).graph.node)
    model = rewritten(onnx.load(path))
    onnx.checker.check_model(model, full_check=True)
    after = Counter(node.op_type for node in model.graph.node)
    assert before["Erf"] + before["MaxPool"] == after["Gelu"] + after["Pad"] == 1 and not after["Erf"]
    assert_same(run(model, feeds), expected)


def test_cells_are_flattened_channel_last_first(tmp_path):
    builder = Builder("net")
    model = rewritten(onnx.load(builder.save(tmp_path, *convolutions(builder))))
    (transpose,) = (node for node in model.graph.node if node.op_type == "Transpose")
    assert list(transpose.attribute[0].ints) == [0, 2, 3, 1]


@pytest.mark.parametrize("name", ["pool of a sum", "erf of another scale", "half of another sum", "other axes"])
def test_what_only_looks_like_a_pattern_stays(name, tmp_path):
    b = Builder("net")
    x = b.input("x", (1, 3, 4, 4))
    if name == "pool of a sum":
        x = b.max_pool(b.same("Add", x, x), 3, 2, pad=1)
    elif name == "other axes":
        x = b.transpose(b.reshape(x, (1, 3, 16)), (2, 0, 1))
    else:
        inner = b.same("Erf", b.scaled(x, 0.6 if name == "erf of another scale" else 0.5**0.5))
        one = b.same("Add", inner, b.constant(np.array(1, np.float32)))
        x = b.scaled(b.same("Mul", b.same("Add", x, x) if name == "half of another sum" else x, one), 0.5)
    path = b.save(tmp_path, x)
    kept = [node.SerializeToString() for node in onnx.load(path).graph.node]
    assert [node.SerializeToString() for node in rewritten(onnx.load(path)).graph.node] == kept


def test_torch_forms_give_the_same_values(case):
    torch = pytest.importorskip("torch", reason="torch is in .venv-litert only", exc_type=ImportError)
    from benchmarks.convert.torch_module import OnnxModule

    path, feeds, expected = case
    for model in (rewritten(onnx.load(path)), *([onnx.load(path)] if "image" in feeds else [])):
        module = OnnxModule(model, frozenset({"image"}))
        given = [a.transpose(0, 2, 3, 1) if a.ndim == 4 else a for a in feeds.values()]
        found = module(*(torch.from_numpy(np.ascontiguousarray(a)) for a in given))
        assert_same({name: value.numpy() for name, value in found.items()}, expected)


def test_operators_without_a_torch_form_are_named():
    pytest.importorskip("torch", reason="torch is in .venv-litert only", exc_type=ImportError)
    from benchmarks.convert.torch_module import OnnxModule

    graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"])], "g", [], [])
    with pytest.raises(NotImplementedError, match="Det"):
        OnnxModule(helper.make_model(graph))


def litert_python() -> str:
    try:
        return str(python_of("litert"))
    except EngineError as error:
        pytest.skip(str(error))


def test_the_process_that_is_measured_loads_no_torch():
    program = "import sys, benchmarks.engines.litert_; print({'torch', 'jax', 'onnx'} & set(sys.modules))"
    done = subprocess.run([litert_python(), "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.long
def test_litert_converts_and_agrees(case, tmp_path):
    litert_python()
    path, feeds, expected = case
    np.savez(tmp_path / "feeds.npz", **feeds)
    common = {"model": str(path), "feeds": str(tmp_path / "feeds.npz"), "threads": 1, "folder": str(tmp_path)}
    process = Process("litert", 1, tmp_path / "log")
    try:
        assert "litert-torch" in process.ask(240, do="prepare", **common)["facts"]["converter"]
        process.ask(60, do="load", **common)
        process.ask(60, do="outputs", file=str(tmp_path / "outputs.npz"))
    finally:
        process.close()
    assert "XNNPACK delegate" in (tmp_path / "log").read_text(encoding="utf-8", errors="replace")
    with np.load(tmp_path / "outputs.npz") as found:
        assert_same(dict(found), expected)


@pytest.mark.parametrize(("half", "most"), [(False, 1e-4), (True, 2e-2)])
def test_the_torch_engine_gives_the_same_values(case, half, most):
    pytest.importorskip("torch", reason="torch is in .venv-litert only", exc_type=ImportError)
    from benchmarks.engines.torch_ import Torch

    path, feeds, expected = case
    found = Torch(half=half).load(path, feeds, 1).run(feeds)
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        np.testing.assert_allclose(found[name], wanted, atol=most * np.abs(wanted).max())


def test_networks_of_several_images(tmp_path):
    one, four = (build("squeezenet1_1", tmp_path, batch) for batch in (1, 4))
    assert four.name == "squeezenet1_1-b4.onnx" and macs("squeezenet1_1", 4) == 4 * macs("squeezenet1_1")
    assert {name: array.shape for name, array in sample(four).items()} == {"image": (4, 3, 224, 224)}
    weights = [{w.name: w.raw_data for w in onnx.load(path).graph.initializer} for path in (one, four)]
    assert weights[0] == weights[1]
    with pytest.raises(ValueError, match="vit_tiny-b2 is written for batch 1"):
        build("vit_tiny", tmp_path, 2)
