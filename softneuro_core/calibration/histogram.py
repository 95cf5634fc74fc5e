"""How often a value's elements fall where: an exact minimum and maximum, and counts on a grid that coarsens.

Bins are powers of two wide and one edge is 0, so that two histograms merge without moving a count: the order of batches
does not matter, nor who counted which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

BINS = 4096
"""Most bins in use; from half as many on nothing is coarsened."""


@dataclass(slots=True)
class Histogram:
    """``counts[i]`` elements in [(first + i) * width, (first + i + 1) * width); nothing seen yet: ``total`` is 0.

    ``strange`` counts what is not finite; it is left out of everything else.
    """

    low: float = math.inf
    high: float = -math.inf
    width: float = 0.0
    first: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    total: int = 0
    strange: int = 0

    def observe(self, array: np.ndarray) -> None:
        """Counts every element of a float array."""
        flat = np.asarray(array, np.float32).reshape(-1)
        finite = flat[np.isfinite(flat)]
        self.strange += flat.size - finite.size
        if not finite.size:
            return
        low, high = float(finite.min()), float(finite.max())
        width = max(self.width, _width_for(min(low, self.low), max(high, self.high)))
        bins = np.floor(finite / np.float64(width)).astype(np.int64)
        first = int(bins.min())
        self.merge(Histogram(low, high, width, first, np.bincount(bins - first), finite.size))

    def merge(self, other: Histogram) -> None:
        """Adds what ``other`` counted."""
        self.strange += other.strange
        if not other.total:
            return
        low, high = min(self.low, other.low), max(self.high, other.high)
        width = max(self.width, other.width, _width_for(low, high))
        parts = [part._coarsened(width) for part in (self, other) if part.total]
        first = min(at for at, _ in parts)
        counts = np.zeros(max(at + len(found) for at, found in parts) - first, np.int64)
        for at, found in parts:
            counts[at - first : at - first + len(found)] += found
        self.low, self.high, self.width, self.first, self.counts = low, high, width, first, counts
        self.total += other.total

    def centres(self) -> np.ndarray:
        """The middle of every bin, within what was seen."""
        middles = (self.first + np.arange(len(self.counts)) + 0.5) * self.width
        return np.clip(middles, self.low, self.high)

    def _coarsened(self, width: float) -> tuple[int, np.ndarray]:
        """First bin and counts with bins ``width`` wide, a multiple of this histogram's by a power of two."""
        ratio = min(round(width / self.width), 1 << 62)  # from zeros alone to anything
        first = self.first // ratio
        places = (self.first + np.arange(len(self.counts))) // ratio - first
        return first, np.bincount(places, self.counts).astype(np.int64)


def _width_for(low: float, high: float) -> float:
    """The narrowest power of two with which low .. high (and 0) take at most BINS bins."""
    span = max(high, 0.0) - min(low, 0.0)
    if span == 0.0:
        return math.ldexp(1.0, -126)
    return math.ldexp(1.0, max(math.ceil(math.log2(span / (BINS - 2))), -126))
