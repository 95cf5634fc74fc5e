"""Brute force: what is the best plan of a small selection problem, by trying every one.

Written from the docstrings of ``softneuro_core.tuner.problem`` alone: it must not know, import or resemble the
solver it judges. Every disjoint cover becomes an explicit list of steps, every conversion tree is tried, and the
only cut-off stops a cover whose steps alone cost more than a whole plan already found.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from softneuro_core.errors import SelectionError
from softneuro_core.tuner.problem import Conversion, Option, Problem, Selection, Tuner

Cover = tuple[int, ...]
"""Option numbers in step order (ascending exits)."""
Edge = tuple[int, int]
"""(from spec, to spec) of one value."""


@dataclass(frozen=True)
class Tree:
    """Conversions of one value: every spec in ``reached`` but the first has exactly one way it is made."""

    edges: tuple[Edge, ...]
    reached: frozenset[int]
    time_ns: int
    uses: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """A whole plan and its price."""

    chosen: Cover
    trees: Mapping[int, Tree]
    time_ns: int
    uses: tuple[int, ...]


class Unusable(ValueError):
    """The plan asked about is no plan of this problem; the message says why."""


def covers(problem: Problem, worth: Callable[[int], bool] = lambda spent_ns: True) -> Iterator[Cover]:
    """Every set of disjoint options that covers all layers; ``worth`` may refuse a partial one by its steps' time."""
    fastest_first = sorted(range(len(problem.options)), key=lambda number: problem.options[number].time_ns)
    with_layer = [
        [number for number in fastest_first if layer in problem.options[number].layers]
        for layer in range(problem.layer_count)
    ]

    def extend(covered: frozenset[int], chosen: Cover, spent_ns: int) -> Iterator[Cover]:
        missing = next((layer for layer in range(problem.layer_count) if layer not in covered), None)
        if missing is None:
            yield tuple(sorted(chosen, key=lambda i: problem.options[i].exit))
            return
        for number in with_layer[missing]:
            option = problem.options[number]
            if covered.isdisjoint(option.layers) and worth(spent_ns + option.time_ns):
                yield from extend(covered.union(option.layers), (*chosen, number), spent_ns + option.time_ns)

    return extend(frozenset(), (), 0)


def made_specs(problem: Problem, steps: Sequence[Option]) -> dict[int, int]:
    """The spec each value arrives or is made in; raises :class:`Unusable` if one is read that nobody has made."""
    made = dict(problem.sources)
    for step in steps:
        for value, _ in step.inputs:
            if value not in made:
                raise Unusable(f"value {value} is read by layers {step.layers} and not made before")
        made.update(step.outputs)
    for value, _ in problem.sinks:
        if value not in made:
            raise Unusable(f"value {value} is a graph output and not made")
    return made


def demanded_specs(problem: Problem, steps: Sequence[Option]) -> dict[int, set[int]]:
    """Every spec in which some step or the host wants each value."""
    wanted: dict[int, set[int]] = {}
    for value, spec in itertools.chain(problem.sinks, *(step.inputs for step in steps)):
        wanted.setdefault(value, set()).add(spec)
    return wanted


def segments_ns(problem: Problem, steps: Sequence[Option]) -> int:
    """Once for every maximal run of consecutive steps on one device."""
    return sum(problem.segment_ns.get(device, 0) for device, _ in itertools.groupby(step.device for step in steps))


def total_uses(problem: Problem, parts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Sums of ``uses``, one a limit."""
    sums = [0] * len(problem.limits)
    for uses in parts:
        for place, amount in enumerate(uses):
            sums[place] += amount
    return tuple(sums)


def within_limits(problem: Problem, uses: tuple[int, ...]) -> bool:
    """True if no bounded sum is above its bound."""
    pairs = zip(uses, problem.limits, strict=True)
    return not any(limit is not None and amount > limit for amount, limit in pairs)


def all_trees(problem: Problem, value: int, start: int) -> Iterator[Tree]:
    """Every tree of conversions growing from ``start``: give each other spec one parent or none, keep those that
    hang together."""
    table = problem.conversions.get(value, {})
    others = sorted({spec for pair in table for spec in pair} - {start})
    parents = [[None, *(a for a, b in table if b == spec and a != spec)] for spec in others]
    for choice in itertools.product(*parents):
        wanted = {(parent, spec) for parent, spec in zip(choice, others, strict=True) if parent is not None}
        edges: list[Edge] = []
        reached = {start}
        while ready := sorted(edge for edge in wanted if edge[0] in reached):
            edges += ready
            reached |= {spec for _, spec in ready}
            wanted -= set(ready)
        if not wanted:
            uses = total_uses(problem, (table[edge].uses for edge in edges))
            yield Tree(tuple(edges), frozenset(reached), sum(table[edge].time_ns for edge in edges), uses)


@dataclass(frozen=True)
class Bundle:
    """Trees for several values together."""

    trees: tuple[tuple[int, Tree], ...]
    time_ns: int
    uses: tuple[int, ...]


def undominated(bundles: Iterable[Bundle], limits: tuple[int | None, ...]) -> list[Bundle]:
    """Fastest first, without those that another one beats or equals in time and in everything limited."""
    bounded = [place for place, limit in enumerate(limits) if limit is not None]
    kept: list[Bundle] = []
    frugal: list[list[int]] = []
    for new in sorted(bundles, key=lambda b: b.time_ns):
        amounts = [new.uses[place] for place in bounded]
        if not any(all(map(operator.le, old, amounts)) for old in reversed(frugal)):
            kept.append(new)
            frugal.append(amounts)
    return kept


@dataclass
class Oracle:
    """Prices covers of one problem; remembers the conversion trees it has listed."""

    problem: Problem
    _trees: dict[tuple[int, int], list[Tree]] = field(default_factory=dict)
    _fitting: dict[tuple[int, int, frozenset[int]], list[Bundle]] = field(default_factory=dict)

    def best(self) -> Answer | None:
        """The cheapest plan, None if there is none."""
        best: Answer | None = None

        def worth(spent_ns: int) -> bool:
            return best is None or spent_ns < best.time_ns

        for cover in covers(self.problem, worth):
            best = self.price(cover, None if best is None else best.time_ns) or best
        return best

    def best_with_each(self) -> list[int | None]:
        """For every option, the time of the cheapest plan that uses it (None if no plan can)."""
        times: list[int | None] = [None] * len(self.problem.options)
        for cover in covers(self.problem):
            if answer := self.price(cover):
                for number in cover:
                    known = times[number]
                    times[number] = answer.time_ns if known is None else min(known, answer.time_ns)
        return times

    def price(self, cover: Cover, below_ns: int | None = None) -> Answer | None:
        """The cheapest plan with exactly these options; None if there is none, or none cheaper than ``below_ns``."""
        problem = self.problem
        steps = [problem.options[number] for number in cover]
        try:
            made = made_specs(problem, steps)
        except Unusable:
            return None
        steps_ns = sum(step.time_ns for step in steps) + segments_ns(problem, steps)
        fitting = [
            self._fitting_trees(value, made[value], frozenset(wanted))
            for value, wanted in demanded_specs(problem, steps).items()
        ]
        if not all(fitting):
            return None
        ahead_ns = steps_ns + sum(trees[0].time_ns for trees in fitting)
        bundle = Bundle((), 0, total_uses(problem, (step.uses for step in steps)))
        if (below_ns is not None and ahead_ns >= below_ns) or not within_limits(problem, bundle.uses):
            return None
        bundles = [bundle]
        for trees in fitting:
            ahead_ns -= trees[0].time_ns  # what the rest takes at least
            joined = (_joined(problem, bundle, tree) for bundle in bundles for tree in trees)
            allowed = (b for b in joined if within_limits(problem, b.uses))
            cheaper = (b for b in allowed if below_ns is None or ahead_ns + b.time_ns < below_ns)
            bundles = undominated(cheaper, problem.limits)
        if not bundles:
            return None
        return Answer(cover, dict(bundles[0].trees), steps_ns + bundles[0].time_ns, bundles[0].uses)

    def _fitting_trees(self, value: int, start: int, wanted: frozenset[int]) -> list[Bundle]:
        key = (value, start, wanted)
        if key not in self._fitting:
            if (value, start) not in self._trees:
                self._trees[value, start] = list(all_trees(self.problem, value, start))
            trees = (tree for tree in self._trees[value, start] if wanted <= tree.reached)
            bundles = (Bundle(((value, tree),), tree.time_ns, tree.uses) for tree in trees)
            self._fitting[key] = undominated(bundles, self.problem.limits)
        return self._fitting[key]


def _joined(problem: Problem, a: Bundle, b: Bundle) -> Bundle:
    return Bundle(a.trees + b.trees, a.time_ns + b.time_ns, total_uses(problem, (a.uses, b.uses)))


def reprice(problem: Problem, selection: Selection) -> tuple[int, tuple[int, ...]]:
    """(time_ns, uses) of a selection as it stands, step by step and conversion by conversion.

    Raises :class:`Unusable` if it is no plan: layers not covered once, steps out of order, a value not made, a
    conversion that does not exist or whose input is not there yet, a spec left unserved, a limit broken.
    """
    steps = [problem.options[number] for number in selection.chosen]
    covered = sorted(layer for step in steps for layer in step.layers)
    if covered != list(range(problem.layer_count)):
        raise Unusable(f"layers covered: {covered}")
    if [step.exit for step in steps] != sorted(step.exit for step in steps):
        raise Unusable("steps are not in order of their exits")
    made = made_specs(problem, steps)
    present = {value: {spec} for value, spec in made.items()}
    paid: list[Conversion] = []
    for value, edges in selection.conversions.items():
        for source, target in edges:
            if source not in present.get(value, set()):
                raise Unusable(f"value {value} is converted from spec {source}, which is not there")
            if (source, target) not in problem.conversions.get(value, {}):
                raise Unusable(f"no conversion of value {value} from {source} to {target}")
            present[value].add(target)
            paid.append(problem.conversions[value][source, target])
    for value, wanted in demanded_specs(problem, steps).items():
        if not wanted <= present[value]:
            raise Unusable(f"value {value} is wanted in specs {wanted} and there in {present[value]}")
    uses = total_uses(problem, [part.uses for part in (*steps, *paid)])
    if not within_limits(problem, uses):
        raise Unusable(f"uses {uses} exceed limits {problem.limits}")
    return sum(part.time_ns for part in (*steps, *paid)) + segments_ns(problem, steps), uses


def complaint(problem: Problem, best: Answer | None, tuner: Tuner) -> str | None:
    """What is wrong with the tuner's answer, given the true one; None if nothing is."""
    try:
        selection = tuner.select(problem)
    except SelectionError as error:
        return f"found no plan where one takes {best.time_ns}: {error}" if best else None
    if best is None:
        return f"claims {selection.time_ns} where no plan exists"
    try:
        time_ns, uses = reprice(problem, selection)
    except Unusable as error:
        return f"chose what is no plan: {error}"
    if time_ns != best.time_ns:
        return f"chose a plan that takes {time_ns}, the best takes {best.time_ns}"
    if (selection.time_ns, selection.uses) != (time_ns, uses):
        return f"claims {(selection.time_ns, selection.uses)} for a plan that takes {(time_ns, uses)}"
    if selection.lower_bound_ns != selection.time_ns or not selection.exact:
        return f"found the best plan, {time_ns}, but calls it unproven: bound {selection.lower_bound_ns}"
    return None
