"""Whole networks: on the device alone, on both, and where the device is gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import softneuro_opencl
from onnx import TensorProto, helper

import softneuro_core as sn
from softneuro_core.catalog import Catalog
from softneuro_core.errors import SoftneuroError
from softneuro_core.plan import AdapterStep, Plan
from softneuro_core.session import SoftneuroNotice

ROOT = Path(__file__).parents[3]
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"
IMAGE = {"image": np.random.default_rng(0).random((1, 1, 8, 8), np.float32)}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return sn.load_plugins(only=(), modules={"opencl": softneuro_opencl})


@pytest.fixture(scope="module")
def graph(catalog: Catalog) -> sn.Graph:
    return sn.load(DIGITS, {"image": (1, 1, 8, 8)}, catalog=catalog)


def tuned(graph: sn.Graph, catalog: Catalog, force: str | list[str]) -> Plan:
    return sn.tune(graph, threads=1, budget_s=0, force=force, catalog=catalog)


def devices(plan: Plan) -> list[str]:
    return [step.routine.partition("/")[0] for step in plan.kernel_steps]


def outputs(graph: sn.Graph, plan: Plan, catalog: Catalog) -> np.ndarray:
    with sn.Session(graph, plan, catalog=catalog) as session:
        (made,) = session.run(IMAGE).values()
    return made


def test_a_whole_network_runs_on_the_device(graph: sn.Graph, catalog: Catalog) -> None:
    there, here = tuned(graph, catalog, "opencl"), tuned(graph, catalog, "cpu")
    assert set(devices(there)) == {"opencl"} and set(devices(here)) == {"cpu"}
    assert [s.adapter for s in there.steps if isinstance(s, AdapterStep)].count("cpu/transfer") == 2
    np.testing.assert_allclose(outputs(graph, there, catalog), outputs(graph, here, catalog), rtol=1e-4, atol=1e-5)


def test_layers_on_both_sides_give_the_same_result(graph: sn.Graph, catalog: Catalog) -> None:
    here = tuned(graph, catalog, "cpu")
    mixed = tuned(graph, catalog, ["opencl@Conv", "cpu@Gemm,MaxPool"])
    assert set(devices(mixed)) == {"cpu", "opencl"}
    assert sum(isinstance(s, AdapterStep) and s.adapter == "cpu/transfer" for s in mixed.steps) >= 2
    np.testing.assert_allclose(outputs(graph, mixed, catalog), outputs(graph, here, catalog), rtol=1e-4, atol=1e-5)


def test_runs_in_a_row_agree_in_every_bit(graph: sn.Graph, catalog: Catalog) -> None:
    plan = tuned(graph, catalog, "opencl")
    with sn.Session(graph, plan, catalog=catalog) as session:
        first, *others = [next(iter(session.run(IMAGE).values())) for _ in range(5)]
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_a_device_that_is_gone_is_one_clear_error(graph: sn.Graph, catalog: Catalog, tmp_path: Path) -> None:
    tuned(graph, catalog, "opencl").save(tmp_path / "plan.json")
    without = catalog.without(devices=["opencl"], routines=[n for n in catalog.routines if n.startswith("opencl/")])
    with pytest.warns(SoftneuroNotice, match="another machine"), pytest.raises(SoftneuroError, match="opencl") as told:
        sn.Session(graph, tmp_path / "plan.json", catalog=without)
    assert told.value.remedy


def test_softmax_before_version_13_takes_all_axes_behind_its_own_together(catalog: Catalog) -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], "s")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3, 4]) for n in "xy")
    proto = helper.make_model(
        helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 11)], ir_version=8
    )
    graph = sn.load(proto, catalog=catalog)
    data = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    with sn.Session(graph, tuned(graph, catalog, "opencl@Softmax"), catalog=catalog) as session:
        (made,) = session.run({"x": data}).values()
    whole = np.exp(data.reshape(2, 12))
    np.testing.assert_allclose(made.reshape(2, 12), whole / whole.sum(1, keepdims=True), rtol=1e-5)
