"""Min-marginals: for every option, the best whole plan that uses it. Exact, and far cheaper than solving again.

One sweep keeps its frontier before every layer. The best plan with option o, whose exit is e, is then

    min over S in frontier(e)  of  f(S) + step o + completion(S after o),

because forgetting S' in favour of S before e is decided is right whatever is chosen at e. The states after o are not
all in the next frontier, so their completions have to be found; but they are completions of states, and most
options lead to the same few. So the sweep goes on from them only to the next *cut*, a layer where the first sweep's
frontier was small, and from there to the next once per state, remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from softneuro_core.tuner.labels import Budget, Frontier, Label, State
from softneuro_core.tuner.moves import Moves
from softneuro_core.tuner.pareto import Uses, add, front, within
from softneuro_core.tuner.problem import Problem
from softneuro_core.tuner.sweep import Sweep

MOST_CUTS = 100
"""Completions nest once per cut; Python's stack holds ten times as many."""


@dataclass(frozen=True, slots=True)
class Tail:
    """What completing a plan costs from some state on."""

    time: int
    uses: Uses


def min_marginals(problem: Problem, budget: Budget | None = None) -> list[int | None]:
    """Per option the time of the best plan that uses it, None if no plan can.

    Raises :class:`Infeasible` if a layer has no option at all, :class:`OutOfBudget`.
    """
    return _Marginals(Sweep(Moves(problem), budget or Budget())).all()


class _Marginals:
    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.problem = sweep.moves.problem
        self.frontiers = self._frontiers()
        self.cuts = self._choose_cuts()
        self.tails: list[dict[State, list[Tail]]] = [{} for _ in self.frontiers]

    def all(self) -> list[int | None]:
        """See :func:`min_marginals`. Options that differ in time and uses only are solved once, if unlimited."""
        found: list[int | None] = [None] * len(self.problem.options)
        solved: dict[object, tuple[int, int | None]] = {}
        for number, option in sorted(enumerate(self.problem.options), key=lambda pair: pair[1].exit):
            demands = self.sweep.moves.demands
            device = self.sweep.moves.device(option.device)
            limited = number if self.sweep.moves.caps else None
            kind = (option.layers, demands(option.inputs), frozenset(option.outputs), device, limited)
            if kind not in solved:
                solved[kind] = (option.time_ns, self._best_with(number))
            time, best = solved[kind]
            found[number] = None if best is None else best + option.time_ns - time
        return found

    def _best_with(self, number: int) -> int | None:
        layer = self.problem.options[number].exit
        frontier = self.sweep.step(layer, self.frontiers[layer], only=number)
        tails = self._run(layer - 1, frontier)
        return tails[0].time if tails else None

    def _frontiers(self) -> list[Frontier]:
        """The pruned frontier before each layer is decided."""
        found = [self.sweep.start()]
        for layer in range(self.problem.layer_count - 1, 0, -1):
            found.append(self.sweep.step(layer, found[-1]))
        return found[::-1]

    def _choose_cuts(self) -> frozenset[int]:
        """The layer with the smallest frontier of every few."""
        count = len(self.frontiers)
        stride = max(STRIDE, -(-count // MOST_CUTS))
        windows = (range(begin, min(begin + stride, count)) for begin in range(0, count, stride))
        return frozenset(min(window, key=lambda layer: len(self.frontiers[layer])) for window in windows)

    def _run(self, layer: int, frontier: Frontier) -> list[Tail]:
        """The front of whole costs of the plans through ``frontier``, which stands before ``layer``."""
        while layer >= 0 and frontier:
            if layer in self.cuts:
                return front(
                    Tail(label.time + tail.time, uses)
                    for state, labels in frontier.items()
                    for tail in self._tail(layer, state)
                    for label in labels
                    if within(uses := add(label.uses, tail.uses), self.sweep.moves.caps)
                )
            frontier = self.sweep.step(layer, frontier)
            layer -= 1
        return [Tail(label.time, label.uses) for label in self.sweep.finish(frontier)]

    def _tail(self, layer: int, state: State) -> Sequence[Tail]:
        found = self.tails[layer].get(state)
        if found is None:
            alone = {state: [Label(0, self.sweep.moves.zero, None, None)]}
            found = self.tails[layer][state] = self._run(layer - 1, self.sweep.step(layer, alone))
        return found


STRIDE = 4
"""Layers between cuts, at least."""
