"""What a plan within an accuracy bound rounds and what it keeps in float: what each layer kept would have cost.

Noise is as seen while tuning; time is worked out on the cost table explained, exactly: the best plan that rounds what
this one rounds and the layer too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from softneuro_core.accuracy.bounded import rounded_layers
from softneuro_core.bound import Bound
from softneuro_core.candidates import Candidate, rounds
from softneuro_core.errors import SelectionError
from softneuro_core.plan import Plan
from softneuro_core.tuning import Tuned


@dataclass(frozen=True, slots=True)
class PartRow:
    """Layers that can be rounded together, and the noise they make alone. Of those kept in float ``more_us`` is what
    the whole plan would take more (less than 0: it would gain) if they were rounded as well; None: no plan can."""

    layers: tuple[str, ...]
    noise: float
    is_rounded: bool
    more_us: float | None = None


@dataclass(frozen=True, slots=True)
class BoundReasons:
    """``parts`` in the order of the network; ``others`` counts, by operator, layers no integer routine can compute."""

    bound: Bound
    parts: tuple[PartRow, ...]
    others: tuple[tuple[str, int], ...]

    @property
    def kept(self) -> tuple[PartRow, ...]:
        """Parts computed in float."""
        return tuple(part for part in self.parts if not part.is_rounded)


def bound_reasons(tuned: Tuned, plan: Plan) -> BoundReasons | None:
    """Why ``plan`` rounds what it does, by the cost table of ``tuned``; None for a plan made without a bound.

    One selection for each part kept in float.
    """
    if plan.bound is None:
        return None
    rounded = rounded_layers(plan)
    now = _least_us(tuned, lambda c: not rounds(c) or rounded.issuperset(_names(c)))
    rows = [_row(tuned, layers, noise, rounded, now) for layers, noise in plan.bound.noise]
    named = {name for layers, _ in plan.bound.noise for name in layers} | rounded
    others = Counter(layer.op for layer in tuned.form.graph.layers if layer.name not in named)
    return BoundReasons(plan.bound, tuple(rows), tuple(others.most_common()))


def _row(tuned: Tuned, layers: tuple[str, ...], noise: float, rounded: frozenset[str], now: float | None) -> PartRow:
    mine = frozenset(layers)
    if mine & rounded:
        return PartRow(layers, noise, True)

    def may_stay(candidate: Candidate) -> bool:
        names = _names(candidate)
        if rounds(candidate):
            return names == mine or rounded.issuperset(names)
        return mine.isdisjoint(names)

    then = _least_us(tuned, may_stay)
    return PartRow(layers, noise, False, None if then is None or now is None else then - now)


def _names(candidate: Candidate) -> frozenset[str]:
    return frozenset(layer.name for layer in candidate.region.layers)


def _least_us(tuned: Tuned, may_stay: Callable[[Candidate], bool]) -> float | None:
    """The time of the best plan of these candidates alone; None where they make none."""
    problem = tuned.form.problem
    options = [o for o, c in zip(problem.options, tuned.form.candidates, strict=True) if may_stay(c)]
    try:
        return tuned.tuner.select(replace(problem, options=tuple(options))).time_ns / 1000
    except SelectionError:
        return None
