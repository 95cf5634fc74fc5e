"""Matrix products and functions of whole rows between grids, and sums of integers as they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softneuro_core.testing.case import Case, Const, normal, single, uniform
from softneuro_qint8.cases.sketch import INT8, SHARES, SHIFTED, UINT8, Sketch


def cases() -> Iterator[Case]:
    yield from _products()
    yield from _factors()
    yield from _rows()
    yield from _sums()


def _products() -> Iterator[Case]:
    made = Sketch()
    operands = made.real(SHIFTED, 5, 17), made.weights(17, 20, axis=1), made.bias(20)
    made.quantised(made.layer("Gemm", *operands))
    yield made.case("qgemm")
    made = Sketch()
    made.quantised(made.layer("Gemm", made.on_grid(UINT8, 1, 64), made.weights(10, 64), transB=1))
    yield made.case("qgemm-one-row")
    made = Sketch()
    product = made.layer("MatMul", made.real(UINT8, 2, 3, 16), made.weights(16, 24, axis=1))
    made.quantised(made.layer("Relu", made.layer("Add", product, made.bias(24))), SHIFTED)
    yield made.case("qmatmul-add-relu")

    made = Sketch()
    product = made.layer("Gemm", made.real(UINT8, 3, 16), made.weights(16, 24, axis=1), made.bias(24))
    made.quantised(made.layer("Add", product, made.constant(np.array([0.7], np.float32))), SHIFTED)
    yield made.case("qgemm-two-biases")


def _factors() -> Iterator[Case]:
    """Two computed factors."""
    sizes = {"": ((2, 3, 7, 17), (2, 3, 17, 21)), "-broadcast": ((2, 1, 9, 16), (3, 16, 40)), "-few": ((5, 8), (8, 3))}
    for name, (a, b) in sizes.items():
        made = Sketch()
        made.quantised(made.layer("MatMul", made.real(UINT8, *a), made.real(SHIFTED, *b)), SHIFTED)
        yield made.case(f"qmatmul-computed{name}")
    made = Sketch()
    product = made.layer("MatMul", made.on_grid(INT8, 2, 37, 70), made.real(UINT8, 2, 70, 53))
    made.quantised(made.layer("Relu", product), UINT8)
    yield made.case("qmatmul-computed-relu")


def _rows() -> Iterator[Case]:
    """Functions of whole rows."""
    for n in (3, 16, 53):
        made = Sketch()
        made.quantised(made.layer("Softmax", made.real(SHIFTED, 2, 5, n), axis=-1), SHARES)
        yield made.case(f"qsoftmax-{n}")
    made = Sketch()
    operands = made.real(UINT8, 2, 7, 37), made.bias(37), made.bias(37)
    made.quantised(made.layer("LayerNormalization", *operands), SHIFTED)
    yield made.case("qlayernorm")


def _sums() -> Iterator[Case]:
    """What the kit's own cases lack: groups, strides, zero points that are computed or by channel."""
    x, w = uniform(-128, 127, 2, 8, 7, 5, dtype="int8"), Const(uniform(-128, 127, 12, 4, 3, 3, dtype="int8"))
    zero = np.array(-3, np.int8)
    yield single("convinteger-groups", "ConvInteger", x, w, zero, group=2, strides=[2, 1], pads=[1, 0, 1, 2])
    a, b = uniform(0, 255, 2, 3, 17, dtype="uint8"), Const(uniform(0, 255, 17, 21, dtype="uint8"))
    zeros = Const(uniform(0, 255, 21, dtype="uint8"))
    yield single("matmulinteger-computed", "MatMulInteger", a, b, np.array(201, np.uint8), zeros)
    yield single("matmulinteger-one-row", "MatMulInteger", a[0, :1], b)
    yield single("dynamic-quantize-negative", "DynamicQuantizeLinear", -1 - np.abs(normal(2, 3, 5, 7)), outputs=3)
    yield single("dynamic-quantize-positive", "DynamicQuantizeLinear", 1 + np.abs(normal(3, 1)), outputs=3)
    yield single("dynamic-quantize-zeros", "DynamicQuantizeLinear", np.zeros((2, 9), np.float32), outputs=3)
