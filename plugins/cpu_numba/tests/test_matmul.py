"""Products of two computed factors against the reference: rows and columns that fill no tile, batches, epilogues."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check, node, random

SIZES = [(3, 5, 4), (6, 8, 16), (7, 1, 9), (13, 33, 24), (40, 17, 8), (5, 64, 41), (19, 3, 1), (2, 9, 70), (1, 9, 5)]


@pytest.mark.parametrize("m, k, n", SIZES)
@pytest.mark.parametrize("batch", [((), ()), ((2, 3), (2, 3)), ((1, 3), (2, 1)), ((), (4,))])
def test_matmul(m: int, k: int, n: int, batch: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    a, b = random(*batch[0], m, k), random(*batch[1], k, n, seed=1)
    check([node("MatMul", "ab", "y")], {"a": a, "b": b}, expect=["cpu/gemm"])


@pytest.mark.parametrize("m, k, n", SIZES)
@pytest.mark.parametrize("trans", [(0, 1), (1, 0)])
def test_gemm_of_computed_factors(m: int, k: int, n: int, trans: tuple[int, int]) -> None:
    a = random(*((k, m) if trans[0] else (m, k)))
    b = random(*((n, k) if trans[1] else (k, n)), seed=1)
    attrs = {"transA": trans[0], "transB": trans[1]}
    check([node("Gemm", "abc", "y", **attrs)], {"a": a, "b": b}, {"c": random(n, seed=2)}, expect=["cpu/gemm"])


@pytest.mark.parametrize("n", [3, 8, 29])
@pytest.mark.parametrize("tail", ["bias", "residual"])
def test_epilogues(n: int, tail: str) -> None:
    inputs, constants = {"a": random(2, 11, 7), "b": random(2, 7, n, seed=1)}, {}
    if tail == "bias":
        constants["r"] = random(n, seed=2)
    else:
        inputs["r"] = random(2, 11, n, seed=2)
    nodes = [node("MatMul", "ab", "m"), node("Add", "mr", "s"), node("Relu", "s", "y")]
    check(nodes, inputs, constants, expect=["cpu/gemm"])


def test_what_is_not_finite_stays_in_its_row_and_column() -> None:
    a, b = random(9, 6), random(6, 20, seed=1)
    a[2, 3], b[4, 17] = np.nan, np.inf
    check([node("MatMul", "ab", "y")], {"a": a, "b": b}, expect=["cpu/gemm"])
