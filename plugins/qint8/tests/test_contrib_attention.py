"""Attention and QAttention with every kind of mask that is supported, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import softneuro_core as sn
from softneuro_core.graph import Graph
from softneuro_core.testing.case import Const

Agree = Callable[..., Graph]
RNG = np.random.default_rng(14)
BATCH, LENGTH, HIDDEN = 2, 5, 8


def reals(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def ones_and_zeros(*shape: int) -> np.ndarray:
    """The first place is never masked: scores of a wholly masked row lose their digits in the filter's -10000."""
    made = RNG.integers(0, 2, shape).astype(np.int32)
    made[..., 0] = 1
    return made


MASKS = {
    "none": None,
    "ends": np.array([3, 5], np.int32),
    "ends and starts": np.array([3, 5, 1, 0], np.int32),
    "elements": ones_and_zeros(BATCH, LENGTH),
    "nothing at all": np.zeros((BATCH, LENGTH), np.int32),
    "by query": ones_and_zeros(BATCH, LENGTH, LENGTH),
}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", MASKS)
def test_masks(agree: Agree, mask: str, causal: int) -> None:
    operands = [reals(BATCH, LENGTH, HIDDEN), Const(reals(HIDDEN, 3 * HIDDEN)), Const(reals(3 * HIDDEN))]
    operands += [] if MASKS[mask] is None else [MASKS[mask]]
    agree("Attention", *operands, num_heads=2, unidirectional=causal)


@pytest.mark.parametrize("shape", [(1, 2), (BATCH, 1), (BATCH, 2)])
@pytest.mark.parametrize("mask", ["none", "elements"])
def test_a_bias_of_the_scores(agree: Agree, mask: str, shape: tuple[int, int]) -> None:
    operands = [reals(BATCH, LENGTH, HIDDEN), Const(reals(HIDDEN, 3 * HIDDEN)), Const(reals(3 * HIDDEN))]
    agree("Attention", *operands, MASKS[mask], None, reals(*shape, LENGTH, LENGTH), num_heads=2, unidirectional=1)


def test_attributes(agree: Agree) -> None:
    x, weights, bias = reals(BATCH, LENGTH, HIDDEN), Const(reals(HIDDEN, 24)), Const(reals(24))
    agree("Attention", x, weights, bias, num_heads=4, scale=0.3)
    agree("Attention", x, weights, bias, MASKS["elements"], num_heads=2, mask_filter_value=-3.0)
    agree("Attention", x, Const(reals(HIDDEN, 28)), Const(reals(28)), num_heads=2, qkv_hidden_sizes=[8, 8, 12])
    agree("Attention", x, reals(HIDDEN, 24), reals(24), num_heads=2)


def test_without_a_bias(made: Any, everything: Any) -> None:
    """onnxruntime 1.31 reads a bias that is not there and dies: held to our own result with a bias of zeros."""
    x, weights = reals(BATCH, LENGTH, HIDDEN), Const(reals(HIDDEN, 24))
    found = []
    for bias in ([], [Const(np.zeros(24, np.float32))]):
        graph = sn.load(made("Attention", x, weights, *bias, num_heads=2), catalog=everything)
        plan = sn.tune(graph, threads=1, budget_s=0, catalog=everything, force="cpu/reference")
        found.append(sn.Session(graph, plan, catalog=everything).run({"x0": x})["y0"])
    np.testing.assert_allclose(*found, rtol=1e-6)


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("mask", ["none", "ends"])
def test_of_integers(agree: Agree, kind: str, by_column: bool, mask: str) -> None:
    middle = 128 if kind == "uint8" else 0
    weights = Const((RNG.integers(-63, 64, (HIDDEN, 24)) + middle).astype(kind))
    numbers = np.full(24, middle, kind) if by_column else np.array(middle, kind)
    scale = RNG.uniform(0.002, 0.004, numbers.shape).astype(np.float32)
    x = RNG.integers(0, 256, (BATCH, LENGTH, HIDDEN)).astype(np.uint8)
    operands = [x, weights, Const(reals(24)), Const(np.float32(0.02)), Const(scale), MASKS[mask]]
    operands += [Const(np.uint8(120)), Const(numbers)]
    agree(
        "QAttention", *operands, num_heads=2, unidirectional=int(by_column), force=["cpu/matmulinteger@MatMulInteger"]
    )


def test_the_one_routine_for_attention_takes_it(made: Any, everything: Any) -> None:
    operands = [reals(2, 16, 32), Const(reals(32, 96)), Const(reals(96)), ones_and_zeros(2, 16)]
    graph = sn.load(made("Attention", *operands, num_heads=2), catalog=everything)
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=everything, force="cpu/attention@Softmax")
    assert "cpu/attention" in {step.routine for step in plan.kernel_steps}
