"""What a plan within an accuracy bound rounds and what it keeps in float: what each layer kept would have cost.

Noise is as seen while tuning; time is worked out on the cost table explained, exactly: the best plan that rounds what
this one rounds and the layer too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from softneuro_core.bound import Bound, PartNoise
from softneuro_core.candidates import Candidate, rounds, rounds_values
from softneuro_core.errors import SelectionError
from softneuro_core.plan import Plan
from softneuro_core.task import Tuned


@dataclass(frozen=True, slots=True)
class PartRow:
    """Layers that can be rounded together, and the noise they make alone. Of those kept in float ``more_us`` is what
    the whole plan would take more (less than 0: it would gain) if they were rounded as well; None: no plan can.
    ``constants``: only their constants are rounded."""

    layers: tuple[str, ...]
    noise: float
    is_rounded: bool
    more_us: float | None = None
    constants: bool = False


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
    rounded = _rounded_by(tuned, plan)
    now = _least_us(tuned, lambda c: not rounds(c) or rounded[not rounds_values(c)].issuperset(_names(c)))
    rows = [_row(tuned, part, rounded, now) for part in plan.bound.noise]
    named = {name for part in plan.bound.noise for name in part.layers}.union(*rounded.values())
    others = Counter(layer.op for layer in tuned.form.graph.layers if layer.name not in named)
    return BoundReasons(plan.bound, tuple(rows), tuple(others.most_common()))


def _rounded_by(tuned: Tuned, plan: Plan) -> dict[bool, frozenset[str]]:
    """Layers the plan rounds, by whether only their constants are."""
    steps = {(step.layers, step.routine, step.inputs, step.outputs) for step in plan.kernel_steps}
    taken = [c for c in tuned.form.candidates if rounds(c) and _as_step(c) in steps]
    return {only: frozenset(n for c in taken if rounds_values(c) != only for n in _names(c)) for only in (False, True)}


def _as_step(candidate: Candidate) -> tuple[tuple[str, ...], str, tuple[str, ...], tuple[str, ...]]:
    """As a plan names it."""
    names, offer = tuple(layer.name for layer in candidate.region.layers), candidate.offer
    return names, candidate.routine.name, tuple(map(str, offer.inputs)), tuple(map(str, offer.outputs))


def _row(tuned: Tuned, part: PartNoise, rounded: Mapping[bool, frozenset[str]], now: float | None) -> PartRow:
    """``rounded`` as :func:`_rounded_by` found it."""
    mine = frozenset(part.layers)
    if mine & rounded[part.constants]:
        return PartRow(part.layers, part.noise, True, None, part.constants)

    def may_stay(candidate: Candidate) -> bool:
        names = _names(candidate)
        if rounds(candidate):
            only = not rounds_values(candidate)
            return (names == mine and only == part.constants) or rounded[only].issuperset(names)
        return mine.isdisjoint(names)

    then = _least_us(tuned, may_stay)
    more_us = None if then is None or now is None else then - now
    return PartRow(part.layers, part.noise, False, more_us, part.constants)


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
