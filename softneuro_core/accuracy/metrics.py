"""How good a model's outputs are on data: by labels, by agreement with the float model, or by the noise in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from softneuro_core.errors import InputError

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Metric:
    """``score`` takes the outputs of all samples and those of the float plan, and gives a number, larger is better,
    1 at best. A drop is the float plan's score less a plan's."""

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


def _classes(outputs: Outputs) -> np.ndarray:
    first = next(iter(outputs.values()))
    return np.atleast_1d(first.reshape(first.shape[0] if first.ndim > 1 else 1, -1).argmax(axis=-1))


METRICS = {"agreement": Metric("agreement", agreement), "signal": Metric("signal", signal)}
"""Those that need no labels."""
