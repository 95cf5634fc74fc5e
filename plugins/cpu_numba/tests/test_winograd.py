"""Winograd: the transforms in exact arithmetic, the routine at awkward sizes, its error against the declared class."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from harness import ROUTINES, check, graph_of, node, offers_of, random, target

from softneuro_core.builtin.reference import RegionEvaluator
from softneuro_core.cook_toom import transform
from softneuro_core.graph import Region
from softneuro_core.rig import Rig


@pytest.mark.parametrize("m, r, stride", [(m, r, s) for m in (1, 2, 3, 4) for r in (1, 2, 3, 5) for s in (1, 2, 3)])
def test_the_transforms_filter_exactly(m: int, r: int, stride: int) -> None:
    """In fractions AT [(G g) * (BT d)] is the correlation itself, not nearly so."""
    t = transform(m, r, stride)
    data = [Fraction(i * i - 7, 3) for i in range(t.pixels)]
    taps = [Fraction(2), Fraction(-5, 7), Fraction(3, 11), Fraction(1, 3), Fraction(-4)][:r]
    filtered = [sum(a * b for a, b in zip(row, taps, strict=True)) for row in t.g]
    moved = [sum(a * b for a, b in zip(row, data, strict=True)) for row in t.bt]
    made = [sum(a * f * d for a, f, d in zip(row, filtered, moved, strict=True)) for row in t.at]
    assert made == [sum(taps[k] * data[i * stride + k] for k in range(r)) for i in range(m)]


CASES = [
    # batch, in, out, size, pads
    (1, 16, 16, (6, 6), [1, 1, 1, 1]),
    (2, 16, 24, (9, 7), [1, 1, 1, 1]),
    (1, 24, 40, (13, 8), [0, 0, 0, 0]),
    (1, 32, 16, (5, 17), [2, 0, 1, 3]),
    (1, 16, 48, (1, 9), [1, 1, 1, 1]),
    (3, 40, 72, (4, 4), [1, 1, 1, 1]),
    (2, 17, 31, (7, 6), [1, 1, 1, 1]),  # no whole number of vectors of any width
    (1, 49, 35, (8, 12), [0, 1, 1, 0]),
]


@pytest.mark.parametrize("batch, cin, cout, size, pads", CASES)
@pytest.mark.parametrize("tail", ["none", "residual"])
def test_winograd(batch: int, cin: int, cout: int, size: tuple[int, int], pads: list[int], tail: str) -> None:
    nodes = [node("Conv", "xwb", "c", pads=pads)]
    inputs = {"x": random(batch, cin, *size)}
    if tail == "residual":
        out = [size[i] + pads[i] + pads[i + 2] - 2 for i in (0, 1)]
        nodes += [node("Add", "cr", "s"), node("Relu", "s", "y")]
        inputs["r"] = random(batch, cout, *out, seed=3)
    constants = {"w": random(cout, cin, 3, 3), "b": random(cout, seed=1)}
    made = check(nodes, inputs, constants, expect=["cpu/winograd"])
    assert {o.params["m"] for name, o in made if name == "cpu/winograd"} >= {2}


Pair = tuple[int, int]
WINDOWS = [
    # kernel, strides, dilations, size, m expected
    ((3, 3), (2, 2), (1, 1), (15, 18), {2, 4}),
    ((3, 3), (2, 1), (1, 1), (9, 8), {2, 4}),
    ((5, 5), (1, 1), (1, 1), (12, 9), {2, 4}),
    ((5, 5), (2, 2), (1, 1), (25, 26), {2, 4, 6}),
    ((1, 3), (1, 1), (1, 1), (4, 11), {2, 4, 6}),
    ((7, 1), (1, 1), (1, 1), (10, 3), {2}),
    ((3, 2), (1, 1), (2, 1), (10, 10), {2, 4}),
    ((3, 3), (1, 1), (2, 3), (19, 24), {2, 4, 6}),
    ((3, 3), (2, 2), (2, 2), (33, 35), {2, 4}),
    ((1, 3), (2, 2), (1, 1), (9, 21), {2, 4}),
]


@pytest.mark.parametrize("kernel, strides, dilations, size, sides", WINDOWS)
def test_other_windows(
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    size: tuple[int, ...],
    sides: set[int],
) -> None:
    attrs = {"strides": strides, "dilations": dilations, "pads": [1, 0, 1, 1]}
    nodes = [node("Conv", "xwb", "c", **attrs), node("Relu", "c", "y")]
    constants = {"w": random(24, 16, *kernel), "b": random(24, seed=1)}
    made = check(nodes, {"x": random(2, 16, *size)}, constants, expect=["cpu/winograd"])
    assert {o.params["m"] for name, o in made if name == "cpu/winograd"} == sides


@pytest.mark.parametrize("kernel, stride", [(3, 1), (5, 1), (3, 2), (9, 1)])
def test_one_spatial_axis(kernel: int, stride: int) -> None:
    nodes = [node("Conv", "xw", "y", strides=[stride], pads=[kernel // 2] * 2)]
    graph = graph_of(nodes, {"x": random(2, 16, 40)}, {"w": random(24, 16, kernel)})
    offered = "cpu/winograd" in {routine.name for routine, _, _ in offers_of(graph)}
    assert offered == (kernel < 9)
    if offered:
        check(nodes, {"x": random(2, 16, 40)}, {"w": random(24, 16, kernel)}, expect=["cpu/winograd"])


@pytest.mark.parametrize("tail", [(), ("Relu",), ("Sigmoid",)])
@pytest.mark.parametrize("size", [(12, 12), (13, 9), (14, 27), (8, 2)])
def test_pooled(size: tuple[int, int], tail: tuple[str, ...]) -> None:
    """The largest of 2x2 is taken inside a tile; an odd last row or column is nobody's."""
    names = ["c", "d", "y"]
    nodes = [node("Conv", "xwb", "c", pads=[1] * 4)]
    nodes += [node(kind, names[i], names[i + 1]) for i, kind in enumerate(tail)]
    nodes += [node("MaxPool", names[len(tail)], "p", kernel_shape=[2, 2], strides=[2, 2])]
    constants = {"w": random(24, 16, 3, 3), "b": random(24, seed=1)}
    made = check(nodes, {"x": random(2, 16, *size)}, constants, expect=["cpu/winograd"])
    assert {o.params["m"] for name, o in made if name == "cpu/winograd"} >= {2}


@pytest.mark.parametrize(
    "pool, tail, size",
    [
        ({"strides": [1, 1]}, "Relu", 12),
        ({"pads": [1, 1, 0, 0]}, "Relu", 12),
        ({"kernel_shape": [3, 3]}, "Relu", 12),
        ({"ceil_mode": 1}, "Relu", 13),
        ({"auto_pad": "SAME_UPPER"}, "Relu", 13),
        ({}, "HardSwish", 12),
    ],
)
def test_what_cannot_be_pooled_inside_a_tile(pool: dict[str, object], tail: str, size: int) -> None:
    attrs = {"kernel_shape": [2, 2], "strides": [2, 2], **pool}
    nodes = [node("Conv", "xw", "c", pads=[1] * 4), node(tail, "c", "r"), node("MaxPool", "r", "y", **attrs)]
    graph = graph_of(nodes, {"x": random(1, 16, size, size)}, {"w": random(16, 16, 3, 3)})
    assert "cpu/winograd" not in {routine.name for routine, _, _ in offers_of(graph)}


@pytest.mark.parametrize("dilation, size", [(2, (12, 9)), (2, (3, 5)), (3, (7, 16)), (5, (24, 4))])
def test_dilated(dilation: int, size: tuple[int, int]) -> None:
    nodes = [node("Conv", "xwb", "c", pads=[dilation] * 4, dilations=[dilation] * 2), node("Relu", "c", "y")]
    constants = {"w": random(24, 16, 3, 3), "b": random(24, seed=1)}
    check(nodes, {"x": random(2, 16, *size)}, constants, expect=["cpu/winograd"])


def test_what_winograd_cannot_do_is_not_offered() -> None:
    routine = ROUTINES["cpu/winograd"]
    for attrs, shape in [
        ({"strides": [3, 3]}, (16, 16, 3, 3)),
        ({}, (16, 16, 1, 1)),
        ({"group": 2}, (16, 8, 3, 3)),
        ({}, (16, 16, 9, 9)),
        ({}, (15, 16, 3, 3)),
    ]:
        graph = graph_of([node("Conv", "xw", "y", **attrs)], {"x": random(1, 16, 12, 12)}, {"w": random(*shape)})
        assert not list(routine.offers(Region(graph, graph.layers), target()))


@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("channels", [64, 256])
def test_errors_stay_in_the_declared_class(channels: int, kernel: int, stride: int) -> None:
    """He weights and rectified inputs, as in trained networks: half the declared error is kept in reserve."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((1, channels, 14, 14)), 0).astype(np.float32)
    w = (rng.standard_normal((32, channels, kernel, kernel)) * (2 / channels / kernel**2) ** 0.5).astype(np.float32)
    conv = node("Conv", "xw", "y", pads=[kernel // 2] * 4, strides=[stride] * 2)
    graph = graph_of([conv], {"x": x}, {"w": w})
    exact = RegionEvaluator(Region(graph, graph.layers))([x.astype(np.float64).astype(np.float32)])[0]
    for routine, region, offer in offers_of(graph):
        if routine.name == "cpu/winograd":
            operands = [
                list(zip(v, s, strict=True))
                for v, s in ((region.inputs, offer.inputs), (region.outputs, offer.outputs))
            ]
            rig = Rig(
                routine.prepare(region, offer, target()), *operands, {"cpu": target().device}, routine_device="cpu"
            )
            rig.load([x])
            rig.run()
            error = np.abs(rig.outputs()[0] - exact).max() / np.abs(exact).max()
            assert error < offer.accuracy / 2
