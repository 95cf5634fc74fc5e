"""One case for each operator of com.microsoft, for the conformance kit; no routine computes one, so it is the smallest.

What they mean is checked against onnxruntime (``tests/test_contrib_*.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import helper

from softneuro_core.testing.case import Case, Const, normal, single, uniform
from softneuro_qint8.contrib.signature import DOMAIN

SCALE, ZERO = Const(np.float32(0.02)), Const(np.uint8(3))
GRID = (SCALE, ZERO)


def cases() -> Iterator[Case]:
    for number, (name, operands, attrs) in enumerate(_operands()):
        case = single(f"contrib-{name.lower()}-{number}", name, *operands, domain=DOMAIN)
        case.nodes[0].attribute.extend(helper.make_attribute(k, v) for k, v in attrs.items())
        yield case


def _bytes(*shape: int) -> np.ndarray:
    return uniform(0, 255, *shape, dtype="uint8")


def _stored(*shape: int) -> Const:
    return Const(normal(*shape))


def _operands() -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    x, image, pixels = (_bytes(2, 3), *GRID), (_bytes(1, 2, 4, 4), *GRID), (_bytes(1, 4, 4, 2), *GRID)
    wide, window = (Const(_bytes(3, 2)), *GRID), {"kernel_shape": [2, 2]}
    real, tokens = normal(2, 3), normal(1, 3, 4)
    yield from ((f"QLinear{op}", (*x, *x, *GRID), {}) for op in ("Add", "Mul"))
    yield from ((f"QLinear{op}", (*x, *GRID), {}) for op in ("Sigmoid", "LeakyRelu"))
    yield "QLinearReduceMean", (*x, *GRID), {"axes": [1], "keepdims": 1}
    yield "QLinearSoftmax", (*x, *GRID), {"opset": 13}
    yield "QLinearGlobalAveragePool", (*image, *GRID), {}
    yield "QLinearAveragePool", (*image, *GRID), window
    yield "QLinearWhere", (np.array([[True], [False]]), *x, *x, *GRID), {}
    yield "QLinearConcat", (*GRID, *x, *x), {"axis": 1}
    yield "NhwcMaxPool", pixels[:1], window
    yield "QLinearConv", (*pixels, Const(_bytes(3, 2, 2, 2)), *GRID, *GRID), {"channels_last": 1}
    yield "QGemm", (*x, *wide, None, *GRID), {}
    yield "MatMulIntegerToFloat", (x[0], wide[0], SCALE, SCALE), {}
    yield "DynamicQuantizeMatMul", (real, wide[0], SCALE), {}
    yield "QuantizeLinear", (real, *GRID), {}
    yield "DequantizeLinear", x, {}
    yield "FusedConv", (normal(1, 2, 4, 4), _stored(3, 2, 2, 2)), {"activation": "Relu"}
    yield "FusedGemm", (real, _stored(3, 2)), {"activation": "Relu"}
    yield from ((op, (real, _stored(3, 2)), {"alpha": 0.5}) for op in ("FusedMatMul", "TransposeMatMul"))
    yield from ((op, (real,), {}) for op in ("Gelu", "FastGelu", "QuickGelu"))
    yield "BiasGelu", (real, _stored(3)), {}
    yield "SkipLayerNormalization", (tokens, tokens, _stored(4)), {}
    ids, norm = np.array([[1, 0, 2]], np.int32), (None, _stored(4), _stored(4))
    yield "EmbedLayerNormalization", (ids, None, _stored(5, 4), _stored(3, 4), *norm), {}
    yield "Attention", (tokens, _stored(4, 12), _stored(12)), {"num_heads": 2}
    weights = Const(_bytes(4, 12))
    yield "QAttention", (_bytes(1, 3, 4), weights, _stored(12), SCALE, SCALE), {"num_heads": 2}
