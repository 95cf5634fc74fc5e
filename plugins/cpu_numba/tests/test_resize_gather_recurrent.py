"""Resize, Gather, LSTM and GRU against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check, node, random


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("scale", [2.0, 0.5, 1.7])
def test_resize(mode, coordinates, scale):
    constants = {"s": np.array([1, 1, scale, scale], np.float32)}
    for rounding in ("round_prefer_floor", "floor") if mode == "nearest" else ("round_prefer_floor",):
        resize = node(
            "Resize", ["x", "", "s"], "y", mode=mode, coordinate_transformation_mode=coordinates, nearest_mode=rounding
        )
        check([resize], {"x": random(2, 3, 7, 10)}, constants, opset=13, expect=["cpu/resize"])


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("coordinates", ["align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("size, scale", [((3, 2), 1 / 2), ((3, 5), 1 / 3), ((9, 10), 1 / 9), ((1, 1), 1.0)])
def test_resize_to_one_pixel(mode, coordinates, size, scale):
    """What counts is the length with its fraction: 3 / 2 is more than one."""
    constants = {"s": np.array([1, 1, scale, scale], np.float32)}
    resize = node(
        "Resize", ["x", "", "s"], "y", mode=mode, coordinate_transformation_mode=coordinates, nearest_mode="ceil"
    )
    check([resize], {"x": random(1, 3, *size)}, constants, opset=13, expect=["cpu/resize"])


@pytest.mark.parametrize("coordinates", ["align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("size", [(2, 3), (7, 49)])
def test_resize_to_sizes_of_one_pixel(coordinates, size):
    resize = node("Resize", ["x", "", "", "n"], "y", mode="linear", coordinate_transformation_mode=coordinates)
    constants = {"n": np.array([1, 3, 1, 1], np.int64)}
    check([resize], {"x": random(1, 3, *size)}, constants, opset=13, expect=["cpu/resize"])


def test_resize_to_sizes():
    resize = node("Resize", ["x", "", "", "n"], "y", mode="linear", coordinate_transformation_mode="half_pixel")
    constants = {"n": np.array([1, 8, 13, 9], np.int64)}
    check([resize], {"x": random(1, 8, 6, 5)}, constants, opset=13, expect=["cpu/resize"])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", ["int64", "int32"])
def test_gather(axis, kind):
    data, indices = random(4, 5, 6), np.array([[0, 3, -1], [1, 2, -4]], kind)
    gather = node("Gather", "di", "y", axis=axis)
    check([gather], {"d": data, "i": indices}, expect=["cpu/gather"])
    check([gather], {"d": data}, {"i": indices}, expect=["cpu/gather"])
    check([gather], {"i": indices}, {"d": data.astype(np.float16)}, expect=["cpu/gather"])


def cell(operator, gates, direction, form, **attrs):
    """The layer with its inputs and constants; ``form`` says which operands and results it has."""
    time, batch, count, hidden, d = 3, 2, 5, 8, 2 if direction == "bidirectional" else 1
    inputs = {"x": random(time, batch, count)}
    constants = {"w": random(d, gates * hidden, count), "r": random(d, gates * hidden, hidden, seed=1)}
    names, states = ["x", "w", "r"], "hc" if operator == "LSTM" else "h"
    if form != "plain":
        constants["b"] = random(d, 2 * gates * hidden, seed=2)
        names.append("b")
    if form in ("states", "peepholes"):
        inputs |= {name: random(d, batch, hidden, seed=seed) for seed, name in enumerate(states, 3)}
        names += ["", *states]
    if form == "peepholes":
        constants["p"] = random(d, 3 * hidden, seed=5)
        names.append("p")
    outputs = ["", "yh"] if form == "last only" else ["y", *(f"y{name}" for name in states)]
    return [node(operator, names, outputs, direction=direction, hidden_size=hidden, **attrs)], inputs, constants


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("form", ["plain", "bias", "states", "peepholes", "last only"])
def test_lstm(direction, form):
    if direction == "bidirectional" and form == "last only":
        pytest.skip("same code as the others")
    check(*cell("LSTM", 4, direction, form), opset=14, expect=["cpu/lstm"])


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("form", ["plain", "bias", "states", "last only"])
@pytest.mark.parametrize("behind", [0, 1])
def test_gru(direction, form, behind):
    check(*cell("GRU", 3, direction, form, linear_before_reset=behind), opset=14, expect=["cpu/gru"])
