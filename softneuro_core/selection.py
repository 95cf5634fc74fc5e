"""Between the graph's world and the tuner's: candidates and prices to a Problem, a Selection to plan steps."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from softneuro_core.candidates import AdapterChoice, Candidate, Candidates, Request
from softneuro_core.catalog import Catalog
from softneuro_core.errors import InputError
from softneuro_core.graph import Graph, Value
from softneuro_core.grids import is_laid
from softneuro_core.plan import AdapterStep, KernelStep, Step
from softneuro_core.spec import TensorSpec
from softneuro_core.tuner import Conversion, Option, Problem, Selection

RESOURCES = {"constant_bytes": 1.0, "error": 1e-9}
"""What ``limits=`` may bound, and in what units problems count it: bytes of packed weights, and the sum over steps of
their relative errors."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one step costs: nanoseconds, bytes of packed weights, relative error; ``source`` says how it is known
    (measured, in-situ, estimate, bodies)."""

    time_ns: int
    constant_bytes: int = 0
    error: float = 0.0
    source: str = "measured"

    def scaled(self, ratio: float) -> Price:
        """The same step with its time corrected by what was seen in place."""
        return replace(self, time_ns=max(1, round(self.time_ns * ratio)), source="in-situ")


@dataclass(frozen=True, slots=True)
class Prices:
    """The cost table of one tuning: every candidate and every conversion with a price."""

    kernels: Mapping[Candidate, Price]
    adapters: Mapping[AdapterChoice, Price]


def _specs(candidate: Candidate) -> str:
    return " ".join(map(str, candidate.offer.inputs)) + " -> " + " ".join(map(str, candidate.offer.outputs))


@dataclass(frozen=True, slots=True)
class Formulation:
    """A Problem with what its numbers stand for."""

    graph: Graph
    problem: Problem
    candidates: tuple[Candidate, ...]
    """option number -> candidate"""
    values: Mapping[Value, int]
    specs: tuple[TensorSpec, ...]
    conversions: Mapping[tuple[Value, TensorSpec, TensorSpec], AdapterChoice]
    """The cheapest adapter of each pair."""
    prices: Prices
    limits: tuple[str, ...] = ()
    """What the problem's limits bound, of :data:`RESOURCES`."""

    def digest(self) -> str:
        """Hash a certificate names: the answer is exact for these prices, segment costs and limits."""
        rows = [
            f"{c.region.name}|{c.routine.name}|{_specs(c)}|{sorted(c.offer.params.items())}|{_numbers(p)}"
            for c, p in self.prices.kernels.items()
        ]
        rows += [
            f"{a.value.name}|{a.adapter.name}|{a.src}|{a.dst}|{_numbers(p)}" for a, p in self.prices.adapters.items()
        ]
        rows.append(f"{sorted(self.problem.segment_ns.items())}|{self.problem.limits}")
        return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()[:16]


def _numbers(price: Price) -> str:
    return f"{price.time_ns} {price.constant_bytes} {price.error!r}"


def formulate(found: Candidates, prices: Prices, catalog: Catalog, request: Request | None = None) -> Formulation:
    """The selection problem of a priced set of candidates; raises :class:`InputError` for an unknown limit."""
    request = request or Request()
    graph, bounds = found.graph, _bounds(request.limits)
    values = {v: i for i, v in enumerate(graph.values)}
    specs = {s: i for i, s in enumerate(sorted(_all_specs(found, prices), key=str))}
    devices = {name: i for i, name in enumerate(catalog.devices)}
    cheapest = _cheapest_adapters(prices)
    conversions: dict[int, dict[tuple[int, int], Conversion]] = {}
    for (value, src, dst), choice in cheapest.items():
        price = prices.adapters[choice]
        conversions.setdefault(values[value], {})[specs[src], specs[dst]] = Conversion(
            price.time_ns, _uses(price, bounds)
        )
    candidates = tuple(prices.kernels)
    problem = Problem(
        len(graph.layers),
        tuple(_option(c, prices.kernels[c], graph, values, specs, devices, bounds) for c in candidates),
        conversions,
        {values[v]: specs[v.host_spec] for v in graph.inputs},
        tuple((values[v], specs[v.host_spec]) for v in graph.outputs if not v.is_constant),
        _segments(catalog, devices, request),
        tuple(bounds.values()),
    )
    return Formulation(graph, problem, candidates, values, tuple(specs), cheapest, prices, tuple(bounds))


def _segments(catalog: Catalog, devices: Mapping[str, int], request: Request) -> dict[int, int]:
    """Nanoseconds of the host's clock for starting a run of steps, by device number."""
    costs = {n: d.segment_us * 1000 * request.clocks.get(d.clock_name, 1.0) for n, d in catalog.devices.items()}
    return {devices[name]: round(ns) for name, ns in costs.items() if ns}


def _bounds(limits: Mapping[str, float]) -> dict[str, int | None]:
    unknown = set(limits) - set(RESOURCES)
    if unknown:
        raise InputError(f"unknown limits {sorted(unknown)}", remedy="known: " + ", ".join(RESOURCES))
    for name, limit in limits.items():
        if not math.isfinite(limit):
            raise InputError(f"the limit {name}={limit} is not a finite number", remedy="leave it out for no limit")
    return {name: int(limits[name] / unit) for name, unit in RESOURCES.items() if name in limits}


def _uses(price: Price, bounds: Mapping[str, int | None]) -> tuple[int, ...]:
    amount = {"constant_bytes": price.constant_bytes, "error": price.error}
    return tuple(round(amount[name] / RESOURCES[name]) for name in bounds)


def _all_specs(found: Candidates, prices: Prices) -> set[TensorSpec]:
    specs = {s for c in prices.kernels for s in c.offer.inputs + c.offer.outputs}
    specs |= {s for a in prices.adapters for s in (a.src, a.dst)}
    return specs | {v.host_spec for v in found.graph.inputs + found.graph.outputs}


def _cheapest_adapters(prices: Prices) -> dict[tuple[Value, TensorSpec, TensorSpec], AdapterChoice]:
    best: dict[tuple[Value, TensorSpec, TensorSpec], AdapterChoice] = {}
    made = _made_on_grids(prices)
    for choice, price in prices.adapters.items():
        if _leaves_grid(choice) and choice.value not in made:
            continue  # it would only be a detour of a real value over integers, which loses what nobody asked to lose
        key = (choice.value, choice.src, choice.dst)
        if key not in best or price.time_ns < prices.adapters[best[key]].time_ns:
            best[key] = choice
    return best


def _made_on_grids(prices: Prices) -> set[Value]:
    """Values some kernel stores on grids the model does not put them on."""
    pairs = ((v, s) for c in prices.kernels for v, s in zip(c.region.outputs, c.offer.outputs, strict=True))
    return {value for value, spec in pairs if is_laid(value) and not spec.dtype.is_float}


def _leaves_grid(choice: AdapterChoice) -> bool:
    return is_laid(choice.value) and choice.dst.dtype.is_float and not choice.src.dtype.is_float


def _option(
    candidate: Candidate,
    price: Price,
    graph: Graph,
    values: Mapping[Value, int],
    specs: Mapping[TensorSpec, int],
    devices: Mapping[str, int],
    bounds: Mapping[str, int | None],
) -> Option:
    region, offer = candidate.region, candidate.offer
    return Option(
        tuple(sorted(graph.index[layer] for layer in region.layers)),
        tuple((values[v], specs[s]) for v, s in zip(region.inputs, offer.inputs, strict=True)),
        tuple((values[v], specs[s]) for v, s in zip(region.outputs, offer.outputs, strict=True)),
        devices[candidate.routine.device],
        price.time_ns,
        _uses(price, bounds),
    )


def chosen_candidates(form: Formulation, selection: Selection) -> list[Candidate]:
    """The candidates of an answer, in step order."""
    return [form.candidates[i] for i in selection.chosen]


def chosen_conversions(form: Formulation, selection: Selection, value: Value | None = None) -> list[AdapterChoice]:
    """The conversions of an answer, of one value or of all, in an order they can run."""
    return [
        form.conversions[v, form.specs[src], form.specs[dst]]
        for v in (form.values if value is None else (value,))
        for src, dst in selection.conversions.get(form.values[v], ())
    ]


def chosen_prices(form: Formulation, selection: Selection, prices: Prices | None = None) -> list[Price]:
    """What the steps and conversions of an answer cost, by the prices it was selected by or by others of the same."""
    prices = prices or form.prices
    steps = [prices.kernels[candidate] for candidate in chosen_candidates(form, selection)]
    return steps + [prices.adapters[choice] for choice in chosen_conversions(form, selection)]


def plan_steps(form: Formulation, selection: Selection) -> tuple[Step, ...]:
    """The answer as plan steps: conversions stand right after what made their value."""
    steps: list[Step] = [s for v in form.graph.inputs for s in _conversion_steps(form, selection, v)]
    for candidate in chosen_candidates(form, selection):
        price = form.prices.kernels[candidate]
        steps.append(
            KernelStep(
                tuple(layer.name for layer in candidate.region.layers),
                candidate.routine.name,
                tuple(map(str, candidate.offer.inputs)),
                tuple(map(str, candidate.offer.outputs)),
                candidate.offer.params,
                price.time_ns / 1000,
                price.source,
            )
        )
        steps += [s for v in candidate.region.outputs for s in _conversion_steps(form, selection, v)]
    return tuple(steps)


def _conversion_steps(form: Formulation, selection: Selection, value: Value) -> Iterable[Step]:
    for choice in chosen_conversions(form, selection, value):
        price = form.prices.adapters[choice]
        yield AdapterStep(
            value.name, choice.adapter.name, str(choice.src), str(choice.dst), price.time_ns / 1000, price.source
        )
