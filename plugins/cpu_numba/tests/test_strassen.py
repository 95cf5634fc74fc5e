"""Strassen: the tables in exact arithmetic, the routine at awkward sizes, its error against the declared one."""

from __future__ import annotations

import numpy as np
import pytest
from harness import ROUTINES, check, graph_of, node, random, run_offer, target
from softneuro_cpu_numba.strassen import ACCURACY
from softneuro_cpu_numba.strassen_form import (
    BUFFERS,
    CHAIN,
    FACTORS,
    FIFTH,
    FROM,
    INTO,
    LEFT,
    LOWER,
    LOWER_RIGHT,
    RIGHT,
    S1,
    S2,
    S3,
    S4,
    UPPER_LEFT,
    UPPER_RIGHT,
    parts_of,
)

from softneuro_core.graph import Region
from softneuro_core.tuning import tune


def test_seven_products_make_the_whole() -> None:
    """In integers the chain of products gives x @ w itself, not nearly so."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(-9, 9, (6, 8)), rng.integers(-9, 9, (8, 10))
    (a11, a12), (a21, a22) = (np.split(half, 2, axis=1) for half in np.split(x, 2))
    s2 = a21 + a22 - a11
    left = {UPPER_LEFT: a11, UPPER_RIGHT: a12, LOWER_RIGHT: a22}
    left |= {S1: a21 + a22, S2: s2, S3: a11 - a21, S4: a12 - s2}
    buffers = [np.zeros((3, 5), np.int64) for _ in range(BUFFERS)]
    for which, right, begin, end in zip(FACTORS, parts_of(w), FROM, INTO, strict=True):
        buffers[end] = buffers[begin] + left[which] @ right
    halves = [[buffers[LEFT], buffers[RIGHT] + buffers[FIFTH]], [buffers[LOWER], buffers[CHAIN] + buffers[FIFTH]]]
    np.testing.assert_array_equal(np.block(halves), x @ w)


@pytest.mark.parametrize("size", [(5, 5), (4, 6), (7, 7), (13, 11)])
@pytest.mark.parametrize("k, n", [(128, 64), (144, 96), (150, 192), (166, 128), (1024, 64)])
@pytest.mark.parametrize("tail", ["none", "residual"])
def test_pointwise_convolution(size: tuple[int, int], k: int, n: int, tail: str) -> None:
    """Odd and even numbers of rows, several tasks and groups of tiles, an epilogue."""
    nodes, inputs = [node("Conv", "xwb", "c")], {"x": random(1, k, *size)}
    if tail == "residual":
        nodes += [node("Add", "cr", "s"), node("Relu", "s", "y")]
        inputs["r"] = random(1, n, *size, seed=3)
    weights = {"w": random(n, k, 1, 1), "b": random(n, seed=1)}
    check(nodes, inputs, weights, expect=["cpu/strassen"])


@pytest.mark.parametrize("rows", [24, 33, 197])
def test_matrix_products(rows: int) -> None:
    x, w = random(rows, 192), random(192, 128, seed=1)
    check([node("MatMul", "xw", "m"), node("Gelu", "m", "y")], {"x": x}, {"w": w}, opset=20, expect=["cpu/strassen"])
    check([node("Gemm", "xwb", "y", transB=1)], {"x": x}, {"w": w.T.copy(), "b": random(128)}, expect=["cpu/strassen"])
    check([node("MatMul", "xw", "y")], {"x": x.reshape(1, rows, 192)}, {"w": w}, expect=["cpu/strassen"])


@pytest.mark.parametrize(
    "shape, weights, attrs",
    [
        ((1, 128, 8, 8), (64, 128, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((1, 128, 8, 8), (64, 128, 1, 1), {"strides": [2, 2]}),
        ((1, 256, 8, 8), (64, 128, 1, 1), {"group": 2}),
        ((1, 128, 2, 2), (64, 128, 1, 1), {}),
        ((1, 120, 8, 8), (64, 120, 1, 1), {}),
        ((1, 129, 8, 8), (64, 129, 1, 1), {}),
        ((1, 128, 8, 8), (72, 128, 1, 1), {}),
    ],
)
def test_what_it_cannot_do_is_not_offered(
    shape: tuple[int, ...], weights: tuple[int, ...], attrs: dict[str, object]
) -> None:
    graph = graph_of([node("Conv", "xw", "y", **attrs)], {"x": random(*shape)}, {"w": random(*weights)})
    assert not list(ROUTINES["cpu/strassen"].offers(Region(graph, graph.layers), target()))


@pytest.mark.parametrize("kind", ["rectified", "normal", "spiky"])
@pytest.mark.parametrize("k", [128, 2048])
def test_errors_stay_below_the_declared_one(kind: str, k: int) -> None:
    """Against float64, He weights: half the declared error is kept in reserve (seen: 2.6e-6)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((49, k))
    x = np.maximum(x, 0) if kind == "rectified" else x**7 if kind == "spiky" else x
    x, w = x.astype(np.float32), (rng.standard_normal((k, 128)) * (2 / k) ** 0.5).astype(np.float32)
    graph = graph_of([node("MatMul", "xw", "y")], {"x": x}, {"w": w})
    region, routine = Region(graph, graph.layers), ROUTINES["cpu/strassen"]
    (offer,) = routine.offers(region, target())
    exact = x.astype(np.float64) @ w
    assert np.abs(run_offer(routine, region, offer, [x]) - exact).max() / np.abs(exact).max() < ACCURACY / 2


@pytest.mark.parametrize("rows, k, n", [(512, 512, 512), (24, 512, 512), (24, 128, 64)])
def test_nothing_unmeasured_is_computed_by_it(rows: int, k: int, n: int) -> None:
    """Its error is several times the direct product's where sums cancel: estimates must prefer that."""
    graph = graph_of([node("Gemm", "xw", "y")], {"x": random(rows, k)}, {"w": random(k, n)})
    plan = tune(graph, threads=1, budget_s=0)
    assert [step.routine for step in plan.kernel_steps] in (["cpu/gemm"], ["cpu/gemm_blas"])
