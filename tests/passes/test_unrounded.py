"""A quantised file without the rounding between its layers: what it computes, and that nobody gets it unasked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import softneuro_core as sn
from softneuro_core.builtin.reference import RegionEvaluator
from softneuro_core.candidates import Request
from softneuro_core.changes import Changes
from softneuro_core.errors import PlanError
from softneuro_core.graph import Graph, Region
from softneuro_core.passes.changed import changed
from softneuro_core.plan import Plan, fingerprint
from softneuro_core.tuning import tune_fully, without_rounding
from tests.shared_models import ROOT, read_model

CATALOG = sn.load_plugins(only=())
RNG = np.random.default_rng(3)
W1, W2 = RNG.integers(-127, 128, (6, 3, 3, 3), np.int8), RNG.integers(-127, 128, (4, 6, 1, 1), np.int8)
X = RNG.uniform(-1.2, 1.2, (1, 3, 8, 8)).astype(np.float32)
NUMBERS = {"x": (1 / 100, 128), "a": (0.05, 0), "b": (0.1, 100)}


def quantised() -> bytes:
    """x -> Q DQ -> Conv -> Relu -> Q DQ -> Conv -> Q DQ -> y."""
    nodes = []

    def pair(source: str, name: str) -> str:
        nodes.append(helper.make_node("QuantizeLinear", [source, f"{name}_s", f"{name}_z"], [f"{name}_q"], f"q_{name}"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_r"]))
        return f"{name}_r"

    stored = {"w1": W1, "w2": W2, "ws": np.float32(0.01), "wz": np.int8(0)}
    stored |= {f"{n}_s": np.float32(scale) for n, (scale, _) in NUMBERS.items()}
    stored |= {f"{n}_z": np.uint8(zero) for n, (_, zero) in NUMBERS.items()}
    nodes += [helper.make_node("DequantizeLinear", [w, "ws", "wz"], [f"{w}_r"]) for w in ("w1", "w2")]
    nodes.append(helper.make_node("Conv", [pair("x", "x"), "w1_r"], ["c"], "conv1", pads=[1] * 4))
    nodes.append(helper.make_node("Relu", ["c"], ["r"], "relu1"))
    nodes.append(helper.make_node("Conv", [pair("r", "a"), "w2_r"], ["d"], "conv2"))
    nodes[-1].name = "conv2"
    last = pair("d", "b")
    nodes[-1].output[0] = "y"
    assert last == "b_r"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", X.shape), ("y", (1, 4, 8, 8)))]
    weights = [numpy_helper.from_array(np.asarray(a), n) for n, a in stored.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "q", ends[:1], ends[1:], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def computed(graph: Graph, x: np.ndarray, name: str) -> np.ndarray:
    """A value by the reference, layer by layer."""
    known = {graph.inputs[0]: x}
    for layer in graph.layers:
        region = Region(graph, (layer,))
        known.update(zip(region.outputs, RegionEvaluator(region)([known[v] for v in region.inputs]), strict=True))
    return next(array for value, array in known.items() if value.name == name)


def saturated(x: np.ndarray, name: str) -> np.ndarray:
    scale, zero = NUMBERS[name]
    return np.clip(x, np.float32((0 - zero) * scale), np.float32((255 - zero) * scale))


def by_hand(graph: Graph) -> np.ndarray:
    """Both convolutions in float64, bounded where the file saturates, rounded nowhere."""
    w1, w2 = (w.astype(np.float64) * float(np.float32(0.01)) for w in (W1, W2))
    padded = np.pad(saturated(X, "x").astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded[0], (3, 3), axis=(1, 2))
    c = np.einsum("chwij,ocij->ohw", windows, w1)
    return saturated(np.einsum("chw,oc->ohw", saturated(np.maximum(c, 0), "a"), w2[:, :, 0, 0]), "b")[None]


def test_pairs_go_and_saturation_stays() -> None:
    graph = sn.load(quantised(), catalog=CATALOG)
    free = changed(graph, Changes(unrounded=True))
    assert [layer.op for layer in free.layers] == ["Clip", "Conv", "Clip", "Conv", "Clip"], "Relu is in the bounds"
    assert [v.name for v in free.outputs] == ["y"] and fingerprint(free) == fingerprint(graph)
    want = by_hand(graph)
    np.testing.assert_allclose(computed(free, X, "y"), want, rtol=1e-4, atol=1e-4)
    rounded = computed(graph, X, "y")
    assert 0.01 < np.abs(rounded - want).max() < 2, "the file itself rounds"
    assert changed(free, Changes()) is graph and changed(free, Changes(unrounded=True)) is free


def test_numbers_that_differ_or_integers_wanted_elsewhere_stay() -> None:
    model = onnx.load_model_from_string(quantised())
    next(n for n in model.graph.node if n.output[0] == "a_r").input[1] = "b_s"  # rescales: no mere rounding
    model.graph.output.append(helper.make_tensor_value_info("x_q", TensorProto.UINT8, X.shape))
    free = changed(sn.load(model.SerializeToString(), catalog=CATALOG), Changes(unrounded=True))
    left = [layer.name for layer in free.layers if layer.op == "QuantizeLinear"]
    assert left == ["q_x", "q_a"]


def test_a_plan_names_it_and_nobody_gets_it_unasked(tmp_path: Path) -> None:
    plan = sn.tune(sn.load(quantised(), catalog=CATALOG), budget_s=0, catalog=CATALOG, allow_unrounded=True)
    plan.save(tmp_path / "p.json")
    again = Plan.load(tmp_path / "p.json")
    assert again.changes == Changes(unrounded=True) and any("--allow-unrounded" in note for note in again.notes)
    with pytest.raises(PlanError, match="leaves out rounding") as refusal:
        sn.Session(quantised(), again, catalog=CATALOG)
    assert "--allow-unrounded" in str(refusal.value)
    with pytest.raises(PlanError, match="leaves out rounding"):
        sn.Session(quantised(), again, catalog=CATALOG, relaxed=True)
    allowed = sn.Session(quantised(), again, catalog=CATALOG, allow_unrounded=True)
    np.testing.assert_allclose(allowed.run({"x": X})["y"], by_hand(allowed.graph), rtol=1e-4, atol=1e-4)
    plain = sn.Session(quantised(), catalog=CATALOG)
    np.testing.assert_array_equal(plain.run({"x": X})["y"], computed(plain.graph, X, "y"))
    without = replace(again, changes=Changes())
    with pytest.raises(PlanError):
        sn.Session(quantised(), without, catalog=CATALOG)


def test_a_session_without_a_plan_may_choose_so() -> None:
    session = sn.Session(quantised(), catalog=CATALOG, allow_unrounded=True)
    assert session.plan.changes.unrounded
    np.testing.assert_allclose(session.run({"x": X})["y"], by_hand(session.graph), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet8_cifar10_mlperf/resnet8_int8_qdq", "vww_mobilenetv1_mlperf/vww_int8_qdq"])
def test_a_real_quantised_file(name: str) -> None:
    path = ROOT / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    model, catalog = read_model(path), sn.load_plugins()
    graph = sn.load(path, model.shapes(), catalog=catalog)
    integers = tuple(n for n, o in catalog.owners.items() if o.name == "qint8" and n in catalog.routines)
    free, request = without_rounding(graph, Request(forbid=integers))
    left = [layer.results[0] for layer in free.layers if layer.op == "QuantizeLinear"]
    assert len(left) <= 2 and not any(x.op == "DequantizeLinear" for v in left for x in free.consumers.get(v, ()))
    assert request.allow & {"uint8", "int8"}
    plan = tune_fully(free, Request(forbid=integers), 1, 0, catalog=catalog).plan
    made = sn.Session(graph, plan, 1, catalog=catalog, allow_unrounded=True).run(model.feeds)
    (x,), (output,) = model.feeds.values(), free.outputs
    want, rounded = computed(free, x, output.name), computed(graph, x, output.name)
    steps = np.abs(made[output.name].astype(np.int64) - want.astype(np.int64))
    assert steps.max() <= 1, "the results are the reference's without rounding, within what a tie decides"
    assert (want != rounded).any(), "the file's own are others"
    model.check(sn.Session(graph, None, 1, catalog=catalog).run(model.feeds))
