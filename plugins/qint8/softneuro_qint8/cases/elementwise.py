"""Elementwise layers, moves and Resize between grids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from softneuro_core.testing.case import Case, uniform
from softneuro_qint8.cases.sketch import INT8, SHIFTED, UINT8, Sketch


def cases() -> Iterator[Case]:
    yield from _resizes()
    yield from _elementwise()
    yield from _moves()


def _resizes() -> Iterator[Case]:
    ways: dict[str, dict[str, Any]] = {
        "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "linear": {"mode": "linear"},
        "corners": {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    }
    for name, attrs in ways.items():
        for result in (UINT8, SHIFTED) if name == "nearest" else (SHIFTED,):
            made = Sketch()
            x, scales = made.real(UINT8, 2, 19, 5, 4), made.constant(np.array([1, 1, 2, 1.5], np.float32))
            made.quantised(made.layer("Resize", x, "", scales, **attrs), result)
            yield made.case(f"qresize-{name}" + ("-same" if result is UINT8 else ""))
    made = Sketch()
    x, sizes = made.laid(SHIFTED, 1, 9, 6, 7), made.constant(np.array([1, 9, 4, 13]))
    made.may_be_rounded(made.layer("Relu", made.layer("Resize", x, "", "", sizes, mode="linear")), UINT8)
    yield made.case("laid-resize-relu")


def _elementwise() -> Iterator[Case]:
    made = Sketch()
    made.quantised(made.layer("Add", made.real(UINT8, 2, 5, 7), made.real(SHIFTED, 2, 5, 7)))
    yield made.case("qadd")
    made = Sketch()
    made.quantised(made.layer("Relu", made.layer("Add", made.on_grid(UINT8, 3, 17), made.real(INT8, 3, 17))), UINT8)
    yield made.case("qadd-kept-relu")
    made = Sketch()
    made.quantised(made.layer("Mul", made.real(UINT8, 2, 9, 5, 3), made.real(SHIFTED, 2, 9, 1, 1)), SHIFTED)
    yield made.case("qmul-gate")
    made = Sketch()
    sides = made.real(UINT8, 2, 9, 5, 3), made.constant(uniform(-1, 1, 9, 1, 1))
    made.quantised(made.layer("Mul", *sides), SHIFTED)
    yield made.case("qmul-constant")
    made = Sketch()
    made.quantised(made.layer("Sub", made.constant(uniform(0, 1, 1)), made.real(UINT8, 2, 9)), UINT8)
    yield made.case("qsub-from-one")
    made = Sketch()
    made.quantised(made.layer("Sub", made.on_grid(UINT8, 2, 9, 4), made.on_grid(INT8, 2, 9, 4)), SHIFTED)
    yield made.case("qsub")
    made = Sketch()
    made.real(SHIFTED, 2, 5, 7, 3)
    yield made.case("keep-integers")
    made = Sketch()
    made.quantised(made.real(UINT8, 2, 17, 5, 3), SHIFTED)
    yield made.case("qfunction-regrid")
    for op, numbers in (("Sigmoid", SHIFTED), ("HardSwish", UINT8), ("LeakyRelu", INT8), ("Relu", SHIFTED)):
        made = Sketch()
        made.quantised(made.layer(op, made.on_grid(numbers, 2, 9, 5, 3)), UINT8)
        yield made.case(f"qfunction-{op.lower()}")
    made = Sketch()
    x = made.real(SHIFTED, 2, 9, 5, 3)
    gate = made.layer("HardSigmoid", x)
    made.quantised(made.layer("Mul", made.layer("Mul", x, gate), made.constant(np.array([0.7], np.float32))))
    yield made.case("qfunction-tree")
    made = Sketch()
    made.quantised(made.layer("Tanh", made.real(SHIFTED, 4, 33, 31, 17)))
    yield made.case("qfunction-big")


def _moves() -> Iterator[Case]:
    made = Sketch()
    made.quantised(made.layer("Concat", made.real(UINT8, 2, 3, 5), made.on_grid(SHIFTED, 2, 4, 5), axis=1), SHIFTED)
    yield made.case("qmove-concat")
    made = Sketch()
    made.quantised(made.layer("Concat", made.real(INT8, 1, 8, 5, 3), made.real(INT8, 1, 4, 5, 3), axis=1), INT8)
    yield made.case("qmove-concat-same")
    made = Sketch()
    made.quantised(made.layer("Transpose", made.real(UINT8, 2, 3, 4, 5), perm=[0, 2, 3, 1]), UINT8)
    yield made.case("qmove-transpose")
    for name, numbers in (("same", SHIFTED), ("regrid", UINT8)):
        made = Sketch()
        made.quantised(
            made.layer("Pad", made.real(SHIFTED, 2, 3, 4, 5), made.constant([0, 0, 1, 2, 0, 0, 0, 1])), numbers
        )
        yield made.case(f"qmove-pad-{name}")
    made = Sketch()
    sides = made.real(UINT8, 2, 3, 4), made.constant(uniform(-1, 1, 2, 2, 4))
    made.quantised(made.layer("Concat", *sides, axis=1), UINT8)
    yield made.case("qmove-concat-constant")
    made = Sketch()
    made.quantised(made.layer("Flatten", made.real(UINT8, 2, 3, 4, 5)), UINT8)
    yield made.case("qmove-flatten")
    made = Sketch()
    made.quantised(made.layer("Relu", made.layer("Reshape", made.real(SHIFTED, 6, 8), made.constant([3, 16]))), SHIFTED)
    yield made.case("qmove-reshape-relu")
