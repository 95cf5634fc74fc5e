"""tune: candidates -> known costs -> profile what is missing -> select exactly -> check in place -> Plan."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from softneuro_core.candidates import Request, enumerate_candidates
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.costs import CostDatabase
from softneuro_core.device import thread_count, usable_cores
from softneuro_core.errors import InputError
from softneuro_core.graph import Graph
from softneuro_core.grids import grids_of
from softneuro_core.memory_budget import tune_within
from softneuro_core.one_device import settle_devices
from softneuro_core.passes.changed import changed
from softneuro_core.plan import Plan
from softneuro_core.pricing import Pricing
from softneuro_core.progress import Progress, Silent
from softneuro_core.rivals import settle_rivals
from softneuro_core.selection import Price, chosen_prices
from softneuro_core.settling import settle_in_place
from softneuro_core.task import Task, Tuned, select_plan
from softneuro_core.tuner import Tuner
from softneuro_core.tuner.exact import ExactTuner


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
        if task.measure and not task.is_over:
            tuned = settle_in_place(found, prices, task, tuned, pricing)
            again = lambda other: select_plan(found, other, task, plans, bodies)  # noqa: E731
            tuned = settle_rivals(tuned, prices, again, pricing.run_in_turns, task)
            tuned = settle_devices(tuned, prices, again, pricing.run_in_place, pricing.run_in_turns, task)
    return tuned


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
    parts = chosen_prices(body.form, body.selection)
    nbytes, error = sum(p.constant_bytes for p in parts), sum(p.error for p in parts)
    return Price(round(body.plan.predicted_us * 1000), nbytes, error, "bodies")
