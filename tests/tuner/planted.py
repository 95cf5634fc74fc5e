"""Tuners with a known mistake each, to prove that the comparison with the oracle would see it.

Every mistake is made by giving the exact tuner another problem than the one asked about. The plan it chooses is then
priced and its conversions placed correctly, so that only the wrong choice is left to be seen: the hardest case.
"""

from __future__ import annotations

import abc
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence

from softneuro_core.errors import SelectionError
from softneuro_core.tuner.exact import ExactTuner
from softneuro_core.tuner.problem import Option, Problem, Selection, Tuner, ValueSpec

from .oracle import Oracle

HOST = -1
"""Stands for the graph outputs where readers are option numbers."""


class Planted(Tuner):
    """Chooses with a mistake, then prices what it chose correctly where that is a plan at all."""

    @abc.abstractmethod
    def choose(self, problem: Problem) -> Selection:
        """The exact tuner's answer to the wrong question; only the chosen options count."""

    def select(self, problem: Problem) -> Selection:
        selection = self.choose(problem)
        answer = Oracle(problem).price(selection.chosen)
        if answer is None:
            return selection
        return dataclasses.replace(
            selection,
            conversions={value: tree.edges for value, tree in answer.trees.items()},
            time_ns=answer.time_ns,
            lower_bound_ns=answer.time_ns,
            uses=answer.uses,
        )

    def min_marginals(self, problem: Problem, selection: Selection) -> Sequence[int | None]:
        raise NotImplementedError


class SummedPaths(Planted):
    """Pays the shortest path to every spec demanded: what two specs could share is paid twice."""

    def choose(self, problem: Problem) -> Selection:
        return ExactTuner().select(_with_copies(problem, lambda reader, spec: spec))


class DoublePaidConversion(Planted):
    """Every reader pays for the conversions it needs, also for those another reader has paid."""

    def choose(self, problem: Problem) -> Selection:
        return ExactTuner().select(_with_copies(problem, lambda reader, spec: reader))


class IgnoredSegmentCost(Planted):
    """Starts a run of steps on a device for nothing."""

    def choose(self, problem: Problem) -> Selection:
        return ExactTuner().select(dataclasses.replace(problem, segment_ns={}))


class LeakedInteriorValue(Planted):
    """Lets others read what a chosen region makes inside and keeps to itself."""

    def choose(self, problem: Problem) -> Selection:
        answers = [answer for forced in _leaking(problem) if (answer := _answer(forced.problem, forced.numbers))]
        honest = _answer(problem, range(len(problem.options)))
        if honest:
            answers.append(honest)
        if not answers:
            raise SelectionError("no plan, not even a leaking one")
        return min(answers, key=lambda answer: answer.time_ns)


PLANTED = (SummedPaths, DoublePaidConversion, IgnoredSegmentCost, LeakedInteriorValue)


@dataclasses.dataclass(frozen=True)
class Part:
    """A problem with some of another's options, and their numbers there."""

    problem: Problem
    numbers: Sequence[int]


def _answer(problem: Problem, numbers: Sequence[int]) -> Selection | None:
    try:
        selection = ExactTuner().select(problem)
    except SelectionError:
        return None
    return dataclasses.replace(selection, chosen=tuple(numbers[number] for number in selection.chosen))


def _with_copies(problem: Problem, key: Callable[[int, int], Hashable]) -> Problem:
    """The problem with a copy of each value for every ``key(reader, spec)``, so that copies share no conversion."""
    numbers: dict[tuple[int, Hashable], int] = {}

    def copied(reader: int, wanted: Sequence[ValueSpec]) -> tuple[ValueSpec, ...]:
        return tuple((numbers.setdefault((v, key(reader, s)), len(numbers)), s) for v, s in wanted)

    inputs = [copied(reader, option.inputs) for reader, option in enumerate(problem.options)]
    sinks = copied(HOST, problem.sinks)
    copies: dict[int, list[int]] = defaultdict(list)
    for (value, _), number in numbers.items():
        copies[value].append(number)

    def made(option: Option) -> tuple[ValueSpec, ...]:
        return tuple((copy, spec) for value, spec in option.outputs for copy in copies[value])

    options = zip(problem.options, inputs, strict=True)
    return dataclasses.replace(
        problem,
        options=tuple(dataclasses.replace(option, inputs=read, outputs=made(option)) for option, read in options),
        conversions={copy: table for value, table in problem.conversions.items() for copy in copies[value]},
        sources={copy: spec for value, spec in problem.sources.items() for copy in copies[value]},
        sinks=sinks,
    )


def _leaking(problem: Problem) -> Iterator[Part]:
    """For every region a problem in which it is chosen and what it makes inside is there for all."""
    for number, region in enumerate(problem.options):
        inside = [o for o in problem.options if len(o.layers) == 1 and o.layers[0] in region.layers[:-1]]
        hidden = {value: spec for option in inside for value, spec in option.outputs}
        if hidden:
            rest = [i for i, o in enumerate(problem.options) if not set(o.layers) & set(region.layers)]
            numbers = sorted([number, *rest])
            options = tuple(problem.options[i] for i in numbers)
            leaking = dataclasses.replace(problem, options=options, sources={**problem.sources, **hidden})
            yield Part(leaking, numbers)
