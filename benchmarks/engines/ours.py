"""SoftNeuro itself: tuned, the plan written to a file, and a Session opened from that file as a user would."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import softneuro_core as sn
from benchmarks.engines import Arrays
from softneuro_core.plan import AdapterStep
from softneuro_core.progress import Silent

PLAN = "plan.json"
for needed in ("softneuro_core.importer", "softneuro_core.session", "llvmlite.binding"):
    importlib.import_module(needed)
sn.load_plugins()  # what a Session imports when it needs it is imported here, as peers' packages are: no time of a load


@dataclass(frozen=True, slots=True)
class _Loaded:
    session: sn.Session
    facts: Mapping[str, Any]

    def run(self, feeds: Arrays) -> Mapping[str, np.ndarray]:
        return self.session.run(feeds)


@dataclass(frozen=True, slots=True)
class SoftNeuro:
    name: str = "softneuro"
    version: str = sn.__version__
    allow: tuple[str, ...] = ()
    force: tuple[str, ...] = ()

    def prepare(self, model: Path, feeds: Arrays, threads: int, folder: Path) -> dict[str, Any]:
        """Tunes twice: first with whatever the cost database holds (nothing, if the caller gave it a fresh cache
        folder), then with all costs known. The plan of the first is the one kept."""
        graph = read(model, feeds)
        plan, first_s = self._tune(graph, feeds, threads)
        plan.save(folder / PLAN)
        _, again_s = self._tune(graph, feeds, threads)
        return {**facts_of(plan), "tune_first_s": first_s, "tune_again_s": again_s}

    def load_prepared(self, model: Path, feeds: Arrays, threads: int, folder: Path) -> _Loaded:
        return _Loaded(sn.Session(read(model, feeds), folder / PLAN, threads), {})

    def load(self, model: Path, feeds: Arrays, threads: int) -> _Loaded:
        """Both in one process; ``prepare_s`` is the time to open the tuned model."""
        with tempfile.TemporaryDirectory(prefix="softneuro-bench-") as folder:
            facts = self.prepare(model, feeds, threads, Path(folder))
            graph = read(model, feeds)
            start = time.perf_counter()
            session = sn.Session(graph, Path(folder, PLAN), threads)
        return _Loaded(session, {**facts, "prepare_s": time.perf_counter() - start})

    def _tune(self, graph: sn.Graph, feeds: Arrays, threads: int) -> tuple[sn.Plan, float]:
        start = time.perf_counter()
        plan = sn.tune(graph, threads=threads, allow=self.allow, force=self.force, sample=feeds, progress=Silent())
        return plan, time.perf_counter() - start


def read(model: Path, feeds: Arrays) -> sn.Graph:
    return sn.load(model, {name: array.shape for name, array in feeds.items()})


def facts_of(plan: sn.Plan) -> dict[str, Any]:
    reference = [s.name for s in plan.kernel_steps if s.routine.endswith("/reference")]
    return {
        "predicted_us": plan.predicted_us,
        **plan.predictions,
        "certificate": dict(plan.certificate),
        "steps": len(plan.steps),
        "reference_steps": reference,
        "notes": list(plan.notes),
        "devices": dict(Counter(step.routine.partition("/")[0] for step in plan.kernel_steps)),
        "transfers": sum(isinstance(s, AdapterStep) and s.adapter == "cpu/transfer" for s in plan.steps),
    }


ENGINE = SoftNeuro()
