"""Depthwise convolution as emitted: how rows are cut, awkward shapes and kernels, every epilogue, narrower ISA
classes, and inner loops without spills."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from harness import DEVICE, ROUTINES, check, graph_of, node, random
from softneuro_cpu_numba.depthwise import TILE_ROWS
from softneuro_cpu_numba.emit.compile import assembly, object_code
from softneuro_cpu_numba.emit.isa import TABLE
from softneuro_cpu_numba.native import emitted_text
from softneuro_cpu_numba.slides import OUTPUTS, Columns
from test_emit import FMA, FORCED, _loops

from softneuro_core.builtin.reference import RegionEvaluator
from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.rig import Rig

ROWS = [
    # width, out, kernel, step, dilation, left
    (14, 14, 3, 1, 1, 1),
    (7, 7, 5, 1, 1, 2),
    (112, 56, 3, 2, 1, 1),
    (9, 23, 3, 1, 1, 8),
    (5, 1, 5, 3, 1, 0),
    (20, 16, 3, 1, 4, 2),
]


@pytest.mark.parametrize("numbers", ROWS)
def test_a_row_is_cut_into_tiles_that_cover_it_once(numbers: tuple[int, ...]) -> None:
    shape = Columns(*numbers)
    made: list[tuple[int, ...]] = []
    for tile in shape.tiles(7):
        assert tile.first == len(made) and tile.size <= 7
        made += tile.taps * tile.repeats
    inside = [
        tuple(j for j in range(shape.kernel) if 0 <= o * shape.step - shape.left + j * shape.dilation < shape.width)
        for o in range(shape.out)
    ]
    assert made == inside


CASES = [
    # batch, channels, size, kernel, attributes
    (1, 8, (14, 14), (3, 3), {"pads": [1, 1, 1, 1]}),
    (2, 24, (15, 29), (3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    (1, 33, (7, 7), (5, 5), {"pads": [2, 2, 2, 2]}),
    (1, 40, (14, 23), (5, 5), {"pads": [1, 2, 2, 1], "strides": [2, 2]}),
    (1, 1, (6, 31), (3, 3), {"pads": [1, 1, 1, 1]}),
    (1, 12, (9, 40), (7, 7), {"pads": [3, 3, 3, 3]}),
    (1, 16, (19, 30), (9, 9), {"pads": [4, 4, 4, 4]}),
    (1, 11, (6, 50), (2, 13), {"pads": [1, 12, 2, 20], "strides": [1, 2]}),
    (1, 9, (12, 30), (3, 11), {"pads": [2, 7, 2, 9], "strides": [2, 3], "dilations": [2, 2]}),
    (1, 5, (4, 5), (3, 9), {"pads": [1, 4, 1, 4]}),
    (1, 16, (30, 30), (3, 3), {"pads": [12, 12, 12, 12], "dilations": [12, 12]}),
    (2, 8, (3, 3), (3, 3), {"pads": [6, 6, 6, 6], "strides": [2, 2]}),
    (1, 8, (8, 8), (1, 1), {"strides": [3, 3]}),
    (1, 10, (200,), (15,), {"pads": [7, 7]}),
]


@pytest.mark.parametrize("batch, channels, size, kernel, attrs", CASES)
def test_shapes(batch: int, channels: int, size: tuple[int, ...], kernel: tuple[int, ...], attrs: Any) -> None:
    conv = node("Conv", "xwb", "c", group=channels, **attrs)
    constants = {"w": random(channels, 1, *kernel), "b": random(channels, seed=2)}
    check([conv, node("Relu", "c", "y")], {"x": random(batch, channels, *size)}, constants, expect=["cpu/depthwise"])


@pytest.mark.parametrize("tail", ["none", "Clip", "HardSwish", "Sigmoid", "Add", "AddRelu"])
@pytest.mark.parametrize("channels", [3, 20, 32])
def test_epilogues(tail: str, channels: int) -> None:
    nodes = [node("Conv", "xw", "c", group=channels, pads=[1, 1, 1, 1])]
    inputs, constants = {"x": random(1, channels, 9, 10)}, {"w": random(channels, 1, 3, 3)}
    match tail:
        case "Clip":
            nodes.append(node("Clip", ["c", "low", "high"], "y"))
            constants |= {"low": np.float32(0), "high": np.float32(6)}
        case "Add" | "AddRelu":
            nodes.append(node("Add", "cr", "s"))
            inputs["r"] = random(1, channels, 9, 10, seed=5)
            nodes += [node("Relu", "s", "y")] if tail == "AddRelu" else []
        case "HardSwish" | "Sigmoid":
            nodes.append(node(tail, "c", "y"))
    check(nodes, inputs, constants, expect=["cpu/depthwise"])


KERNELS = [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (3, 1, 2), (7, 1, 1)]


def _text(isa: str, kernel: tuple[int, int, int], act: str = "clip", unrolled: bool = True) -> str:
    taps, step, dilation = kernel
    columns = (56, 56 // step, taps, step, dilation, (taps - 1) * dilation // 2)
    params: Mapping[str, Any] = {
        "channels": 40,
        "columns": columns,
        "most": OUTPUTS[isa.rstrip("!")],
        "unrolled": unrolled,
    }
    return emitted_text("depthwise", "nhwc", isa, act=act, residual=True, **params)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("isa", list(TABLE))
def test_loops_over_taps_stay_in_registers(isa: str, kernel: tuple[int, int, int]) -> None:
    text = assembly(_text(isa + "!", kernel), isa + "!")
    busy = [lines for lines in _loops(text) if sum(FMA[isa] in line for line in lines) >= 6 * kernel[0]]
    assert busy
    for loop in busy:
        stack = [line for line in loop if re.search(r"\(%rsp|\[sp\b", line)]
        assert not stack, stack


@pytest.mark.parametrize("isa", list(TABLE))
@pytest.mark.parametrize("kernel", [3, 5, 9])
def test_loops_over_planes_stay_in_registers(isa: str, kernel: int) -> None:
    params = {
        "pieces": tuple(range(TILE_ROWS[isa], 0, -1)),
        "kernel": kernel,
        "step": 1,
        "dilation": 1,
        "act": "hardswish",
        "residual": True,
    }
    text = assembly(emitted_text("planes", "depthwise", isa + "!", **params), isa + "!")
    loop = max(_loops(text), key=lambda lines: sum(FMA[isa] in line for line in lines))
    assert sum(FMA[isa] in line for line in loop) >= 2 * TILE_ROWS[isa]
    stack = [line for line in loop if re.search(r"\(%rsp|\[sp\b", line)]
    assert not stack, stack


@pytest.mark.parametrize("isa", list(TABLE))
@pytest.mark.parametrize("unrolled", [True, False])
def test_every_class_compiles(isa: str, unrolled: bool) -> None:
    assert len(object_code(_text(isa + "!", (3, 1, 1), "hardswish", unrolled), isa + "!")) > 1000


@pytest.mark.parametrize("features", list(FORCED))
@pytest.mark.parametrize("channels, kernel, stride", [(20, 3, 1), (3, 5, 2), (16, 9, 1)])
def test_narrower_classes_compute_the_same(features: str, channels: int, kernel: int, stride: int) -> None:
    if not set(FORCED[features].split(",")) <= set(DEVICE.isa.split(",")):
        pytest.skip(f"this CPU has no {features}")
    target, x = Target(DEVICE, 1, FORCED[features]), random(1, channels, 13, 17)
    conv = node("Conv", "xw", "y", group=channels, pads=[kernel // 2] * 4, strides=[stride] * 2)
    graph = graph_of([conv], {"x": x}, {"w": random(channels, 1, kernel, kernel)})
    region, routine = Region(graph, graph.layers), ROUTINES["cpu/depthwise"]
    wanted = RegionEvaluator(region)([x])[0]
    for offer in routine.offers(region, target):
        inputs = list(zip(region.inputs, offer.inputs, strict=True))
        outputs = list(zip(region.outputs, offer.outputs, strict=True))
        made = routine.prepare(region, offer, target)
        rig = Rig(made, inputs, outputs, {"cpu": DEVICE}, routine_device="cpu")
        rig.load([x])
        rig.run()
        assert rig.zones_intact() is None
        error = np.abs(rig.outputs()[0] - wanted).max() / np.abs(wanted).max()
        assert error <= offer.accuracy
