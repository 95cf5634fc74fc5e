"""Measures one kernel in this process: prepare, bind, one checked run, then timing over rotating buffers.

Owns how a time is taken; must not know graphs, jobs, processes or the database. What it times is what a session runs:
the calls go through the catalog's linker, and the device's own clock is read.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from softneuro_core.costs import Cost
from softneuro_core.device import Device, Target
from softneuro_core.errors import InputError
from softneuro_core.profiling.caches import last_level_cache_bytes, passing_bytes
from softneuro_core.profiling.compare import judge_all
from softneuro_core.rig import Link, Operand, Rig, copies_past_cache
from softneuro_core.routine import Kernel

KEPT_CONSTANT_BYTES = 64 << 10
"""Constants that a loop of one kernel and a whole network find equally near."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to look. Racing: after ``first_look`` samples a candidate whose fastest is ``hopeless`` times the best
    known of its group is given up with what was seen."""

    samples: int = 25
    first_look: int = 3
    hopeless: float = 3.0
    sample_ns: int = 20_000
    """Work in one sample at least: far above the clock's resolution."""
    long_ns: int = 50_000_000
    """One run as long as this is enough to give a candidate up."""
    cap_ns: int = 400_000_000
    """Sampling stops after this, with ``first_look`` samples at least ..."""
    hard_cap_ns: int = 3_000_000_000
    """... and after this in any case."""
    memory_bytes: int = 256 << 20
    """All buffer sets together."""
    heats: int = 2
    """How often close candidates are measured, minutes apart."""
    more_heats: int = 2
    """How often all likely ones are measured again where a heat contradicts the one before."""
    streamed_samples: int = 9
    """Samples of a kernel with many constants: each takes a stream through the cache before it."""
    sets: int = 64
    """Most buffer sets: making them takes time too. Small ones then come from a shared cache, as they do in a net."""


@dataclass(frozen=True, eq=False, slots=True)
class Case:
    """One kernel to measure. ``arrays`` and ``expected`` are in ONNX order; ``expected`` holds None for a result
    nobody knows. ``accuracy`` is the offer's; ``strided`` the operands to hold in a bordered buffer."""

    prepare: Callable[[], Kernel]
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    arrays: Sequence[Any]
    expected: Sequence[Any]
    accuracy: float
    target: Target
    devices: Mapping[str, Device]
    link: Link
    slack: float = 0.0
    """The reference's own error."""
    strided: frozenset[int] = frozenset()
    alias: int | None = None
    """The input in whose memory output 0 lies."""
    constants_nbytes: int = 0
    """Bytes of all the constants of the network around: what passes through the caches between two runs of it."""


def measure(
    case: Case, effort: Effort, best_ns: int | None = None, on_phase: Callable[[str], None] = lambda phase: None
) -> Cost:
    """The cost of a case, failed with a reason if the kernel raises, is wrong, or writes where it must not.

    ``best_ns`` is the smallest time known in the same group; ``on_phase`` hears ``prepare``, ``check`` and ``time``
    as they begin. Never raises for anything the kernel does short of killing the process; raises :class:`InputError`
    for a case that does not fit together.
    """
    phase = "prepare"
    try:
        on_phase(phase)
        kernel = case.prepare()
        phase = "bind"
        streams = int(kernel.constant_bytes) > KEPT_CONSTANT_BYTES and all(d.name == "cpu" for d in _devices(case))
        rig = _rig(case, kernel, effort, streams)
        phase = "load"
        rig.load(case.arrays)
        rig.synchronize()
        phase = "run"
        on_phase("check")
        error, reason = _checked_run(case, rig)
        if reason is None:
            on_phase("time")
            samples = (_sample_streamed if streams else _sample)(case, rig, effort, best_ns)
            reason = _after_timing(case, rig)
    except KeyboardInterrupt:
        raise
    except MemoryError:
        return Cost.failed(f"runs out of memory in {phase}")
    except BaseException as problem:  # a plugin may even call sys.exit
        if phase == "load" and isinstance(problem, InputError):
            raise
        return Cost.failed(f"raises in {phase}: {type(problem).__name__}: {_first_line(problem)}")
    if reason is not None:
        return Cost.failed(reason)
    return _summary(samples, int(kernel.constant_bytes), error, _clock(case).clock_name)


def _first_line(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0][:300] if lines else ""


def _rig(case: Case, kernel: Kernel, effort: Effort, streams: bool) -> Rig:
    """One set of buffers where a stream passes between two runs, else as many as the caches do not hold. (Making 64 MB
    of them took a seventh of the tuning of ResNet50 and of MobileNetV2.)"""
    operands = (*case.inputs, *case.outputs)
    copies = 1 if streams else copies_past_cache(operands, last_level_cache_bytes(), effort.memory_bytes, effort.sets)
    device = case.target.device.name
    return Rig(
        kernel,
        case.inputs,
        case.outputs,
        case.devices,
        routine_device=device,
        copies=copies,
        strided=case.strided,
        alias=case.alias,
    )


def _checked_run(case: Case, rig: Rig) -> tuple[float | None, str | None]:
    """Runs the first copy the way a session would; its error, and what is wrong with it if anything."""
    rig.linked(case.link, case.target, [0])()
    if (outside := rig.zones_intact()) is not None:
        return None, f"writes outside its buffers: {outside}"
    if (changed := rig.inputs_intact()) is not None:
        return None, f"changes its input: {changed}"
    verdict = judge_all(rig.outputs(), case.expected, case.accuracy, case.slack)
    return verdict.error, None if verdict.reason is None else f"wrong: {verdict.reason}"


def _after_timing(case: Case, rig: Rig) -> str | None:
    """What many runs in a row broke, if anything: a race, a late write, state kept from run to run."""
    if (outside := rig.zones_intact()) is not None:
        return f"writes outside its buffers when run again: {outside}"
    verdict = judge_all(rig.outputs(), case.expected, case.accuracy, case.slack)
    return None if verdict.reason is None else f"wrong when run again: {verdict.reason}"


def _clock(case: Case) -> Device:
    """The device whose clock counts: a simulated one if any is involved, else the routine's own."""
    names = [case.target.device.name, *(spec.device for _, spec in (*case.inputs, *case.outputs))]
    return next((case.devices[n] for n in names if case.devices[n].clock_name != "wall"), case.target.device)


def _sample(case: Case, rig: Rig, effort: Effort, best_ns: int | None) -> list[float]:
    """Nanoseconds of one call, sampled; each sample is a batch of calls on buffers the last ones did not touch."""
    clock = _clock(case)
    segment_ns = case.target.device.segment_us * 1000.0
    started = time.perf_counter_ns()

    def timed(run: Callable[[], None], calls: int, repeats: int = 1) -> float:
        begin = clock.now_ns()
        for _ in range(repeats):
            run()
        rig.synchronize()
        return max((clock.now_ns() - begin - segment_ns) / (calls * repeats), 0.5)

    with quiet():
        first = [rig.linked(case.link, case.target, [copy]) for copy in _spread(len(rig.calls), 2)]
        awaken(first[0])
        once = min(timed(run, 1) for run in first)
        if best_ns is not None and _is_hopeless(once, effort, best_ns):
            return [once]
        wanted = math.ceil(effort.sample_ns / once)
        batch = min(wanted, len(rig.calls))
        repeats = math.ceil(wanted / batch)
        batches = _batches(case, rig, batch)
        samples: list[float] = []
        while len(samples) < effort.samples:
            samples.append(timed(next(batches), batch, repeats))
            spent = time.perf_counter_ns() - started
            if spent > effort.hard_cap_ns or (spent > effort.cap_ns and len(samples) >= effort.first_look):
                break
            if len(samples) == effort.first_look and best_ns and min(samples) > effort.hopeless * best_ns:
                break
    return samples


def _is_hopeless(first_ns: float, effort: Effort, best_ns: int) -> bool:
    """Whether one run says enough: a long one noise does not make several times longer, a short one far behind."""
    behind = first_ns / (effort.hopeless * best_ns)
    return (behind > 10 and first_ns > 1_000_000) or (behind > 1 and first_ns > effort.long_ns)


def _devices(case: Case) -> set[Device]:
    """Where the routine runs and its operands lie."""
    names = {spec.device for _, spec in (*case.inputs, *case.outputs)}
    return {case.target.device, *(case.devices[name] for name in names)}


def _sample_streamed(case: Case, rig: Rig, effort: Effort, best_ns: int | None) -> list[float]:
    """Nanoseconds of one call whose constants are as far away as they are in the network: before each call as many
    bytes are read as the network's other constants have, and then the inputs, which a neighbour has just written.

    Measured on ResNet50's last layers: BLAS in a loop of its own 1.18 ms, here and in the network 1.9 ms.
    """
    run, clock = rig.linked(case.link, case.target, [0]), _clock(case)
    passing = _passing(passing_bytes(case.constants_nbytes))
    inputs = [buffer.array for buffer in rig.host_inputs(0)]
    samples: list[float] = []
    started = time.perf_counter_ns()
    awaken(run)
    with quiet():
        while len(samples) < effort.streamed_samples:
            passing.max()
            for array in inputs:
                array.max()
            begin = clock.now_ns()
            run()
            samples.append(max(clock.now_ns() - begin, 0.5))
            if best_ns is not None and _is_hopeless(samples[0], effort, best_ns):
                break
            spent = time.perf_counter_ns() - started
            if spent > effort.hard_cap_ns or (spent > effort.cap_ns and len(samples) >= effort.first_look):
                break
            if len(samples) == effort.first_look and best_ns and min(samples) > effort.hopeless * best_ns:
                break
    return samples


def _spread(total: int, count: int) -> range:
    """``count`` numbers below ``total``, as far apart as they go."""
    return range(0, total, max(1, total // count))[:count]


def _batches(case: Case, rig: Rig, batch: int) -> Iterator[Callable[[], None]]:
    """Linked runs of ``batch`` copies, walking round all of them for ever; each is linked when first met."""
    total = len(rig.calls)
    made: dict[int, Callable[[], None]] = {}
    start = 0
    while True:
        if start not in made:
            made[start] = rig.linked(case.link, case.target, [(start + i) % total for i in range(batch)])
        yield made[start]
        start = (start + batch) % total if start + batch < total else 0


def awaken(run: Callable[[], None]) -> None:
    """Lets a linked run wake the threads that it finds awake in the middle of a plan (see ``softneuro_link``).

    Measured on a virtual machine: a convolution on two threads 1.34 ms; 2.64, as on one, in half the series where the
    second core had been idle before (the host then puts both virtual cores on one of its own).
    """
    if (ready := getattr(run, "ready", None)) is not None:
        ready()


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection meanwhile."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _summary(samples: Sequence[float], constant_bytes: int, error: float | None, clock: str) -> Cost:
    median = statistics.median(samples)
    spread = 1.4826 * statistics.median([abs(sample - median) for sample in samples])
    return Cost(
        "ok",
        max(1, round(median)),
        max(1, round(min(samples))),
        round(spread),
        len(samples),
        constant_bytes,
        error,
        clock=clock,
    )


@cache
def _passing(nbytes: int) -> np.ndarray:
    """Memory of its own to read (untouched zeros would all be one page)."""
    return np.ones(nbytes // 8, np.int64)
