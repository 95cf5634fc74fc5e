"""Winograd on a matrix unit: factors split in two of bfloat16, at awkward sizes, and what is not offered."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from harness import check, graph_of, node, offers_of, random, target
from softneuro_cpu_numba.amx import Tiles, has_matrix_unit
from softneuro_cpu_numba.emit.compile import assembly
from softneuro_cpu_numba.native import emitted_text

from softneuro_core.candidates import ACCURACY_CLASSES
from softneuro_core.routine import Offer

needs_unit = pytest.mark.skipif(not has_matrix_unit(target(), "AMX_BF16"), reason="no matrix unit for bfloat16")


def on_the_unit(made: list[tuple[str, Offer]]) -> dict[int, Offer]:
    """Offers by the side of their tile."""
    return {int(o.params["m"]): o for name, o in made if name == "cpu/winograd" and "unit" in o.params}


@needs_unit
@pytest.mark.parametrize(
    ("batch", "channels", "outputs", "size", "attrs"),
    [
        (1, 32, 16, (6, 6), {"pads": [1, 1, 1, 1]}),  # a panel of one vector
        (2, 64, 48, (9, 7), {"pads": [0, 1, 1, 0]}),
        (3, 32, 80, (4, 4), {"pads": [1, 1, 1, 1]}),
        (1, 96, 64, (27, 31), {"pads": [1, 1, 1, 1]}),  # tiles in pairs, an odd one, one not full
        (1, 32, 32, (33, 35), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        (1, 32, 64, (19, 24), {"dilations": [2, 3]}),
    ],
)
def test_results(batch: int, channels: int, outputs: int, size: tuple[int, int], attrs: dict[str, Any]) -> None:
    nodes = [node("Conv", "xwb", "c", **attrs), node("Relu", "c", "y")]
    constants = {"w": random(outputs, channels, 3, 3), "b": random(outputs, seed=1)}
    found = on_the_unit(check(nodes, {"x": random(batch, channels, *size)}, constants))
    assert 2 in found
    for offer in found.values():
        assert not offer.uses and ACCURACY_CLASSES["strict"] < offer.accuracy <= ACCURACY_CLASSES["default"]


@needs_unit
def test_with_a_residual_and_pooled() -> None:
    constants = {"w": random(48, 64, 3, 3)}
    conv, x = node("Conv", "xw", "c", pads=[1] * 4), random(1, 64, 14, 13)
    added = [conv, node("Add", "cr", "s"), node("Relu", "s", "y")]
    assert on_the_unit(check(added, {"x": x, "r": random(1, 48, 14, 13, seed=3)}, constants))
    pooled = [conv, node("MaxPool", "c", "y", kernel_shape=[2, 2], strides=[2, 2])]
    assert on_the_unit(check(pooled, {"x": x}, constants))


@needs_unit
@pytest.mark.parametrize(("outputs", "size"), [(512, 14), (64, 56)])
def test_filters_that_stream_and_several_blocks(outputs: int, size: int) -> None:
    """Every two tiles ask for a share of the next panel; a block of tiles follows the other."""
    nodes = [node("Conv", "xw", "y", pads=[1] * 4)]
    assert on_the_unit(check(nodes, {"x": random(1, 256, size, size)}, {"w": random(outputs, 256, 3, 3)}))


@pytest.mark.parametrize(("channels", "outputs"), [(48, 32), (32, 24), (16, 16)])
def test_what_does_not_fill_its_tiles_is_not_offered(channels: int, outputs: int) -> None:
    nodes = [node("Conv", "xw", "y", pads=[1] * 4)]
    graph = graph_of(nodes, {"x": random(1, channels, 12, 12)}, {"w": random(outputs, channels, 3, 3)})
    assert not on_the_unit([(routine.name, offer) for routine, _, offer in offers_of(graph)])


@pytest.mark.parametrize("act", ["Tanh", "Sigmoid", "HardSigmoid"])
def test_not_before_what_keeps_results_far_below_the_largest_sum(act: str) -> None:
    nodes = [node("Conv", "xw", "c", pads=[1] * 4), node(act, "c", "y")]
    graph = graph_of(nodes, {"x": random(1, 32, 12, 12)}, {"w": random(32, 32, 3, 3)})
    found = [(routine.name, offer) for routine, _, offer in offers_of(graph)]
    assert not on_the_unit(found) and "cpu/conv_bfloat16x3" not in {name for name, _ in found}


def test_no_sum_leaves_its_register() -> None:
    """The busiest loop holds twelve products for eight loads, and a tile is stored but once a panel."""
    tile = {"down": (2, 3, 1), "along": (2, 3, 1), "act": "relu", "residual": False, "pool": 1}
    text = emitted_text("winograd", "winograd", "amx!", **tile, tiles=Tiles(16, 16, parts=2), last=2)
    busiest = max(re.split(r"\n\.LBB", assembly(text, "amx!")), key=lambda lines: lines.count("tdpbf16ps"))
    assert (busiest.count("tdpbf16ps"), busiest.count("tileloadd"), busiest.count("tilestored")) == (12, 8, 0)
    assert "(%rsp" not in busiest[busiest.index("tileloadd") : busiest.rindex("tdpbf16ps")]


@needs_unit
def test_small_results_beside_large_ones() -> None:
    """The error is a part of the largest output, whatever the inputs' size."""
    x = random(1, 32, 12, 12) * np.exp2(random(1, 32, 12, 12, seed=5) * 8).astype(np.float32)
    nodes = [node("Conv", "xw", "y", pads=[1] * 4)]
    assert on_the_unit(check(nodes, {"x": x}, {"w": random(32, 32, 3, 3)}))
