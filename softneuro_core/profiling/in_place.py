"""Runs whole plans in the worker, timed whole and step by step: what the runtime will really pay.

Owns the message, its handler and the result; must not know what is done about a disagreement.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from softneuro_core.errors import SoftneuroError
from softneuro_core.executable import Executable
from softneuro_core.plan import Plan
from softneuro_core.profiling.values import Stored
from softneuro_core.program import prepare

if TYPE_CHECKING:
    from softneuro_core.profiling.workbench import Phase, Workbench

TIMEOUT_S = 300.0
"""For preparing every step and for the runs."""
FEWEST_RUNS, MOST_RUNS, RUNNING_NS = 7, 200, 1_000_000_000
"""Whole runs are repeated for about a second, at least seven times ..."""
FEWEST_LONG_RUNS, LONG_RUNNING_NS = 3, 8_000_000_000
"""... or three times if that takes longer than this, as where one run takes seconds."""


@dataclass(frozen=True, slots=True)
class InPlace:
    """Medians over repeated whole runs, microseconds: ``whole_us`` of the linked run as a session makes it, ``step_us``
    and ``spread_us`` (half the interquartile range) of each step run one by one. ``best_us`` is the fastest whole run:
    what plans measured in different minutes of a shared machine are compared by."""

    whole_us: float
    best_us: float
    step_us: Sequence[float]
    spread_us: Sequence[float]
    runs: int


def request(plans: Sequence[Plan], places: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The message; ``places`` tells where the values of the graph's inputs lie."""
    return {"op": "in_place", "plans": [plan.to_json() for plan in plans], "values": dict(places)}


def handle(bench: Workbench, message: Mapping[str, Any], on_phase: Phase) -> dict[str, Any]:
    """Prepares and runs the plans on this bench; a plan that cannot be run is an answer too."""
    on_phase("prepare")
    try:
        plans = [Plan.from_json(plan) for plan in message["plans"]]
        executables = [Executable(prepare(bench.graph, plan, bench.catalog)) for plan in plans]
        arrays = [Stored(*message["values"][v.name]).load(bench.folder) for v in bench.graph.inputs]
        on_phase("time")
        return {"in_place": [asdict(seen) for seen in measure(executables, arrays)]}
    except SoftneuroError as error:
        return {"failed": str(error)}


def measure(executables: Sequence[Executable], arrays: Sequence[Any]) -> list[InPlace]:
    """Whole and stepwise runs in turn, and plan by plan, so that all see the same minute of a shared machine. After
    another plan each runs once unseen: what it finds in the caches is then its own."""
    for executable in executables:
        executable.run(arrays)
    whole: list[list[int]] = [[] for _ in executables]
    steps: list[list[list[int]]] = [[] for _ in executables]
    begin = time.perf_counter_ns()
    while _goes_on(len(whole[0]), (time.perf_counter_ns() - begin) // len(executables)):
        for executable, runs, stepwise in zip(executables, whole, steps, strict=True):
            if len(executables) > 1:
                executable.run(arrays)
            start = time.perf_counter_ns()
            executable.run(arrays)
            runs.append(time.perf_counter_ns() - start)
            stepwise.append([end - start for start, end in executable.run_timed(arrays)[1]])
    return [_summary(runs, stepwise) for runs, stepwise in zip(whole, steps, strict=True)]


def _summary(whole: Sequence[int], steps: Sequence[Sequence[int]]) -> InPlace:
    columns = list(zip(*steps, strict=True))
    return InPlace(
        statistics.median(whole) / 1000,
        min(whole) / 1000,
        [statistics.median(column) / 1000 for column in columns],
        [_half_range(column) / 1000 for column in columns],
        len(whole),
    )


def _goes_on(runs: int, spent_ns: int) -> bool:
    if runs < FEWEST_RUNS:
        return runs < FEWEST_LONG_RUNS or spent_ns < LONG_RUNNING_NS
    return runs < MOST_RUNS and spent_ns < RUNNING_NS


def _half_range(column: Sequence[int]) -> float:
    low, _, high = statistics.quantiles(column, n=4)
    return (high - low) / 2
