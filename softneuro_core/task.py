"""A tuning's circumstances, one selection in them, and what comes out: a plan with all that led to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from softneuro_core.assembly import assemble
from softneuro_core.candidates import Candidates, Request
from softneuro_core.catalog import Catalog
from softneuro_core.costs import CostDatabase
from softneuro_core.errors import SelectionError
from softneuro_core.plan import Plan
from softneuro_core.progress import Progress
from softneuro_core.selection import RESOURCES, Formulation, Prices, formulate
from softneuro_core.tuner import Selection, Tuner
from softneuro_core.tuner.infeasible import Infeasible


@dataclass(frozen=True, slots=True)
class Tuned:
    """A plan with all that led to it: what ``explain`` and the report read."""

    plan: Plan
    form: Formulation
    selection: Selection
    tuner: Tuner
    problems: Mapping[str, str]
    bodies: Mapping[str, Tuned]


@dataclass(frozen=True, slots=True)
class Task:
    """Everything one tuning needs besides the graph; bodies of control flow share it."""

    catalog: Catalog
    threads: int
    request: Request
    deadline: float | None
    measure: bool
    database: CostDatabase
    tuner: Tuner
    progress: Progress

    @property
    def is_over(self) -> bool:
        """Whether nothing more may be measured."""
        return self.deadline is not None and time.monotonic() >= self.deadline


def select_plan(
    found: Candidates, prices: Prices, task: Task, plans: Mapping[str, Plan], bodies: Mapping[str, Tuned]
) -> Tuned:
    """The best plan under these prices; raises :class:`SelectionError` naming the layer if there is none."""
    form = formulate(found, prices, task.catalog, task.request)
    try:
        selection = task.tuner.select(form.problem)
    except SelectionError as error:
        raise explain_infeasible(error, form) from None
    plan = assemble(form, selection, task.catalog, task.threads, plans, task.request)
    return Tuned(plan, form, selection, task.tuner, found.problems, bodies)


def explain_infeasible(error: SelectionError, form: Formulation) -> SelectionError:
    """The solver's complaint with layers, values, how they are stored, and limits by name."""
    numbers = {str(i): layer.name for i, layer in enumerate(form.graph.layers)}
    layer = numbers.get(error.layer or "", error.layer)
    cause = _named(error, form) if isinstance(error, Infeasible) else error.cause
    return SelectionError(cause, file=form.graph.name, layer=layer, remedy=error.remedy)


def _named(error: Infeasible, form: Formulation) -> str:
    limits = [form.limits[number] for number in error.limits]
    if error.least is not None:
        unit, bound = RESOURCES[limits[0]], form.problem.limits[error.limits[0]]
        return f"{limits[0]} takes {error.least * unit:,.4g} at least, {(bound or 0) * unit:,.4g} are allowed"
    if limits:
        return f"{' and '.join(limits)} are within their limits only one at a time"
    if error.value is None:
        return error.cause
    value = next(value for value, number in form.values.items() if number == error.value)
    made, wanted = (", ".join(str(form.specs[number]) for number in specs) for specs in (error.made, error.wanted))
    how = f"is made as {made}" if made else "is made by no candidate that stands alone"
    return f"{value.name} {how} and wanted as {wanted}, and no conversions lead there"
