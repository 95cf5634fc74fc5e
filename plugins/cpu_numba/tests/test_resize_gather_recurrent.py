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


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("form", ["plain", "bias", "states", "peepholes", "last only"])
def test_lstm(direction, form):
    time, batch, count, hidden, d = 3, 2, 5, 8, 2 if direction == "bidirectional" else 1
    inputs = {"x": random(time, batch, count)}
    constants = {"w": random(d, 4 * hidden, count), "r": random(d, 4 * hidden, hidden, seed=1)}
    names = ["x", "w", "r"]
    if form != "plain":
        constants["b"] = random(d, 8 * hidden, seed=2)
        names.append("b")
    if form in ("states", "peepholes"):
        inputs |= {"h": random(d, batch, hidden, seed=3), "c": random(d, batch, hidden, seed=4)}
        names += ["", "h", "c"]
    if form == "peepholes":
        constants["p"] = random(d, 3 * hidden, seed=5)
        names.append("p")
    outputs = ["", "yh"] if form == "last only" else ["y", "yh", "yc"]
    if d == 2 and form == "last only":
        pytest.skip("same code as the others")
    lstm = node("LSTM", names, outputs, direction=direction, hidden_size=hidden)
    check([lstm], inputs, constants, opset=14, expect=["cpu/lstm"])


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("form", ["plain", "bias", "states", "last only"])
@pytest.mark.parametrize("behind", [0, 1])
def test_gru(direction, form, behind):
    time, batch, count, hidden, d = 3, 2, 5, 8, 2 if direction == "bidirectional" else 1
    inputs = {"x": random(time, batch, count)}
    constants = {"w": random(d, 3 * hidden, count), "r": random(d, 3 * hidden, hidden, seed=1)}
    names = ["x", "w", "r"]
    if form != "plain":
        constants["b"] = random(d, 6 * hidden, seed=2)
        names.append("b")
    if form == "states":
        inputs["h"] = random(d, batch, hidden, seed=3)
        names += ["", "h"]
    outputs = ["", "yh"] if form == "last only" else ["y", "yh"]
    gru = node("GRU", names, outputs, direction=direction, hidden_size=hidden, linear_before_reset=behind)
    check([gru], inputs, constants, opset=14, expect=["cpu/gru"])
