"""Scores of outputs: labels, agreement, noise."""

from __future__ import annotations

import numpy as np
import pytest

from softneuro_core.accuracy.metrics import METRICS, by_labels, noise_of
from softneuro_core.errors import InputError


def outputs(*rows: list[float]) -> list[dict[str, np.ndarray]]:
    return [{"y": np.array([row], np.float32)} for row in rows]


EXACT = outputs([1, 2, 3], [3, 2, 1])


def test_labels_count_and_drop_against_the_float_plan() -> None:
    metric = by_labels(np.array([2, 1]))
    assert metric.score(EXACT, EXACT) == 0.5
    assert metric.drop(outputs([9, 2, 3], [3, 2, 1]), EXACT) == 0.5
    assert metric.drop(outputs([1, 2, 3], [0, 2, 1]), EXACT) == -0.5, "better than float is no drop"
    with pytest.raises(InputError, match="3 labels for 2 samples"):
        by_labels(np.arange(3)).score(EXACT, EXACT)


def test_agreement_is_with_the_float_plan() -> None:
    assert METRICS["agreement"].drop(outputs([1, 2, 2.9], [0, 2, 1]), EXACT) == 0.5
    batch = [{"y": np.concatenate([o["y"] for o in EXACT])}]
    other = [{"y": np.array([[1, 2, 3], [1, 2, 3]], np.float32)}]
    assert METRICS["agreement"].drop(other, batch) == 0.5, "a batch is as many samples"


def test_noise_is_a_ratio_of_powers_and_of_the_worst_output() -> None:
    made = [{"y": o["y"] * np.float32(1.1)} for o in EXACT]
    assert noise_of(made, EXACT) == pytest.approx(0.01, rel=1e-5)
    assert METRICS["signal"].drop(made, EXACT) == pytest.approx(0.1, rel=1e-5)
    two = [{**o, "z": np.ones(3, np.float32)} for o in EXACT]
    worse = [{**o, "z": np.full(3, 2, np.float32)} for o in EXACT]
    assert noise_of(worse, two) == 1.0
    assert noise_of(EXACT, EXACT) == 0.0
    assert noise_of(outputs([np.inf, 0, 0], [0, 0, 0]), EXACT) == float("inf")
    assert noise_of(EXACT, outputs([0, 0, 0], [0, 0, 0])) == float("inf")
