"""What the routines read of scales, zero points and weights, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from softneuro_qint8 import numbers
from softneuro_qint8.cases.sketch import INT8, SHIFTED, UINT8, Sketch
from softneuro_qint8.numbers import Grid, Requantise, bounded, grid_of, integers_of, weight_scales

from softneuro_core import packing
from softneuro_core.catalog import load_plugins
from softneuro_core.graph import Layer, Value
from softneuro_core.spec import FLOAT32, DType, QParams
from softneuro_core.testing.case import Case
from softneuro_core.testing.routines import offers_for

CATALOG = load_plugins()
MINE = [r for r in CATALOG.routines.values() if type(r).__module__.startswith("softneuro_qint8.")]


def real(scale: Any, zero: Any, on_grid: bool = True, axis: int | None = None) -> Value:
    return Value("x", FLOAT32, (4,), qparams=QParams(np.asarray(scale, np.float32), np.asarray(zero), axis, on_grid))


def offered(case: Case) -> set[str]:
    return {r.name for r in MINE if offers_for(CATALOG, r, case.graph())}


def test_grids_of_a_whole_tensor_in_8_bits_are_read() -> None:
    grid = grid_of(real(0.5, np.uint8(3)))
    assert grid == Grid(0.5, 3, DType.parse("uint8")) and not grid.is_signed and grid.range == (0, 255)
    refused = [
        real([0.5, 0.25], np.zeros(2, np.uint8), axis=0),
        real(0.5, np.int16(3)),
        real(0.0, np.int8(0)),
        real(np.nan, np.int8(0)),
        Value("x", FLOAT32, (4,)),
    ]
    assert grid_of(real(0.5, np.int8(0), on_grid=False)) == Grid(0.5, 0, DType.parse("int8")), "a plan may round to it"
    assert [grid_of(v) for v in refused] == [None] * len(refused)


@pytest.mark.parametrize(
    "op, limits, wanted",
    [
        ("Relu", (), (-3, 127)),
        ("Clip", (-1.0, 6.0), (-5, 9)),
        ("Clip", (None, 0.0), (-128, -3)),
        ("Clip", (-1e9, 1e9), (-128, 127)),
        ("Clip", (100.0, 200.0), (127, 127)),
        ("Clip", (2.0, -2.0), None),
        ("Sigmoid", (), None),
    ],
)
def test_bounds_are_stored_numbers(op: str, limits: tuple[float | None, ...], wanted: tuple[int, int] | None) -> None:
    constants = [None if v is None else Value("c", FLOAT32, (), np.array(v, np.float32)) for v in limits]
    layer = Layer("l", op, (Value("x", FLOAT32, (4,)), *constants), (Value("y", FLOAT32, (4,)),), version=13)
    found = bounded(Grid(0.5, -3, DType.parse("int8")), layer)
    assert (None if found is None else (found.low, found.high)) == wanted


def test_weights_come_back_as_the_integers_they_were() -> None:
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (5, 7, 3, 3)).astype(np.uint8)
    scales, zeros = rng.uniform(1e-4, 1.0, 5).astype(np.float32), rng.integers(0, 256, 5).astype(np.uint8)
    along = (5, 1, 1, 1)
    data = (stored.astype(np.float32) - zeros.reshape(along).astype(np.float32)) * scales.reshape(along)
    weights = Value("w", FLOAT32, data.shape, data, QParams(scales, zeros, 0, True))
    assert np.array_equal(integers_of(weights, 0), stored.astype(np.int16) - zeros.reshape(along).astype(np.int16))
    assert weight_scales(weights, 1) is None  # scales of another axis


@pytest.mark.parametrize("axis", [0, 1])
def test_large_weights_are_rounded_piece_by_piece_and_kept(
    axis: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "PIECE", 3000)
    stored = np.random.default_rng(0).integers(-127, 128, (1030, 1024)).astype(np.int8)
    scales = np.random.default_rng(1).uniform(1e-4, 1.0, stored.shape[axis]).astype(np.float32)
    data = stored * scales.reshape((-1, 1) if axis == 0 else (1, -1))
    weights = Value("w", FLOAT32, data.shape, data, QParams(scales, np.zeros(len(scales), np.int8), axis))
    with packing.keeping(tmp_path):
        first = integers_of(weights, axis)
        monkeypatch.setattr(numbers, "_round", None)  # the second time nothing is rounded
        again = integers_of(weights, axis)
    assert first.dtype == again.dtype == np.int8
    np.testing.assert_array_equal(first, stored)
    np.testing.assert_array_equal(again, stored)


def test_sums_that_32_bits_may_not_hold_are_refused() -> None:
    one, target = Grid(1.0, 0, DType.parse("int8")), bounded(Grid(1e-6, 0, DType.parse("int8")), None)
    assert target is not None
    assert Requantise.of(np.array([1e-6]), one, target).fits(9)
    assert not Requantise.of(np.array([1e-6]), one, target).fits(40000)
    assert not Requantise.of(np.array([1.0]), one, target).fits(9)  # a million steps a product


def _conv(**attrs: Any) -> tuple[Sketch, str]:
    made = Sketch()
    return made, made.layer("Conv", made.real(UINT8, 1, 6, 5, 5), made.weights(8, 6, 3, 3), **attrs)


def test_only_what_rounds_is_computed_in_integers() -> None:
    made, result = _conv()
    assert offered(made.case("float-result")) == set()
    made, result = _conv()
    made.quantised(made.layer("Sigmoid", result))
    assert offered(made.case("sigmoid")) == set()  # no bound: not the same before rounding and behind
    made, result = _conv()
    made.quantised(result)
    assert offered(made.case("conv")) == {"cpu/qconv"}


def test_computed_numbers_and_weights_off_the_grid_are_refused() -> None:
    made, result = _conv()
    made.quantised(result)
    known = made.case("known")
    loose = {name: numbers for name, numbers in made.qparams.items() if name not in made.constants}
    assert offered(Case("loose", known.nodes, known.inputs, known.constants, qparams=loose)) == set()
    scale = known.nodes[-1].input[1]
    inputs = {**known.inputs, scale: known.constants[scale]}
    constants = {k: v for k, v in known.constants.items() if k != scale}
    numbers = {k: v for k, v in made.qparams.items() if k != known.nodes[-1].output[0]}
    assert offered(Case("computed", known.nodes, inputs, constants, qparams=numbers)) == set()


def test_a_value_that_others_read_is_no_part_of_a_region() -> None:
    made = Sketch()
    x = made.real(SHIFTED, 1, 6, 5, 5)
    made.quantised(made.layer("Relu", x), INT8)
    case = made.case("read-twice")
    nodes = (*case.nodes, helper.make_node("Identity", [x], ["z"]))
    shared = Case("shared", nodes, case.inputs, case.constants, ("z", case.nodes[-1].output[0]), qparams=case.qparams)
    graph = shared.graph()
    quantise = next(layer for layer in graph.layers if layer.op == "QuantizeLinear")
    (region,) = CATALOG.routines["cpu/qfunction"].regions(graph, quantise)
    assert [layer.op for layer in region] == ["Relu", "QuantizeLinear"]


def test_finding_what_is_offered_compiles_nothing() -> None:
    """Tables and legality know neither numba nor llvmlite: a cached plan opens without either."""
    script = (
        "import sys; from softneuro_core.catalog import load_plugins; from softneuro_qint8.cases import cases\n"
        "from softneuro_core.testing.routines import offers_for\n"
        "c = load_plugins(); case = next(cases()); r = c.routines['cpu/qconv']\n"
        "assert offers_for(c, r, case.graph())\n"
        "print(sorted({'numba', 'llvmlite'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
