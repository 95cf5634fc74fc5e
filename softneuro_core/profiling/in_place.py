"""What a whole plan took, step by step: the result of running it in the worker. Data only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InPlace:
    """Medians over repeated whole runs, microseconds: ``whole_us`` of the linked run as a session makes it, ``step_us``
    and ``spread_us`` (half the interquartile range) of each step run one by one."""

    whole_us: float
    step_us: Sequence[float]
    spread_us: Sequence[float]
