"""tune: candidates -> known costs -> profile what is missing -> select exactly -> check in place -> Plan."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from softneuro_core.assembly import assemble
from softneuro_core.candidates import Candidates, Request, enumerate_candidates
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.costs import CostDatabase
from softneuro_core.device import thread_count, usable_cores
from softneuro_core.errors import InputError, SelectionError
from softneuro_core.graph import Graph
from softneuro_core.grids import grids_of
from softneuro_core.memory_budget import tune_within
from softneuro_core.passes.changed import changed
from softneuro_core.plan import AdapterStep, Plan
from softneuro_core.pricing import Correction, Pricing, corrected
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.profiling.whole_plans import choice
from softneuro_core.progress import Progress, Silent
from softneuro_core.selection import Formulation, Price, Prices, chosen_candidates, chosen_conversions, formulate
from softneuro_core.tuner import Selection, Tuner
from softneuro_core.tuner.exact import ExactTuner

IN_SITU_ROUNDS = 4
TIMER_US = 1.0
"""What reading the clock and calling one step from Python may add to it in place."""


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


def tune(
    graph: Graph,
    *,
    threads: int | None = None,
    allow: Iterable[str] | None = None,
    budget_s: float | None = None,
    limits: Mapping[str, float] | None = None,
    force: str | Iterable[str] = (),
    forbid: str | Iterable[str] = (),
    accuracy: str | float = "default",
    clocks: Mapping[str, float] | None = None,
    sample: Mapping[str, Any] | None = None,
    max_mem_bytes: int | None = None,
    progress: Progress | None = None,
    catalog: Catalog | None = None,
    database: CostDatabase | None = None,
    tuner: Tuner | None = None,
    allow_unrounded: bool = False,
) -> Plan:
    """The fastest plan for ``graph`` over every installed routine, measured on this machine.

    ``threads`` defaults to the cores this process may use; ``allow`` names dtypes besides the model's own;
    ``budget_s`` bounds measuring (None: all that is missing, 0: nothing; costs not known are then estimates, and the
    plan says so); ``limits`` bounds ``constant_bytes`` or ``error`` of the whole plan; ``force`` and ``forbid`` take
    routine descriptors (``cpu/im2col@Conv``); ``clocks`` declares host nanoseconds per nanosecond of a simulated
    clock; ``sample`` gives real inputs to measure with; ``max_mem_bytes`` is what packed weights and activations may
    take together; ``allow_unrounded`` lets the plan leave out rounding that a quantised file does between layers.
    Raises :class:`SelectionError` if nothing satisfies the request, :class:`ResourceError` if nothing fits the memory,
    :class:`InputError` if input shapes are free.
    """
    request = Request(
        frozenset(allow or ()), accuracy, _texts(force), _texts(forbid), dict(limits or {}), dict(clocks or {})
    )
    graph, request = without_rounding(graph, request) if allow_unrounded else (graph, request)
    return tune_fully(graph, request, threads, budget_s, sample, progress, catalog, database, tuner, max_mem_bytes).plan


def without_rounding(graph: Graph, request: Request) -> tuple[Graph, Request]:
    """A quantised file's graph whose values may be stored real or on the file's grids, whichever is faster."""
    graph = changed(graph, replace(graph.changes, unrounded=True))
    grids = {dtype for _, _, dtype in grids_of(graph).values()}
    return graph, replace(request, allow=request.allow | grids)


def _texts(texts: str | Iterable[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


def tune_fully(
    graph: Graph,
    request: Request,
    threads: int | None = None,
    budget_s: float | None = None,
    sample: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    catalog: Catalog | None = None,
    database: CostDatabase | None = None,
    tuner: Tuner | None = None,
    max_mem_bytes: int | None = None,
) -> Tuned:
    """As :func:`tune`, keeping the cost table and the certificate's problem for explanations."""
    if free := graph.free_dims:
        name, shape = next(iter(free.items()))
        raise InputError(
            f"input {name!r} has free dimensions {shape}", file=graph.name, remedy="load with shapes={...} (--shape)"
        )
    with task_of(request, threads, budget_s, progress, catalog, database, tuner) as task:
        if max_mem_bytes is None:
            return _tune(graph, task, sample)
        again = lambda tighter: _tune(graph, replace(task, request=tighter), sample)  # noqa: E731
        tuned, notes = tune_within(max_mem_bytes, graph, task.catalog, request, again)
        return replace(tuned, plan=tuned.plan.with_notes(*notes))


@contextmanager
def task_of(
    request: Request,
    threads: int | None = None,
    budget_s: float | None = None,
    progress: Progress | None = None,
    catalog: Catalog | None = None,
    database: CostDatabase | None = None,
    tuner: Tuner | None = None,
) -> Iterator[Task]:
    """A tuning's circumstances, with what is not given as :func:`tune` has it; a database opened here is closed."""
    progress = progress or Silent()
    own = CostDatabase(on_note=progress.note) if database is None else None
    known = own if database is None else database
    assert known is not None
    try:
        yield Task(
            catalog or load_plugins(),
            thread_count(threads, usable_cores()),
            request,
            None if budget_s is None else time.monotonic() + budget_s,
            budget_s is None or budget_s > 0,
            known,
            tuner or ExactTuner(),
            progress,
        )
    finally:
        if own is not None:
            own.close()


def _tune(graph: Graph, task: Task, sample: Mapping[str, Any] | None) -> Tuned:
    found = enumerate_candidates(graph, task.catalog, task.threads, task.request)
    with Pricing(
        found, task.catalog, task.threads, task.database, task.progress, sample, task.request.clocks, task.measure
    ) as pricing:
        if task.measure:
            pricing.measure(task.deadline)
        bodies = _tune_bodies(graph, task, pricing)
        plans = {key: tuned.plan for key, tuned in bodies.items()}
        prices = pricing.prices({key: _price_of(tuned) for key, tuned in bodies.items()})
        tuned = select_plan(found, prices, task, plans, bodies)
        if task.measure and not _is_over(task):
            tuned = settle_in_place(found, prices, task, tuned, pricing)
    return tuned


def _is_over(task: Task) -> bool:
    return task.deadline is not None and time.monotonic() >= task.deadline


def _tune_bodies(graph: Graph, task: Task, pricing: Pricing) -> dict[str, Tuned]:
    """Bodies of control flow are graphs of their own, tuned after it on the values it hands them."""
    request = replace(task.request, force=(), forbid=tuple(f for f in task.request.forbid if "@" not in f), limits={})
    return {
        f"{layer.name}.{attribute}": _tune(body, replace(task, request=request), pricing.body_sample(layer, body))
        for layer in graph.layers
        for attribute, body in layer.bodies.items()
    }


def _price_of(body: Tuned) -> Price:
    """One run of a body: its plan's time, and what limits bound summed over its steps."""
    prices = body.form.prices
    parts = [prices.kernels[c] for c in chosen_candidates(body.form, body.selection)]
    parts += [prices.adapters[a] for a in chosen_conversions(body.form, body.selection)]
    nbytes, error = sum(p.constant_bytes for p in parts), sum(p.error for p in parts)
    return Price(round(body.plan.predicted_us * 1000), nbytes, error, "bodies")


def select_plan(
    found: Candidates, prices: Prices, task: Task, plans: Mapping[str, Plan], bodies: Mapping[str, Tuned]
) -> Tuned:
    form = formulate(found, prices, task.catalog, task.request)
    try:
        selection = task.tuner.select(form.problem)
    except SelectionError as error:
        raise explain_infeasible(error, form) from None
    plan = assemble(form, selection, task.catalog, task.threads, plans, task.request)
    return Tuned(plan, form, selection, task.tuner, found.problems, bodies)


def explain_infeasible(error: SelectionError, form: Formulation) -> SelectionError:
    """The solver's complaint with the layer and values by name."""
    numbers = {str(i): layer.name for i, layer in enumerate(form.graph.layers)}
    layer = numbers.get(error.layer or "", error.layer)
    return SelectionError(error.cause, file=form.graph.name, layer=layer, remedy=error.remedy)


def settle_in_place(found: Candidates, prices: Prices, task: Task, first: Tuned, pricing: Pricing) -> Tuned:
    """Decision 5: run the plan whole; where a step disagrees with its isolated time, correct all its like and select
    again, at most four rounds, never back to a plan already tried. The one with the fastest whole run is kept."""
    tried: dict[str, Tuned] = {}
    ratios: dict[Correction, float] = {}
    current = first
    for number in range(1, IN_SITU_ROUNDS + 1):
        seen = pricing.run_in_place(current.plan)
        if seen is None:  # told in the progress notes; the isolated answer stands
            break
        tried[choice(current.plan)] = as_seen(current, prices, seen)
        task.progress.note(f"in place, round {number}: {seen.whole_us:,.1f} us a run")
        fresh = _disagreements(current, prices, seen)
        if not fresh or _is_over(task):
            break
        ratios |= fresh
        current = select_plan(found, corrected(prices, ratios), task, first.plan.bodies, first.bodies)
        if choice(current.plan) in tried:
            break
    return min(tried.values(), key=lambda t: t.plan.predictions["best_us"], default=first)


def _disagreements(tuned: Tuned, isolated: Prices, seen: InPlace) -> dict[Correction, float]:
    """Ratio in place / isolated of every kernel step that disagrees by more than both spreads and the timer."""
    chosen = iter(chosen_candidates(tuned.form, tuned.selection))
    found: dict[Correction, float] = {}
    for step, us, spread_us in zip(tuned.plan.steps, seen.step_us, seen.spread_us, strict=True):
        if isinstance(step, AdapterStep):
            continue
        candidate = next(chosen)
        alone = isolated.kernels[candidate]
        expected_us = alone.time_ns / 1000
        doubt = max(0.1 * expected_us, 2 * spread_us, TIMER_US)
        if alone.source != "bodies" and abs(us - expected_us) > doubt:
            found |= dict.fromkeys(Correction.of(candidate), us / expected_us)
    return found


def as_seen(tuned: Tuned, isolated: Prices, seen: InPlace) -> Tuned:
    """The plan with the times seen in place as its own: they are what the runtime will pay."""
    plan = tuned.plan
    steps = tuple(replace(s, us=round(us, 3), source="in-situ") for s, us in zip(plan.steps, seen.step_us, strict=True))
    chosen = chosen_candidates(tuned.form, tuned.selection)
    alone = sum(isolated.kernels[c].time_ns for c in chosen) / 1000
    alone += sum(s.us for s in plan.steps if isinstance(s, AdapterStep))
    predictions = {
        "isolated_us": alone,
        "in_situ_us": sum(seen.step_us),
        "whole_us": seen.whole_us,
        "best_us": seen.best_us,
    }
    return replace(tuned, plan=replace(plan, steps=steps, predicted_us=seen.whole_us, predictions=predictions))
