"""Plans meeting a graph and a machine: what must match, what only slows, and how a plan is carried over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from softneuro_core import estimate
from softneuro_core.assembly import assemble, machine_of, plan_bodies, shapes_of
from softneuro_core.candidates import Candidate, Request, enumerate_adapters, enumerate_candidates
from softneuro_core.catalog import Catalog
from softneuro_core.descriptor import parse
from softneuro_core.device import usable_cores
from softneuro_core.errors import InputError, PlanError
from softneuro_core.graph import Graph
from softneuro_core.grids import restore_grids
from softneuro_core.passes.changed import changed
from softneuro_core.plan import KernelStep, Plan, fingerprint
from softneuro_core.selection import Price, Prices, formulate
from softneuro_core.tuner.exact import ExactTuner
from softneuro_core.versions import library_versions

TRANSFER_BONUS = 0.01
"""In a transferred plan the old choice looks a hundred times cheaper: it wins wherever it is legal, and the solver
finds the conversions and replacements around it."""


class ModelMismatch(PlanError):
    """The plan belongs to another model: not even ``relaxed`` helps."""

    strict = True


class UnroundedPlan(PlanError):
    """The plan rounds less than the file does, which nobody allowed: not even ``relaxed`` helps."""

    strict = True


def check_plan(graph: Graph, plan: Plan, catalog: Catalog) -> list[str]:
    """Lays the plan's grids over the graph, which ``as_planned`` made. Raises :class:`PlanError` for a difference that
    changes results or legality; returns notes on what only changes speed. (Whether each step is still offered is
    checked when it is prepared.)"""
    check_same_model(graph, plan)
    if graph.changes.of_any_plan != plan.changes.of_any_plan:
        raise PlanError("the graph is not changed as the plan has it", file=graph.name, remedy="use as_planned first")
    restore_grids(graph, plan.grids)
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
    edited = [name for name, made in _routines(plan).items() if _is_edited(name, made, catalog)]
    notes = [f"{', '.join(edited)} changed since the plan was made: times may differ"] if edited else []
    return notes + _machine_notes(plan, catalog)


def as_planned(graph: Graph, plan: Plan, allow_unrounded: bool = False) -> Graph:
    """The graph changed as the plan says; raises :class:`ModelMismatch`, :class:`UnroundedPlan` where the plan leaves
    out rounding the file asks for and the caller does not allow it."""
    if plan.changes.unrounded and not (allow_unrounded or graph.changes.unrounded):
        raise UnroundedPlan(
            "the plan leaves out rounding that the file asks for",
            file=graph.name,
            remedy="allow it: --allow-unrounded, Session(..., allow_unrounded=True); or tune again without",
        )
    if plan.changes:
        check_same_model(graph, plan)
    return changed(graph, plan.changes)


def check_same_model(graph: Graph, plan: Plan) -> None:
    """Raises :class:`ModelMismatch` for a plan with other inputs, or of whose layers the graph has none: what can be
    told where the shapes differ, and with them the hashes."""
    if set(plan.shapes) != set(shapes_of(graph)):
        raise ModelMismatch(
            f"the plan was made for another model, with inputs {sorted(plan.shapes)}",
            file=graph.name,
            remedy="tune this model",
        )
    named = {layer for step in plan.kernel_steps for layer in step.layers}
    if named and named.isdisjoint(graph.layer_by_name):
        raise ModelMismatch(
            f"the plan was made for another model ({plan.model.get('name')}): it names no layer of this one",
            file=graph.name,
            remedy="tune this model",
        )


def with_threads(plan: Plan, threads: int) -> Plan:
    """The plan for another number of threads, its bodies included."""
    return replace(plan, threads=threads, bodies={key: with_threads(b, threads) for key, b in plan.bodies.items()})


def _routines(plan: Plan) -> dict[str, Mapping[str, str]]:
    """Origin of every routine and adapter named, those of the bodies included."""
    found = dict(plan.routines)
    for body in plan.bodies.values():
        found.update(_routines(body))
    return found


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
    used = {name.partition("/")[0] for name in _routines(plan)}  # a session loads no other devices than these
    differing = [d for d in plan.machine if d in used and plan.machine[d] != here.get(d)]
    notes = [f"the plan's predictions are from another machine ({', '.join(differing)})"] if differing else []
    installed = dict(library_versions())
    changed = [f"{n} {made}" for n, made in plan.libraries.items() if installed.get(n, made) != made]
    notes += [f"the plan was made with {', '.join(changed)}: times may differ"] if changed else []
    if plan.threads > (cores := usable_cores()):
        notes.append(f"the plan is for {plan.threads} threads, this process may use {cores} cores")
    return notes


def transfer(graph: Graph, plan: Plan, catalog: Catalog, threads: int) -> Plan:
    """The plan's choices on another shape, or with routines missing: kept wherever they are legal."""
    restore_grids(graph, plan.grids)
    asked = Request.from_json(plan.request)
    bans = tuple(ban for ban in asked.forbid if _stands(ban, graph))
    request = replace(asked, force=(), limits={}, forbid=bans)  # bans and accuracy still hold
    found = enumerate_candidates(graph, catalog, threads, request)
    wanted = {s.layers: s for s in plan.kernel_steps}
    bodies = plan_bodies(graph, lambda body, key: transfer(body, _plan_of_body(plan, key), catalog, threads))
    honest = {c: Price(estimate.kernel_ns(c, threads), source="estimate") for c in found}
    favoured = {c: p.scaled(TRANSFER_BONUS) if _is_chosen(c, wanted) else p for c, p in honest.items()}
    adapters = {a: Price(estimate.adapter_ns(a), source="estimate") for a in enumerate_adapters(found, catalog, {})}
    form = formulate(found, Prices(favoured, adapters), catalog, request)
    selection = ExactTuner().select(form.problem)
    form = replace(form, prices=Prices(honest, adapters))  # the bonus decides, it is no prediction
    made = assemble(form, selection, catalog, threads, bodies, asked)
    total = sum(s.us for s in made.steps)
    made = replace(made, predicted_us=total, predictions={"isolated_us": total}, certificate={})
    return made.with_notes(f"transferred from a plan for {dict(plan.shapes)}")


def _stands(ban: str, graph: Graph) -> bool:
    """Whether the layers a ban names are still there: at another shape some are folded away."""
    try:
        return bool(parse(ban).selects(graph))
    except InputError:
        return False


def _plan_of_body(plan: Plan, key: str) -> Plan:
    """The body's plan; an empty one for a body the plan does not have (at its shapes a condition was constant)."""
    request = {**plan.request, "forbid": [f for f in plan.request.get("forbid", ()) if "@" not in f]}
    return plan.bodies.get(key) or replace(plan, steps=(), bodies={}, request=request)


def _is_chosen(candidate: Candidate, wanted: Mapping[tuple[str, ...], KernelStep]) -> bool:
    step = wanted.get(tuple(layer.name for layer in candidate.region.layers))
    return step is not None and (
        step.routine == candidate.routine.name
        and step.inputs == tuple(map(str, candidate.offer.inputs))
        and step.outputs == tuple(map(str, candidate.offer.outputs))
        and dict(step.params) == dict(candidate.offer.params)
    )
