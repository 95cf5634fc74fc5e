"""What it costs at most to want one set of specs of a value instead of another, for many sets at once.

These are the bounds of point 3 in the docstring of :mod:`sweep`, as integer matrices: frontiers of thousands of
states are compared pair by pair, and numpy does that where Python would not. Knows values and specs, no states.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np

from softneuro_core.tuner.steiner import UNREACHABLE, Trees, members

LARGE = 6
"""Sets of more specs are never bounded by their exact tree, which costs 3^k."""

Matrix = np.ndarray
"""int64 [wanted, held]."""


FEW = 64
"""Sets whose gaps are all computed at once; of thousands, most are never compared."""


class Between(abc.ABC):
    """The bounds from any to any of some sets, on demand."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._all: Matrix | None = None

    def each(self, wanted: np.ndarray, held: np.ndarray) -> Matrix:
        """:meth:`gaps` where numbers stand many times."""
        if self._count <= FEW:
            if self._all is None:
                every = np.arange(self._count)
                self._all = self.gaps(every, every)
            return self._all[wanted[:, None], held]
        rows, row = np.unique(wanted, return_inverse=True)
        columns, column = np.unique(held, return_inverse=True)
        return self.gaps(rows, columns)[row[:, None], column]

    @abc.abstractmethod
    def gaps(self, wanted: np.ndarray, held: np.ndarray) -> Matrix:
        """int64 [wanted, held], both by the number of the set, :data:`UNREACHABLE` for no bound."""


class Open(Between):
    """Values that may still be read: every new spec is converted to from the nearest one held. (The tree
    ``extension(held -> wanted)`` may be cheaper; its sum over separate paths is as good a bound.)"""

    def __init__(self, members: np.ndarray, nearest: np.ndarray) -> None:
        super().__init__(len(members))
        self._members = members
        """int64 [set, spec], 1 for members."""
        self._nearest = nearest
        """int64 [set, spec], the time from the nearest member."""

    def gaps(self, wanted: np.ndarray, held: np.ndarray) -> Matrix:
        return np.minimum(self._members[wanted] @ self._nearest[held].T, UNREACHABLE)


class Closed(Between):
    """Values nobody will read any more: the worst difference of exact trees, less the difference of what is due."""

    def __init__(self, trees: np.ndarray, is_empty: np.ndarray) -> None:
        super().__init__(len(trees))
        self.due = trees.min(axis=1)
        """int64 [set]: the least of its trees, to be paid in any case."""
        self._trees = trees
        """int64 [set, maker]."""
        self._is_empty = is_empty
        """bool [set]."""

    def gaps(self, wanted: np.ndarray, held: np.ndarray) -> Matrix:
        trees, other = self._trees[wanted], self._trees[held]
        other = np.where(other >= UNREACHABLE, 2 * UNREACHABLE, other)  # where the other has no plan, nothing is lost
        if len(wanted) <= FEW >= len(held):
            gap = (trees[:, None, :] - other[None, :, :]).max(axis=2)
        else:  # one matrix at a time: all at once fit no cache, and took five times longer
            gap = np.subtract.outer(trees[:, 0], other[:, 0])
            for maker in range(1, trees.shape[1]):
                np.maximum(gap, np.subtract.outer(trees[:, maker], other[:, maker]), out=gap)
        gap += self.due[held] - self.due[wanted][:, None]
        gap[~self._is_empty[wanted][:, None] & self._is_empty[held]] = UNREACHABLE
        return np.minimum(gap, UNREACHABLE, out=gap)


class Gaps:
    """The bounds for values that share their conversions. ``specs`` are all there are in the problem."""

    def __init__(self, trees: Trees, specs: Sequence[int]) -> None:
        self._trees, self._specs = trees, specs
        self._nearest: dict[int, np.ndarray] = {0: np.full(len(specs), UNREACHABLE, dtype=np.int64)}
        self._members: dict[int, np.ndarray] = {}
        self._from_makers: dict[tuple[int, tuple[int, ...]], np.ndarray] = {}

    def still_open(self, masks: Sequence[int]) -> Open:
        """The bounds while the value may still be read."""
        return Open(np.stack([self._is_member(m) for m in masks]), np.stack([self.nearest(m) for m in masks]))

    def closed(self, masks: Sequence[int], makers: tuple[int, ...]) -> Closed:
        """The bounds once nobody will read it, made in one of ``makers``. No mask may be :data:`LARGE`."""
        trees = np.stack([self._trees_from(mask, makers) for mask in masks])
        return Closed(trees, np.array([mask == 0 for mask in masks]))

    def nearest(self, mask: int) -> np.ndarray:
        """Time to each spec from the nearest in ``mask``."""
        found = self._nearest.get(mask)
        if found is None:
            low = mask & -mask
            if mask == low:
                held = mask.bit_length() - 1
                here = self._specs.index(held)
                found = np.array([self._trees.times(1 << spec)[here] for spec in self._specs], dtype=np.int64)
            else:
                found = np.minimum(self.nearest(low), self.nearest(mask ^ low))
            self._nearest[mask] = found
        return found

    def _is_member(self, mask: int) -> np.ndarray:
        found = self._members.get(mask)
        if found is None:
            found = np.array([mask >> spec & 1 for spec in self._specs], dtype=np.int64)
            self._members[mask] = found
        return found

    def _trees_from(self, mask: int, makers: tuple[int, ...]) -> np.ndarray:
        found = self._from_makers.get((mask, makers))
        if found is None:
            found = self._trees.times(mask)[[self._specs.index(spec) for spec in makers]]
            self._from_makers[mask, makers] = found
        return found


def reachable(trees: Trees, makers: Sequence[int], mask: int) -> bool:
    """True if one of ``makers`` can be converted to every spec of ``mask``."""
    ones = [1 << spec for spec in members(mask)]
    return any(all(trees.front(spec, one) for one in ones) for spec in makers)
