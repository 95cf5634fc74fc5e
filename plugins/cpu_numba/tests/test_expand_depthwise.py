"""A pointwise Conv and the depthwise one behind it in one kernel: awkward shapes, rolling rows, bands, epilogues,
threads, narrower ISA classes, inner loops without spills, and which regions are left alone."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from harness import DEVICE, ROUTINES, check, graph_of, node, random
from softneuro_cpu_numba import expand_depthwise
from softneuro_cpu_numba.emit.bottleneck import ARGUMENTS
from softneuro_cpu_numba.emit.compile import assembly, object_code
from softneuro_cpu_numba.emit.isa import TABLE
from softneuro_cpu_numba.native import NativeKernel, emitted_text
from softneuro_cpu_numba.rows import NARROW_ROWS, TILES
from softneuro_cpu_numba.slides import OUTPUTS
from test_emit import FMA, FORCED, _loops

from softneuro_core.builtin.reference import RegionEvaluator
from softneuro_core.device import Target
from softneuro_core.graph import Graph, Region
from softneuro_core.rig import Rig

NAME = "cpu/expand_depthwise"
Parts = tuple[list[onnx.NodeProto], dict[str, np.ndarray], dict[str, np.ndarray]]


def block(
    batch: int, cin: int, channels: int, size: tuple[int, ...], kernel: tuple[int, ...], attrs: Any, tail: str = "Relu"
) -> Parts:
    """Conv 1x1, activation, depthwise Conv, activation, as files hold them."""
    nodes = [
        *(node("Conv", "xwb", "e"), node(tail, "e", "a")),
        *(node("Conv", "avu", "d", group=channels, **attrs), node(tail, "d", "y")),
    ]
    constants = {"w": random(channels, cin, *[1] * len(size)), "b": random(channels, seed=1)}
    constants |= {"v": random(channels, 1, *kernel), "u": random(channels, seed=2)}
    return nodes, {"x": random(batch, cin, *size)}, constants


CASES = [
    # batch, in, channels, size, kernel, attributes
    (1, 16, 48, (14, 14), (3, 3), {"pads": [1, 1, 1, 1]}),
    (2, 24, 40, (15, 29), (3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    (1, 7, 33, (7, 7), (5, 5), {"pads": [2, 2, 2, 2]}),
    (3, 9, 72, (14, 23), (5, 5), {"pads": [1, 2, 2, 1], "strides": [2, 2]}),
    (1, 1, 2, (6, 31), (3, 3), {"pads": [1, 1, 1, 1]}),
    (2, 5, 3, (1, 1), (3, 3), {"pads": [1, 1, 1, 1]}),
    (1, 12, 17, (9, 10), (3, 3), {}),
    (1, 4, 16, (19, 30), (9, 9), {"pads": [4, 4, 4, 4]}),
    (1, 4, 11, (6, 50), (2, 13), {"pads": [1, 12, 2, 20], "strides": [1, 2]}),
    (1, 6, 9, (12, 30), (3, 11), {"pads": [2, 7, 2, 9], "strides": [2, 3], "dilations": [2, 2]}),
    (1, 4, 16, (30, 30), (3, 3), {"pads": [12, 12, 12, 12], "dilations": [12, 12]}),
    (2, 4, 8, (3, 3), (3, 3), {"pads": [6, 6, 6, 6], "strides": [2, 2]}),
    (1, 4, 24, (11, 11), (1, 1), {"strides": [3, 3]}),
    (1, 4, 8, (13, 9), (2, 2), {"strides": [5, 3]}),
    (2, 3, 20, (40,), (5,), {"pads": [2, 2], "strides": [2]}),
]


@pytest.mark.parametrize("batch, cin, channels, size, kernel, attrs", CASES)
@pytest.mark.parametrize("rolling", [False, True], ids=["whole", "rolling"])
def test_shapes(
    monkeypatch: pytest.MonkeyPatch,
    rolling: bool,
    batch: int,
    cin: int,
    channels: int,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    attrs: Any,
) -> None:
    """Whole images at once, then one output row at a time with the rows below it kept."""
    if rolling:
        monkeypatch.setattr(expand_depthwise, "STEP_BYTES", 1)
    check(*block(batch, cin, channels, size, kernel, attrs), expect=[NAME])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("band, step", [(1, 1), (900, 1), (3000, 1500), (1 << 20, 5000)])
def test_bands_and_steps(monkeypatch: pytest.MonkeyPatch, band: int, step: int, stride: int) -> None:
    """Bytes of input in a band and of expanded rows in a step: every cut gives the same numbers."""
    parts = block(2, 10, 36, (17, 6), (3, 3), {"pads": [1, 1, 1, 1], "strides": [stride, stride]})
    wanted = run(graph_of(*parts), Target(DEVICE, 1, DEVICE.isa), parts[1]["x"])
    monkeypatch.setattr(expand_depthwise, "BAND_BYTES", band)
    monkeypatch.setattr(expand_depthwise, "STEP_BYTES", step)
    for threads in (1, 2, 5):
        made = run(graph_of(*parts), Target(DEVICE, threads, DEVICE.isa), parts[1]["x"])
        np.testing.assert_array_equal(made, wanted)
    check(*parts, expect=[NAME])


def test_threads_are_given_panels_and_compute_no_row_twice() -> None:
    graph = graph_of(*block(1, 16, 96, (14, 14), (3, 3), {"pads": [1, 1, 1, 1]}))
    kernels = [kernel_of(graph, Target(DEVICE, threads, DEVICE.isa)) for threads in (1, 2)]
    assert [k.args[ARGUMENTS.index("bands")] for k in kernels] == [1, 1]
    assert kernels[0].tasks == 1 and kernels[1].tasks >= 2


@pytest.mark.parametrize("tail", ["none", "Clip", "HardSwish", "Sigmoid", "constant", "LeakyRelu"])
@pytest.mark.parametrize("channels", [3, 20, 32])
def test_epilogues(tail: str, channels: int) -> None:
    nodes, inputs, constants = [], {"x": random(1, 6, 9, 10)}, {"low": np.float32(0), "high": np.float32(1)}
    at = "x"
    for number, attrs in enumerate(({}, {"group": channels, "pads": [1, 1, 1, 1]})):
        constants[f"w{number}"] = random(channels, 6 if number == 0 else 1, *((1, 1), (3, 3))[number])
        nodes.append(node("Conv", [at, f"w{number}"], [f"c{number}"], **attrs))
        at = f"c{number}"
        if tail == "constant":
            constants[f"k{number}"] = random(1, channels, 1, 1, seed=number)
            nodes.append(node("Add", [at, f"k{number}"], [f"s{number}"]))
            at = f"s{number}"
        elif tail != "none":
            nodes.append(node(tail, [at, "low", "high"] if tail == "Clip" else [at], [f"t{number}"]))
            at = f"t{number}"
    check(nodes, inputs, constants, expect=[NAME])


def test_padding_is_zero_behind_the_activation() -> None:
    """The border holds 0, not what the first half makes of 0."""
    nodes, inputs, constants = block(1, 4, 8, (3, 3), (3, 3), {"pads": [1, 1, 1, 1]}, "Sigmoid")
    constants["b"] += 5
    check(nodes, inputs, constants, expect=[NAME])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_at_its_pixels(bad: float) -> None:
    nodes, inputs, constants = block(1, 4, 8, (6, 6), (3, 3), {"pads": [1, 1, 1, 1]})
    inputs["x"][0, 1, 0, 5] = bad
    constants["w"], constants["v"] = abs(constants["w"]), abs(constants["v"])
    check(nodes, inputs, constants, expect=[NAME])


def regions(nodes: list[onnx.NodeProto], parts: Parts) -> list[tuple[str, ...]]:
    graph = graph_of(nodes, *parts[1:])
    found = [r for layer in graph.layers for r in ROUTINES[NAME].regions(graph, layer)]
    target = Target(DEVICE, 1, DEVICE.isa)
    return [tuple(layer.op for layer in r) for r in found if list(ROUTINES[NAME].offers(Region(graph, r), target))]


def test_what_others_read_is_left_alone() -> None:
    parts = block(1, 4, 8, (6, 6), (3, 3), {"pads": [1, 1, 1, 1]})
    whole, plain = ("Conv", "Relu", "Conv", "Relu"), ("Conv", "Relu", "Conv")
    assert sorted(regions(parts[0], parts)) == [plain, whole]
    assert regions([*parts[0], node("Identity", ["a"], ["z"])], parts) == []
    assert regions([*parts[0], node("Identity", ["d"], ["z"])], parts) == [plain]


@pytest.mark.parametrize(
    "change", [{"strides": [2, 2]}, {"pads": [1, 1, 1, 1]}, {"group": 2}], ids=["strides", "pads", "groups"]
)
def test_a_first_half_that_is_no_plain_product(change: dict[str, Any]) -> None:
    nodes, inputs, constants = block(1, 4, 8, (6, 6), (3, 3), {"pads": [1, 1, 1, 1]})
    nodes[0] = node("Conv", "xwb", "e", **change)
    if "group" in change:
        constants["w"] = constants["w"][:, :2]
    assert regions(nodes, (nodes, inputs, constants)) == []


def kernel_of(graph: Graph, target: Target) -> NativeKernel:
    region, routine = Region(graph, graph.layers), ROUTINES[NAME]
    (offer,) = routine.offers(region, target)
    kernel = routine.prepare(region, offer, target)
    assert isinstance(kernel, NativeKernel)
    return kernel


def run(graph: Graph, target: Target, x: np.ndarray) -> np.ndarray:
    """The result of all tasks, one after the other; the scratch is watched."""
    region = Region(graph, graph.layers)
    (offer,) = ROUTINES[NAME].offers(region, target)
    inputs = list(zip(region.inputs, offer.inputs, strict=True))
    outputs = list(zip(region.outputs, offer.outputs, strict=True))
    rig = Rig(kernel_of(graph, target), inputs, outputs, {"cpu": DEVICE}, routine_device="cpu")
    rig.load([x])
    rig.run()
    assert rig.zones_intact() is None
    return rig.outputs()[0]


@pytest.mark.parametrize("features", list(FORCED))
@pytest.mark.parametrize("channels, kernel, stride", [(20, 3, 1), (3, 5, 2), (16, 9, 1), (56, 5, 1)])
def test_narrower_classes_compute_the_same(features: str, channels: int, kernel: int, stride: int) -> None:
    if not set(FORCED[features].split(",")) <= set(DEVICE.isa.split(",")):
        pytest.skip(f"this CPU has no {features}")
    attrs = {"pads": [kernel // 2] * 4, "strides": [stride] * 2}
    parts = block(1, 6, channels, (13, 17), (kernel, kernel), attrs, "HardSwish")
    graph, x = graph_of(*parts), parts[1]["x"]
    wanted = RegionEvaluator(Region(graph, graph.layers))([x])[0]
    made = run(graph, Target(DEVICE, 1, FORCED[features]), x)
    assert np.abs(made - wanted).max() <= 1e-5 * np.abs(wanted).max()


def _text(isa: str, kernel: int, step: int) -> str:
    name, shape = isa.rstrip("!"), (56, 56 // step, kernel, step, 1, kernel // 2)
    rows, vectors = TILES[name][0]
    return emitted_text(
        *("bottleneck", "expand_depthwise", isa),
        pieces=tuple(range(rows, 0, -1)),
        vectors=vectors,
        narrow_pieces=NARROW_ROWS,
        channels=144,
        rows=shape,
        columns=shape,
        most=OUTPUTS[name],
        unrolled=True,
        acts=("clip", "hardswish"),
    )


@pytest.mark.parametrize("kernel, step", [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("isa", list(TABLE))
def test_inner_loops_stay_in_registers(isa: str, kernel: int, step: int) -> None:
    text = _text(isa + "!", kernel, step)
    assert len(object_code(text, isa + "!")) > 1000
    rows, vectors = TILES[isa][0]
    counted = [(sum(FMA[isa] in line for line in loop), loop) for loop in _loops(assembly(text, isa + "!"))]
    products = [loop for count, loop in counted if count == rows * vectors]
    windows = [loop for count, loop in counted if count >= 6 * kernel]
    assert products and windows
    busy = [*products, *windows]
    for loop in busy:
        stack = [line for line in loop if re.search(r"\(%rsp|\[sp\b", line)]
        assert not stack, stack


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize(
    "channels, size, kernel, stride", [(72, 56, 5, 2), (144, 56, 3, 1), (16, 7, 3, 1), (3, 9, 3, 2)]
)
def test_cuts_leave_nothing_out(threads: int, channels: int, size: int, kernel: int, stride: int) -> None:
    """Bands and panels cover the result, none is empty, and a step's rows fit the scratch."""
    attrs = {"pads": [kernel // 2] * 4, "strides": [stride] * 2}
    graph = graph_of(*block(2, 24, channels, (size, size), (kernel, kernel), attrs))
    kernel_args = kernel_of(graph, Target(DEVICE, threads, DEVICE.isa)).args
    a = dict(zip(ARGUMENTS, kernel_args, strict=False))
    out = -(-size // stride)
    assert (a["bands"] - 1) * a["rows_per_band"] < out <= a["bands"] * a["rows_per_band"]
    assert (a["panel_tasks"] - 1) * a["panels_per_task"] < a["panels"] <= a["panel_tasks"] * a["panels_per_task"]
    assert 1 <= a["rows_per_step"] <= a["rows_per_band"]
    assert 2 * a["bands"] * a["panel_tasks"] >= min(threads, 2 * a["panels"])
