"""Operators of com.microsoft in graphs: free dimensions, bodies of control flow, saved and loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

import softneuro_core as sn
from softneuro_core.catalog import Catalog
from softneuro_core.export import save
from softneuro_core.graph import Graph
from softneuro_core.testing.case import Const

RNG = np.random.default_rng(15)
X = RNG.integers(0, 256, (2, 3, 4)).astype(np.uint8)
GRID = (Const(np.float32(0.02)), Const(np.uint8(120)))


def run(graph: Graph, catalog: Catalog, **feeds: np.ndarray) -> np.ndarray:
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=catalog, force="cpu/reference")
    return np.asarray(next(iter(sn.Session(graph, plan, catalog=catalog).run(feeds).values())))


def freed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the first two dimensions of its first input free."""
    for name, dim in zip(("batch", "length"), model.graph.input[0].type.tensor_type.shape.dim, strict=False):
        dim.dim_param = name
    return model


def test_free_dimensions_are_fixed_later(made: Any, everything: Catalog) -> None:
    tokens, weights, bias = (RNG.standard_normal(s).astype(np.float32) for s in ((2, 5, 8), (8, 24), (24,)))
    attrs = {"num_heads": 2, "unidirectional": 1}
    operands = (tokens, Const(weights), Const(bias))
    graph = sn.load(freed(made("Attention", *operands, **attrs)), catalog=everything)
    assert (graph.outputs[0].shape or ())[2] == 8 and not graph.outputs[0].is_static
    fixed = sn.load(freed(made("Attention", *operands, **attrs)), {"x0": (2, 5, 8)}, catalog=everything)
    static = sn.load(made("Attention", *operands, **attrs), catalog=everything)
    assert fixed.outputs[0].static_shape == (2, 5, 8)
    np.testing.assert_array_equal(run(fixed, everything, x0=tokens), run(static, everything, x0=tokens))


def test_a_layer_keeps_its_name_and_its_numbers(made: Any, everything: Catalog) -> None:
    graph = sn.load(made("QLinearAdd", X, *GRID, X[:, :1], *GRID, *GRID), catalog=everything)
    assert graph.layers[-1].name == "it" and [v.name for v in graph.outputs] == ["y0"]
    numbers = graph.outputs[0].qparams
    assert numbers is not None and (float(numbers.scale), int(numbers.zero_point)) == (np.float32(0.02), 120)
    on_grid = [v.qparams for v in graph.values if v.qparams is not None and v.qparams.on_grid]
    assert len(on_grid) == 2 and all(q.scale.shape == () for q in on_grid)


def test_saved_and_loaded_again(made: Any, everything: Catalog, tmp_path: Path) -> None:
    model = made("QLinearAdd", X, *GRID, X[:, :1], *GRID, *GRID)
    found = []
    for passes in (False, True):
        graph = sn.load(model, catalog=everything, passes=passes)
        save(graph, tmp_path / "again.onnx")
        again = sn.load(tmp_path / "again.onnx", catalog=everything, passes=False)
        assert [la.op for la in again.layers] == [la.op for la in graph.layers]
        found.append(run(again, everything, x0=X, x3=X[:, :1]))
    np.testing.assert_array_equal(*found)


def test_in_a_branch(everything: Catalog) -> None:
    """What a branch reads from outside is captured, and the operator is written out in there."""
    info = helper.make_tensor_value_info
    names = ["x", "s", "z", "s", "z"]
    sigmoid = helper.make_node("QLinearSigmoid", names, ["t"], domain="com.microsoft")
    same = helper.make_node("Identity", ["x"], ["e"])
    branches = {
        f"{name}_branch": helper.make_graph([one], name, [], [info(one.output[0], 2, [2, 3, 4])])
        for name, one in (("then", sigmoid), ("else", same))
    }
    stored = [numpy_helper.from_array(np.asarray(c.array), n) for n, c in zip("sz", GRID, strict=True)]
    nodes = [helper.make_node("If", ["c"], ["y"], **branches)]
    inputs = [info("c", 9, []), info("x", 2, [2, 3, 4])]
    graph = helper.make_graph(nodes, "g", inputs, [info("y", 2, [2, 3, 4])], stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    loaded = sn.load(helper.make_model(graph, opset_imports=opsets, ir_version=8), catalog=everything)
    (layer,) = loaded.layers
    assert [la.op for la in layer.bodies["then_branch"].layers] == ["DequantizeLinear", "Sigmoid", "QuantizeLinear"]
    wanted = np.rint(1 / (1 + np.exp(-(X.astype(float) - 120) * 0.02)) / 0.02) + 120
    assert np.abs(run(loaded, everything, c=np.array(True), x=X) - wanted).max() <= 1
    np.testing.assert_array_equal(run(loaded, everything, c=np.array(False), x=X), X)
