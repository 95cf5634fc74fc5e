"""Runs a whole plan in the worker, timed whole and step by step: what the runtime will really pay.

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


def request(plan: Plan, places: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The message; ``places`` tells where the values of the graph's inputs lie."""
    return {"op": "in_place", "plan": plan.to_json(), "values": dict(places)}


def handle(bench: Workbench, message: Mapping[str, Any], on_phase: Phase) -> dict[str, Any]:
    """Prepares and runs the plan on this bench; a plan that cannot be run is an answer too."""
    on_phase("prepare")
    try:
        executable = Executable(prepare(bench.graph, Plan.from_json(message["plan"]), bench.catalog))
        arrays = [Stored(*message["values"][v.name]).load(bench.folder) for v in bench.graph.inputs]
        on_phase("time")
        return {"in_place": asdict(measure(executable, arrays))}
    except SoftneuroError as error:
        return {"failed": str(error)}


def measure(executable: Executable, arrays: Sequence[Any]) -> InPlace:
    """Whole and stepwise runs in turn, so that both see the same minute of a shared machine."""
    executable.run(arrays)
    whole: list[int] = []
    steps: list[list[int]] = []
    begin = time.perf_counter_ns()
    while _goes_on(len(whole), time.perf_counter_ns() - begin):
        start = time.perf_counter_ns()
        executable.run(arrays)
        whole.append(time.perf_counter_ns() - start)
        steps.append([end - start for start, end in executable.run_timed(arrays)[1]])
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
