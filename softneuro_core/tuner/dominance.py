"""Which states may be forgotten, proven in the docstring of :mod:`sweep`; here it is only made fast."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from softneuro_core.tuner.gaps import LARGE, Between, reachable
from softneuro_core.tuner.labels import Budget, Frontier, Label, State
from softneuro_core.tuner.moves import Demands, Moves
from softneuro_core.tuner.pareto import Uses, add, within

BLOCKS = (16, 64, 256)
"""States compared at once with all that follow them, at first and then, if there are more than the last of these:
the best few beat most of the others."""


class Entry(NamedTuple):
    """One label of one state; ``cost`` is what was paid and what is due for closed values."""

    cost: int
    state: State
    label: Label


class Dominance:
    """Prunes the frontiers of one compiled problem."""

    def __init__(self, moves: Moves, budget: Budget) -> None:
        self.moves, self.budget = moves, budget
        self._reachable: list[dict[int, bool]] = [{} for _ in moves.value_of]

    def survivors(self, layer: int, found: Mapping[State, list[Label]]) -> Frontier:
        """The states of ``found`` (just after ``layer``) that no other one beats, cheapest first."""
        by_cover: dict[int, list[tuple[State, Label]]] = {}
        for state, labels in found.items():
            if self._is_servable(state.demands):
                by_cover.setdefault(state.cover, []).extend((state, label) for label in labels)
        entries = [entry for pairs in by_cover.values() for entry in self._unbeaten(layer, pairs)]
        entries.sort(key=lambda entry: entry.cost)
        kept: dict[State, list[Label]] = {}
        for entry in entries:
            kept.setdefault(entry.state, []).append(entry.label)
        return kept

    def _unbeaten(self, layer: int, pairs: Sequence[tuple[State, Label]]) -> list[Entry]:
        """Those of one cover that no earlier one in the order of cost beats. (Beaten ones may beat others: what
        beats them does so in turn, see :mod:`sweep`.)"""
        if len(pairs) == 1:
            state, label = pairs[0]
            return [Entry(label.time, state, label)]
        columns, due = self._columns(layer, [state.demands for state, _ in pairs])
        cost = np.array([label.time for _, label in pairs], dtype=np.int64) + due
        device = np.array([state.device for state, _ in pairs])
        segment = np.array([self.moves.segment.get(state.device, 0) for state, _ in pairs], dtype=np.int64)
        uses = np.array([label.uses for _, label in pairs], dtype=np.int64)
        order = np.lexsort((*uses.T[::-1], cost))
        position = np.empty(len(order), dtype=np.int64)
        position[order] = np.arange(len(order))
        rest, kept = order, []
        few = len(rest) <= BLOCKS[-1]
        blocks = itertools.chain(() if few else BLOCKS, itertools.repeat(BLOCKS[-1]))
        while len(rest):
            best = rest[: next(blocks)]
            slack = cost[rest] - cost[best, None]
            slack -= np.where(device[rest] == device[best, None], 0, segment[rest])
            for between, number in columns:
                slack -= between.each(number[best], number[rest])
            beats = (slack >= 0) & (position[rest] > position[best, None])
            if self.moves.caps:
                beats &= (uses[rest] >= uses[best, None]).all(axis=2)
                beats = self._confirmed(beats, [pairs[i] for i in best], [pairs[i] for i in rest])
            alive = ~beats.any(axis=0)
            kept += best[alive[: len(best)]].tolist()
            rest = rest[len(best) :][alive[len(best) :]]
            self.budget.check()
        return [Entry(int(cost[i]), *pairs[i]) for i in kept]

    def _columns(self, layer: int, states: Sequence[Demands]) -> tuple[list[tuple[Between, np.ndarray]], np.ndarray]:
        """Per value demanded by any of ``states``, the gaps between its masks and which mask each state has; and
        what is due in each state."""
        found: dict[int, dict[int, int]] = {}
        for demands in states:
            for rank, mask in demands:
                masks = found.setdefault(rank, {0: 0})
                masks.setdefault(mask, len(masks))
        columns = {rank: np.zeros(len(states), dtype=np.int64) for rank in found}
        for i, demands in enumerate(states):
            for rank, mask in demands:
                columns[rank][i] = found[rank][mask]
        due = np.zeros(len(states), dtype=np.int64)
        result: list[tuple[Between, np.ndarray]] = []
        for rank, masks in found.items():
            gaps, column = self.moves.gaps[rank], columns[rank]
            if self._is_closed(layer, rank) and all(mask.bit_count() < LARGE for mask in masks):
                closed = gaps.closed(list(masks), self.moves.makers[rank])
                due += closed.due[column]
                result.append((closed, column))
            else:
                result.append((gaps.still_open(list(masks)), column))
        return result, due

    def _is_closed(self, layer: int, rank: int) -> bool:
        """True if no layer before ``layer`` reads the value. Under limits none counts as closed: what is due is
        known in time only."""
        return self.moves.first_read[rank] >= layer and not self.moves.caps

    def _is_servable(self, demands: Demands) -> bool:
        """False if some value can be made in no spec that reaches all that is wanted."""
        for rank, mask in demands:
            found = self._reachable[rank].get(mask)
            if found is None:
                found = reachable(self.moves.trees[rank], self.moves.makers[rank], mask)
                self._reachable[rank][mask] = found
            if not found:
                return False
        return True

    def _confirmed(
        self,
        beats: np.ndarray,
        best: Sequence[tuple[State, Label]],
        rest: Sequence[tuple[State, Label]],
    ) -> np.ndarray:
        """Of the pairs that beat in time and in uses, those that do in both for one choice of extensions."""
        found = np.zeros_like(beats)
        for j in np.flatnonzero(beats.any(axis=0)).tolist():
            for i in np.flatnonzero(beats[:, j]).tolist():
                if self._beats_within_limits(best[i], rest[j]):
                    found[i, j] = True
                    break
        return found

    def _beats_within_limits(self, better: tuple[State, Label], item: tuple[State, Label]) -> bool:
        time = item[1].time - better[1].time
        if item[0].device != better[0].device:
            time -= self.moves.segment.get(item[0].device, 0)
        spare = tuple(a - b for a, b in zip(item[1].uses, better[1].uses, strict=True))
        held = dict(item[0].demands)
        spent: list[tuple[int, Uses]] = [(0, self.moves.zero)]
        for rank, mask in better[0].demands:
            if held[rank] != mask:
                spent = [
                    (paid + tree.time, sums)
                    for paid, uses in spent
                    for tree in self.moves.trees[rank].extension(held[rank], mask)
                    if paid + tree.time <= time and within(sums := add(uses, tree.uses), spare)
                ]
        return bool(spent)
