"""Constant factors of few rows kept as int16: as accurate as declared, offered only where they are."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check, graph_of, node, offers_of, random
from softneuro_cpu_numba import short_weights
from softneuro_cpu_numba.panels import cut

from softneuro_core.candidates import ACCURACY_CLASSES


def kept_as(weights: np.ndarray, rows: int = 1, act: str = "Relu") -> set[str]:
    """How a product of x [rows, K] and these weights [K, N] may keep them."""
    x = random(rows, len(weights))
    graph = graph_of([node("MatMul", "xw", "s"), node(act, "s", "y")], {"x": x}, {"w": weights})
    return {str(offer.params["weights"]) for _, _, offer in offers_of(graph) if "weights" in offer.params}


@pytest.mark.parametrize(
    ("rows", "k", "n", "turned"),
    [(1, 300, 333, 0), (1, 1280, 1000, 1), (1, 70_000, 3, 0), (2, 700, 100, 1), (3, 1000, 70, 1), (4, 260, 257, 0)],
)
def test_products_are_as_accurate_as_declared(rows: int, k: int, n: int, turned: int) -> None:
    weights = random(*((n, k) if turned else (k, n)))
    gemm = node("Gemm", ["a", "b", "c"], ["g"], transB=turned)
    nodes = [gemm, node("Add", ["g", "r"], ["s"]), node("Relu", ["s"], ["y"])]
    inputs = {"a": random(rows, k), "r": random(rows, n, seed=1)}
    found = check(nodes, inputs, {"b": weights, "c": random(n, seed=2)}, expect=["cpu/gemm"])
    short = [offer for _, offer in found if offer.params.get("weights") == "int16"]
    assert len(short) == 1 and short[0].uses == {"int16"} and not short[0].rounds_constants
    assert ACCURACY_CLASSES["strict"] < short[0].accuracy <= ACCURACY_CLASSES["default"]


@pytest.mark.parametrize(("batch", "size", "act"), [(1, 1, "Relu"), (2, 1, "LeakyRelu"), (1, 2, "HardSwish")])
def test_convolutions_of_few_pixels(batch: int, size: int, act: str) -> None:
    nodes = [node("Conv", ["x", "w", "b"], ["c"]), node(act, ["c"], ["y"])]
    inputs = {"x": random(batch, 260, size, size)}
    found = check(nodes, inputs, {"w": random(301, 260, 1, 1), "b": random(301)}, expect=["cpu/conv_direct"])
    assert [o.params for name, o in found if name == "cpu/conv_direct" and o.params] == [{"weights": "int16"}]


def test_they_are_not_kept_where_that_gains_nothing_or_loses_too_much() -> None:
    plain = random(256, 256)
    assert "int16" in kept_as(plain) and "int16" in kept_as(0 * plain) and "int16" in kept_as(1e-30 * plain)
    assert "int16" not in kept_as(plain, rows=5)
    assert "int16" not in kept_as(random(255, 256))
    assert not any("int16" in kept_as(plain, act=act) for act in ("Sigmoid", "Tanh", "HardSigmoid"))
    high = plain.copy()
    high[np.arange(256), np.arange(256) % 128] *= 40  # one number in each row far above the others
    assert "int16" not in kept_as(high)
    for wrong in (np.nan, np.inf, -np.inf):
        broken = plain.copy()
        broken[101, 7] = wrong
        assert "int16" not in kept_as(broken)


def test_rows_of_very_different_size_lose_nothing() -> None:
    """As inputs of very different size have: each row counts its own unit."""
    rng = np.random.default_rng(0)
    size = np.exp2(rng.integers(-30, 30, (256, 1)))
    weights = (rng.standard_normal((256, 256)) * size).astype(np.float32)
    panels = cut(256, 4, 16)
    packed = short_weights.pack_short(panels, weights[None])
    integers, units = packed[: 256 * panels.columns], packed[256 * panels.columns :].view(np.float32)
    found = integers.reshape(-1, 256, 64) * units.reshape(-1, 256, 1)
    wanted = weights.reshape(256, -1, 64).transpose(1, 0, 2)
    assert (np.abs(found - wanted) <= 0.51 * units.reshape(-1, 256, 1)).all()
    assert np.abs(integers).max() == short_weights.LARGEST
