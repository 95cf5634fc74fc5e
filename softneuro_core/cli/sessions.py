"""A session as the verbs ``run``, ``bench``, ``compare`` and ``memory`` want it: from a plan, or from pins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from softneuro_core.assembly import shapes_of
from softneuro_core.candidates import Request
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.cli import feeds
from softneuro_core.cli.models import fixed
from softneuro_core.cli.options import parse_size
from softneuro_core.errors import InputError
from softneuro_core.graph import Graph
from softneuro_core.importer import load
from softneuro_core.plan import Plan
from softneuro_core.program import Program, prepare
from softneuro_core.replay import as_planned
from softneuro_core.session import Session
from softneuro_core.tuning import tune_fully, without_rounding


@dataclass(frozen=True, slots=True)
class Job:
    """A model with what the user said about how to run it."""

    model: str
    plan_path: str | None = None
    relaxed: bool = False
    shapes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    image: str | None = None
    threads: int | None = None
    force: tuple[str, ...] = ()
    max_mem: str | None = None
    allow_unrounded: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """A session that has its plan, and the arrays to feed it."""

    session: Session
    graph: Graph
    feeds: Mapping[str, Any]
    catalog: Catalog

    def program(self, max_mem_bytes: int | None = None) -> Program:
        """The session's plan prepared apart from it, to be looked into. A plan for other shapes is carried over by
        running the model once."""
        if self.session.graph.free_dims:
            self.session.run(self.feeds)
        graph = as_planned(self.graph, self.session.plan, allow_unrounded=True)  # refused before where it was not
        return prepare(graph, self.session.plan, self.catalog, max_mem_bytes=max_mem_bytes)


def open_session(job: Job) -> Ready:
    """Loads the model, reads its inputs, binds the plan (or chooses one from known costs and estimates).

    Shapes come from ``--shape``, then the arrays given, then the plan. Raises :class:`InputError` for ``-r`` beside a
    plan, and whatever loading, choosing and preparing raise.
    """
    if job.plan_path and job.force:
        raise InputError("-r pins routines while choosing; a plan has chosen already", remedy="softneuro tune -r ...")
    plan = Plan.load(job.plan_path) if job.plan_path else None
    catalog = load_plugins() if plan is None or job.relaxed else load_plugins(only=plan.plugins)
    graph = load(job.model, catalog=catalog)
    given = feeds.read_inputs(graph, job.inputs, job.image)
    known = {**(plan.shapes if plan else {}), **feeds.shapes_of_arrays(given)}
    concrete = fixed(graph, catalog, job.shapes, known)
    fits = plan is None or dict(plan.shapes) == shapes_of(concrete)
    plan = plan or _choose(concrete, job, catalog)
    if fits:
        concrete = as_planned(concrete, plan, job.allow_unrounded)
    arrays = feeds.fill(concrete, given, job.inputs or ("random",))
    session = Session(
        concrete if fits else graph,  # a graph with free shapes lets the session carry the plan over
        plan,
        threads=job.threads,
        catalog=catalog,
        relaxed=job.relaxed,
        max_mem_bytes=parse_size(job.max_mem),
        allow_unrounded=job.allow_unrounded,
    )
    return Ready(session, concrete, arrays, catalog)


def _choose(graph: Graph, job: Job, catalog: Catalog) -> Plan:
    """A plan from known costs, estimates where nothing is known; nothing is measured."""
    request = Request(force=job.force)
    graph, request = without_rounding(graph, request) if job.allow_unrounded else (graph, request)
    return tune_fully(graph, request, job.threads, budget_s=0, catalog=catalog).plan
