"""Cases for the conformance kit: layers between grids, as the importer leaves them (weights folded to float32)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from softneuro_core.spec import QParams
from softneuro_core.testing.case import Case, Const, normal, single, uniform

Numbers = tuple[float, int, str]
"""Scale, zero point, type."""
SHARES = (1 / 255, -128, "int8")
"""For numbers from 0 to 1."""
UINT8, INT8, SHIFTED = (0.02, 131, "uint8"), (0.03, 0, "int8"), (0.025, -7, "int8")


def cases() -> Iterator[Case]:
    yield from _convolutions()
    yield from _transposed()
    yield from _depthwise()
    yield from _products()
    yield from _factors()
    yield from _rows()
    yield from _pools()
    yield from _resizes()
    yield from _elementwise()
    yield from _moves()
    yield from _laid()
    yield from _sums()


class Sketch:
    """A quantised graph under construction; values are known by name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: dict[str, np.ndarray] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.qparams: dict[str, QParams] = {}

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def integers(self, numbers: Numbers, *shape: int) -> str:
        """A graph input of every number the type has."""
        name, limits = f"x{len(self.inputs)}", np.iinfo(numbers[2])
        self.inputs[name] = uniform(limits.min, limits.max, *shape, dtype=numbers[2], seed=len(self.inputs))
        return name

    def real(self, numbers: Numbers, *shape: int) -> str:
        """The same behind DequantizeLinear."""
        return self._known(self.layer("DequantizeLinear", self.integers(numbers, *shape), *self._two(numbers)), numbers)

    def on_grid(self, numbers: Numbers, *shape: int) -> str:
        """A float graph input that lies on the grid."""
        name = self.integers(numbers, *shape)
        self.inputs[name] = ((self.inputs[name].astype(np.float32) - numbers[1]) * np.float32(numbers[0])).astype("f4")
        return self._known(name, numbers)

    def weights(self, *shape: int, axis: int = 0, per_channel: bool = True, dtype: str = "int8") -> str:
        """Channels on one of two scales, one twice the other, and even numbers of at most 62: so the weights still lie
        on the grid when the kit moves them all on by some places."""
        rng = np.random.default_rng(list(shape))
        whole, channels = 2 * rng.integers(-31, 32, shape), shape[axis]
        scales = np.where(np.arange(channels) % 2, 0.004, 0.002) if per_channel else np.array(0.003)
        scales = scales.astype(np.float32)
        along = np.reshape(scales, [-1 if a == axis else 1 for a in range(len(shape))]) if per_channel else scales
        name = self.constant((whole * along).astype(np.float32))
        zeros = np.full(np.shape(scales), 0 if dtype == "int8" else 128, dtype)
        self.qparams[name] = QParams(scales, zeros, axis if per_channel else None, True)
        return name

    def bias(self, channels: int) -> str:
        return self.constant(uniform(-1, 1, channels))

    def layer(self, op: str, *operands: str, **attrs: Any) -> str:
        name = f"y{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, operands, [name], **attrs))
        return name

    def laid(self, numbers: Numbers, *shape: int) -> str:
        """A float graph input a plan may round; what the kit puts in lies on the grid, so that nothing is lost."""
        name = self.on_grid(numbers, *shape)
        self.qparams[name] = _qparams(numbers)
        return name

    def may_be_rounded(self, name: str, numbers: Numbers = UINT8) -> None:
        """Of a result, and of all weights."""
        self.qparams[name] = _qparams(numbers)
        self.qparams |= {n: replace(q, on_grid=False) for n, q in self.qparams.items() if n in self.constants}

    def quantised(self, name: str, numbers: Numbers = INT8) -> None:
        made = self.layer("QuantizeLinear", name, *self._two(numbers))
        self.qparams[made] = _qparams(numbers)

    def case(self, name: str) -> Case:
        return Case(name, tuple(self.nodes), self.inputs, self.constants, qparams=self.qparams)

    def _two(self, numbers: Numbers) -> tuple[str, str]:
        return self.constant(np.float32(numbers[0])), self.constant(np.array(numbers[1], numbers[2]))

    def _known(self, name: str, numbers: Numbers) -> str:
        self.qparams[name] = _qparams(numbers, on_grid=True)
        return name


def _qparams(numbers: Numbers, on_grid: bool = False) -> QParams:
    return QParams(np.array(numbers[0], np.float32), np.array(numbers[1], numbers[2]), None, on_grid)


def _conv(name: str, x: tuple[int, ...], w: tuple[int, ...], *, source: Numbers = UINT8, **attrs: Any) -> Case:
    made = Sketch()
    operands = made.real(source, *x), made.weights(*w), made.bias(w[0])
    made.quantised(made.layer("Conv", *operands, **attrs))
    return made.case(f"qconv-{name}")


def _convolutions() -> Iterator[Case]:
    yield _conv("3x3", (2, 8, 9, 7), (17, 8, 3, 3), pads=[1, 1, 1, 1])
    yield _conv("odd-channels", (1, 3, 11, 9), (16, 3, 3, 3), source=SHIFTED, pads=[0, 1, 1, 0], strides=[2, 2])
    yield _conv("one-channel", (1, 1, 7, 29), (9, 1, 3, 3), pads=[1, 2, 1, 1])
    yield _conv("seven-channels", (2, 7, 4, 13), (9, 7, 1, 3), source=INT8, pads=[0, 1, 0, 1])
    yield _conv("1x1", (2, 16, 6, 5), (33, 16, 1, 1), source=INT8)
    yield _conv("1x1-strided", (1, 17, 7, 9), (8, 17, 1, 1), strides=[2, 2])
    yield _conv("1x1-strided-words", (1, 20, 7, 9), (40, 20, 1, 1), source=INT8, strides=[2, 2])
    yield _conv("3x3-strided-words", (1, 8, 19, 35), (20, 8, 3, 3), source=SHIFTED, strides=[2, 2], pads=[1, 1, 1, 1])
    yield _conv("groups", (1, 12, 8, 8), (6, 6, 3, 3), group=2, pads=[0, 1, 1, 0])
    yield _conv("narrow", (1, 33, 5, 6), (3, 33, 2, 3), dilations=[2, 1], pads=[1, 1, 1, 1])
    yield _conv("dilated", (1, 40, 4, 4), (40, 40, 3, 3), source=SHIFTED, dilations=[1, 2], pads=[1, 2, 1, 2])
    yield _conv("multiplier", (1, 8, 5, 5), (16, 1, 3, 3), group=8)
    yield _conv("1d", (2, 9, 11), (7, 9, 3), pads=[1, 1])
    yield _conv("one-pixel", (1, 40, 1, 1), (130, 40, 1, 1))
    yield _conv("big", (1, 32, 17, 15), (64, 32, 3, 3), pads=[1, 1, 1, 1])
    made = Sketch()
    conv = made.layer("Conv", made.on_grid(SHIFTED, 1, 6, 5, 4), made.weights(9, 6, 3, 3, per_channel=False))
    made.quantised(made.layer("Clip", conv, made.constant(np.float32(-0.5)), made.constant(np.float32(1.1))), UINT8)
    yield made.case("qconv-kept-clip")
    made = Sketch()
    conv = made.layer("Conv", made.real(SHIFTED, 1, 6, 5, 4), made.weights(9, 6, 3, 3, dtype="uint8"))
    made.quantised(made.layer("Relu", conv), SHIFTED)
    yield made.case("qconv-uint8-relu")


def _transposed() -> Iterator[Case]:
    ways: dict[str, tuple[Numbers, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
        "2x2": (UINT8, (2, 16, 5, 7), (16, 33, 2, 2), {"strides": [2, 2]}),
        "overlapping": (SHIFTED, (1, 12, 4, 5), (12, 8, 3, 4), {"strides": [1, 2], "pads": [1, 0, 0, 1]}),
        "odd-channels": (INT8, (1, 5, 6, 3), (5, 40, 3, 3), {"strides": [2, 2], "output_padding": [1, 0]}),
        "1d": (UINT8, (2, 8, 9), (8, 17, 4), {"strides": [2]}),
    }
    for name, (source, x, w, attrs) in ways.items():
        made = Sketch()
        operands = made.real(source, *x), made.weights(*w, axis=1), made.bias(w[1])
        made.quantised(made.layer("Relu", made.layer("ConvTranspose", *operands, **attrs)), SHIFTED)
        yield made.case(f"qconv-transpose-{name}")
    made = Sketch()
    up = made.layer("ConvTranspose", made.laid(UINT8, 1, 36, 9, 11), made.weights(36, 24, 2, 2, axis=1), strides=[2, 2])
    made.may_be_rounded(up, INT8)
    yield made.case("laid-conv-transpose")


def _depthwise() -> Iterator[Case]:
    yield _conv("depthwise", (2, 24, 9, 7), (24, 1, 3, 3), group=24, pads=[1, 1, 1, 1])
    yield _conv("depthwise-strided", (1, 33, 8, 8), (33, 1, 3, 3), source=INT8, group=33, strides=[2, 2])
    yield _conv("depthwise-narrow", (1, 3, 9, 8), (3, 1, 3, 3), source=SHIFTED, group=3, pads=[0, 0, 1, 1])
    yield _conv("depthwise-wide", (1, 16, 6, 14), (16, 1, 2, 9), group=16, dilations=[2, 1], pads=[1, 4, 1, 4])
    yield _conv("depthwise-5x5-big", (1, 48, 19, 17), (48, 1, 5, 5), group=48, pads=[2, 2, 2, 2])


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


def _pool(name: str, op: str, shape: tuple[int, ...], source: Numbers, result: Numbers, **attrs: Any) -> Case:
    made = Sketch()
    made.quantised(made.layer(op, made.real(source, *shape), **attrs), result)
    return made.case(f"qpool-{name}")


def _pools() -> Iterator[Case]:
    padded = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    yield _pool("average", "AveragePool", (2, 17, 9, 7), UINT8, SHIFTED, kernel_shape=[2, 3])
    yield _pool("average-pads", "AveragePool", (1, 8, 9, 7), SHIFTED, INT8, **padded)
    yield _pool("average-counted", "AveragePool", (1, 8, 9, 7), SHIFTED, INT8, count_include_pad=1, **padded)
    yield _pool("global", "GlobalAveragePool", (2, 33, 9, 11), UINT8, UINT8)
    yield _pool("max", "MaxPool", (1, 16, 9, 7), INT8, INT8, **padded)
    yield _pool("max-regrid", "MaxPool", (1, 5, 8, 8), UINT8, SHIFTED, kernel_shape=[2, 2], strides=[2, 2])
    yield _pool("global-max", "GlobalMaxPool", (1, 24, 5, 6), SHIFTED, SHIFTED)
    yield _pool("1d", "AveragePool", (2, 9, 11), SHIFTED, INT8, kernel_shape=[3])


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


def _laid() -> Iterator[Case]:
    """Layers of a float model whose values a plan may put on grids: there are no ways on and off them in the graph."""
    made = Sketch()
    conv = made.layer("Conv", made.laid(UINT8, 1, 9, 7, 6), made.weights(17, 9, 3, 3), made.bias(17), pads=[1] * 4)
    made.may_be_rounded(made.layer("Relu", conv))
    yield made.case("laid-conv-relu")
    for name, source in (("signed", INT8), ("shifted", SHIFTED)):
        made = Sketch()
        conv = made.layer(
            "Conv", made.laid(UINT8, 1, 16, 7, 6), made.weights(37, 16, 3, 3), made.bias(37), pads=[1] * 4
        )
        made.may_be_rounded(made.layer("Relu", made.layer("Add", made.laid(source, 1, 37, 7, 6), conv)), UINT8)
        yield made.case(f"laid-conv-add-relu-{name}")
    made = Sketch()
    conv = made.layer("Conv", made.laid(INT8, 2, 24, 5, 5), made.weights(64, 24, 1, 1))
    made.may_be_rounded(made.layer("Add", conv, made.laid(SHIFTED, 2, 64, 5, 5)), INT8)
    yield made.case("laid-conv-add")
    made = Sketch()
    made.may_be_rounded(made.layer("Conv", made.laid(SHIFTED, 1, 24, 6, 5), made.weights(24, 1, 3, 3), group=24))
    yield made.case("laid-depthwise")
    made = Sketch()
    made.may_be_rounded(made.layer("Gemm", made.laid(UINT8, 3, 40), made.weights(9, 40), made.bias(9), transB=1), INT8)
    yield made.case("laid-gemm")
    yield from _laid_products()
    yield from _laid_factors()
    yield from _laid_rows()
    yield from _streamed()
    made = Sketch()
    made.may_be_rounded(made.layer("Relu", made.layer("Add", made.laid(UINT8, 2, 17), made.laid(INT8, 2, 17))))
    yield made.case("laid-add-relu")
    made = Sketch()
    made.may_be_rounded(made.layer("GlobalAveragePool", made.laid(UINT8, 1, 17, 6, 5)))
    yield made.case("laid-pool")
    for op in ("HardSwish", "Clip"):
        made = Sketch()
        bounds = [made.constant(np.float32(v)) for v in (-0.5, 1.2)] if op == "Clip" else []
        made.may_be_rounded(made.layer(op, made.laid(SHIFTED, 2, 9, 5, 3), *bounds))
        yield made.case(f"laid-{op.lower()}")
    made = Sketch()
    made.may_be_rounded(made.layer("Concat", made.laid(UINT8, 1, 8, 5, 3), made.laid(UINT8, 1, 4, 5, 3), axis=1))
    yield made.case("laid-concat")


def _laid_products() -> Iterator[Case]:
    """Products with a residual, as transformers have them: the added value is read in either order."""
    for rows, name in ((1, "row"), (2, "two-rows"), (37, "big")):
        made = Sketch()
        product = made.layer("Gemm", made.laid(UINT8, rows, 64), made.weights(64, 72, axis=1), made.bias(72))
        made.may_be_rounded(made.layer("Relu", made.layer("Add", made.laid(SHIFTED, rows, 72), product)), UINT8)
        yield made.case(f"laid-gemm-add-relu-{name}")
    made = Sketch()
    product = made.layer("MatMul", made.laid(SHIFTED, 2, 9, 17), made.weights(17, 21, axis=1))
    biased = made.layer("Add", made.bias(21), product)
    made.may_be_rounded(made.layer("Add", biased, made.laid(INT8, 2, 9, 21)), SHIFTED)
    yield made.case("laid-matmul-bias-add")
    made = Sketch()
    product = made.layer("MatMul", made.laid(INT8, 1, 35, 48), made.weights(48, 40, axis=1))
    added = made.layer("Add", made.laid(UINT8, 1, 35, 40), product)
    bounds = [made.constant(np.float32(v)) for v in (-0.5, 1.2)]
    made.may_be_rounded(made.layer("Clip", added, *bounds), INT8)
    yield made.case("laid-matmul-add-clip")


def _laid_factors() -> Iterator[Case]:
    """The two products of attention, heads beside each other as the projections leave them."""
    shapes = ("", 64, 35, (SHIFTED, INT8)), ("-narrow", 20, 9, (UINT8, SHIFTED)), ("-odd", 39, 21, (INT8, UINT8))
    for name, depth, keys, sources in shapes:
        made = Sketch()
        q, k = (made.laid(numbers, 2, n, 3, depth) for numbers, n in zip(sources, (33, keys), strict=True))
        turned = made.layer("Transpose", q, perm=[0, 2, 1, 3]), made.layer("Transpose", k, perm=[0, 2, 3, 1])
        scores = made.layer("MatMul", *turned)
        made.may_be_rounded(made.layer("Mul", scores, made.constant(np.float32(0.125))), SHIFTED)
        yield made.case(f"laid-scores{name}")
    for name, queries, keys, depth in (("", 7, 37, 24), ("-one-row", 1, 64, 64), ("-big", 33, 129, 40)):
        made = Sketch()
        weights = made.laid(SHARES, 2, 3, queries, keys)
        values = made.layer("Transpose", made.laid(UINT8, 2, keys, 3, depth), perm=[0, 2, 1, 3])
        mixed = made.layer("Transpose", made.layer("MatMul", weights, values), perm=[0, 2, 1, 3])
        made.may_be_rounded(made.layer("Reshape", mixed, made.constant([2, queries, 3 * depth])), SHIFTED)
        yield made.case(f"laid-weighed-values{name}")


def _laid_rows() -> Iterator[Case]:
    made = Sketch()
    made.may_be_rounded(made.layer("Softmax", made.laid(UINT8, 3, 9, 35), axis=-1), SHARES)
    yield made.case("laid-softmax")
    for name, *sources in (("", SHIFTED), ("-sum", SHIFTED, UINT8)):
        made = Sketch()
        terms = [made.laid(numbers, 2, 9, 35) for numbers in sources]
        x = terms[0] if len(terms) == 1 else made.layer("Add", *terms)
        made.may_be_rounded(made.layer("LayerNormalization", x, made.bias(35), epsilon=1e-3), SHIFTED)
        yield made.case(f"laid-layernorm{name}")


def _streamed() -> Iterator[Case]:
    """Weights that are read once, beside activations in float32."""
    for rows, op, name in ((1, "Relu", "row"), (3, "HardSwish", "rows"), (8, "Relu", "most-rows")):
        made = Sketch()
        product = made.layer("Gemm", made.laid(UINT8, rows, 261), made.weights(260, 261), made.bias(260), transB=1)
        made.may_be_rounded(made.layer(op, product), SHIFTED)
        yield made.case(f"laid-streamed-{name}")
    made = Sketch()
    product = made.layer("MatMul", made.laid(UINT8, 2, 2, 300), made.weights(300, 231, axis=1))
    made.may_be_rounded(made.layer("Add", product, made.laid(SHIFTED, 2, 2, 231)), SHIFTED)
    yield made.case("laid-streamed-residual")
    made = Sketch()
    conv = made.layer("Conv", made.on_grid(SHIFTED, 1, 270, 1, 1), made.weights(250, 270, 1, 1), made.bias(250))
    made.layer("HardSigmoid", conv)
    yield made.case("streamed-one-pixel")


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
