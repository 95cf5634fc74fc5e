"""SoftNeuro itself: tuned, the plan written to a file, and a Session opened from that file as a user would."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import softneuro_core as sn
from benchmarks.engines import Arrays
from softneuro_core.progress import Silent


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

    def load(self, model: Path, feeds: Arrays, threads: int) -> _Loaded:
        """Tunes twice: first with whatever the cost database holds (nothing, if the caller gave it a fresh cache
        folder), then with all costs known."""
        graph = sn.load(model, {name: array.shape for name, array in feeds.items()})
        plan, first_s = _tune(graph, feeds, threads)
        _, again_s = _tune(graph, feeds, threads)
        with tempfile.TemporaryDirectory(prefix="softneuro-bench-") as folder:
            path = Path(folder, "plan.json")
            plan.save(path)
            start = time.perf_counter()
            session = sn.Session(graph, path, threads)
        return _Loaded(session, {**_facts(plan), "tune_first_s": first_s, "tune_again_s": again_s,
                                 "prepare_s": time.perf_counter() - start})  # fmt: skip


def _tune(graph: sn.Graph, feeds: Arrays, threads: int) -> tuple[sn.Plan, float]:
    start = time.perf_counter()
    plan = sn.tune(graph, threads=threads, sample=feeds, progress=Silent())
    return plan, time.perf_counter() - start


def _facts(plan: sn.Plan) -> dict[str, Any]:
    reference = [s.name for s in plan.kernel_steps if s.routine.endswith("/reference")]
    return {
        "predicted_us": plan.predicted_us,
        **plan.predictions,
        "certificate": dict(plan.certificate),
        "steps": len(plan.steps),
        "reference_steps": reference,
        "notes": list(plan.notes),
    }


ENGINE = SoftNeuro()
