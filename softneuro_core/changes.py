"""What a plan computes otherwise than the model's file says, with its user's leave: recorded so that the bare file is
enough to run it again. Knows nothing of how a graph is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Changes:
    """``unrounded``: values the file rounds between layers may stay real. ``equalised``: first layer -> the layer that
    reads it, and an exponent e for each channel: the first layer's is multiplied by 2**e, divided out by the second.
    ``shifts``: layer -> what is added to each channel where the plan rounds it, against the mean of its rounding error.
    ``per_tensor``: weights are rounded on one grid a tensor, not one a channel."""

    unrounded: bool = False
    equalised: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    shifts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    per_tensor: bool = False

    def __bool__(self) -> bool:
        return bool(self.unrounded or self.equalised or self.shifts or self.per_tensor)

    @property
    def of_any_plan(self) -> Changes:
        """Without what depends on which layers a plan rounds."""
        return replace(self, shifts={})

    def to_json(self) -> dict[str, Any]:
        """Plain data, what is not so left out."""
        everything = {
            "unrounded": self.unrounded,
            "per_tensor": self.per_tensor,
            "equalised": {name: [second, list(powers)] for name, (second, powers) in self.equalised.items()},
            "shifts": {name: list(numbers) for name, numbers in self.shifts.items()},
        }
        return {key: held for key, held in everything.items() if held}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Changes:
        """The inverse; raises ``TypeError`` or ``ValueError`` for what is none."""
        equalised = {str(k): (str(second), tuple(map(int, e))) for k, (second, e) in data.get("equalised", {}).items()}
        shifts = {str(k): tuple(map(float, numbers)) for k, numbers in data.get("shifts", {}).items()}
        return Changes(bool(data.get("unrounded")), equalised, shifts, bool(data.get("per_tensor")))


NOTHING = Changes()
