"""Equalised weights give the same float results to the bit; corrected biases take off the mean rounding error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import softneuro_core as sn
from softneuro_core.builtin.reference import RegionEvaluator
from softneuro_core.calibration.apply import lay_grids
from softneuro_core.calibration.correct import bias_shifts
from softneuro_core.calibration.equalise import equalising
from softneuro_core.calibration.quantise import quantise
from softneuro_core.calibration.ranges import Ranges
from softneuro_core.changes import Changes
from softneuro_core.encoding import decode, encode
from softneuro_core.errors import PlanError
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.grids import lay_weights, rounded_constants
from softneuro_core.passes.changed import changed
from softneuro_core.passes.equalised import Pair, channel_ranges, pairs, weights_of
from softneuro_core.plan import fingerprint
from softneuro_core.spec import DType, TensorSpec
from softneuro_core.testing.build import build_graph

CATALOG = sn.load_plugins(only=())
RNG = np.random.default_rng(11)
SAMPLES = [{"x": RNG.standard_normal((1, 3, 12, 12)).astype(np.float32)} for _ in range(6)]


def uneven(*shape: int) -> np.ndarray:
    """Weights whose output channels differ a thousandfold."""
    scale = np.exp2(RNG.uniform(-5, 5, (shape[0], *(1,) * (len(shape) - 1))))
    return (RNG.standard_normal(shape) * scale).astype(np.float32)


WEIGHTS = {
    "w1": uneven(8, 3, 3, 3),
    "b1": uneven(8),
    "w2": uneven(8, 1, 3, 3),
    "b2": uneven(8),
    "w3": uneven(6, 4, 1, 1),
    "w4": uneven(6, 6, 1, 1),
    "w5": uneven(5, 6),
    "b5": uneven(5),
    "w6": uneven(5, 4),
}


def graph(between: str = "Relu") -> Graph:
    """Conv, depthwise, grouped 1x1, [Clip] 1x1 (stride 2), mean, Gemm, Gemm."""
    bounded = {"Relu": {}, "Clip": {"inputs": ["c3", "low", "high"]}}[between]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], auto_pad="SAME_UPPER", strides=[2, 2], group=8),
        helper.make_node("Conv", ["c2", "w3"], ["c3"], group=2),
        helper.make_node(between, bounded.get("inputs", ["c3"]), ["r3"]),
        helper.make_node("Conv", ["r3", "w4"], ["c4"], dilations=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c4"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w5", "b5"], ["g"], transB=1, alpha=0.5),
        helper.make_node("Gemm", ["g", "w6"], ["y"]),
    ]
    stored = {**WEIGHTS, "low": np.float32(0), "high": np.float32(6)}
    used = {name for node in nodes for name in node.input}
    return build_graph(nodes, SAMPLES[0], {n: a for n, a in stored.items() if n in used}, ["y"], opset=17)


def run(made: Graph, sample: dict[str, np.ndarray] = SAMPLES[0], rounded: str = "") -> dict[str, np.ndarray]:
    """Every value by the reference; the layer named computes with input and weights on their grids."""
    known: dict[Value, np.ndarray] = {made.inputs[0]: sample["x"]}
    for layer in made.layers:
        region = Region(made, (layer,))
        inputs = [known[v] for v in region.inputs]
        if layer.name == rounded:
            inputs = [on_grid(v, a) for v, a in zip(region.inputs, inputs, strict=True)]
            with rounded_constants(region):
                results = RegionEvaluator(region)(inputs)
        else:
            results = RegionEvaluator(region)(inputs)
        known.update(zip(region.outputs, results, strict=True))
    return {value.name: array for value, array in known.items()}


def on_grid(value: Value, array: np.ndarray) -> np.ndarray:
    spec = TensorSpec("cpu", DType.parse("uint8"), value.host_spec.layout)
    return decode(encode(array, value, spec), value, spec)


def test_equalised_weights_are_even_and_the_float_results_stay_to_the_bit() -> None:
    made = graph()
    powers = equalising(made, SAMPLES, catalog=CATALOG)
    assert {name: second for name, (second, _) in powers.items()} == {
        "Conv_0": "Conv_2",
        "Conv_2": "Conv_3",
        "Conv_3": "Conv_5",
        "Gemm_8": "Gemm_9",
    }
    even = changed(made, Changes(equalised=powers))
    np.testing.assert_array_equal(run(even)["y"], run(made)["y"])
    assert fingerprint(even) == fingerprint(made) and even.unchanged is made
    for before, after in zip(pairs(made), pairs(even), strict=True):
        assert spread(after) <= 2.0 + 1e-6 < 8 < spread(before)


def test_a_small_channel_with_a_large_bias_does_not_widen_the_tensor() -> None:
    made = graph()
    for value in made.constants:
        if value.data is not None and value.data.shape == (8, 3, 3, 3):
            value.data = np.concatenate([value.data[:7], value.data[7:] * np.float32(1e-4)])
    even = changed(made, Changes(equalised=equalising(made, SAMPLES, catalog=CATALOG)))
    held = [np.max([np.abs(run(g, s)[pairs(g)[0].second.inputs[0].name]).max() for s in SAMPLES]) for g in (made, even)]
    assert held[1] <= held[0] * (1 + 1e-6), "no channel grows beyond the largest there was"
    first, second = channel_ranges(pairs(even)[0], {x: weights_of(x) for x in even.layers if is_main(x)})
    assert first[7] < second[7] / 4, "so it stays uneven"


def spread(pair: Pair) -> float:
    """How far the largest weights of a channel are apart in the two layers, as a ratio, at worst."""
    first, second = channel_ranges(pair, {x: weights_of(x) for x in (pair.first, pair.second)})
    return float(np.maximum(first / second, second / first).max())


def test_a_bounded_activation_stands_in_the_way() -> None:
    made = equalising(graph("Clip"), SAMPLES, catalog=CATALOG)
    assert "Conv_3" not in made and "Conv_0" in made
    with pytest.raises(PlanError, match="nothing to equalise with 'Conv_5'"):
        changed(graph("Clip"), Changes(equalised={"Conv_3": ("Conv_5", (1,) * 6)}))


@pytest.mark.parametrize("name", ["Conv_0", "Conv_2", "Conv_3", "Conv_5", "Gemm_8"])
def test_a_shift_is_the_mean_of_the_rounding_error(name: str) -> None:
    made = graph()
    laid = lay_grids(made, quantise(made, SAMPLES, "minmax", catalog=CATALOG))
    shifts = bias_shifts(laid, SAMPLES, catalog=CATALOG)
    layer = laid.layer_by_name[name]
    result = layer.results[0].name
    errors = [run(laid, s, rounded=name)[result] - run(laid, s)[result] for s in SAMPLES]
    axes = (0, *range(2, errors[0].ndim))
    want = -np.mean([e.mean(axis=axes, dtype=np.float64) for e in errors], axis=0)
    assert np.abs(want).max() > 0
    np.testing.assert_allclose(shifts[name], want, rtol=1e-3, atol=1e-3 * np.abs(want).max())
    moved = changed(laid, Changes(shifts={name: shifts[name]}))
    lay_weights(moved)
    after = [run(moved, s, rounded=name)[result] - run(laid, s)[result] for s in SAMPLES]
    left = np.mean([e.mean(axis=axes, dtype=np.float64) for e in after], axis=0)
    assert np.abs(left).max() < 0.02 * np.abs(want).max()


def test_ranges_carry_what_they_were_found_with(tmp_path: Path) -> None:
    made = graph()
    found = quantise(made, SAMPLES, equalise=True, bias_correction=True, per_tensor=True, catalog=CATALOG)
    found.save(tmp_path / "r.json")
    again = Ranges.load(tmp_path / "r.json")
    assert again == found and again.changes.equalised and again.changes.shifts and again.changes.per_tensor
    assert "softneuro ranges 2" in (tmp_path / "r.json").read_text()
    (note,) = again.notes
    assert "weights rounded by tensor alone make noise" in note
    laid = lay_grids(graph(), again)
    weights = [w for layer in laid.layers if is_main(layer) and (w := layer.inputs[1]) is not None]
    assert all(w.qparams is not None and w.qparams.axis is None for w in weights) and laid.offsets
    with pytest.raises(PlanError, match="grids of another kind"):
        lay_weights(laid, per_tensor=False)
    quantise(made, SAMPLES, catalog=CATALOG).save(tmp_path / "plain.json")
    assert "softneuro ranges 1" in (tmp_path / "plain.json").read_text()


def is_main(layer: Layer) -> bool:
    return layer.op in ("Conv", "Gemm")


def test_an_equalised_plan_runs_on_the_bare_file(tmp_path: Path) -> None:
    model = two_convolutions()
    bare = sn.load(model, catalog=CATALOG)
    samples = [{"x": RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(3)]
    graph = lay_grids(bare, quantise(bare, samples, equalise=True, catalog=CATALOG))
    assert len(graph.changes.equalised) == 1
    plan = sn.tune(graph, budget_s=0, catalog=CATALOG)
    plan.save(tmp_path / "p.json")
    again = sn.Plan.load(tmp_path / "p.json")
    assert again.changes == plan.changes == graph.changes and any("equalised" in note for note in again.notes)
    session = sn.Session(model, again, catalog=CATALOG)
    plain = sn.Session(model, catalog=CATALOG)
    np.testing.assert_array_equal(session.run(samples[0])["y"], plain.run(samples[0])["y"])
    other = helper.make_model(onnx.load_model_from_string(model).graph, opset_imports=[helper.make_opsetid("", 17)])
    other.graph.node[0].name = "renamed"
    with pytest.raises(PlanError):
        sn.Session(other, again, catalog=CATALOG)


def two_convolutions() -> bytes:
    """Conv, Relu, Conv."""
    stored = {"w1": uneven(8, 3, 3, 3), "b1": uneven(8), "w2": uneven(4, 8, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], "conv1"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w2"], ["y"], "conv2"),
    ]
    ends = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", [1, 3, 8, 8]), ("y", [1, 4, 6, 6]))]
    weights = [numpy_helper.from_array(a, n) for n, a in stored.items()]
    made = helper.make_graph(nodes, "two", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString())
