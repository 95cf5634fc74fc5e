"""SoftNeuro in mixed precision: integers and bfloat16 where they are faster, within a bound on the outputs' noise.

Ranges are found on the calibration samples, the bound is held on others, and the input that is timed is of neither.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines import Arrays
from benchmarks.engines.ours import PLAN, SoftNeuro, facts_of, read
from benchmarks.inputs import VALIDATION_SEED, alike, calibration
from softneuro_core.accuracy.bounded import Bounded, tune_bounded
from softneuro_core.accuracy.metrics import METRICS
from softneuro_core.calibration.apply import lay_grids
from softneuro_core.calibration.collect import calibrate
from softneuro_core.candidates import Request
from softneuro_core.graph import Graph
from softneuro_core.plan import Plan
from softneuro_core.tuning import task_of

MAX_NOISE = 0.1
"""Amplitude of the noise over that of the outputs. Noise n leaves a cosine of 1 / sqrt(1 + n * n): this one 0.995, with
room to 0.99 for the noise of bfloat16, which is not counted."""
VALIDATION_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class SoftNeuroMixed(SoftNeuro):
    name: str = "softneuro-mixed"
    allow: tuple[str, ...] = ("bfloat16",)

    def prepare(self, model: Path, feeds: Arrays, threads: int, folder: Path) -> dict[str, Any]:
        """Calibrates, then tunes once, with whatever the cost database holds."""
        graph, start = read(model, feeds), time.perf_counter()
        graph = lay_grids(graph, calibrate(graph, calibration(feeds), threads=threads))
        calibrated = time.perf_counter()
        plan, facts = self._tune_rounded(graph, feeds, threads)
        plan.save(folder / PLAN)
        seconds = {"calibrate_s": calibrated - start, "tune_first_s": time.perf_counter() - calibrated}
        return {**facts_of(plan), **seconds, **facts}

    def _tune_rounded(self, graph: Graph, feeds: Arrays, threads: int) -> tuple[Plan, dict[str, Any]]:
        """The plan for a graph with grids, and what else is known of it."""
        request, samples = Request(frozenset(self.allow)), alike(feeds, VALIDATION_SAMPLES, VALIDATION_SEED)
        with task_of(request, threads) as task:
            found = tune_bounded(graph, request, samples, METRICS["signal"], MAX_NOISE, task, feeds)
        return found.tuned.plan, _rounding(found)


def _rounding(found: Bounded) -> dict[str, Any]:
    """How much of the network is on grids, how noisy that was seen to be, and how many plans were tried."""
    return {
        "rounded_layers": len(found.chosen.rounded_layers),
        "noise": found.chosen.seen_noise**0.5,
        "plans_tried": len(found.points),
    }


ENGINE = SoftNeuroMixed()
