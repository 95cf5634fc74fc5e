"""From a histogram to the range that is kept: what lies outside is clipped, so that the rest has finer steps.

Sources: percentile and entropy as in TensorRT (Migacz, 8-bit inference with TensorRT, GTC 2017); mean squared error as
in Banner et al., arXiv 1810.05723. Every range holds 0, which must be exact (padding, ReLU).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from softneuro_core.calibration.histogram import Histogram
from softneuro_core.errors import InputError

LEVELS = 256
TAIL = 1e-4
"""Share of the elements a percentile range may clip, both ends together (99.99 %)."""
STEPS = 96
"""Ranges tried on a side between a fifth of what was seen and all of it."""
SMALLEST_SHARE = 1e-4
"""Of an even share: what a bin is taken to hold at least after storing. So an empty one is bad, not infinitely so."""
Range = tuple[float, float]


def min_max(seen: Histogram) -> Range:
    """All that was seen."""
    return min(seen.low, 0.0), max(seen.high, 0.0)


def percentile(seen: Histogram) -> Range:
    """Without the outermost elements, as many at either end where there are two."""
    low, high = min_max(seen)
    ends = (low < 0.0) + (high > 0.0)
    if not ends:
        return low, high
    sums, centres = np.cumsum(seen.counts), seen.centres()
    cut = seen.total * TAIL / ends
    left = float(centres[np.searchsorted(sums, cut, side="right")]) if low < 0.0 else 0.0
    right = float(centres[np.searchsorted(sums, seen.total - cut)]) if high > 0.0 else 0.0
    return min(left, 0.0), max(right, 0.0)


def mean_square(seen: Histogram) -> Range:
    """The range whose rounding and clipping errors have the smallest sum of squares; the ends are sought in turns."""
    low, high = min_max(seen)
    centres, counts = seen.centres(), seen.counts.astype(np.float64)

    def error(range_: Range) -> float:
        stored = _rounded(centres, range_)
        return float(np.dot(counts, (stored - centres) ** 2))

    best = (low, high)
    for _ in range(2):
        best = min(((low * f, best[1]) for f in _shares(low)), key=error)
        best = min(((best[0], high * f) for f in _shares(high)), key=error)
    return best


def entropy(seen: Histogram) -> Range:
    """The range after which the elements' distribution tells most like before (least Kullback-Leibler divergence)."""
    low, high = min_max(seen)
    centres, counts = seen.centres(), seen.counts.astype(np.float64)

    def divergence(range_: Range) -> float:
        inside = np.flatnonzero((centres >= range_[0]) & (centres <= range_[1]))
        if not inside.size:
            return np.inf
        first, last = inside[0], inside[-1] + 1
        here = counts[first:last]
        before = here.copy()  # what is clipped counts with the outermost bins; what is stored does not have it
        before[0] += counts[:first].sum()
        before[-1] += counts[last:].sum()
        levels, used = _levels(centres[first:last], range_), here > 0
        sums, bins = np.bincount(levels, here, LEVELS), np.bincount(levels, used, LEVELS)
        after = np.where(used, sums[levels] / np.maximum(bins[levels], 1), 0.0)
        p, q = before / before.sum(), after / max(after.sum(), 1.0)
        there = p > 0
        return float(np.sum(p[there] * np.log(p[there] / np.maximum(q[there], SMALLEST_SHARE / len(p)))))

    return min(((low * f, high * f) for f in _shares(1.0)), key=divergence)


METHODS: Mapping[str, Callable[[Histogram], Range]] = {
    "minmax": min_max,
    "percentile": percentile,
    "mse": mean_square,
    "entropy": entropy,
}


def range_of(seen: Histogram, method: str) -> Range:
    """The range ``method`` keeps, with low <= 0 <= high; raises :class:`InputError` for a method there is not."""
    if method not in METHODS:
        raise InputError(f"{method!r} is no way to choose ranges", remedy=f"one of {', '.join(METHODS)}")
    return METHODS[method](seen) if seen.total and seen.low != seen.high else min_max_or_zero(seen)


def min_max_or_zero(seen: Histogram) -> Range:
    """Of a constant, or of nothing at all."""
    return min_max(seen) if seen.total else (0.0, 0.0)


def _shares(end: float) -> Iterator[float]:
    """Shares of an end that is there; an end at 0 stays."""
    yield 1.0
    if end:
        yield from np.linspace(1.0, 0.2, STEPS)[1:].tolist()


def _levels(values: np.ndarray, range_: Range) -> np.ndarray:
    """The step each value is rounded to, of ``LEVELS`` over the range."""
    step = (range_[1] - range_[0]) / (LEVELS - 1) or 1.0
    return np.rint((values - range_[0]) / step).astype(np.int64)


def _rounded(values: np.ndarray, range_: Range) -> np.ndarray:
    step = (range_[1] - range_[0]) / (LEVELS - 1) or 1.0
    zero = np.rint(-range_[0] / step)
    return (np.clip(np.rint(values / step) + zero, 0, LEVELS - 1) - zero) * step
