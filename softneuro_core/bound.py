"""What tuning within an accuracy bound found, as a plan keeps it: how noisy each part of the network is on its grid,
the plans tried, and the grids the plan left alone. Knows nothing of how it was found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from softneuro_core.grids import Grids


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A plan that was run on the data. ``us`` is the fastest of its whole runs (the prediction where nothing is
    measured), ``noise`` the sum over its parts, ``seen_noise`` and ``drop`` what was seen, ``rounded`` how many layers
    are on grids."""

    predicted_us: float
    us: float
    noise: float
    seen_noise: float
    drop: float
    rounded: int
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class PartNoise:
    """Power of the error over power of the outputs where one part alone (layers in order) is rounded; infinite where it
    cannot run so. ``constants``: only its constants are."""

    layers: tuple[str, ...]
    noise: float
    constants: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"layers": list(self.layers), "noise": _or_null(self.noise), "constants": self.constants}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> PartNoise:
        return PartNoise(tuple(map(str, data["layers"])), _or_inf(data["noise"]), bool(data["constants"]))


@dataclass(frozen=True, slots=True)
class Bound:
    """``metric`` may drop by ``max_drop`` on ``samples`` samples."""

    metric: str
    max_drop: float
    samples: int
    front: tuple[FrontPoint, ...]
    noise: tuple[PartNoise, ...]
    grids_left: Grids = field(default_factory=dict)
    """Scale, zero point and dtype of values the plan does not store on their grids: with them every layer can be
    explained without the ranges."""

    @property
    def chosen(self) -> FrontPoint:
        return next(point for point in self.front if point.chosen)

    def to_json(self) -> dict[str, Any]:
        """Plain data; an infinite number is null."""
        noise = [part.to_json() for part in self.noise]
        front = [{key: _or_null(number) for key, number in asdict(point).items()} for point in self.front]
        grids = {name: list(numbers) for name, numbers in sorted(self.grids_left.items())}
        head = {"metric": self.metric, "max_drop": self.max_drop, "samples": self.samples}
        return {**head, "front": front, "noise": noise, "grids_left": grids}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Bound:
        """The inverse; raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is none."""
        front = tuple(FrontPoint(**{key: _or_inf(value) for key, value in point.items()}) for point in data["front"])
        if sum(point.chosen for point in front) != 1:
            raise ValueError("one plan of the front is the chosen one")
        noise = tuple(map(PartNoise.from_json, data["noise"]))
        grids = {str(k): (float(s), int(z), str(d)) for k, (s, z, d) in data["grids_left"].items()}
        return Bound(str(data["metric"]), float(data["max_drop"]), int(data["samples"]), front, noise, grids)


def _or_null(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _or_inf(number: Any) -> Any:
    return math.inf if number is None else number
