"""Steps of a chosen plan against their rivals in the same place and in turns: the last word on what was close.

Isolated costs are taken minutes apart, and by a kernel that has the caches to itself. On a shared machine that decides
between close ones by chance. So plans are run in turns in which all that can be is computed the second best way, and
the third: one run compares all places at once. What was seen replaces the prices, and the plan is selected again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from softneuro_core.alternatives import Alternatives, Place, Way
from softneuro_core.assembly import assemble
from softneuro_core.candidates import Candidate
from softneuro_core.plan import AdapterStep, Plan
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.profiling.whole_plans import choice
from softneuro_core.selection import Price, Prices, chosen_candidates
from softneuro_core.settling import as_seen
from softneuro_core.task import Task, Tuned

REACH, RANKS = 1.6, 2
"""A rival's price is at most so many times that of the candidate chosen; so many rivals in a place are run."""
BETTER = 0.98
"""Of the time of what was chosen: a rival seen to take less takes its place."""

Runs = Callable[[Sequence[Plan]], Sequence[InPlace] | None]


def settle_rivals(tuned: Tuned, isolated: Prices, select: Callable[[Prices], Tuned], run: Runs, task: Task) -> Tuned:
    """``tuned``, or a plan selected by what rivals of its steps took in their places, if that was seen to be faster.

    ``select`` gives the best plan under other prices, ``run`` what plans take in turns.
    """
    if task.is_over:
        return tuned
    alternatives = Alternatives(tuned, REACH)
    trials = [
        _Trial(places, rank)
        for places in (alternatives.rivals(RANKS), alternatives.cuts())
        for rank in range(max((len(place.others) for place in places), default=0))
    ]
    plans = [_plan_of(tuned, trial.ways, task) for trial in trials]
    seen = run([tuned.plan, *plans]) if plans else None
    if seen is None:
        return tuned
    chosen = _us_of(tuned, [(c,) for c in chosen_candidates(tuned.form, tuned.selection)], tuned.plan, seen[0])
    faster: dict[Candidate, Price] = {}
    for trial, plan, other in zip(trials, plans, seen[1:], strict=True):
        faster |= _faster(trial, chosen, _us_of(tuned, trial.ways, plan, other), alternatives)
    if not faster:
        return tuned
    prices = tuned.form.prices
    better = select(Prices({**prices.kernels, **faster}, prices.adapters))
    if choice(better.plan) == choice(tuned.plan):
        return tuned
    both = run([tuned.plan, better.plan])
    if both is None or both[1].whole_us >= both[0].whole_us:
        return tuned
    task.progress.note(f"rivals in place: {both[1].whole_us:,.1f} us a run instead of {both[0].whole_us:,.1f}")
    return as_seen(better, isolated, both[1])


@dataclass(frozen=True, slots=True)
class _Trial:
    """A plan with the rival of this rank in every place that has one."""

    places: Sequence[Place]
    rank: int

    @property
    def ways(self) -> list[Way]:
        return [place.others[self.rank] if self.rank < len(place.others) else place.chosen for place in self.places]


def _in_order(tuned: Tuned, ways: Iterable[Way]) -> list[Candidate]:
    """Regions run in the order of their exits."""
    index = tuned.form.graph.index
    return sorted((candidate for way in ways for candidate in way), key=lambda c: index[c.region.exit])


def _plan_of(tuned: Tuned, ways: Iterable[Way], task: Task) -> Plan:
    form = tuned.form
    numbers = {candidate: number for number, candidate in enumerate(form.candidates)}
    selection = replace(tuned.selection, chosen=tuple(numbers[candidate] for candidate in _in_order(tuned, ways)))
    return assemble(form, selection, task.catalog, task.threads, tuned.plan.bodies, task.request)


def _us_of(tuned: Tuned, ways: Iterable[Way], plan: Plan, seen: InPlace) -> dict[Candidate, float]:
    """What every candidate of a plan took in place."""
    kernels = [us for step, us in zip(plan.steps, seen.step_us, strict=True) if not isinstance(step, AdapterStep)]
    return dict(zip(_in_order(tuned, ways), kernels, strict=True))


def _faster(
    trial: _Trial, chosen: Mapping[Candidate, float], tried: Mapping[Candidate, float], alternatives: Alternatives
) -> dict[Candidate, Price]:
    """Rivals that took less than what was chosen, with its price in proportion."""
    found: dict[Candidate, Price] = {}
    for place, way in zip(trial.places, trial.ways, strict=True):
        mine = sum(chosen[candidate] for candidate in place.chosen)
        ratio = sum(tried[candidate] for candidate in way) / mine if mine else 1.0
        if way != place.chosen and ratio < BETTER:
            factor = ratio * alternatives.price_ns(place.chosen) / alternatives.price_ns(way)
            found |= {candidate: alternatives.prices[candidate].scaled(factor) for candidate in way}
    return found
