"""Fair side-by-side timing: contestants take turns in short rounds, so that what the machine does hits all alike.

Owns clocks and statistics. Must not know what it times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ROUND_S = 0.03
"""How long one contestant runs in one round."""
SETTLE_S = 0.003
"""Pause before a contestant's turn: worker threads of the one before stop spinning."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Timing:
    """All timed runs of one contestant. ``rounds_us`` are the medians of its rounds, in the order they were run."""

    runs: int
    median_us: float
    min_us: float
    rounds_us: tuple[float, ...]
    cpu_per_wall: float
    """Processor time of the whole process over wall time while this contestant ran: how many threads were busy."""


def interleave(
    contestants: Mapping[str, Callable[[], object]], rounds: int = 15, settle_s: float = SETTLE_S
) -> dict[str, Timing]:
    """Runs every contestant in ``rounds`` turns, the order turning with each round, and times each single run."""
    counts = {name: _runs_a_round(run) for name, run in contestants.items()}
    samples: dict[str, list[np.ndarray]] = {name: [] for name in contestants}
    busy_ns, wall_ns = dict.fromkeys(contestants, 0), dict.fromkeys(contestants, 0)
    names = list(contestants)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            time.sleep(settle_s)
            taken, busy, wall = timed(contestants[name], counts[name])
            samples[name].append(taken)
            busy_ns[name] += busy
            wall_ns[name] += wall
    return {name: timing_of(samples[name], busy_ns[name] / wall_ns[name]) for name in names}


def _runs_a_round(run: Callable[[], object]) -> int:
    """Warms up, then counts how many runs fit into a round."""
    run()
    start, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < ROUND_S or done < 2:
        run()
        done += 1
    return max(1, round(done * ROUND_S / spent))


def timed(run: Callable[[], object], count: int) -> tuple[np.ndarray, int, int]:
    """Nanoseconds of each of ``count`` runs after one for the caches, processor time and wall time of all."""
    run()
    clock, stamps = time.perf_counter_ns, np.empty(count + 1, np.int64)
    busy = time.process_time_ns()
    stamps[0] = clock()
    for i in range(1, count + 1):
        run()
        stamps[i] = clock()
    return np.diff(stamps), time.process_time_ns() - busy, int(stamps[-1] - stamps[0])


def timing_of(rounds: list[np.ndarray], cpu_per_wall: float) -> Timing:
    """From the nanoseconds of every run, round by round."""
    every = np.concatenate(rounds) / 1000
    medians = tuple(float(np.median(taken)) / 1000 for taken in rounds)
    return Timing(len(every), float(np.median(every)), float(every.min()), medians, cpu_per_wall)


def timing_from(found: Mapping[str, Any]) -> Timing:
    """As a row of results has it."""
    return Timing(found["runs"], found["median_us"], found["min_us"], tuple(found["rounds_us"]), found["cpu_per_wall"])


def ratio(ours: Timing, theirs: Timing) -> tuple[float, float, float]:
    """Our time over theirs: the median of the rounds' ratios, and its 95 % bootstrap interval (fixed seed)."""
    each = np.array(ours.rounds_us) / np.array(theirs.rounds_us)
    picks = np.random.default_rng(0).integers(0, len(each), (RESAMPLES, len(each)))
    low, high = np.quantile(np.median(each[picks], axis=1), (0.025, 0.975))
    return float(np.median(each)), float(low), float(high)
