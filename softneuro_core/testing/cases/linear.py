"""Matrix products, softmax, normalisation over trailing axes, reductions and running sums."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softneuro_core.testing.case import Case, Const, normal, single, uniform


def cases() -> Iterator[Case]:
    yield from _gemm()
    yield from _matmul()
    yield from _softmax()
    yield from _norms()
    yield from _reductions()
    yield from _running()


def _gemm() -> Iterator[Case]:
    for m, k, n in ((1, 1, 1), (1, 17, 8), (3, 7, 16), (7, 16, 17), (17, 3, 1), (8, 64, 10)):
        yield single(f"gemm-{m}x{k}x{n}", "Gemm", normal(m, k), Const(normal(k, n, seed=1)), Const(normal(n)))
    a, b = normal(5, 7), normal(7, 9, seed=1)
    yield single("gemm-noc", "Gemm", a, Const(b))
    yield single("gemm-transb", "Gemm", a, Const(np.ascontiguousarray(b.T)), Const(normal(9)), transB=1)
    yield single("gemm-transa", "Gemm", np.ascontiguousarray(a.T), Const(b), Const(normal(9)), transA=1)
    at, bt = np.ascontiguousarray(a.T), Const(np.ascontiguousarray(b.T))
    yield single("gemm-trans-both", "Gemm", at, bt, Const(normal(5, 9)), transA=1, transB=1)
    yield single("gemm-alpha-beta", "Gemm", a, Const(b), Const(normal(5, 9)), alpha=0.5, beta=-2.0)
    yield single("gemm-c-column", "Gemm", a, Const(b), Const(normal(5, 1)))
    yield single("gemm-c-row", "Gemm", a, Const(b), Const(normal(1, 9)))
    yield single("gemm-c-scalar", "Gemm", a, Const(b), Const(np.float32(0.7)))
    yield single("gemm-c-computed", "Gemm", a, Const(b), normal(5, 9))
    yield single("gemm-b-computed", "Gemm", a, b, normal(9))
    for dtype in ("float64", "float16"):
        yield single(f"gemm-{dtype}", "Gemm", a.astype(dtype), Const(b.astype(dtype)), Const(normal(9, dtype=dtype)))
    yield single("gemm-big", "Gemm", normal(64, 128), Const(normal(128, 96, seed=1)), Const(normal(96)), alpha=1.5)
    yield single("gemm-batch1-big", "Gemm", normal(1, 8192), Const(normal(8192, 17, seed=1)), Const(normal(17)))


def _matmul() -> Iterator[Case]:
    shapes = {
        "2d": ((3, 7), (7, 17)),
        "1x1": ((1, 1), (1, 1)),
        "vector-first": ((7,), (7, 5)),
        "vector-last": ((5, 7), (7,)),
        "vectors": ((17,), (17,)),
        "3d": ((2, 5, 7), (2, 7, 3)),
        "4d": ((2, 3, 5, 8), (2, 3, 8, 17)),
        "broadcast": ((2, 1, 5, 7), (3, 7, 4)),
        "3d-by-2d": ((2, 5, 16), (16, 17)),
        "2d-by-3d": ((5, 8), (3, 8, 7)),
        "big": ((4, 48, 64), (64, 96)),
    }
    for label, (a, b) in shapes.items():
        yield single(f"matmul-{label}", "MatMul", normal(*a), normal(*b, seed=1))
        if label in ("2d", "3d-by-2d", "3d", "vector-first", "big"):
            yield single(f"matmul-const-{label}", "MatMul", normal(*a), Const(normal(*b, seed=1)))
    yield single("matmul-const-first", "MatMul", Const(normal(5, 7)), normal(2, 7, 3, seed=1))
    for dtype in ("float64", "float16"):
        yield single(f"matmul-{dtype}", "MatMul", normal(3, 7, dtype=dtype), normal(7, 5, dtype=dtype, seed=1))
    yield single("matmul-int32", "MatMul", uniform(-9, 9, 3, 7, dtype="int32"), uniform(-9, 9, 7, 5, dtype="int32"))


def _softmax() -> Iterator[Case]:
    for op in ("Softmax", "LogSoftmax"):
        name = op.lower()
        for shape in ((1,), (3, 17), (2, 5, 7), (2, 3, 4, 8)):
            yield single(f"{name}-{'x'.join(map(str, shape))}", op, 4 * normal(*shape))
        yield single(f"{name}-axis1", op, normal(2, 17, 3, 4), axis=1)
        yield single(f"{name}-axis0", op, normal(7, 5), axis=0)
        yield single(f"{name}-axis-2", op, normal(2, 5, 7), axis=-2)
        yield single(f"{name}-large-inputs", op, 200 * normal(3, 9))
        yield single(f"{name}-flattened", op, normal(2, 3, 5), opset=11, axis=1)
        for dtype in ("float64", "float16"):
            yield single(f"{name}-{dtype}", op, normal(3, 7, dtype=dtype))
        yield single(f"{name}-big", op, normal(8, 16, 96))


def _norms() -> Iterator[Case]:
    for shape in ((3, 17), (2, 5, 8), (1, 2, 3, 16), (4, 24, 96)):
        end = "big" if shape[-1] == 96 else "x".join(map(str, shape))
        affine = [Const(normal(shape[-1], seed=s)) for s in (1, 2)]
        yield single(f"layernorm-{end}", "LayerNormalization", normal(*shape), *affine)
    scale, shift = (Const(normal(16, dtype="float16", seed=s)) for s in (1, 2))
    yield single("layernorm-float16", "LayerNormalization", normal(3, 16, dtype="float16"), scale, shift)
    x = normal(2, 5, 3, 7)
    yield single("layernorm-nobias", "LayerNormalization", x, Const(normal(7, seed=1)))
    yield single("layernorm-axis2", "LayerNormalization", x, Const(normal(3, 7, seed=1)), axis=2)
    yield single("layernorm-axis-3", "LayerNormalization", x, Const(normal(5, 3, 7, seed=1)), axis=-3)
    yield single("layernorm-epsilon", "LayerNormalization", x * 1e-3, Const(normal(7, seed=1)), epsilon=1e-2)
    yield single("layernorm-offset", "LayerNormalization", x + 50, Const(normal(7, seed=1)), Const(normal(7)))
    for p, axis in ((1, -1), (2, 1), (2, 0)):
        yield single(f"lpnorm-p{p}-axis{axis}", "LpNormalization", normal(3, 5, 7), p=p, axis=axis)


REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2")
OTHER_REDUCTIONS = ("ReduceSumSquare", "ReduceLogSumExp")


def _reductions() -> Iterator[Case]:
    x = normal(2, 7, 5, 3)
    for op in (*REDUCTIONS, *OTHER_REDUCTIONS):
        name = op.lower()
        for axes in ((-1,), (1,), (0, 2), (2, 3), (-3, -1)):
            label = "_".join(map(str, axes))
            yield single(f"{name}-axes{label}", op, x, Const(np.array(axes)))
        yield single(f"{name}-dropped", op, x, Const(np.array([2, 3])), keepdims=0)
        yield single(f"{name}-float16", op, uniform(0.5, 1.5, 3, 17, dtype="float16"), Const(np.array([1])))
        yield single(f"{name}-all", op, normal(3, 17))
        yield single(f"{name}-all-dropped", op, normal(17), keepdims=0)
        yield single(f"{name}-nothing", op, normal(3, 17), noop_with_empty_axes=1)
        yield single(f"{name}-big", op, uniform(0.9, 1.1, 8, 32, 64), Const(np.array([1])))
        if op != "ReduceSum":
            yield single(f"{name}-attributes", op, x, opset=13, axes=[1, -1], keepdims=0)
    for op in ("ReduceSum", "ReduceMax", "ReduceMin"):
        yield single(f"{op.lower()}-int64", op, uniform(-9, 9, 3, 17, dtype="int64"), Const(np.array([1])))
    for op in ("ArgMax", "ArgMin"):
        for axis in (0, 1, -1):
            yield single(f"{op.lower()}-axis{axis}", op, normal(3, 17, 5), axis=axis)
        yield single(f"{op.lower()}-dropped", op, normal(3, 17), axis=1, keepdims=0)
        ties = uniform(0, 3, 3, 17, dtype="int32").astype(np.float32)
        yield single(f"{op.lower()}-first-of-ties", op, ties, axis=1)
        yield single(f"{op.lower()}-last-of-ties", op, ties, axis=1, select_last_index=1)


def _running() -> Iterator[Case]:
    for exclusive in (0, 1):
        for reverse in (0, 1):
            name, axis = f"cumsum-exclusive{exclusive}-reverse{reverse}", Const(np.array(1))
            yield single(name, "CumSum", normal(3, 17), axis, exclusive=exclusive, reverse=reverse)
    yield single("cumsum-axis-2", "CumSum", normal(2, 5, 7), Const(np.array(-2)))
    yield single("einsum-attention", "Einsum", normal(2, 5, 3, 4), normal(2, 7, 3, 4), equation="bqhd,bkhd->bhqk")
    for largest in (0, 1):
        four = Const(np.array([4]))
        yield single(f"topk-largest{largest}", "TopK", normal(3, 17), four, outputs=2, axis=-1, largest=largest)
