"""Prepared plans: every step's kernel compiled and packed, before any address is known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from softneuro_core.builtin.control import ControlKernel, ControlRoutine
from softneuro_core.candidates import resolve
from softneuro_core.catalog import Catalog
from softneuro_core.errors import PlanError, ResourceError, SoftneuroError
from softneuro_core.graph import Graph, Region, Value
from softneuro_core.mapped import release
from softneuro_core.memory import Arena, plan_arenas
from softneuro_core.packing import keeping
from softneuro_core.pages import side_by_side
from softneuro_core.plan import AdapterStep, KernelStep, Plan, layers_of
from softneuro_core.routine import Routine
from softneuro_core.slots import PreparedStep, Slot, SlotPlan, plan_slots
from softneuro_core.spec import TensorSpec


@dataclass(frozen=True, eq=False)
class Program:
    """Everything of a plan that does not depend on addresses: packed weights and compiled kernels."""

    graph: Graph
    plan: Plan
    catalog: Catalog
    steps: tuple[PreparedStep, ...]

    @property
    def constant_bytes(self) -> int:
        """Memory taken by packed weights."""
        return sum(s.kernel.constant_bytes for s in self.steps)

    @cached_property
    def slots(self) -> SlotPlan:
        """Lifetimes and in-place reuse of every stored value."""
        views = [name for name, device in self.catalog.devices.items() if device.supports_views]
        return plan_slots(self.graph, self.steps, views, self.catalog.homes)

    @cached_property
    def arenas(self) -> dict[str, Arena]:
        """The memory plan of devices with views; others give every slot a whole allocation."""
        devices = self.catalog.devices
        mine = [life for life in self.slots.lifetimes if devices[life.device].supports_views]
        return plan_arenas(mine, {name: self.alignment(name) for name in devices})

    def alignment(self, home: str) -> int:
        """What the devices of this plan whose tensors lie there ask for."""
        used = {slot.spec.device for slot in self.slots.slots} | {step.device for step in self.steps}
        devices = self.catalog.devices.values()
        return max((d.alignment for d in devices if d.home == home and d.name in used), default=64)

    @property
    def activation_bytes(self) -> int:
        """Memory of activations and scratch over all devices (an upper bound where there are no views)."""
        devices = self.catalog.devices
        whole = sum(life.nbytes for life in self.slots.lifetimes if not devices[life.device].supports_views)
        bodies = sum(s.kernel.activation_bytes for s in self.steps if isinstance(s.kernel, ControlKernel))
        return whole + bodies + sum(arena.nbytes for arena in self.arenas.values())


def prepare(graph: Graph, plan: Plan, catalog: Catalog, *, max_mem_bytes: int | None = None) -> Program:
    """Packs weights and compiles every step; raises :class:`PlanError` where the plan does not fit graph or catalog,
    :class:`ResourceError` when values or packed weights exceed ``max_mem_bytes`` (before anything that big exists)."""
    limit = available_bytes() if max_mem_bytes is None else max_mem_bytes
    check_values(graph, limit)
    with keeping(), side_by_side():
        steps = _prepared(graph, plan, catalog, max_mem_bytes, limit)
    program = Program(graph, plan, catalog, tuple(steps))
    used = program.constant_bytes
    _check_limit(used + program.activation_bytes, limit, "packed weights and activations", graph.name, None)
    return program


def _prepared(
    graph: Graph, plan: Plan, catalog: Catalog, max_mem_bytes: int | None, limit: int | None
) -> list[PreparedStep]:
    values = {v.name: v for v in graph.values}
    steps: list[PreparedStep] = []
    used = 0
    for step in plan.steps:
        if isinstance(step, AdapterStep):
            prepared = _prepare_adapter(step, values, catalog, plan.threads)
        elif isinstance(routine := _routine(step, catalog), ControlRoutine):
            bodies = _prepare_bodies(graph, step, plan, catalog, max_mem_bytes)
            prepared = _prepare_control(graph, step, routine, bodies)
        else:
            prepared = _prepare_kernel(graph, step, catalog, plan.threads)
        steps.append(prepared)
        used += prepared.kernel.constant_bytes
        _check_limit(used, limit, "packed weights", graph.name, step.name)
    return steps


def available_bytes() -> int | None:
    """Physical memory of this machine where the system tells, None elsewhere."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def check_values(graph: Graph, limit: int | None) -> None:
    """Raises :class:`ResourceError` if one value alone is larger than the limit: said before anything is computed."""
    for layer in graph.layers:
        for value in layer.results:
            if value.is_static and not value.is_object:
                _check_limit(value.nbytes, limit, f"value {value.name!r}", graph.name, layer.name)


def _check_limit(nbytes: int, limit: int | None, what: str, file: str, layer: str | None) -> None:
    if limit is not None and nbytes > limit:
        cause = f"{what} would take {nbytes / 2**20:,.0f} MiB, the limit is {limit / 2**20:,.0f} MiB"
        raise ResourceError(cause, file=file, layer=layer, remedy="raise --max-mem, or use a smaller shape or batch")


def _routine(step: KernelStep, catalog: Catalog) -> Routine:
    try:
        return catalog.routines[step.routine]
    except KeyError:
        raise PlanError(
            f"the plan wants routine {step.routine!r}, which no loaded plugin has",
            layer=step.name,
            remedy="install its plugin, or load the plan with --relaxed",
        ) from None


def _prepare_kernel(graph: Graph, step: KernelStep, catalog: Catalog, threads: int) -> PreparedStep:
    routine = _routine(step, catalog)
    region = Region(graph, layers_of(graph, step.layers))
    target = catalog.target(routine.device, threads)
    inputs, outputs = (tuple(map(TensorSpec.parse, specs)) for specs in (step.inputs, step.outputs))
    try:
        offer = resolve(region, routine, (inputs, outputs), step.params, target)
        kernel = routine.prepare(region, offer, target)
    except SoftneuroError:
        raise
    except Exception as error:  # a plugin's own failure, told as one line
        raise PlanError(
            f"{step.routine} cannot be prepared: {type(error).__name__}: {error}",
            layer=step.name,
            remedy=f"tune with --forbid {step.routine}@{step.layers[-1]}",
        ) from error
    for value in region.constants:
        if value.data is not None:
            release(value.data)  # packed elsewhere now, as a rule
    reads = tuple(map(Slot, region.inputs, inputs))
    writes = tuple(map(Slot, region.outputs, outputs))
    promises = (offer.inplace, offer.pitched, offer.parts)
    return PreparedStep(step, routine.device, reads, writes, kernel, *promises)


def _prepare_control(
    graph: Graph, step: KernelStep, routine: ControlRoutine, bodies: Mapping[str, Program]
) -> PreparedStep:
    region = Region(graph, layers_of(graph, step.layers))
    kernel = routine.prepare_bodies(region, bodies)
    reads = tuple(Slot(v, v.host_spec) for v in region.inputs)
    return PreparedStep(step, "cpu", reads, tuple(Slot(v, v.host_spec) for v in region.outputs), kernel)


def _prepare_bodies(
    graph: Graph, step: KernelStep, plan: Plan, catalog: Catalog, max_mem_bytes: int | None
) -> dict[str, Program]:
    (layer,) = layers_of(graph, step.layers)
    programs = {}
    for attribute, body in layer.bodies.items():
        key = f"{layer.name}.{attribute}"
        if key not in plan.bodies:
            raise PlanError(f"the plan has no plan for body {key!r}", layer=layer.name)
        programs[attribute] = prepare(body, plan.bodies[key], catalog, max_mem_bytes=max_mem_bytes)
    return programs


def _prepare_adapter(step: AdapterStep, values: Mapping[str, Value], catalog: Catalog, threads: int) -> PreparedStep:
    if step.adapter not in catalog.adapters or step.value not in values:
        what = f"adapter {step.adapter!r}" if step.value in values else f"value {step.value!r}"
        raise PlanError(f"the plan wants {what}, which is not there", layer=step.name, remedy="tune again")
    adapter, value = catalog.adapters[step.adapter], values[step.value]
    src, dst = TensorSpec.parse(step.src), TensorSpec.parse(step.dst)
    device = step.adapter.partition("/")[0]
    try:
        is_accepted = adapter.accepts(src, dst, value)
        kernel = adapter.prepare(src, dst, value, catalog.target(device, threads)) if is_accepted else None
    except SoftneuroError:
        raise
    except Exception as error:  # as above
        cause = f"{step.adapter} cannot be prepared: {type(error).__name__}: {error}"
        raise PlanError(cause, layer=step.name, remedy="tune again") from error
    if kernel is None:
        raise PlanError(f"{step.adapter} does not convert {src} to {dst} here", layer=step.name, remedy="tune again")
    return PreparedStep(step, device, (Slot(value, src),), (Slot(value, dst),), kernel)
