"""How good a model's outputs are on data: by labels, by agreement with the float model, by the noise in them, or by a
function of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softneuro_core.errors import InputError

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Metric:
    """``score`` takes the outputs of all samples and those of the float plan, and gives a number, larger is better;
    1 is the best of those named here. A drop is the float plan's score less a plan's."""

    name: str
    score: Callable[[Sequence[Outputs], Sequence[Outputs]], float]

    def drop(self, made: Sequence[Outputs], exact: Sequence[Outputs]) -> float:
        return self.score(exact, exact) - self.score(made, exact)


def noise_of(made: Sequence[Outputs], exact: Sequence[Outputs]) -> float:
    """Power of what differs over the power of the exact outputs, all samples together; the worst output counts.

    The noise of several layers, each rounded alone, adds up to about that of all: their errors are independent.
    Infinite where something is not finite that should be.
    """
    worst = 0.0
    for name, first in (exact[0] if exact else {}).items():
        if first.dtype.kind != "f":
            continue
        difference = power = 0.0
        for mine, truth in zip(made, exact, strict=True):
            wide = truth[name].astype(np.float64)
            difference += float(np.square(mine[name].astype(np.float64) - wide).sum())
            power += float(np.square(wide).sum())
        if difference:
            worst = max(worst, difference / power if power and np.isfinite(difference) else float("inf"))
    return worst


def signal(made: Sequence[Outputs], exact: Sequence[Outputs]) -> float:
    """One less the noise's share of the outputs' amplitude."""
    return 1.0 - float(np.sqrt(noise_of(made, exact)))


def agreement(made: Sequence[Outputs], exact: Sequence[Outputs]) -> float:
    """Share of samples for which the largest element of the first output is the float plan's."""
    same = [_classes(m) == _classes(e) for m, e in zip(made, exact, strict=True)]
    return float(np.mean(np.concatenate(same)))


def by_labels(labels: np.ndarray) -> Metric:
    """Share of samples whose largest element is where the label says."""

    def score(made: Sequence[Outputs], exact: Sequence[Outputs]) -> float:
        found = np.concatenate([_classes(m) for m in made])
        if found.size != labels.size:
            raise InputError(f"there are {labels.size} labels for {found.size} samples")
        return float(np.mean(found == labels.reshape(-1)))

    return Metric("top1", score)


def by_function(name: str, function: Callable[..., Any], labels: np.ndarray | None = None) -> Metric:
    """The user's ``function(outputs, reference, labels)``, larger is better.

    ``outputs`` and ``reference`` (the float plan's) map output names to arrays of all samples, joined along the first
    axis (outputs without axes get one); ``labels`` is what was given with the data, or None. It returns a number, or
    an array of one number for each sample, whose mean is the score: then what a plan loses is counted on the same
    samples, pair by pair. Raises :class:`InputError` where the function raises or returns anything else, or NaN.
    """

    def score(made: Sequence[Outputs], exact: Sequence[Outputs]) -> float:
        try:
            found = np.asarray(function(_joined(made), _joined(exact), labels), np.float64)
        except Exception as error:  # the user's own code
            raise InputError(f"metric {name} failed: {type(error).__name__}: {error}") from error
        if found.ndim > 1 or not found.size or not np.isfinite(found).all():
            cause = f"metric {name} gave {found if found.size == 1 else f'an array of shape {found.shape}'}"
            raise InputError(cause, remedy="return one finite number, or a vector of one for each sample")
        return float(found.mean())

    return Metric(name, score)


def _joined(samples: Sequence[Outputs]) -> dict[str, np.ndarray]:
    """All samples of each output in one array."""
    return {name: np.concatenate([np.atleast_1d(s[name]) for s in samples]) for name in samples[0]}


def _classes(outputs: Outputs) -> np.ndarray:
    first = next(iter(outputs.values()))
    return np.atleast_1d(first.reshape(first.shape[0] if first.ndim > 1 else 1, -1).argmax(axis=-1))


METRICS = {"agreement": Metric("agreement", agreement), "signal": Metric("signal", signal)}
"""Those that need no labels."""
