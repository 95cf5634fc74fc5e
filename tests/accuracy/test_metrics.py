"""Scores of outputs: labels, agreement, noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from softneuro_core.accuracy.metrics import METRICS, by_function, by_labels, noise_of
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


def test_a_function_of_the_user_sees_all_samples_and_may_score_each() -> None:
    def closeness(made: Any, exact: Any, labels: Any) -> Any:
        assert made["y"].shape == exact["y"].shape == (2, 3) and labels.tolist() == [2, 1]
        return -np.abs(made["y"] - exact["y"]).max(axis=1)

    metric = by_function("mine", closeness, np.array([2, 1]))
    assert metric.drop(outputs([1, 2, 4], [3, 2, 1.5]), EXACT) == 0.75
    assert by_function("mine", lambda made, exact, labels: made["y"].sum()).score(EXACT, EXACT) == 12.0
    scalars = [{"y": np.float32(n)} for n in (1, 2)]
    assert by_function("mine", lambda made, exact, labels: made["y"]).score(scalars, scalars) == 1.5


@pytest.mark.parametrize(
    "function, what",
    [
        (lambda made, exact, labels: made["z"], "metric mine failed: KeyError: 'z'"),
        (lambda made: 1.0, "metric mine failed: TypeError"),
        (lambda made, exact, labels: "good", "metric mine failed: ValueError"),
        (lambda made, exact, labels: None, "metric mine gave nan"),
        (lambda made, exact, labels: float("nan"), "metric mine gave nan"),
        (lambda made, exact, labels: made["y"], r"metric mine gave an array of shape \(2, 3\)"),
    ],
)
def test_a_function_that_gives_no_score_is_told(function: Callable[..., Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        by_function("mine", function).score(EXACT, EXACT)
