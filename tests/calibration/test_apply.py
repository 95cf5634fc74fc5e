"""Grids over ranges: 0 is exact, what only moves numbers shares one, and ranges of another model are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import softneuro_core as sn
from softneuro_core.calibration.apply import grid_over, lay_grids
from softneuro_core.calibration.collect import calibrate
from softneuro_core.errors import InputError
from softneuro_core.graph import Graph
from softneuro_core.testing.build import build_graph
from tests.core.models import residual

CATALOG = sn.load_plugins(only=())
X = np.linspace(-1, 3, 2 * 4 * 6 * 6, dtype=np.float32).reshape(2, 4, 6, 6)


def graph(last: float = 2.0) -> Graph:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("MaxPool", ["a"], ["p"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Mul", ["x", "k"], ["m"]),
        helper.make_node("Concat", ["p", "m"], ["c"], axis=1),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("Sigmoid", ["f"], ["y"]),
    ]
    return build_graph(nodes, {"x": X}, {"k": np.float32(last)}, ["y"], opset=17)


@given(st.floats(-1e6, 0, width=32), st.floats(0, 1e6, width=32))
def test_zero_is_exact_and_the_ends_are_within_a_step(low: float, high: float) -> None:
    numbers = grid_over(low, high)
    if numbers is None:
        assert high - low < 1e-35
        return
    scale, zero = float(numbers.scale), int(numbers.zero_point)
    assert 0 <= zero <= 255
    assert (0 - zero) * scale <= low + scale and (255 - zero) * scale >= high - scale


def test_what_moves_numbers_shares_a_grid() -> None:
    made = graph()
    made = lay_grids(made, calibrate(made, [{"x": X}], "minmax", catalog=CATALOG))
    numbers = {value.name: value.qparams for value in made.values}
    assert numbers["a"] is numbers["p"] is numbers["c"] is numbers["m"] is numbers["f"] is not None
    assert float(numbers["a"].scale) == pytest.approx(8 / 255)  # -2 .. 6, of the Mul
    assert float(numbers["x"].scale) == pytest.approx(4 / 255) and int(numbers["x"].zero_point) == 64
    assert float(numbers["y"].scale) == pytest.approx(1 / 255, rel=0.01) and int(numbers["y"].zero_point) == 0


def test_ranges_of_another_model_are_refused() -> None:
    ranges = calibrate(graph(), [{"x": X}], catalog=CATALOG)
    with pytest.raises(InputError, match="other weights"):
        lay_grids(graph(3.0), ranges)
    with pytest.raises(InputError, match="other layers"):
        lay_grids(sn.load(residual(), catalog=CATALOG), ranges)
