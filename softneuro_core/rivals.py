"""Steps of a chosen plan against their rivals in the same place and in turns: the last word on what was close.

Isolated costs are taken minutes apart, and by a kernel that has the caches to itself. On a shared machine that decides
between close ones by chance. So plans are run in turns in which every step that can be is computed the second best way,
and the third: one run compares all steps at once. What was seen replaces the prices, and the plan is selected again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace

from softneuro_core.assembly import assemble
from softneuro_core.candidates import Candidate
from softneuro_core.plan import AdapterStep, Plan
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.profiling.whole_plans import choice
from softneuro_core.selection import Price, Prices, chosen_candidates
from softneuro_core.settling import as_seen
from softneuro_core.task import Task, Tuned

REACH, RANKS = 1.6, 2
"""A rival's price is at most so many times that of the candidate chosen; so many rivals of a step are run."""
BETTER = 0.98
"""Of the time of what was chosen: a rival seen to take less takes its place."""

Runs = Callable[[Sequence[Plan]], Sequence[InPlace] | None]


def settle_rivals(tuned: Tuned, isolated: Prices, select: Callable[[Prices], Tuned], run: Runs, task: Task) -> Tuned:
    """``tuned``, or a plan selected by what rivals of its steps took in their places, if that was seen to be faster.

    ``select`` gives the best plan under other prices, ``run`` what plans take in turns.
    """
    if task.is_over:
        return tuned
    lists = _rivals(tuned)
    plans = [_with_rivals(tuned, lists, rank, task) for rank in range(max(map(len, lists), default=0))]
    seen = run([tuned.plan, *plans]) if plans else None
    faster = {} if seen is None else dict(_faster(tuned, lists, seen))
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


def _rivals(tuned: Tuned) -> list[list[Candidate]]:
    """Of every step: what computes the same between the same values stored the same way, the cheapest first."""
    prices, same = tuned.form.prices.kernels, defaultdict[Hashable, list[Candidate]](list)
    for candidate, price in sorted(prices.items(), key=lambda item: item[1].time_ns):
        if price.source != "bodies":
            same[_place(candidate)].append(candidate)
    found = []
    for chosen in chosen_candidates(tuned.form, tuned.selection):
        most = REACH * prices[chosen].time_ns
        others = [c for c in same[_place(chosen)] if c is not chosen and prices[c].time_ns <= most]
        found.append(others[:RANKS])
    return found


def _place(candidate: Candidate) -> Hashable:
    offer = candidate.offer
    return candidate.region.layers, offer.inputs, offer.outputs, offer.uses


def _with_rivals(tuned: Tuned, lists: Sequence[Sequence[Candidate]], rank: int, task: Task) -> Plan:
    """The plan with the rival of this rank at every step that has one."""
    form = tuned.form
    numbers = {candidate: number for number, candidate in enumerate(form.candidates)}
    taken = [
        numbers[rivals[rank]] if rank < len(rivals) else number
        for number, rivals in zip(tuned.selection.chosen, lists, strict=True)
    ]
    selection = replace(tuned.selection, chosen=tuple(taken))
    return assemble(form, selection, task.catalog, task.threads, tuned.plan.bodies, task.request)


def _faster(
    tuned: Tuned, lists: Sequence[Sequence[Candidate]], seen: Sequence[InPlace]
) -> Iterator[tuple[Candidate, Price]]:
    """Rivals that took less than what was chosen, with that candidate's price in proportion."""
    prices = tuned.form.prices.kernels
    steps = [i for i, step in enumerate(tuned.plan.steps) if not isinstance(step, AdapterStep)]
    chosen = chosen_candidates(tuned.form, tuned.selection)
    for step, candidate, rivals in zip(steps, chosen, lists, strict=True):
        mine = seen[0].step_us[step]
        for rival, other in zip(rivals, seen[1:], strict=False):  # plans of higher ranks have no rival here
            ratio = other.step_us[step] / mine if mine else 1.0
            if ratio < BETTER:
                time_ns = max(1, round(ratio * prices[candidate].time_ns))
                yield rival, replace(prices[rival], time_ns=time_ns, source="in-situ")
