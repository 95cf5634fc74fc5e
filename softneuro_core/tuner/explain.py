"""What a plan would cost otherwise: one row per option and per value, for ``softneuro explain`` and the report.

Pure numbers in, numbers out; names and text belong to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from softneuro_core.tuner.problem import Problem, Selection


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One candidate. ``plan_ns`` is the best whole plan that uses it (None: no plan can), ``slower_ns`` how much
    that is more than the plan chosen."""

    option: int
    layers: tuple[int, ...]
    chosen: bool
    own_ns: int
    plan_ns: int | None
    slower_ns: int | None


@dataclass(frozen=True, slots=True)
class ValueRow:
    """Conversions the plan pays for one value, in the order they run."""

    value: int
    edges: tuple[tuple[int, int], ...]
    time_ns: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """``options`` by exit layer, then by plan time; the three sums make up the time of the plan."""

    options: tuple[OptionRow, ...]
    conversions: tuple[ValueRow, ...]
    steps_ns: int
    conversions_ns: int
    segments_ns: int

    @property
    def time_ns(self) -> int:
        return self.steps_ns + self.conversions_ns + self.segments_ns

    def of_layer(self, layer: int) -> tuple[OptionRow, ...]:
        """The candidates that cover ``layer``, the best plan first."""
        return tuple(row for row in self.options if layer in row.layers)


def explain(problem: Problem, selection: Selection, marginals: Sequence[int | None]) -> Explanation:
    """Rows for every option and every converted value; ``marginals`` as ``Tuner.min_marginals`` gives them."""
    chosen = set(selection.chosen)
    rows = [
        OptionRow(
            number,
            option.layers,
            number in chosen,
            option.time_ns,
            plan,
            None if plan is None else plan - selection.time_ns,
        )
        for number, (option, plan) in enumerate(zip(problem.options, marginals, strict=True))
    ]
    rows.sort(key=lambda row: (row.layers[-1], row.plan_ns is None, row.plan_ns or 0, not row.chosen, row.option))
    conversions = tuple(
        ValueRow(value, tuple(edges), sum(problem.conversions[value][edge].time_ns for edge in edges))
        for value, edges in sorted(selection.conversions.items())
        if edges
    )
    steps = sum(problem.options[number].time_ns for number in selection.chosen)
    converted = sum(row.time_ns for row in conversions)
    return Explanation(tuple(rows), conversions, steps, converted, selection.time_ns - steps - converted)
