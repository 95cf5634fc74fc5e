"""A selection written down as a Plan, with its certificate and where everything in it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from softneuro_core.candidates import Request, rounds
from softneuro_core.catalog import Catalog
from softneuro_core.changes import Changes
from softneuro_core.graph import Graph
from softneuro_core.grids import grids_of
from softneuro_core.plan import AdapterStep, Plan, fingerprint
from softneuro_core.selection import Formulation, chosen_candidates, chosen_conversions, plan_steps
from softneuro_core.spec import OBJECT
from softneuro_core.tuner import Selection
from softneuro_core.versions import library_versions


def assemble(
    form: Formulation,
    selection: Selection,
    catalog: Catalog,
    threads: int,
    bodies: Mapping[str, Plan],
    request: Request | None = None,
) -> Plan:
    """The Plan of a selection, with its certificate."""
    steps = plan_steps(form, selection)
    names = {s.adapter if isinstance(s, AdapterStep) else s.routine for s in steps}
    operators = {layer.op for layer in form.graph.layers} & set(catalog.owners)
    owners = {name: catalog.owners[name] for name in sorted(names | operators)}
    unmeasured = sum(s.source == "estimate" for s in steps)
    clocks = {catalog.devices[n.partition("/")[0]].clock_name for n in names}
    notes = [f"{unmeasured} of {len(steps)} steps are unprofiled: their times are estimates"] if unmeasured else []
    notes += [f"times of the {clock} clock are simulated" for clock in sorted(clocks - {"wall"})]
    notes += _told(form.graph.changes)
    return Plan(
        model=fingerprint(form.graph),
        shapes=shapes_of(form.graph),
        threads=threads,
        steps=steps,
        predicted_us=selection.time_ns / 1000,
        certificate={
            "exact": selection.exact,
            "lower_bound_us": selection.lower_bound_ns / 1000,
            "gap": selection.gap,
            "method": selection.method,
            "states": selection.states,
            "costs": form.digest(),
        },
        machine=machine_of(catalog),
        routines={name: {"plugin": o.name, "version": o.version, "code": o.code_hash} for name, o in owners.items()},
        libraries=dict(library_versions()),
        bodies=dict(bodies),
        notes=tuple(notes),
        request=(request or Request()).to_json(),
        predictions={"isolated_us": selection.time_ns / 1000},
        grids=_grids_used(form, selection),
        changes=replace(form.graph.changes, shifts=_shifts_used(form, selection)),
    )


def _told(changes: Changes) -> Iterator[str]:
    """What a reader of the plan should know of them."""
    if changes.unrounded:
        yield "rounding that the file asks for between layers may be left out (--allow-unrounded)"
    if changes.equalised:
        yield f"{len(changes.equalised)} pairs of layers are equalised: the float results are the file's"
    if changes.per_tensor:
        yield "weights are rounded on one grid a tensor, not one a channel"


def _grids_used(form: Formulation, selection: Selection) -> dict[str, tuple[float, int, str]]:
    """Of the values some step stores rounded, though the model does not; and of those beside constants that are:
    wherever a plan has a grid its weights have theirs (``softneuro_core.grids``)."""
    every = grids_of(form.graph)
    used = set()
    for candidate in chosen_candidates(form, selection):
        region, offer = candidate.region, candidate.offer
        for value, spec in zip(region.inputs + region.outputs, offer.inputs + offer.outputs, strict=True):
            if value.name in every and (offer.rounds_constants or spec.dtype.name == every[value.name][2]):
                used.add(value.name)
    for choice in chosen_conversions(form, selection):
        if choice.value.name in every and choice.dst.dtype.name == every[choice.value.name][2]:
            used.add(choice.value.name)
    return {name: every[name] for name in sorted(used)}


def _shifts_used(form: Formulation, selection: Selection) -> dict[str, tuple[float, ...]]:
    """Of the layers the plan computes on grids."""
    rounded = {x.name for c in chosen_candidates(form, selection) if rounds(c) for x in c.region.layers}
    return {name: numbers for name, numbers in form.graph.offsets.items() if name in rounded}


def plan_bodies(graph: Graph, make: Callable[[Graph, str], Plan]) -> dict[str, Plan]:
    """A plan for every body of control flow in the graph, by ``layer.attribute``."""
    return {
        f"{layer.name}.{attribute}": make(body, f"{layer.name}.{attribute}")
        for layer in graph.layers
        for attribute, body in layer.bodies.items()
    }


def shapes_of(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Input shapes a plan is for."""
    return {v.name: v.static_shape for v in graph.inputs if v.is_static and v.dtype is not OBJECT}


def machine_of(catalog: Catalog) -> dict[str, str]:
    """Fingerprint of every device."""
    return {name: device.fingerprint() for name, device in catalog.devices.items()}
