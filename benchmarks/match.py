"""One network, one thread count, every engine in its own process, in turns: times, ratios, memory, agreement.

Must not know how results are shown.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.interleaved import ratio, timing_from, timing_of
from benchmarks.joint import WITH_DEVICE, joint_of
from benchmarks.models import Model
from benchmarks.precision import FLOAT32, WITH_OPENCL, Precision, class_of, eligible, is_ours
from benchmarks.processes import EngineError, Process
from benchmarks.row import CPU_SLACK, machine

JUDGE = "onnxruntime"
"""Whose outputs all others are compared with."""
TURN_S = 0.3
LOAD_TIMEOUT_S, TURN_TIMEOUT_S = 1800.0, 120.0


@dataclass(frozen=True, slots=True)
class Match:
    """What is run: a model with its input, on a number of threads, by which engines, how often in turn."""

    model: Path
    feeds: Mapping[str, np.ndarray]
    macs: int
    threads: int
    engines: Sequence[str]
    rounds: int
    cache: str | None = None
    """Cost database of ours; None for an empty one."""
    precision: Precision = FLOAT32
    """The class in which the best peer is looked for."""
    opencl_threads: int | None = None
    """Of an OpenCL device on the CPU, where not as many."""
    start: Callable[..., Process] = Process

    @property
    def environment(self) -> dict[str, str]:
        """Of every engine's process. An OpenCL device takes part only where a class of its own is played: other
        engines have none."""
        if self.precision not in WITH_OPENCL:
            return {"SOFTNEURO_DISABLE_PLUGINS": "opencl"}
        return {} if self.opencl_threads is None else {"CL_CONFIG_CPU_TBB_NUM_WORKERS": str(self.opencl_threads)}

    def cores_of(self, number: int) -> frozenset[int] | None:
        """Where engines run in a round: as many cores as they have threads, others in the next round. (One thread of
        ResNet50 in integers took 16 ms on one core of a shared machine and 8 on the other, for seconds at a time, and
        a process stays where it is.) None: all there are, and where a device has threads of its own."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if self.precision in WITH_OPENCL or self.threads >= len(cores):
            return None
        return frozenset(cores[(number + i) % len(cores)] for i in range(self.threads))

    def threads_of(self, engine: str) -> int:
        """What an engine may keep busy: one with an OpenCL device as many as that has, if they are more."""
        return max(self.threads, (engine in WITH_DEVICE and self.opencl_threads) or 0)


@dataclass(slots=True)
class Entry:
    """One engine in a match: its process while it lives, what was found, or why it failed."""

    facts: dict[str, Any] = field(default_factory=dict)
    process: Process | None = None
    rounds: list[np.ndarray] = field(default_factory=list)
    busy_ns: int = 0
    wall_ns: int = 0


def play(match: Match, say: Callable[[str], None]) -> dict[str, Any]:
    """The row of one match as plain data; an engine that fails is in it with its reason."""
    with tempfile.TemporaryDirectory(prefix="softneuro-bench-") as scratch, contextlib.ExitStack() as open_processes:
        folder = Path(scratch)
        feeds: dict[str, Any] = dict(match.feeds)
        np.savez(folder / "feeds.npz", **feeds)
        entries = {}
        for name in match.engines:
            say(f"{name} prepares")
            entries[name] = _enter(match, name, folder)
            if (process := entries[name].process) is not None:
                open_processes.callback(process.close)
        judge = _judge(match, folder, entries)
        for number in range(match.rounds):
            say(f"round {number + 1} of {match.rounds}")
            _round(entries, number, match.cores_of(number))
        for name, entry in entries.items():
            with _failing(entry):
                _finish(match, name, entry)
        for name, entry in entries.items():
            if "failed" not in entry.facts:
                _compare(name, entry, match, judge, folder)
    return _row(match, entries)


@contextlib.contextmanager
def _failing(entry: Entry) -> Iterator[None]:
    """Turns an engine's failure into a fact about it."""
    try:
        yield
    except EngineError as error:
        entry.facts = {"failed": str(error)}
        if entry.process is not None:
            entry.process.close()
            entry.process = None


def _enter(match: Match, name: str, folder: Path) -> Entry:
    """Prepared in one process, loaded in another, whose memory is then that of running alone; frozen at the end."""
    entry = Entry()
    own = folder / name
    own.mkdir(exist_ok=True)
    common = {"model": str(match.model), "feeds": str(folder / "feeds.npz"), "threads": match.threads,
              "folder": str(own)}  # fmt: skip
    cache = {"SOFTNEURO_CACHE_DIR": match.cache or str(folder / "cache"), **match.environment}
    with _failing(entry):
        entry.process = match.start(name, match.threads, own / "prepare.log", **cache)
        prepared = entry.process.ask(LOAD_TIMEOUT_S, do="prepare", **common)
        entry.process.close()
        entry.process = match.start(name, match.threads, own / "run.log", **cache)
        loaded = entry.process.ask(LOAD_TIMEOUT_S, do="load", **common)
        entry.process.ask(TURN_TIMEOUT_S, do="outputs", file=str(own / "outputs.npz"))
        entry.facts = {**prepared["facts"], "prepare_s": prepared["prepare_s"], **loaded["facts"],
                       **{key: loaded[key] for key in ("version", "load_s", "first_us")}}  # fmt: skip
        entry.process.freeze()
    return entry


def _judge(match: Match, folder: Path, entries: Mapping[str, Entry]) -> Mapping[str, np.ndarray] | None:
    """The outputs to agree with, from the judge's own entry or from a run just for this; None if it cannot."""
    entry = entries.get(JUDGE) or _enter(match, JUDGE, folder)
    if JUDGE not in entries and entry.process is not None:
        entry.process.close()
    return None if "failed" in entry.facts else _read(folder / JUDGE / "outputs.npz")


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def _round(entries: Mapping[str, Entry], number: int, cores: frozenset[int] | None) -> None:
    """Everyone's turn, the order rotating, all on the same cores."""
    names = [name for name, entry in entries.items() if entry.process is not None]
    first = number % max(1, len(names))
    for name in names[first:] + names[:first]:
        entry = entries[name]
        with _failing(entry):
            process = entry.process
            assert process is not None
            time.sleep(0.01)
            if cores is not None:
                process.keep_to(cores)
            found = process.ask(TURN_TIMEOUT_S, do="round", seconds=TURN_S)
            process.freeze()
            entry.rounds.append(np.array(found["samples_us"]) * 1000)
            entry.busy_ns += found["busy_ns"]
            entry.wall_ns += found["wall_ns"]


def _finish(match: Match, name: str, entry: Entry) -> None:
    if entry.process is None:
        return
    peak = entry.process.ask(TURN_TIMEOUT_S, do="memory")["peak_bytes"]
    timing = timing_of(entry.rounds, entry.busy_ns / entry.wall_ns)
    entry.facts |= {
        "median_us": float(np.median(timing.rounds_us)),
        "min_us": timing.min_us,
        "runs": timing.runs,
        "rounds_us": list(timing.rounds_us),
        "cpu_per_wall": timing.cpu_per_wall,
        "void": void(timing.cpu_per_wall, match.threads_of(name)),
        "gflops": 2 * match.macs / float(np.median(timing.rounds_us)) / 1000,
        "peak_bytes": peak,
    }


def void(cpu_per_wall: float, threads: int) -> str | None:
    """Why an engine's times do not count: it kept more cores busy than it was given."""
    if cpu_per_wall > threads * CPU_SLACK:
        return f"kept {cpu_per_wall:.2f} cores busy, was allowed {threads}"
    return None


def _compare(name: str, entry: Entry, match: Match, judge: Mapping[str, np.ndarray] | None, folder: Path) -> None:
    if judge is None:
        entry.facts |= {"error": None, "correct": None}
        return
    model = Model(match.model, match.feeds, judge)
    entry.facts |= class_of(name, match.precision).verdict(model, _read(folder / name / "outputs.npz"))


def _row(match: Match, entries: Mapping[str, Entry]) -> dict[str, Any]:
    engines = {name: entry.facts for name, entry in entries.items()}
    return {
        "model": match.model.stem,
        "gmac": match.macs / 1e9,
        "threads": match.threads,
        "engines": engines,
        "ratios": ratios(engines, match.precision),
        "best": best_peer(engines, match.precision),
        "joint": joint_of(engines),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
    }


def best_peer(engines: Mapping[str, Mapping[str, Any]], asked: Precision = FLOAT32) -> str | None:
    """The fastest eligible engine of the class asked for, but ours, by the median of its rounds."""
    times = {
        name: found["median_us"]
        for name, found in engines.items()
        if not is_ours(name) and class_of(name, asked) is asked and eligible(found)
    }
    return min(times, key=lambda name: times[name], default=None)


def ratios(
    engines: Mapping[str, Mapping[str, Any]], asked: Precision = FLOAT32
) -> dict[str, tuple[float, float, float]]:
    """Peer's time over ours, round by round: the median and its 95 % interval; above 1 we are faster.

    Peers are compared with ours in their own class, where that ran.
    """
    found = {}
    for name, peer in engines.items():
        ours = engines.get(class_of(name, asked).ours, {"failed": "absent"})
        if not is_ours(name) and "failed" not in peer and "failed" not in ours:
            found[name] = ratio(timing_from(peer), timing_from(ours))
    return found
