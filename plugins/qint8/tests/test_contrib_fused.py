"""What onnxruntime's optimiser joined, against onnxruntime."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from softneuro_core.graph import Graph
from softneuro_core.testing.case import Const

Agree = Callable[..., Graph]
RNG = np.random.default_rng(13)


def reals(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def stored(*shape: int) -> Const:
    return Const(reals(*shape))


def indices(most: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, most, shape).astype(np.int32)


ACTIVATIONS: list[tuple[str, list[float]]] = [
    ("Relu", []),
    ("Sigmoid", []),
    ("Tanh", []),
    ("LeakyRelu", [0.2]),
    ("HardSigmoid", [0.3, 0.4]),
]


@pytest.mark.parametrize("name, numbers", [*ACTIVATIONS, ("Clip", [-0.5, 0.7]), ("", [])])
@pytest.mark.parametrize("added", [False, True])
def test_conv(agree: Agree, name: str, numbers: list[float], added: bool) -> None:
    attrs: dict[str, Any] = {"activation": name} if name else {}
    attrs |= {"activation_params": numbers} if numbers else {}
    x, rest = reals(2, 4, 6, 6), [reals(2, 6, 6, 6)] if added else []
    graph = agree("FusedConv", x, stored(6, 4, 3, 3), stored(6), *rest, pads=[1, 1, 1, 1], **attrs)
    assert [la.op for la in graph.layers] == ["Conv", *["Add"] * added, *[name] * bool(name)]


def test_conv_without_bias(agree: Agree) -> None:
    agree("FusedConv", reals(2, 4, 6, 6), stored(6, 2, 3, 3), None, reals(2, 6, 2, 2), group=2, strides=[2, 2])


@pytest.mark.parametrize(
    "name, numbers",
    [*ACTIVATIONS, ("Elu", [0.3]), ("Softplus", []), ("Softsign", []), ("ThresholdedRelu", [0.3])],
)
def test_gemm(agree: Agree, name: str, numbers: list[float]) -> None:
    attrs = dict(zip(("activation_alpha", "activation_beta"), numbers, strict=False))
    agree("FusedGemm", reals(4, 5), stored(5, 7), stored(7), activation=name, alpha=1.5, beta=0.5, **attrs)
    agree("FusedGemm", reals(5, 4), stored(7, 5), activation=name, transA=1, transB=1, **attrs)


def before(shape: tuple[int, ...], turned: int, batches: int) -> list[int]:
    """The shape that the two attributes turn into ``shape``."""
    dims = list(shape)
    if turned:
        dims[-2:] = dims[:-3:-1]
    return [dims[-2], *dims[:-2], dims[-1]] if batches else dims


@pytest.mark.parametrize("turned", list(itertools.product((0, 1), repeat=2)))
@pytest.mark.parametrize("batches", list(itertools.product((0, 1), repeat=2)))
@pytest.mark.parametrize("lead", [(2,), (2, 3)])
def test_matmul(agree: Agree, turned: tuple[int, int], batches: tuple[int, int], lead: tuple[int, ...]) -> None:
    a = reals(*before((*lead, 4, 5), turned[0], batches[0]))
    b = reals(*before((*lead, 5, 6), turned[1], batches[1]))
    attrs = dict(zip(("transA", "transB", "transBatchA", "transBatchB"), (*turned, *batches), strict=True))
    agree("FusedMatMul", a, b, alpha=0.25, **attrs)


def test_matmul_of_vectors_and_constants(agree: Agree) -> None:
    agree("FusedMatMul", reals(5), reals(5, 3), transA=1)
    agree("FusedMatMul", reals(4, 5), reals(5), transB=1, alpha=2.0)
    agree("FusedMatMul", reals(4, 5), stored(3, 5), transB=1)
    agree("TransposeMatMul", reals(5, 4), reals(5, 3), transA=1)


def test_gelu(agree: Agree) -> None:
    graphs = [agree("Gelu", reals(3, 40)), agree("FastGelu", reals(3, 40)), agree("FastGelu", reals(3, 40), stored(40))]
    graphs += [agree("BiasGelu", reals(3, 40), stored(40)), agree("QuickGelu", reals(3, 40))]
    graphs += [agree("QuickGelu", reals(3, 40), alpha=1.1)]
    assert [g.layers[-1].op for g in graphs] == ["Gelu"] * 4 + ["Swish"] * 2


@pytest.mark.parametrize("skip", [(2, 3, 8), (1, 3, 8), (3, 8)])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_skip_layer_normalization(agree: Agree, skip: tuple[int, ...], shifted: bool, biased: bool) -> None:
    rest = [stored(8) if shifted else None, *[stored(8)] * biased]
    while rest and rest[-1] is None:
        rest.pop()
    operands = [reals(2, 3, 8), reals(*skip), stored(8), *rest]
    agree("SkipLayerNormalization", *operands, epsilon=1e-5)
    agree("SkipLayerNormalization", *operands, outputs=("y0", "", "", "sum"))


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("placed", [None, 1, 2])
def test_embed_layer_normalization(agree: Agree, segments: bool, masked: bool, placed: int | None) -> None:
    operands = [indices(20, 2, 5), indices(2, 2, 5) if segments else None, stored(20, 8), stored(9, 8)]
    operands += [stored(2, 8) if segments else None, stored(8), stored(8)]
    operands += [indices(2, 2, 5) if masked else None, None if placed is None else indices(9, placed, 5)]
    while operands[-1] is None:
        operands.pop()
    agree("EmbedLayerNormalization", *operands, outputs=("y0", "mask", "sum"), epsilon=1e-5)
    agree("EmbedLayerNormalization", *operands, outputs=("y0", "mask"))
