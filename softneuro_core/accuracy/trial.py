"""Runs plans on samples: what they make, and how noisy a region alone on its grid makes the outputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from softneuro_core.accuracy.metrics import Outputs, noise_of
from softneuro_core.candidates import Candidate, Candidates, rounds, rounds_values
from softneuro_core.catalog import Catalog
from softneuro_core.errors import SoftneuroError
from softneuro_core.graph import Graph, Layer
from softneuro_core.plan import Plan
from softneuro_core.routine import EXACT
from softneuro_core.selection import Prices
from softneuro_core.session import Session
from softneuro_core.task import Task, Tuned, select_plan

Samples = Sequence[Mapping[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Part:
    """Layers that may be computed on their grids together; ``constants``: only their constants lie on grids."""

    layers: frozenset[Layer]
    constants: bool = False

    @staticmethod
    def of(candidate: Candidate) -> Part:
        """The layers of a candidate that rounds."""
        return Part(frozenset(candidate.region.layers), not rounds_values(candidate))


def outputs_of(graph: Graph, plan: Plan, samples: Samples, catalog: Catalog) -> list[Outputs]:
    """What the plan makes of each sample."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Session(graph, plan, catalog=catalog) as session:
            return [session.run(sample) for sample in samples]


def parts_of(candidates: Iterable[Candidate]) -> dict[Candidate, Part]:
    """For every candidate that rounds and computes, the largest such region around it: they are tried together."""
    own = {c: Part.of(c) for c in candidates if rounds(c) and c.offer.accuracy != EXACT}
    parts = sorted(set(own.values()), key=lambda part: len(part.layers), reverse=True)
    return {
        c: next(p for p in parts if p.constants == part.constants and p.layers >= part.layers)
        for c, part in own.items()
    }


@dataclass(frozen=True, slots=True)
class Trial:
    """What trials share: the priced candidates, how they are tuned, the samples, and what the float plan makes."""

    found: Candidates
    prices: Prices
    task: Task
    samples: Samples
    exact: Sequence[Outputs]

    def select(self, prices: Prices) -> Tuned:
        """The best plan under other prices; raises :class:`SelectionError` if there is none."""
        return select_plan(self.found, prices, self.task, {}, {})

    def outputs(self, plan: Plan) -> list[Outputs]:
        return outputs_of(self.found.graph, plan, self.samples, self.task.catalog)

    def noise_by_part(self, parts: Iterable[Part], known: Mapping[Part, float]) -> dict[Part, float]:
        """Noise at the outputs when one part alone is on its grid; infinite for one that cannot be run so. Only what is
        not known is tried."""
        index, progress = self.found.graph.index, self.task.progress
        every = sorted(set(parts), key=lambda part: (min(index[n] for n in part.layers), part.constants))
        noise = {part: known[part] for part in every if part in known}
        progress.start(len(every) - len(noise), "noise of each layer on its grid")
        for part in every:
            if part not in noise:
                noise[part] = self._noise_alone(part)
                progress.advance(1, min(part.layers, key=index.__getitem__).name)
        return noise

    def _noise_alone(self, part: Part) -> float:
        def may_stay(candidate: Candidate) -> bool:
            if rounds(candidate):
                return Part.of(candidate) == part
            return part.layers.isdisjoint(candidate.region.layers)

        kernels = {c: price for c, price in self.prices.kernels.items() if may_stay(c)}
        try:
            plan = self.select(Prices(kernels, self.prices.adapters)).plan
            return noise_of(self.outputs(plan), self.exact)
        except SoftneuroError:
            return float("inf")
