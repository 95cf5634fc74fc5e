"""One operator of com.microsoft, computed by onnxruntime and by SoftNeuro in every way there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import softneuro_core as sn
from softneuro_core.builtin.reference import RegionEvaluator
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.graph import Graph, Region, Value
from softneuro_core.testing.case import Const

DOMAIN, REFERENCE = "com.microsoft", "cpu/reference"
FLOAT_ERROR = 1e-5
"""Of the largest result: float sums in another order."""
Operand = np.ndarray | Const | None


@pytest.fixture(scope="session")
def everything() -> Catalog:
    return load_plugins()


@pytest.fixture
def made() -> Callable[..., onnx.ModelProto]:
    return one_node


@pytest.fixture
def agree_on_file(everything: Catalog) -> Callable[..., Graph]:
    """The same of a whole model and its inputs."""
    pytest.importorskip("onnxruntime")

    def check(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], error: float = FLOAT_ERROR) -> Graph:
        return agree_on_model(model, feeds, everything, error=error)

    return check


@pytest.fixture
def agree(everything: Catalog) -> Callable[..., Graph]:
    """A function of an operator's name, operands and attributes: checks all ways against onnxruntime; the graph."""
    pytest.importorskip("onnxruntime")

    def check(op: str, *operands: Operand, force: Sequence[str] = (), **options: Any) -> Graph:
        feeds = {f"x{i}": o for i, o in enumerate(operands) if isinstance(o, np.ndarray)}
        return agree_on_model(one_node(op, *operands, **options), feeds, everything, force)

    return check


def one_node(op: str, *operands: Operand, outputs: Sequence[str] = ("y0",), **attrs: Any) -> onnx.ModelProto:
    """A model of one operator; arrays are inputs, :class:`Const` initialisers, None is absent."""
    names = ["" if o is None else f"x{i}" for i, o in enumerate(operands)]
    arrays = {f"x{i}": o for i, o in enumerate(operands) if isinstance(o, np.ndarray)}
    stored = [numpy_helper.from_array(o.array, f"x{i}") for i, o in enumerate(operands) if isinstance(o, Const)]
    ins = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in arrays.items()
    ]
    outs = [helper.make_empty_tensor_value_info(n) for n in outputs if n]
    node = helper.make_node(op, names, list(outputs), name="it", domain=DOMAIN, **attrs)
    graph = helper.make_graph([node], "g", ins, outs, stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def of_onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # the operator as it is
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def agree_on_model(
    model: onnx.ModelProto,
    feeds: Mapping[str, np.ndarray],
    catalog: Catalog,
    force: Sequence[str] = (),
    error: float = FLOAT_ERROR,
) -> Graph:
    """Checks the reference of the layers as they stand, of those they are written as, and the best plan; what is
    forced must be in it."""
    wanted = of_onnxruntime(model, feeds)
    _compare(wanted, _layer_by_layer(sn.load(model, catalog=catalog, passes=False), feeds, catalog), error)
    graph = sn.load(model, catalog=catalog)
    assert not [layer for layer in graph.layers if layer.domain == DOMAIN]
    for forced in ((REFERENCE,), force):
        plan = sn.tune(graph, threads=1, budget_s=0, catalog=catalog, force=forced)
        assert {name.partition("@")[0] for name in forced} <= {step.routine for step in plan.kernel_steps}
        found = sn.Session(graph, plan, catalog=catalog).run(dict(feeds))
        _compare(wanted, [found[v.name] for v in graph.outputs], error)
    return graph


def _layer_by_layer(graph: Graph, feeds: Mapping[str, np.ndarray], catalog: Catalog) -> list[np.ndarray]:
    known: dict[Value, Any] = {v: feeds[v.name] for v in graph.inputs}
    for layer in graph.layers:
        region = Region(graph, (layer,))
        made = RegionEvaluator(region, catalog.operators)([known[v] for v in region.inputs])
        known.update(zip(region.outputs, made, strict=True))
    return [known[v] for v in graph.outputs]


def _compare(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray], error: float) -> None:
    for one, other in zip(wanted, found, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        if one.dtype.kind in "iu":
            assert np.abs(one.astype(np.int64) - other.astype(np.int64)).max(initial=0) <= 1
        else:
            bound = error * max(1.0, float(np.abs(one).max(initial=0)))
            np.testing.assert_allclose(other, one, rtol=0, atol=bound)
