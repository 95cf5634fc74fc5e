"""SoftNeuro with every layer on the first OpenCL device; on a CPU as many threads as
``benchmarks.processes`` asks Intel's runtime for."""

from __future__ import annotations

import time
from dataclasses import dataclass

import softneuro_core as sn
from benchmarks.engines import Arrays
from benchmarks.engines.ours import SoftNeuro
from softneuro_core.progress import Silent


@dataclass(frozen=True, slots=True)
class SoftNeuroOpenCL(SoftNeuro):
    name: str = "softneuro-opencl"

    def _tune(self, graph: sn.Graph, feeds: Arrays, threads: int) -> tuple[sn.Plan, float]:
        start = time.perf_counter()
        plan = sn.tune(graph, threads=threads, force="opencl", sample=feeds, progress=Silent())
        return plan, time.perf_counter() - start


ENGINE = SoftNeuroOpenCL()
