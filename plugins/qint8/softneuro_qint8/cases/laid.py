"""Layers of a float model whose values a plan may put on grids: there are no ways on and off them in the graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softneuro_core.testing.case import Case
from softneuro_qint8.cases.sketch import INT8, SHARES, SHIFTED, UINT8, Sketch


def cases() -> Iterator[Case]:
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
