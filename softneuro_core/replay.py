"""Plans meeting a graph and a machine: what must match, what only slows, and how a plan is carried over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from softneuro_core import estimate
from softneuro_core.assembly import assemble, machine_of, plan_bodies, shapes_of
from softneuro_core.candidates import Candidate, Request, enumerate_adapters, enumerate_candidates
from softneuro_core.catalog import Catalog
from softneuro_core.errors import PlanError
from softneuro_core.graph import Graph
from softneuro_core.plan import KernelStep, Plan, fingerprint
from softneuro_core.selection import Price, Prices, formulate

TRANSFER_BONUS = 0.01
"""In a transferred plan the old choice looks a hundred times cheaper: it wins wherever it is legal, and the solver
finds the conversions and replacements around it."""


class ModelMismatch(PlanError):
    """The plan belongs to another model: not even ``relaxed`` helps."""

    strict = True


def check_plan(graph: Graph, plan: Plan, catalog: Catalog) -> list[str]:
    """Raises :class:`PlanError` for a difference that changes results or legality; returns notes on what only changes
    speed. (Whether each step is still offered is checked when it is prepared.)"""
    if set(plan.shapes) != set(shapes_of(graph)):
        raise ModelMismatch(
            f"the plan was made for another model, with inputs {sorted(plan.shapes)}",
            file=graph.name,
            remedy="tune this model",
        )
    if dict(plan.shapes) != shapes_of(graph):
        raise PlanError(
            f"the plan is for input shapes {dict(plan.shapes)}, the model has {shapes_of(graph)}",
            file=graph.name,
            remedy="tune for these shapes",
        )
    mine = fingerprint(graph)
    for part in ("graph", "constants"):
        if plan.model.get(part) != mine[part]:
            what = "another model" if part == "graph" else "the same graph with other constants"
            raise ModelMismatch(
                f"the plan was made for {what} ({plan.model.get('name')}: {plan.model.get(part)} is not {mine[part]})",
                file=graph.name,
                remedy="tune this model",
            )
    edited = [name for name, made in plan.routines.items() if _is_edited(name, made, catalog)]
    notes = [f"{', '.join(edited)} changed since the plan was made: times may differ"] if edited else []
    return notes + _machine_notes(plan, catalog)


def _is_edited(name: str, made: Mapping[str, str], catalog: Catalog) -> bool:
    """Whether a routine's code differs from the plan's; raises :class:`PlanError` if it or its version is absent."""
    if name not in catalog.owners:
        info = next((p for p in catalog.plugins if p.name == made["plugin"]), None)
        why = f"is {info.status}: {info.reason}" if info else "is not installed"
        raise PlanError(
            f"the plan needs {name}, but plugin {made['plugin']!r} {why}",
            remedy="install the plugin, or use --relaxed",
        )
    owner = catalog.owners[name]
    if made["version"] != owner.version:
        raise PlanError(
            f"the plan needs {name} of {made['plugin']} {made['version']}, installed is {owner.version}",
            remedy="install that version, tune again, or use --relaxed",
        )
    return made["code"] != owner.code_hash


def _machine_notes(plan: Plan, catalog: Catalog) -> list[str]:
    here = machine_of(catalog)
    differing = [d for d in plan.machine if plan.machine[d] != here.get(d)]
    return [f"the plan's predictions are from another machine ({', '.join(differing)})"] if differing else []


def transfer(graph: Graph, plan: Plan, catalog: Catalog, threads: int) -> Plan:
    """The plan's choices on another shape, or with routines missing: kept wherever they are legal."""
    request = replace(Request.from_json(plan.request), force=(), limits={})  # bans and accuracy still hold
    found = enumerate_candidates(graph, catalog, threads, request)
    wanted = {s.layers: s for s in plan.kernel_steps}
    bodies = plan_bodies(
        graph, lambda body, key: transfer(body, plan.bodies[key], catalog, threads) if (key in plan.bodies) else None
    )
    kernels = {c: _transferred(c, wanted, threads) for c in found}
    adapters = {a: Price(estimate.adapter_ns(a), source="estimate") for a in enumerate_adapters(found, catalog, {})}
    form = formulate(found, Prices(kernels, adapters), catalog, request)
    from softneuro_core.tuner.exact import ExactTuner

    selection = ExactTuner().select(form.problem)
    note = f"transferred from a plan for {dict(plan.shapes)}"
    return assemble(form, selection, catalog, threads, bodies).with_notes(note)


def _transferred(candidate: Candidate, wanted: dict[tuple[str, ...], KernelStep], threads: int) -> Price:
    step = wanted.get(tuple(layer.name for layer in candidate.region.layers))
    time_ns = estimate.kernel_ns(candidate, threads)
    same = step is not None and (
        step.routine == candidate.routine.name
        and step.inputs == tuple(map(str, candidate.offer.inputs))
        and step.outputs == tuple(map(str, candidate.offer.outputs))
        and dict(step.params) == dict(candidate.offer.params)
    )
    return Price(max(1, round(time_ns * TRANSFER_BONUS)) if same else time_ns, source="estimate")
