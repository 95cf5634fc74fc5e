"""Depthwise convolution, pooling and matrix products against the reference."""

from __future__ import annotations

import pytest
from harness import check, node, random, target
from softneuro_cpu_numba.storage import image_specs

DEPTHWISE = [
    (1, 8, (9, 9), (3, 3), {"pads": [1, 1, 1, 1]}),
    (2, 3, (8, 11), (3, 3), {"pads": [0, 0, 1, 1], "strides": [2, 2]}),
    (1, 17, (7, 16), (5, 5), {"pads": [2, 2, 2, 2]}),
    (1, 16, (10, 10), (3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    (1, 7, (20,), (5,), {"pads": [2, 2]}),
    (1, 4, (2, 2), (3, 3), {"pads": [1, 1, 1, 1]}),
    (1, 5, (1, 1), (3, 3), {"pads": [1, 1, 1, 1]}),
    (1, 6, (12, 9), (1, 7), {"auto_pad": "SAME_UPPER", "strides": [1, 3]}),
]


@pytest.mark.parametrize("batch, channels, size, kernel, attrs", DEPTHWISE)
@pytest.mark.parametrize("tail", [None, "Relu"])
def test_depthwise(batch, channels, size, kernel, attrs, tail):
    nodes = [node("Conv", "xwb", "c", group=channels, **attrs)] + ([node(tail, "c", "y")] if tail else [])
    constants = {"w": random(channels, 1, *kernel), "b": random(channels, seed=2)}
    made = check(nodes, {"x": random(batch, channels, *size)}, constants, expect=["cpu/depthwise"])
    assert sum(name == "cpu/depthwise" for name, _ in made) == len(image_specs(target()))


POOLS = [
    ((2, 2), (8, 8), {"strides": [2, 2]}),
    ((3, 3), (9, 7), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ((3, 3), (8, 8), {"strides": [2, 2], "ceil_mode": 1}),
    ((3, 2), (7, 9), {"auto_pad": "SAME_UPPER", "strides": [1, 2]}),
    ((3, 3), (10, 10), {"dilations": [2, 2], "pads": [1, 1, 1, 1]}),
    ((4,), (17,), {"strides": [3], "pads": [1, 2]}),
    ((1, 1), (3, 3), {}),
    ((2, 2), (2, 2), {}),
]


@pytest.mark.parametrize("kernel, size, attrs", POOLS)
@pytest.mark.parametrize("channels", [1, 3, 16, 17])
def test_pool(kernel, size, attrs, channels):
    x = {"x": random(2, channels, *size)}
    check([node("MaxPool", "x", "y", kernel_shape=kernel, **attrs)], x, expect=["cpu/max_pool"], opset=19)
    for count in (0, 1):
        average = node("AveragePool", "x", "y", kernel_shape=kernel, count_include_pad=count, **attrs)
        check([average], x, expect=["cpu/average_pool"], opset=19)


def test_max_pool_of_minus_infinity_and_nan():
    x = random(1, 8, 6, 6)
    x[0, 0] = -float("inf")
    check([node("MaxPool", "x", "y", kernel_shape=[2, 2])], {"x": x}, expect=["cpu/max_pool"])


@pytest.mark.parametrize("m, k, n", [(1, 7, 3), (1, 64, 100), (2, 16, 17), (3, 8, 8), (17, 5, 33), (64, 48, 16)])
@pytest.mark.parametrize("trans", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(m, k, n, trans):
    a = random(*((k, m) if trans[0] else (m, k)))
    b = random(*((n, k) if trans[1] else (k, n)), seed=1)
    gemm = node("Gemm", "abc", "y", transA=trans[0], transB=trans[1], alpha=0.5, beta=2.0)
    check([gemm], {"a": a}, {"b": b, "c": random(n, seed=2)}, expect=["cpu/gemm"])
    plain = node("Gemm", "ab", "y", transA=trans[0], transB=trans[1])
    check([plain], {"a": a, "b": b}, expect=["cpu/gemm"])


@pytest.mark.parametrize(
    "a, b",
    [
        ((3, 4), (4, 5)),
        ((2, 3, 7, 5), (5, 9)),
        ((2, 3, 7, 5), (2, 3, 5, 9)),
        ((2, 1, 7, 5), (3, 5, 16)),
        ((1, 8), (8, 1)),
    ],
)
def test_matmul(a, b):
    check([node("MatMul", "ab", "y")], {"a": random(*a), "b": random(*b)}, expect=["cpu/gemm"])
    if len(b) == 2:
        nodes = [node("MatMul", "ab", "m"), node("Add", "mr", "s"), node("Relu", "s", "y")]
        inputs = {"a": random(*a), "r": random(*a[:-1], b[-1], seed=4)}
        check(nodes, inputs, {"b": random(*b)}, expect=["cpu/gemm"])


def test_large_products_are_offered_to_blas():
    a, b = random(48, 96), random(96, 64)
    gemm = node("Gemm", "abc", "g")
    relu = node("Relu", "g", "y")
    check([gemm, relu], {"a": a}, {"b": b, "c": random(64, seed=2)}, expect=["cpu/gemm", "cpu/gemm_blas"])
    check([node("MatMul", "ab", "y")], {"a": random(2, 3, 48, 32), "b": random(2, 3, 32, 40)}, expect=["cpu/gemm_blas"])
    for trans in ((0, 1), (1, 0), (1, 1)):
        shapes = [(96, 48) if trans[0] else (48, 96), (64, 96) if trans[1] else (96, 64)]
        inputs = {n: random(*s) for n, s in zip("ab", shapes, strict=True)}
        check([node("Gemm", "ab", "y", transA=trans[0], transB=trans[1])], inputs, expect=["cpu/gemm_blas"])


def test_half_precision_layers_run_in_float32():
    x = {"x": random(1, 8, 9, 9, dtype="float16")}
    w = {"w": random(16, 8, 3, 3, dtype="float16"), "b": random(16, dtype="float16")}
    nodes = [node("Conv", "xwb", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "y")]
    check(nodes, x, w, expect=["cpu/conv_direct_fp16"])
    check([node("MaxPool", "x", "y", kernel_shape=[3, 3])], x, expect=["cpu/max_pool_fp16"])
    check([node("Softmax", "x", "y")], x, expect=["cpu/softmax_fp16"])
    check([node("GlobalAveragePool", "x", "y")], x, expect=["cpu/globalaveragepool_fp16"])
