"""Prices of everything a tuning may choose: known costs, measured ones, estimates, and corrections seen in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from softneuro_core import estimate
from softneuro_core.builtin.control import ControlRoutine
from softneuro_core.candidates import AdapterChoice, Candidate, Candidates, enumerate_adapters
from softneuro_core.catalog import Catalog
from softneuro_core.costs import Cost, CostDatabase
from softneuro_core.graph import Graph, Layer
from softneuro_core.plan import Plan
from softneuro_core.profiling import whole_plans
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.profiling.jobs import AdapterJob, Job, KernelJob
from softneuro_core.profiling.keys import CostKey, adapter_key, cost_key
from softneuro_core.profiling.profile import Profiler
from softneuro_core.profiling.values import ValueStore
from softneuro_core.progress import Progress
from softneuro_core.selection import Price, Prices

CONTROL_STEP_NS = 20_000
"""Calling a body from Python: feeds, results, one lock; added to the body's own plan."""


class Pricing:
    """Costs of one graph's candidates and conversions. Use as a context: it may own a worker process."""

    def __init__(
        self,
        found: Candidates,
        catalog: Catalog,
        threads: int,
        database: CostDatabase,
        progress: Progress,
        sample: Mapping[str, Any] | None,
        clocks: Mapping[str, float],
        measuring: bool = True,
    ) -> None:
        self._found, self._catalog, self._threads = found, catalog, threads
        self._database, self._progress, self._sample = database, progress, sample
        self._clocks, self._measuring = {"wall": 1.0, **clocks}, measuring
        self._adapters = enumerate_adapters(found, catalog, found.problems)
        self._kernel_keys = {
            c: cost_key(c.region, c.routine.name, c.offer, catalog, threads)
            for c in found
            if not isinstance(c.routine, ControlRoutine)
        }
        self._adapter_keys = {
            a: adapter_key(a.value, a.adapter, a.src, a.dst, catalog, threads) for a in self._adapters
        }
        keys: list[CostKey] = [*self._kernel_keys.values(), *self._adapter_keys.values()]
        self._known: dict[CostKey, Cost] = database.get_many(keys)
        self._profiler: Profiler | None = None

    def __enter__(self) -> Pricing:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._profiler is not None:
            self._profiler.close()

    @property
    def values(self) -> ValueStore:
        """Inputs and reference results of the graph's layers, computed when first asked for."""
        return self._open().values

    def _open(self) -> Profiler:
        if self._profiler is None:
            self._profiler = Profiler(
                self._found.graph,
                catalog=self._catalog,
                threads=self._threads,
                database=self._database,
                sample=self._sample,
                progress=self._progress,
            )
        return self._profiler

    def body_sample(self, layer: Layer, body: Graph) -> dict[str, Any] | None:
        """What the outer graph hands a body: real captured values where the reference run has them."""
        captured = body.inputs[len(body.inputs) - _captured_count(layer, body) :]
        outer = {v.name: v for v in layer.captures}
        known = [v for v in captured if v.name in outer and not outer[v.name].is_constant]
        if not known or not self._measuring:
            return None
        self.values.ensure_values([outer[v.name] for v in known])
        return {v.name: self.values.array(outer[v.name]) for v in known if self.values.stored(outer[v.name])}

    def _taken(self, layer: Layer) -> str | None:
        """The branch of an If that the sample takes; None if nothing may be computed to find out."""
        condition = layer.inputs[0] if layer.type == "If" else None
        if condition is None or not self._measuring:
            return None
        self.values.ensure_values([condition])
        if self.values.stored(condition) is None:
            return None
        return "then_branch" if np.asarray(self.values.array(condition)).reshape(-1)[0] else "else_branch"

    def measure(self, deadline: float | None) -> None:
        """Measures what the database lacks, the most valuable first, until done or past the deadline."""
        keys = {*self._kernel_keys.values(), *self._adapter_keys.values()}
        if keys - set(self._known):  # the known ones go along: they set the pace of their races
            jobs: list[Job] = [self._kernel_job(c, key) for c, key in self._kernel_keys.items()]
            jobs += [self._adapter_job(a, key) for a, key in self._adapter_keys.items()]
            self._known |= self._open().measure(jobs, deadline=deadline)

    def _kernel_job(self, candidate: Candidate, key: CostKey) -> KernelJob:
        layers = tuple(layer.name for layer in candidate.region.layers)
        guess = estimate.kernel_ns(candidate, self._threads)
        return KernelJob(key, layers, candidate.routine.name, candidate.offer, "+".join(layers), guess)

    def _adapter_job(self, choice: AdapterChoice, key: CostKey) -> AdapterJob:
        guess = estimate.adapter_ns(choice)
        return AdapterJob(key, choice.value.name, choice.adapter.name, choice.src, choice.dst, guess)

    def prices(self, bodies: Mapping[str, Price]) -> Prices:
        """A price for every candidate and conversion that is not known to fail; the rest are left out, and told."""
        kernels: dict[Candidate, Price] = {}
        for candidate in self._found:
            if isinstance(candidate.routine, ControlRoutine):
                kernels[candidate] = _control_price(candidate, bodies, self._taken(candidate.region.exit))
            elif (price := self._kernel_price(candidate)) is not None:
                kernels[candidate] = price
        adapters = {a: p for a in self._adapters if (p := self._adapter_price(a)) is not None}
        return Prices(kernels, adapters)

    def _kernel_price(self, candidate: Candidate) -> Price | None:
        cost = self._known.get(self._kernel_keys[candidate])
        if cost is None:
            constants = sum(v.nbytes for v in candidate.region.constants if not v.is_object)
            guess = estimate.kernel_ns(candidate, self._threads)
            return Price(guess, constants, candidate.offer.accuracy, "estimate")
        if not cost.ok:
            self._found.problems.setdefault(f"{candidate.name} for {candidate.region.name}", cost.reason)
            return None
        return Price(self._host_ns(cost), cost.constant_bytes, cost.error or 0.0)

    def _adapter_price(self, choice: AdapterChoice) -> Price | None:
        error = choice.adapter.error(choice.src, choice.dst, choice.value)
        cost = self._known.get(self._adapter_keys[choice])
        if cost is None:
            return Price(estimate.adapter_ns(choice), 0, error, "estimate")
        if not cost.ok:
            self._found.problems.setdefault(f"{choice.adapter.name} for {choice.value.name}", cost.reason)
            return None
        return Price(self._host_ns(cost), cost.constant_bytes, error)

    def _host_ns(self, cost: Cost) -> int:
        return max(1, round(cost.time_ns * self._clocks.get(cost.clock, 1.0)))

    def run_in_place(self, plan: Plan) -> InPlace | None:
        """The plan run whole in the worker with a timer at every step, or what was seen when it was run before; None
        (and a note) if it cannot be run."""
        seen = self.run_in_turns([plan])
        return None if seen is None else seen[0]

    def run_in_turns(self, plans: Sequence[Plan]) -> list[InPlace] | None:
        """As :meth:`run_in_place`, of several plans run in turns, so that a noisy neighbour slows all alike; rounded as
        stored: tuning again gives the same file."""
        rows = [whole_plans.Rows.of(p, self._catalog, self._threads, [q for q in plans if q is not p]) for p in plans]
        known = [whole_plans.recall(self._database, row) for row in rows]
        if None in known:
            fresh = self._open().run_in_turns(plans)
            if fresh is None:
                return None
            for row, seen in zip(rows, fresh, strict=True):
                whole_plans.remember(self._database, row, seen)
            known = [whole_plans.recall(self._database, row) for row in rows]
        return [seen for seen in known if seen is not None]


def _captured_count(layer: Layer, body: Graph) -> int:
    return len(body.inputs) if layer.type == "If" else len(body.inputs) - len(layer.inputs)


def _control_price(candidate: Candidate, bodies: Mapping[str, Price], taken: str | None) -> Price:
    """The branch of an If that is taken (the dearer one if that is not known); the body of a Loop or Scan times its
    turns where they are constant (else once). Weights and errors are those of whatever body may run."""
    layer = candidate.region.exit
    parts, turns = {attribute: bodies[f"{layer.name}.{attribute}"] for attribute in layer.bodies}, estimate.turns(layer)
    once = parts[taken].time_ns if taken else max(p.time_ns for p in parts.values())
    constants, error = sum(p.constant_bytes for p in parts.values()), max(p.error for p in parts.values())
    return Price(CONTROL_STEP_NS + once * turns, constants, error * turns, "bodies")
