"""Integer routines against the reference, and in a whole graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from narrower_cpus import FORCED, played
from onnx import helper, numpy_helper
from softneuro_cpu_numba.amx import has_matrix_unit

import softneuro_core as sn
from softneuro_core.builtin.reference import RegionEvaluator
from softneuro_core.catalog import load_plugins
from softneuro_core.device import Target
from softneuro_core.encoding import encode
from softneuro_core.executable import Executable
from softneuro_core.graph import Graph, Region, Value
from softneuro_core.program import prepare
from softneuro_core.rig import Rig

node = helper.make_node
CATALOG = load_plugins()
DEVICE = CATALOG.devices["cpu"]
HERE = Target(DEVICE, 1, DEVICE.isa)


class Made:
    """A QDQ graph under construction."""

    def __init__(self, **inputs: np.ndarray) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs = inputs

    def number(self, value: Any, dtype: str) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(value, dtype)
        return name

    def quantised(self, x: str, scale: float, zero: int, dtype: str) -> str:
        numbers = [self.number(scale, "float32"), self.number(zero, dtype)]
        self.nodes.append(node("QuantizeLinear", [x, *numbers], [f"{x}_q"]))
        return f"{x}_q"

    def real(self, q: str, scale: Any, zero: Any, dtype: str, **attrs: int) -> str:
        made = f"{q}_f{len(self.nodes)}"
        numbers = [self.number(scale, "float32"), self.number(zero, dtype)]
        self.nodes.append(node("DequantizeLinear", [q, *numbers], [made], **attrs))
        return made

    def graph(self, output: str) -> Graph:
        kinds = {"float32": 1, "uint8": 2, "int8": 3}
        ins = [helper.make_tensor_value_info(n, kinds[a.dtype.name], a.shape) for n, a in self.inputs.items()]
        stored = [numpy_helper.from_array(a, n) for n, a in self.constants.items()]
        proto = helper.make_graph(self.nodes, "g", ins, [helper.make_empty_tensor_value_info(output)], stored)
        model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return sn.load(model, catalog=CATALOG)


def conv(
    shape: tuple[int, ...], weights: tuple[int, ...], types: tuple[str, str], tail: str, per_channel: bool, **attrs: Any
) -> tuple[Made, str]:
    rng = np.random.default_rng(7)
    x_type, y_type = types
    info = np.iinfo(x_type)
    made = Made(x=rng.integers(info.min, info.max + 1, shape).astype(x_type))
    made.constants["w"] = rng.integers(-127, 128, weights).astype(np.int8)
    made.constants["b"] = rng.standard_normal(weights[0]).astype(np.float32)
    x = made.real("x", 0.02, 131 if x_type == "uint8" else -3, x_type)
    if per_channel:
        w = made.real("w", rng.uniform(0.002, 0.004, weights[0]), np.zeros(weights[0]), "int8", axis=0)
    else:
        w = made.real("w", 0.003, 0, "int8")
    made.nodes.append(node("Conv", [x, w, "b"], ["c"], **attrs))
    if tail == "Clip":
        made.nodes.append(node("Clip", ["c", made.number(0, "float32"), made.number(1.7, "float32")], ["t"]))
    elif tail:
        made.nodes.append(node(tail, ["c"], ["t"]))
    return made, made.quantised("t" if tail else "c", 0.021, 118 if y_type == "uint8" else 5, y_type)


def check(made: Made, output: str, routine: str, target: Target) -> int:
    """Runs every offer of the routine for every legal region; how many there were."""
    graph = made.graph(output)
    found = 0
    for layer in graph.layers:
        for some in CATALOG.routines[routine].regions(graph, layer):
            region = Region(graph, tuple(some))
            offers = CATALOG.routines[routine].offers(region, target) if region.is_legal() else ()
            for offer in offers:
                found += 1
                _check_offer(made, region, offer, routine, target)
    return found


def _check_offer(made: Made, region: Region, offer: Any, routine: str, target: Target) -> None:
    known = _values(made, region.graph)
    arrays = [known[v] for v in region.inputs]
    kernel = CATALOG.routines[routine].prepare(region, offer, target)
    ends = [
        list(zip(values, specs, strict=True))
        for values, specs in ((region.inputs, offer.inputs), (region.outputs, offer.outputs))
    ]
    rig = Rig(kernel, *ends, {"cpu": DEVICE}, routine_device="cpu")
    rig.load(arrays)
    rig.run()
    assert rig.zones_intact() is None and rig.inputs_intact() is None
    for mine, value, spec in zip(rig.outputs(), region.outputs, offer.outputs, strict=True):
        steps = mine.astype(np.int64) - encode(known[value], value, spec).astype(np.int64)
        assert np.abs(steps).max() <= offer.accuracy


def _values(made: Made, graph: Graph) -> dict[Value, np.ndarray]:
    """Every value of the graph, layer by layer."""
    known: dict[Value, np.ndarray] = {v: made.inputs[v.name] for v in graph.inputs}
    for layer in graph.layers:
        single = Region(graph, (layer,))
        known |= zip(single.outputs, RegionEvaluator(single)([known[v] for v in single.inputs]), strict=True)
    return known


CASES = [
    ((1, 8, 9, 7), (17, 8, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((2, 16, 6, 6), (24, 16, 1, 1), {}),
    ((1, 16, 7, 9), (8, 16, 1, 1), {"strides": [2, 2]}),
    ((1, 3, 11, 9), (16, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ((1, 12, 8, 8), (6, 6, 3, 3), {"group": 2, "pads": [0, 1, 1, 0]}),
    ((1, 33, 5, 6), (3, 33, 2, 3), {"dilations": [2, 1], "pads": [1, 1, 1, 1]}),
    ((1, 40, 4, 4), (40, 40, 3, 3), {"dilations": [1, 2], "pads": [1, 2, 1, 2]}),
]


@pytest.mark.parametrize("shape, weights, attrs", CASES)
@pytest.mark.parametrize("types", [("uint8", "uint8"), ("int8", "uint8"), ("uint8", "int8")])
@pytest.mark.parametrize("tail", ["", "Relu", "Clip"])
def test_conv(shape: Any, weights: Any, attrs: Any, types: tuple[str, str], tail: str) -> None:
    made, output = conv(shape, weights, types, tail, per_channel=tail != "Relu", **attrs)
    for threads in (1, 3):
        target = Target(DEVICE, threads, DEVICE.isa)
        on_unit = (shape[1] % 4 == 0 or shape[1] < 4) and "group" not in attrs and has_matrix_unit(target, "AMX_INT8")
        assert check(made, output, "cpu/qconv", target) == 1 + on_unit


@pytest.mark.parametrize("features", list(FORCED))
@pytest.mark.parametrize("shape, weights, attrs", CASES[:4])
def test_narrower_classes(features: str, shape: Any, weights: Any, attrs: Any) -> None:
    target = played(DEVICE, features)
    for types in (("int8", "int8"), ("uint8", "int8")):
        made, output = conv(shape, weights, types, "Relu", True, **attrs)
        assert check(made, output, "cpu/qconv", target) == 1


def test_what_is_not_on_a_grid_is_not_offered() -> None:
    made, output = conv((1, 8, 5, 5), (8, 8, 3, 3), ("int8", "int8"), "Sigmoid", True)
    assert check(made, output, "cpu/qconv", HERE) == 0  # no bound, so not the same before rounding and behind
    made, output = conv((1, 8, 5, 5), (8, 1, 3, 3), ("int8", "int8"), "", True, group=8)
    assert check(made, output, "cpu/qconv", HERE) == 0


@pytest.mark.parametrize("tail", ["", "Relu"])
def test_add(tail: str) -> None:
    rng = np.random.default_rng(1)
    shape = (2, 5, 4, 3)
    made = Made(a=rng.integers(-128, 128, shape).astype(np.int8), b=rng.integers(0, 256, shape).astype(np.uint8))
    sides = [made.real("a", 0.02, -5, "int8"), made.real("b", 0.013, 100, "uint8")]
    made.nodes.append(node("Add", sides, ["c"]))
    if tail:
        made.nodes.append(node(tail, ["c"], ["t"]))
    output = made.quantised("t" if tail else "c", 0.03, 3, "int8")
    assert check(made, output, "cpu/qadd", HERE) == 2


def test_a_residual_block_stays_in_integers() -> None:
    """What two layers read is kept as integers for both, without a detour through float32."""
    rng = np.random.default_rng(3)
    made = Made(x=rng.integers(-128, 128, (1, 16, 8, 8)).astype(np.int8))
    x = made.real("x", 0.02, 0, "int8")
    made.constants["w"] = rng.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8)
    w = made.real("w", 0.003, 0, "int8", axis=0)
    made.nodes.append(node("Conv", [x, w], ["c"], pads=[1, 1, 1, 1]))
    inner = made.real(made.quantised("c", 0.03, 0, "int8"), 0.03, 0, "int8")
    made.nodes.append(node("Add", [inner, x], ["s"]))
    made.nodes.append(node("Relu", ["s"], ["t"]))
    output = made.quantised("t", 0.03, -128, "int8")
    graph = made.graph(output)
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=CATALOG, force=("cpu/qconv@Conv", "cpu/qadd@Add"))
    assert {"cpu/qconv", "cpu/qadd", "cpu/keep_integers"} <= {s.routine for s in plan.kernel_steps}
    mine = sn.Session(graph, plan, catalog=CATALOG).run(made.inputs)[output]
    truth = _values(made, graph)[graph.outputs[0]]
    assert np.abs(mine.astype(np.int64) - truth.astype(np.int64)).max() <= 1


@pytest.mark.parametrize("unit", ["/qconv", "/qconv on a matrix unit"])
def test_a_concat_of_one_grid_copies_nothing(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both convolutions write their channels where the result has them."""
    if not unit.endswith("unit"):
        monkeypatch.setattr("softneuro_qint8.matrix.has_matrix_unit", lambda target, feature: False)
    elif not has_matrix_unit(HERE, "AMX_INT8"):
        pytest.skip("this CPU has no matrix unit")
    rng = np.random.default_rng(3)
    made = Made(x=rng.integers(-128, 128, (2, 16, 9, 8)).astype(np.int8))
    x, sides = made.real("x", 0.02, 0, "int8"), []
    for name, shape in {"v": (24, 16, 1, 1), "w": (20, 16, 3, 3)}.items():
        made.constants[name] = rng.integers(-127, 128, shape).astype(np.int8)
        weights = made.real(name, 0.003, 0, "int8", axis=0)
        made.nodes.append(node("Conv", [x, weights], [f"c{name}"], pads=[shape[2] // 2] * 4))
        sides.append(made.real(made.quantised(f"c{name}", 0.03, 0, "int8"), 0.03, 0, "int8"))
    made.nodes.append(node("Concat", sides, ["j"], axis=1))
    graph = made.graph(made.quantised("j", 0.03, 0, "int8"))
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=CATALOG, force=("cpu/qconv@Conv", "cpu/qmove@Concat"))
    program = prepare(graph, plan, CATALOG)
    assert {slot.value.name for slot in program.slots.parts} == {"cv_q", "cw_q"}
    (mine,) = Executable(program).run([made.inputs["x"]])
    truth = _values(made, graph)[graph.outputs[0]]
    assert np.abs(mine.astype(np.int64) - truth.astype(np.int64)).max() <= 1


def test_a_file_of_qlinear_operators_runs_in_integers() -> None:
    rng = np.random.default_rng(5)
    made = Made(x=rng.integers(0, 256, (1, 6, 7, 7)).astype(np.uint8))
    made.constants["w"] = rng.integers(-127, 128, (8, 6, 3, 3)).astype(np.int8)
    numbers = [made.number(0.02, "float32"), made.number(120, "uint8")]
    of_w = [made.number(np.full(8, 0.004), "float32"), made.number(np.zeros(8), "int8")]
    out = [made.number(0.03, "float32"), made.number(100, "uint8")]
    made.nodes.append(node("QLinearConv", ["x", *numbers, "w", *of_w, *out], ["y"]))
    graph = made.graph("y")
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=CATALOG, force=("cpu/qconv@Conv",))
    assert "cpu/qconv" in {s.routine for s in plan.kernel_steps}
    mine = sn.Session(graph, plan, catalog=CATALOG).run(made.inputs)["y"]
    truth = _values(made, graph)[graph.outputs[0]]
    assert np.abs(mine.astype(np.int64) - truth.astype(np.int64)).max() <= 1
