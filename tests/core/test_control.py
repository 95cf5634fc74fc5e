"""Control flow in sessions: what bodies give back, take, cost, and how their plans follow the plan around them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import softneuro_core as sn
from softneuro_core.replay import transfer
from tests.core.models import expected, model

FLOAT = TensorProto.FLOAT


@pytest.fixture(scope="module")
def catalog() -> sn.Catalog:
    return sn.load_plugins(only=())


def _typed(names: list[str], shape: list[int | str] | None) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(n, FLOAT, shape) for n in names]


def _scan(length: int, **attributes: object) -> onnx.ModelProto:
    """A running sum over rows of two, with every partial sum."""
    nodes = [helper.make_node("Add", ["s", "row"], ["t"]), helper.make_node("Identity", ["t"], ["u"])]
    body = helper.make_graph(nodes, "body", _typed(["s", "row"], [2]), _typed(["t", "u"], [2]))
    scan = helper.make_node("Scan", ["s0", "x"], ["last", "all"], "scan", body=body, num_scan_inputs=1, **attributes)
    return model([scan], {"s0": [2], "x": [length, 2]}, ["last", "all"])


@pytest.mark.parametrize(("length", "axis"), [(3, 0), (3, 1), (0, 0), (0, 1)])
def test_a_scan_of_any_length(catalog: sn.Catalog, length: int, axis: int) -> None:
    feeds = {"s0": np.ones(2, np.float32), "x": np.arange(2.0 * length, dtype=np.float32).reshape(length, 2)}
    session = sn.Session(_scan(length, scan_output_axes=[axis]), threads=1, catalog=catalog)
    assert session.plan.kernel_steps[0].routine == "cpu/control"
    made = session.run(feeds)
    sums = feeds["s0"] + np.cumsum(feeds["x"], axis=0)
    np.testing.assert_array_equal(made["all"], sums if axis == 0 else sums.T)
    np.testing.assert_array_equal(made["last"], sums[-1] if length else feeds["s0"])


def test_a_loop_whose_last_output_nobody_wants(catalog: sn.Catalog) -> None:
    nodes = [helper.make_node("Add", ["v", "v"], ["w"]), helper.make_node("Identity", ["w"], ["row"])]
    nodes.append(helper.make_node("Identity", ["go"], ["on"]))
    turn = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    go, on = (helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("go", "on"))
    body = helper.make_graph(nodes, "body", [turn, go, *_typed(["v"], [2])], [on, *_typed(["w", "row"], [2])])
    loop = helper.make_node("Loop", ["m", "", "x"], ["last", ""], "loop", body=body)
    nodes = [loop, helper.make_node("Reshape", ["last", "two"], ["y"])]
    proto = model(nodes, {"x": [2]}, ["y"], {"m": np.array(3, np.int64), "two": np.array([2])})
    session = sn.Session(proto, threads=1, catalog=catalog)
    assert session.plan.kernel_steps[0].routine == "cpu/control"
    np.testing.assert_array_equal(session.run({"x": np.ones(2, np.float32)})["y"], [8, 8])


def _branches(width: int = 64) -> onnx.ModelProto:
    """If the sum of x is positive: x times a constant matrix, else -x."""
    weight = numpy_helper.from_array(np.eye(width, dtype=np.float32) * 2, "w")
    then = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["a"], "product"), helper.make_node("Relu", ["a"], ["b"], "relu")],
        "then",
        [],
        _typed(["b"], [1, width]),
        [weight],
    )
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["c"], "neg")], "else", [], _typed(["c"], [1, width]))
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], "sum", keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["yes"], "test"),
        helper.make_node("If", ["yes"], ["y"], "choice", then_branch=then, else_branch=other),
    ]
    return model(nodes, {"x": [1, width]}, ["y"], {"zero": np.zeros((), np.float32)})


def _check(session: sn.Session) -> None:
    for x in (np.ones((1, 64), np.float32), -np.ones((1, 64), np.float32)):
        np.testing.assert_array_equal(session.run({"x": x})["y"], expected(_branches(), {"x": x})[0])


def _plan(catalog: sn.Catalog, **asked: object) -> tuple[sn.Graph, sn.Plan]:
    graph = sn.load(_branches(), catalog=catalog)
    return graph, sn.tune(graph, threads=2, budget_s=0, catalog=catalog, **asked)  # type: ignore[arg-type]


def test_bodies_run_on_the_threads_of_the_session(catalog: sn.Catalog) -> None:
    graph, plan = _plan(catalog)
    session = sn.Session(graph, plan, threads=1, catalog=catalog)
    assert [session.plan.threads, *(b.threads for b in session.plan.bodies.values())] == [1, 1, 1]
    _check(session)


def test_a_body_the_plan_does_not_have_is_planned_when_transferred(catalog: sn.Catalog) -> None:
    graph, plan = _plan(catalog, forbid=("cpu/nothing@choice",))
    moved = transfer(graph, replace(plan, bodies={}), catalog, 1)
    assert set(moved.bodies) == {"choice.then_branch", "choice.else_branch"}
    _check(sn.Session(graph, moved, catalog=catalog))


def test_a_limit_on_weights_binds_those_of_bodies(catalog: sn.Catalog) -> None:
    _, free = _plan(catalog)
    _, bound = _plan(catalog, limits={"constant_bytes": 64 * 64 * 4 - 1})
    assert free.kernel_steps[-1].routine == "cpu/control"
    assert bound.kernel_steps[-1].routine == "cpu/reference"


def test_the_memory_of_bodies_counts(catalog: sn.Catalog) -> None:
    program = next(iter(sn.Session(_branches(), threads=1, catalog=catalog)._programs.values()))
    own = sum(arena.nbytes for arena in program.arenas.values())
    assert program.activation_bytes >= own + 2 * 64 * 4
