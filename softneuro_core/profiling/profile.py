"""Measures what the cost database lacks: order, budget, racing, isolation, and what to do when a worker dies.

Owns the life of one profiling; must not know how a time is taken (``measure``) or what it is for (the tuner).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from softneuro_core.catalog import Catalog
from softneuro_core.costs import Cost, CostDatabase, CostKey
from softneuro_core.errors import PluginError, SoftneuroError
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.plan import Plan
from softneuro_core.profiling import in_place
from softneuro_core.profiling.client import LocalBench, WorkerLost, WorkerProcess, opening
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.profiling.jobs import AdapterJob, Job, best_known, close_ones, likely_ones, ordered, race
from softneuro_core.profiling.measure import Effort
from softneuro_core.profiling.values import ValueStore
from softneuro_core.profiling.workbench import Workbench
from softneuro_core.progress import Progress, Silent

HANG_S = 60.0
"""Silence after which a worker is taken to hang; every phase (prepare, check, time) has this long."""
STRIKES = 3
"""After this many crashes or hangs of one routine the rest of its jobs are left out: each costs a new worker."""
CALMER, DISTURBED = 0.8, 0.15
"""A heat contradicts the one before where the second share of its jobs took less than the first share of their time: a
choice, made on a host whose neighbours slow its matrix unit by 3.5 for seconds (decision 0043), not a measurement."""
FOLDER_PREFIX = "softneuro-values-"
STALE_S = 86_400.0
"""A folder this old was left by a process that was killed."""


class Bench(Protocol):
    """Whoever answers requests: a worker process, or this one."""

    def request(self, message: Mapping[str, Any], timeout_s: float) -> dict[str, Any]: ...

    def close(self) -> None: ...


class Profiler:
    """One graph's measurements: its values, its worker, its costs. A context manager; nothing starts before needed.

    ``sample`` maps graph inputs to real arrays, the rest is generated. With ``isolate=False``, and for plugins that no
    other process can import, kernels run in this process. ``environment`` is added to the worker's. Costs go to
    ``database`` one by one as they are found.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        catalog: Catalog,
        threads: int,
        database: CostDatabase,
        sample: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        effort: Effort | None = None,
        hang_s: float = HANG_S,
        environment: Mapping[str, str] | None = None,
        isolate: bool = True,
    ) -> None:
        self.graph, self.catalog, self.threads, self.database = graph, catalog, threads, database
        self.progress, self.effort, self.hang_s = progress or Silent(), effort or Effort(), hang_s
        self.isolate = isolate and catalog.recipe is not None
        self._sample, self._environment = sample, environment
        self._strikes: Counter[str] = Counter()
        self._said: set[str] = set()
        self._without_input: dict[str, str] = {}
        """Jobs that could not be measured -> the value nobody could make."""
        self._folder: Path | None = None
        self._values: ValueStore | None = None
        self._worker: WorkerProcess | None = None
        self._has: set[str] = set()
        self._local: LocalBench | None = None

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker and removes the values."""
        if self._worker is not None:
            self._worker.close()
        self._worker = self._values = self._local = None  # nothing maps the files any more
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # -- measuring -----------------------------------------------------------------------------------------------

    def measure(self, jobs: Iterable[Job], *, deadline: float | None = None) -> dict[CostKey, Cost]:
        """The costs of these jobs: those the database has, and what could be measured before ``deadline``
        (of ``time.monotonic``; None: everything). Ctrl-C ends it early in the same way.

        A job that could not be measured through no fault of its routine is absent from the answer.
        """
        queue = ordered(jobs)
        costs = self.database.get_many(job.key for job in queue)
        missing = [job for job in queue if job.key not in costs]
        if not missing:
            return costs
        best = best_known(queue, costs)
        try:
            if deadline is None:
                self.values.ensure(self._layers_of(missing), self.progress)
            self._heat(missing, "measuring", costs, best, deadline)
            calmer = 0.0
            for _ in range(1, self.effort.heats):
                calmer = self._heat(close_ones(missing, costs), "measuring close ones again", costs, best, deadline)
            for _ in range(self.effort.more_heats):
                if calmer < DISTURBED:
                    break
                jobs = likely_ones(missing, costs)
                calmer = self._heat(jobs, "measuring again: the machine is disturbed", costs, best, deadline)
        except KeyboardInterrupt:
            if self._worker is not None:
                self._worker.close()
            self.progress.note("interrupted: going on with what was measured")
        if self._without_input:
            name, value = next(iter(self._without_input.items()))
            self._say(
                f"{len(self._without_input)} candidates are not measured for want of an input, the first: {name} "
                f"(value {value!r} has no known shape; a sample of real inputs helps)"
            )
        return costs

    def _heat(
        self, jobs: Sequence[Job], name: str, costs: dict[CostKey, Cost], best: dict[str, int], deadline: float | None
    ) -> float:
        """Measures ``jobs`` in turn into ``costs``; what was measured before keeps the calmer of both. A second
        heat, minutes of a shared machine later, finds what a busy neighbour slowed in the first. Returns the share of
        those measured before that came out much faster now."""
        if jobs:
            self.progress.start(len(jobs), name)
        calmer = 0
        for done, job in enumerate(jobs):
            if deadline is not None and time.monotonic() >= deadline:
                self.progress.note(
                    f"time is up while {name}: {len(jobs) - done} of {len(jobs)} candidates not measured"
                )
                return 0.0
            before = costs.get(job.key)
            cost = self._measure(job, best, deadline, before)
            if cost is not None:
                costs[job.key] = cost
                calmer += before is not None and cost.time_ns < CALMER * before.time_ns
            self.progress.advance(1, job.name)
        return calmer / max(1, len(jobs))

    def run_in_turns(self, plans: Sequence[Plan]) -> list[InPlace] | None:
        """The plans run whole in turns, timed step by step, where the kernels were measured; None (and a note) if that
        fails."""
        inputs = self.graph.inputs
        stored = {value: self.values.stored(value) for value in inputs}
        places = {value.name: [s.file, s.dtype] for value, s in stored.items() if s is not None}
        try:
            if len(places) < len(inputs):
                raise PluginError("there are no values for some inputs")
            bench = self._bench_for(set[str]().union(*(plan.authors for plan in plans)))
            answer = bench.request(in_place.request(plans, places), in_place.TIMEOUT_S)
        except (WorkerLost, PluginError) as lost:
            answer = {"failed": str(lost)}
        if "failed" in answer:
            self._say(f"the plan could not be run whole while tuning: {answer['failed']}")
            return None
        return [InPlace(**seen) for seen in answer["in_place"]]

    def _measure(
        self, job: Job, best: dict[str, int], deadline: float | None, before: Cost | None = None
    ) -> Cost | None:
        """Measures one job and stores its cost (or that of ``before``, if calmer); None if nothing could be learned."""
        if self._strikes[job.author] >= STRIKES:
            return Cost.failed(f"not measured: {job.author} crashed or hung {STRIKES} times")
        message = self._message(job)
        if message is None:
            return None
        name = race(job)
        if name is not None:
            message["best_ns"] = best.get(name)
        patience_s = self.hang_s if deadline is None else min(self.hang_s, max(1.0, deadline - time.monotonic()))
        try:
            cost = Cost.from_json(self._bench(job).request(message, patience_s)["cost"])
        except WorkerLost as lost:
            if patience_s < self.hang_s and str(lost).startswith("hangs"):
                return None  # the budget ended it, not its own fault
            self._strikes[job.author] += 1
            cost = Cost.failed(str(lost))
        except (SoftneuroError, KeyError, TypeError, ValueError) as error:
            self._say(f"{job.name} could not be measured: {error}")
            return None
        if not cost.ok and not message["checked"] and cost.reason.startswith("raises in run"):
            self._say(f"{job.name} is not measured: {cost.reason} on generated inputs the reference refuses, too")
            return None
        cost = cost if before is None else before.better_of(cost)
        self.database.put(job.key, cost)
        if not cost.ok:
            self._say(f"{job.author} failed ({job.name.partition(' for ')[2]}): {cost.reason}", job.author, cost.reason)
        elif name is not None:
            best[name] = min(best.get(name, cost.min_ns), cost.min_ns)
        return cost

    def _message(self, job: Job) -> dict[str, Any] | None:
        """The job with where its values lie; None if some input could not be made."""
        read, made, layers = self._operands(job)
        self.values.ensure(layers)
        self.values.ensure_values([*read, *made])
        stored = {value: self.values.stored(value) for value in (*read, *made)}
        if absent := [value.name for value in read if stored[value] is None]:
            self._without_input.setdefault(job.name, absent[0])
            return None
        places = {value.name: [s.file, s.dtype] for value, s in stored.items() if s is not None}
        return {**job.message(), "values": places, "checked": self.values.unchecked(layers) is None}

    def _operands(self, job: Job) -> tuple[list[Value], list[Value], list[Layer]]:
        """Values read, values made, layers computed."""
        if isinstance(job, AdapterJob):
            return [self._value(job.value)], [], []
        layers = [self.graph.layer_by_name[name] for name in job.layers]
        inner = {value for layer in layers for value in layer.results}
        read = [v for layer in layers for v in layer.operands if v not in inner and not v.is_constant]
        return read, list(layers[-1].results), layers

    def _layers_of(self, jobs: Iterable[Job]) -> list[Layer]:
        producers = self.graph.producers
        found: dict[Layer, None] = {}
        for job in jobs:
            read, _, layers = self._operands(job)
            found.update(dict.fromkeys(layers))
            found.update(dict.fromkeys(producers[value] for value in read if value in producers))
        return list(found)

    def _value(self, name: str) -> Value:
        return next(value for value in self.graph.values if value.name == name)

    def _say(self, text: str, *about: str) -> None:
        """Notes something once (once for everything it is ``about``, where given)."""
        mark = " ".join(about) or text
        if mark not in self._said:
            self._said.add(mark)
            self.progress.note(text)

    # -- what it takes -------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The folder of values, made when first needed; ones left by killed processes are removed."""
        if self._folder is None:
            _remove_stale()
            self._folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        return self._folder

    @property
    def values(self) -> ValueStore:
        """Inputs and reference results; raises :class:`InputError` for a sample that does not fit."""
        if self._values is None:
            self._values = ValueStore(self.graph, self._sample, self.folder, self.catalog.operators)
        return self._values

    def _bench(self, job: Job) -> Bench:
        """Who measures this job."""
        return self._bench_for({job.author, *(spec.device for spec in job.specs)})

    def _bench_for(self, names: Collection[str]) -> Bench:
        """Who can use all these routines, adapters and devices: the worker if it can, this process otherwise."""
        if not self.isolate:
            return self.local()
        private = self._private() & set(names)
        worker = None if private else self.worker()
        if worker is not None and not (private := set(names) - self._has):
            return worker
        if private:
            self._say(f"{', '.join(sorted(private))} cannot be loaded by another process: measured in this one")
        return self.local()

    def _private(self) -> set[str]:
        """Routines, adapters and devices of plugins that no other process can import."""
        assert self.catalog.recipe is not None
        plugins = set(self.catalog.recipe.unreachable)
        owned = {name for name, owner in self.catalog.owners.items() if owner.name in plugins}
        return owned.union(*(plugin.devices for plugin in self.catalog.plugins if plugin.name in plugins))

    def worker(self) -> WorkerProcess | None:
        """The worker with the graph open, started if need be; None (said once) if no worker can be had."""
        if self._worker is None and self.isolate:
            try:
                first = opening(self.graph, self.catalog, self.folder, self.threads, self.effort)
                self._worker = WorkerProcess(first, self._environment)
                self._has = set(self._worker.start()["names"])
            except (SoftneuroError, OSError) as error:
                self._worker, self.isolate = None, False
                self._say(f"{error}; everything is measured in this process")
        return self._worker

    def local(self) -> LocalBench:
        """The same requests answered in this process."""
        if self._local is None:
            bench = Workbench(self.catalog, self.graph, self.folder, self.threads, self.effort)
            self._local = LocalBench(bench)
        return self._local


def profile(
    graph: Graph,
    jobs: Iterable[Job],
    *,
    catalog: Catalog,
    threads: int,
    database: CostDatabase,
    sample: Mapping[str, Any] | None = None,
    budget_s: float | None = None,
    progress: Progress | None = None,
    effort: Effort | None = None,
    hang_s: float = HANG_S,
    environment: Mapping[str, str] | None = None,
    isolate: bool = True,
) -> dict[CostKey, Cost]:
    """Costs of ``jobs``: known ones from ``database``, the rest measured for at most ``budget_s`` seconds (None: no
    limit, 0: nothing). See :class:`Profiler`, which also serves several rounds on one worker."""
    deadline = None if budget_s is None else time.monotonic() + budget_s
    with Profiler(
        graph,
        catalog=catalog,
        threads=threads,
        database=database,
        sample=sample,
        progress=progress,
        effort=effort,
        hang_s=hang_s,
        environment=environment,
        isolate=isolate,
    ) as profiler:
        return profiler.measure(jobs, deadline=deadline)


def _remove_stale() -> None:
    """Removes folders of values whose process was killed long ago."""
    limit = time.time() - STALE_S
    with contextlib.suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(FOLDER_PREFIX + "*"):
            if folder.stat().st_mtime < limit and os.access(folder, os.W_OK):
                shutil.rmtree(folder, ignore_errors=True)
