"""What an answer costs: the one function that prices a selection, and that checks it can run at all.

Dynamic programme, ILP, explanation and tests all use it, so no solver marks its own homework. It knows nothing of
how an answer was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from softneuro_core.errors import SelectionError
from softneuro_core.tuner.problem import Option, Problem

Edges = Sequence[tuple[int, int]]


def price(problem: Problem, chosen: Sequence[int], conversions: Mapping[int, Edges]) -> tuple[int, tuple[int, ...]]:
    """Time in ns and uses (parallel to ``Problem.limits``) of running options ``chosen``, in that order.

    Raises :class:`SelectionError` if the options do not cover every layer exactly once, are not in order of
    their exits, a conversion does not exist or starts from a spec that is not there, or a demand is not met.
    Limits are not judged here: see :func:`within`.
    """
    steps = [problem.options[number] for number in chosen]
    _check_cover(problem, steps)
    made = _check_flow(problem, steps)
    held = {value: {spec} for value, spec in made.items()}
    time, uses = 0, [0] * len(problem.limits)
    for value, edges in conversions.items():
        for edge in edges:
            found = problem.conversions.get(value, {}).get(edge)
            if found is None or edge[0] not in held.get(value, ()) or edge[1] in held[value]:
                raise SelectionError(f"value {value} cannot be converted from spec {edge[0]} to {edge[1]} there")
            held[value].add(edge[1])
            time += found.time_ns
            _add(uses, found.uses)
    for value, spec in demands(problem, steps):
        if spec not in held[value]:
            raise SelectionError(f"value {value} is wanted in spec {spec} and never made in it")
    for step in steps:
        time += step.time_ns
        _add(uses, step.uses)
    return time + segments_ns(problem, steps), tuple(uses)


def within(problem: Problem, uses: Iterable[int]) -> bool:
    """True if the sums ``uses`` keep every limit."""
    return all(bound is None or used <= bound for used, bound in zip(uses, problem.limits, strict=True))


def demands(problem: Problem, steps: Iterable[Option]) -> set[tuple[int, int]]:
    """Every (value, spec) that some step or the host reads."""
    return {operand for step in steps for operand in step.inputs}.union(problem.sinks)


def segments_ns(problem: Problem, steps: Sequence[Option]) -> int:
    """Fixed costs of the maximal runs of consecutive steps on one device."""
    starts = (step.device for i, step in enumerate(steps) if i == 0 or steps[i - 1].device != step.device)
    return sum(problem.segment_ns.get(device, 0) for device in starts)


def _check_cover(problem: Problem, steps: Sequence[Option]) -> None:
    covered = sorted(layer for step in steps for layer in step.layers)
    if covered != list(range(problem.layer_count)):
        raise SelectionError("the chosen options do not cover every layer exactly once")
    if any(a.exit >= b.exit for a, b in pairwise(steps)):
        raise SelectionError("the chosen options are not in the order of their exits")


def _check_flow(problem: Problem, steps: Sequence[Option]) -> dict[int, int]:
    """The spec each value is made in, once it is certain that every value is made before it is read."""
    made = dict(problem.sources)
    for step in steps:
        for value, _ in step.inputs:
            if value not in made:
                raise SelectionError(f"value {value} is read before it is made", layer=str(step.exit))
        for value, spec in step.outputs:
            if value in made:
                raise SelectionError(f"value {value} is made twice", layer=str(step.exit))
            made[value] = spec
    for value, _ in problem.sinks:
        if value not in made:
            raise SelectionError(f"graph output {value} is never made")
    return made


def _add(total: list[int], uses: Sequence[int]) -> None:
    for i, used in enumerate(uses):
        total[i] += used
