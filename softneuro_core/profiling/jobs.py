"""What is to be measured, and in which order. Knows nothing of how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softneuro_core.costs import Cost, CostKey
from softneuro_core.routine import Offer
from softneuro_core.spec import TensorSpec

CLOSE = 1.3
"""Times up to this much apart may change places when measured again on a shared machine (seen: 1.4 for a second)."""
LIKELY = 2.0
"""The same where the machine is known to be disturbed."""


@dataclass(frozen=True, slots=True)
class KernelJob:
    """One routine's offer for a region (layers by name). Jobs of one ``group`` compete for the same layers;
    ``estimate_ns`` is a guess that only decides the order."""

    key: CostKey
    layers: tuple[str, ...]
    routine: str
    offer: Offer
    group: str = ""
    estimate_ns: float = 0.0

    @property
    def name(self) -> str:
        """Routine, parameters and layers for people."""
        params = ",".join(f"{k}={v}" for k, v in self.offer.params.items())
        return f"{self.routine}{f'({params})' if params else ''} for {'+'.join(self.layers)}"

    @property
    def author(self) -> str:
        """The routine or adapter whose code runs."""
        return self.routine

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        return self.offer.inputs + self.offer.outputs

    def message(self) -> dict[str, Any]:
        """The job as the worker is told of it."""
        return {
            "op": "kernel",
            "layers": list(self.layers),
            "routine": self.routine,
            "inputs": [str(spec) for spec in self.offer.inputs],
            "outputs": [str(spec) for spec in self.offer.outputs],
            "params": dict(self.offer.params),
        }


@dataclass(frozen=True, slots=True)
class AdapterJob:
    """One conversion of a value (by name) between two specs."""

    key: CostKey
    value: str
    adapter: str
    src: TensorSpec
    dst: TensorSpec
    estimate_ns: float = 0.0
    group: str = ""

    @property
    def name(self) -> str:
        return f"{self.adapter} for {self.value} from {self.src} to {self.dst}"

    @property
    def author(self) -> str:
        return self.adapter

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        return (self.src, self.dst)

    def message(self) -> dict[str, Any]:
        return {
            "op": "adapter",
            "value": self.value,
            "adapter": self.adapter,
            "src": str(self.src),
            "dst": str(self.dst),
        }


Job = KernelJob | AdapterJob


def ordered(jobs: Iterable[Job]) -> list[Job]:
    """Each key once, the most valuable first: an any-time stop keeps what matters.

    Every group's likely best candidate comes before any group's second best, and among those of one rank the
    groups with the most time at stake (estimate of the best, times the layers that share the key) come first.
    Adapters stand between the first and the second rank: plans that mix layouts need their prices.
    """
    first: dict[CostKey, Job] = {}
    count: dict[CostKey, int] = {}
    for job in jobs:
        first.setdefault(job.key, job)
        count[job.key] = count.get(job.key, 0) + 1
    groups: dict[str, list[Job]] = {}
    for job in first.values():
        groups.setdefault(_group(job), []).append(job)
    placed: list[tuple[tuple[float, float], Job]] = []
    for members in groups.values():
        members.sort(key=lambda job: job.estimate_ns)
        stake = members[0].estimate_ns * max(count[job.key] for job in members)
        for rank, job in enumerate(members):
            placed.append(((rank if isinstance(job, KernelJob) else 0.5, -stake), job))
    placed.sort(key=lambda item: item[0])
    return [job for _, job in placed]


def _group(job: Job) -> str:
    return f"{type(job).__name__} {job.group or job.key.text}"


def race(job: Job) -> str | None:
    """Name of the race a job runs in, None if it runs alone."""
    return _group(job) if job.group else None


def best_known(jobs: Iterable[Job], known: Mapping[CostKey, Cost]) -> dict[str, int]:
    """The smallest time known in each race."""
    best: dict[str, int] = {}
    for job in jobs:
        name, cost = race(job), known.get(job.key)
        if name is not None and cost is not None and cost.ok:
            best[name] = min(best.get(name, cost.min_ns), cost.min_ns)
    return best


def close_ones(jobs: Sequence[Job], costs: Mapping[CostKey, Cost]) -> list[Job]:
    """Jobs within :data:`CLOSE` of their race's fastest, of races where more than one is: those a disturbance of the
    machine may have put in the wrong order."""
    best = best_known(jobs, costs)
    near = [j for j in jobs if (n := race(j)) in best and _is_close(costs.get(j.key), best[str(n)])]
    rivals = Counter(race(job) for job in near)
    return [job for job in near if rivals[race(job)] > 1]


def likely_ones(jobs: Sequence[Job], costs: Mapping[CostKey, Cost]) -> list[Job]:
    """Jobs within :data:`LIKELY` of their race's fastest, lone ones too: what a disturbed machine may misjudge."""
    best = best_known(jobs, costs)
    return [j for j in jobs if (n := race(j)) in best and _is_close(costs.get(j.key), best[str(n)], LIKELY)]


def _is_close(cost: Cost | None, best_ns: int, factor: float = CLOSE) -> bool:
    return cost is not None and cost.ok and cost.min_ns <= factor * best_ns
