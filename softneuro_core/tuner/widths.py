"""Bounds when exactness is too dear: the same sweep with a bounded frontier.

A frontier too wide is cut in one of two ways (restricted and relaxed decision diagrams: D. Bergman, A. Cire,
W.-J. van Hoeve, J. Hooker, "Discrete optimization with decision diagrams", INFORMS J. on Computing 2016). Dropping
the dearest states leaves real plans only: an upper bound. Merging them (the demands they share, the least they
paid) only ever adds completions and cheapens them: a lower bound. Both are exact once nothing is cut.
"""

from __future__ import annotations

from collections.abc import Callable

from softneuro_core.tuner.labels import Frontier, Label, State
from softneuro_core.tuner.moves import Demands
from softneuro_core.tuner.sweep import Sweep

Cut = Callable[[Frontier, int], Frontier]


def walk(sweep: Sweep, width: int | None = None, cut: Cut | None = None) -> Label | None:
    """The best label of one sweep from the last layer to the first, None if no plan is left; with ``cut``,
    frontiers of more than ``width`` labels are cut."""
    frontier = sweep.start()
    for layer in range(sweep.moves.problem.layer_count - 1, -1, -1):
        frontier = sweep.step(layer, frontier)
        if not frontier:
            return None
        if cut is not None and width is not None and sum(map(len, frontier.values())) > width:
            frontier = cut(frontier, width)
    ends = sweep.finish(frontier)
    return ends[0] if ends else None


def restrict(frontier: Frontier, width: int) -> Frontier:
    """The ``width`` cheapest labels (a pruned frontier is in that order)."""
    kept: dict[State, list[Label]] = {}
    for state, labels in frontier.items():
        kept[state] = labels[:width]
        width -= len(labels)
        if width <= 0:
            break
    return kept


def relax(frontier: Frontier, width: int) -> Frontier:
    """The ``width`` cheapest labels as they are, and one merged state for the others of each cover and device."""
    kept = {state: list(labels) for state, labels in restrict(frontier, width).items()}
    lumps: dict[tuple[int, int], tuple[Demands, Label]] = {}
    for state, labels in frontier.items():
        for label in labels[len(kept.get(state, ())) :]:
            group = (state.cover, state.device)
            known = lumps.get(group)
            lumps[group] = (state.demands, label) if known is None else _lump(known, state.demands, label)
    for (cover, device), (demands, label) in lumps.items():
        kept.setdefault(State(cover, device, demands), []).append(label)
    return kept


def _lump(known: tuple[Demands, Label], demands: Demands, label: Label) -> tuple[Demands, Label]:
    """What both demand, at the least either paid; the way back is only one of the ways."""
    other = dict(demands)
    shared = tuple((rank, both) for rank, mask in known[0] if (both := mask & other.get(rank, 0)))
    uses = tuple(min(a, b) for a, b in zip(known[1].uses, label.uses, strict=True))
    return shared, Label(min(known[1].time, label.time), uses, label.back, label.choice)
