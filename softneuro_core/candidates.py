"""Regions x routines x offers: everything that may legally compute a part of the graph. Legality only, no choice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from softneuro_core.catalog import Catalog
from softneuro_core.descriptor import parse_all
from softneuro_core.device import Target
from softneuro_core.errors import InputError, PlanError, SelectionError
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.grids import is_laid
from softneuro_core.routine import Adapter, Offer, Routine
from softneuro_core.spec import DTYPES, OBJECT, DType, TensorSpec


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """One way to compute one region: what is profiled, and what the tuner chooses among."""

    region: Region
    routine: Routine
    offer: Offer

    @property
    def name(self) -> str:
        params = ",".join(f"{k}={v}" for k, v in self.offer.params.items())
        return f"{self.routine.name}({params})" if params else self.routine.name


ACCURACY_CLASSES = {"strict": 1e-5, "default": 1e-4, "fast": 1.0}
"""Largest error of one step relative to its largest output, by the names ``--accuracy`` takes."""
ROUNDINGS = 3
"""Units in the last place a sum may show whose factors are rounded: seen are 0.2 to 0.6, and 1.4 where a Clip cuts
off what is largest (the conformance kit's cases)."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the user allows: dtypes besides the model's own, an accuracy class (or the largest error of a step),
    pinned and banned routine descriptors, limits on the whole plan."""

    allow: frozenset[str] = frozenset()
    accuracy: str | float = "default"
    force: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    clocks: Mapping[str, float] = field(default_factory=dict)
    """Host nanoseconds for one of a simulated clock's: devices on a clock not declared here are left out."""

    @property
    def max_error(self) -> float:
        """Largest relative error of one step; raises :class:`InputError` for an unknown class."""
        if isinstance(self.accuracy, str):
            if self.accuracy not in ACCURACY_CLASSES:
                raise InputError(f"unknown accuracy {self.accuracy!r}", remedy="one of " + ", ".join(ACCURACY_CLASSES))
            return ACCURACY_CLASSES[self.accuracy]
        return self.accuracy

    def to_json(self) -> dict[str, Any]:
        """As stored in a plan."""
        return {
            "allow": sorted(self.allow),
            "accuracy": self.accuracy,
            "force": list(self.force),
            "forbid": list(self.forbid),
            "limits": dict(self.limits),
            "clocks": dict(self.clocks),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Request:
        """The inverse of :meth:`to_json`; missing entries keep their defaults."""
        return Request(
            frozenset(data.get("allow", ())),
            data.get("accuracy", "default"),
            tuple(data.get("force", ())),
            tuple(data.get("forbid", ())),
            dict(data.get("limits", {})),
            dict(data.get("clocks", {})),
        )


@dataclass(slots=True)
class Candidates:
    """Every candidate of a graph, by exit layer, with the complaints about plugins met on the way."""

    graph: Graph
    by_exit: dict[Layer, list[Candidate]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """routine name -> why its offers were dropped."""

    def __iter__(self) -> Iterator[Candidate]:
        for layer in self.graph.layers:
            yield from self.by_exit.get(layer, ())


def enumerate_candidates(graph: Graph, catalog: Catalog, threads: int, request: Request) -> Candidates:
    """All legal candidates under ``request``; raises :class:`SelectionError` for a layer left with none."""
    found = Candidates(graph)
    _check_dtypes(request)
    max_error = request.max_error
    pins = [(pin, pin.selects(graph)) for pin in parse_all(request.force)]
    bans = [(ban, ban.selects(graph)) for ban in parse_all(request.forbid)]
    devices = _comparable_devices(catalog, request, found.problems)
    for layer in graph.layers:
        offered: list[Candidate] = []
        for routine in catalog.routines.values():
            if routine.device in devices:
                target = catalog.target(routine.device, threads)
                offered += _offered(graph, layer, routine, target, found.problems)
        found.by_exit[layer] = [
            c
            for c in offered
            if _is_permitted(c, request.allow, max_error, devices)
            and all(pin.matches_offer(c.routine.name, c.offer) for pin, on in pins if on & set(c.region.layers))
            and not any(ban.matches_offer(c.routine.name, c.offer) for ban, on in bans if on & set(c.region.layers))
        ]
    _check_cover(found)
    return found


def _comparable_devices(catalog: Catalog, request: Request, problems: dict[str, str]) -> frozenset[str]:
    """Devices whose times can be compared: those on the wall clock, and those whose clock has a declared scale."""
    simulated = {n: d.clock_name for n, d in catalog.devices.items() if d.clock_name not in ("wall", *request.clocks)}
    for name, clock in simulated.items():
        problems[f"device {name}"] = f"its clock {clock!r} is simulated: declare clocks={{{clock!r}: SCALE}} to use it"
    return frozenset(set(catalog.devices) - set(simulated))


def _offered(graph: Graph, layer: Layer, routine: Routine, target: Target, problems: dict[str, str]) -> list[Candidate]:
    """The offers of one routine for regions ending at ``layer``; a routine that raises is noted and skipped."""
    if routine.name in problems:
        return []
    found = []
    try:
        for layers in routine.regions(graph, layer):
            region = Region(graph, tuple(layers))
            if not region.is_legal():
                continue
            for offer in routine.offers(region, target):
                _check_offer(region, offer)
                found.append(Candidate(region, routine, offer))
    except Exception as error:  # a stranger's code: whatever it raises, the rest goes on without it
        problems[routine.name] = f"offers for {layer.name} ({layer.op}): {type(error).__name__}: {error}"
        return []
    return found


def _check_offer(region: Region, offer: Offer) -> None:
    if len(offer.inputs) != len(region.inputs) or len(offer.outputs) != len(region.outputs):
        raise ValueError(
            f"an offer has {len(offer.inputs)} input and {len(offer.outputs)} output specs, the region "
            f"{len(region.inputs)} and {len(region.outputs)}"
        )
    if offer.inplace is not None and not 0 <= offer.inplace < len(offer.inputs):
        raise ValueError(f"inplace={offer.inplace} is not the number of an input")
    for number, (axis, first) in offer.parts.items():
        if not is_part(region, number, axis, first):
            raise ValueError(f"parts: input {number} does not fit into output 0 at {first} of axis {axis}")
    for value, spec in zip(region.inputs + region.outputs, offer.inputs + offer.outputs, strict=True):
        if value.is_object != (spec.dtype is OBJECT):
            raise ValueError(f"value {value.name!r} cannot be stored as {spec}")


def is_part(region: Region, number: int, axis: int, first: int) -> bool:
    """Whether input ``number`` fits into output 0 from index ``first`` of ``axis`` on."""
    if not 0 <= number < len(region.inputs):
        return False
    part, whole = region.inputs[number].static_shape, region.outputs[0].static_shape
    if len(part) != len(whole) or not 0 <= axis < len(whole) or first < 0 or first + part[axis] > whole[axis]:
        return False
    return part[:axis] + part[axis + 1 :] == whole[:axis] + whole[axis + 1 :]


def _check_dtypes(request: Request) -> None:
    unknown = request.allow - set(DTYPES)
    if unknown:
        raise InputError(f"unknown dtypes {sorted(unknown)} in allow", remedy="one of " + ", ".join(DTYPES))


def _is_permitted(candidate: Candidate, allow: frozenset[str], max_error: float, devices: Collection[str]) -> bool:
    """A value may be stored in its own dtype, in one the user allowed, or on the grid it lies on anyway; integers are
    counted in steps."""
    offer = candidate.offer
    if not offer.uses <= allow:
        return False
    values = candidate.region.inputs + candidate.region.outputs
    for value, spec in zip(values, offer.inputs + offer.outputs, strict=True):
        if spec.device not in devices:
            return False
        if spec.dtype not in (value.dtype, OBJECT) and spec.dtype.name not in allow and not _lies_on(value, spec.dtype):
            return False
    floats = [spec.dtype for spec in offer.outputs if spec.dtype.is_float]
    granted = [_resolution(dtype) for dtype in floats]
    granted += [ROUNDINGS * _resolution(DType.parse(name)) for name in offer.uses]
    return not floats or offer.accuracy <= max_error + max(granted)


def _lies_on(value: Value, dtype: DType) -> bool:
    """Whether the model itself puts a real value on a grid of these integers, so that storing them is no choice."""
    numbers = value.qparams
    return numbers is not None and numbers.on_grid and np.asarray(numbers.zero_point).dtype == dtype.numpy


def rounds(candidate: Candidate) -> bool:
    """Whether the candidate stores real values, or constants, on grids the model does not put them on."""
    rounds_constants = candidate.offer.rounds_constants and any(map(is_laid, candidate.region.constants))
    return rounds_constants or rounds_values(candidate)


def rounds_values(candidate: Candidate) -> bool:
    """Whether it stores values, not only constants, on such grids."""
    region, offer = candidate.region, candidate.offer
    pairs = zip(region.inputs + region.outputs, offer.inputs + offer.outputs, strict=True)
    return any(is_laid(value) and not spec.dtype.is_float for value, spec in pairs)


@cache
def _resolution(dtype: DType) -> float:
    """What rounding to an element type may show: the model's choice or the user's, not the routine's."""
    return float(ml_dtypes.finfo(dtype.numpy).eps) if dtype.is_float else 0.0


def _check_cover(found: Candidates) -> None:
    covered = {layer for candidates in found.by_exit.values() for c in candidates for layer in c.region.layers}
    missing = [layer for layer in found.graph.layers if layer not in covered]
    if missing:
        raise SelectionError(
            f"no routine is left for {missing[0].op}" + (f" and {len(missing) - 1} more" if missing[1:] else ""),
            file=found.graph.name,
            layer=missing[0].name,
            remedy="relax force, forbid, allow or accuracy",
        )


def resolve(
    region: Region, routine: Routine, specs: Sequence[Sequence[TensorSpec]], params: Mapping[str, Any], target: Target
) -> Offer:
    """The offer a plan or a worker names by specs and params; raises :class:`PlanError` if it is not made here."""
    inputs, outputs = (tuple(s) for s in specs)
    for offer in routine.offers(region, target):
        if offer.inputs == inputs and offer.outputs == outputs and dict(offer.params) == dict(params):
            return offer
    raise PlanError(
        f"{routine.name} does not offer {', '.join(map(str, inputs))} -> {', '.join(map(str, outputs))} "
        f"with {dict(params)} here",
        layer=region.name,
        remedy="tune again, or load with --relaxed",
    )


def demanded_specs(found: Candidates) -> dict[Value, set[TensorSpec]]:
    """Every spec each value may be made or wanted in, the host's own included for graph inputs and outputs."""
    specs: dict[Value, set[TensorSpec]] = {}
    for candidates in found.by_exit.values():
        for candidate in candidates:
            for value, spec in zip(candidate.region.inputs, candidate.offer.inputs, strict=True):
                specs.setdefault(value, set()).add(spec)
            for value, spec in zip(candidate.region.outputs, candidate.offer.outputs, strict=True):
                specs.setdefault(value, set()).add(spec)
    for value in found.graph.inputs + found.graph.outputs:
        if not value.is_constant:
            specs.setdefault(value, set()).add(value.host_spec)
    return specs


@dataclass(frozen=True, eq=False, slots=True)
class AdapterChoice:
    """One adapter between two specs of one value."""

    value: Value
    src: TensorSpec
    dst: TensorSpec
    adapter: Adapter


def enumerate_adapters(found: Candidates, catalog: Catalog, problems: dict[str, str]) -> list[AdapterChoice]:
    """Every adapter that accepts a pair of specs occurring for a value.

    For a value met on a device other than the host, the host's plain form of each dtype joins the specs as a
    stop on the way, so that a plugin need only know the way to the host and back.
    """
    choices = []
    for value, specs in demanded_specs(found).items():
        if value.is_object:
            continue
        stops = set(specs)
        if any(s.device != "cpu" for s in specs):
            stops |= {
                TensorSpec("cpu", s.dtype, layout) for s in specs for layout in {s.layout, value.host_spec.layout}
            }
            stops |= {TensorSpec(s.device, s.dtype, value.host_spec.layout) for s in specs}
        for src in sorted(stops, key=str):
            for dst in sorted(stops, key=str):
                if src != dst:
                    choices += _accepting(value, src, dst, catalog, problems)
    return choices


def _accepting(
    value: Value, src: TensorSpec, dst: TensorSpec, catalog: Catalog, problems: dict[str, str]
) -> list[AdapterChoice]:
    found = []
    for adapter in catalog.adapters.values():
        if adapter.name in problems:
            continue
        try:
            if adapter.accepts(src, dst, value):
                found.append(AdapterChoice(value, src, dst, adapter))
        except Exception as error:  # as above: a plugin's error drops the plugin's adapter only
            problems[adapter.name] = f"accepts({src}, {dst}): {type(error).__name__}: {error}"
    return found
