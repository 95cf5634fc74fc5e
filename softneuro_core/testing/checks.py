"""The checks on one kernel: values, bounds, state, memory. Knows buffers and kernels, not where they come from."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from softneuro_core.device import usable_cores
from softneuro_core.errors import SoftneuroError
from softneuro_core.rig import poison
from softneuro_core.routine import Kernel
from softneuro_core.testing.measure import Error, Expected, compare, same_bits
from softneuro_core.testing.split import run_in_parts
from softneuro_core.testing.subject import StoredRig, Subject

Found = tuple[str, str]
"""(check, detail)."""

ALLOCATION_BYTES = 16 * 1024
"""What a run may allocate at its peak: Python's own objects, never a tensor of the larger cases."""
LEAK_BYTES, LEAK_RUNS = 512, 8
POISONS = (0xA5, 0x7F)
"""Read as float32, 0xA5... is -2.9e-16 and 0x7F... is 3.4e38: one of the two shows in any sum."""


@dataclass(slots=True)
class Outcome:
    """Findings of one subject, and the largest errors seen."""

    found: list[Found]
    max_error: float = 0.0
    nmse: float = 0.0


class _Stop(Exception):
    """A check failed so that those after it mean nothing."""

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(detail)
        self.found = (check, detail)


def run_checks(subject: Subject) -> Outcome:
    """All checks that apply. A failure that would only be repeated by later checks ends the list."""
    outcome = Outcome([])
    before = [c.copy() for c in subject.constants]
    try:
        kernel = _prepared(subject)
        rig, first = _first_run(subject, kernel, outcome)
        for check in (_repeat, _state, _bind, _prepare_twice, _linked):
            outcome.found += check(subject, kernel, rig, first)
        for placed in (_offset, _threads, _tasks, _inplace, _strided, _pitched, _parts, _allocation):
            outcome.found += placed(subject, kernel, rig, first)
        if not outcome.found:
            outcome.found += _prepare_cache(subject, rig, first)
    except _Stop as stop:
        outcome.found.append(stop.found)
    outcome.found += _weights(subject, before)
    return outcome


def _guarded(check: str, action: Callable[[], object]) -> None:
    """Runs a stranger's code; what it raises becomes a finding."""
    try:
        action()
    except Exception as error:
        message = str(error).strip().splitlines()
        raise _Stop(check, f"{type(error).__name__}: {message[0] if message else ''}") from error


def _prepared(subject: Subject, threads: int = 1) -> Kernel:
    made: list[Kernel] = []
    _guarded("prepare", lambda: made.append(subject.prepare(subject.target(threads))))
    kernel = made[0]
    for name in ("scratch", "constant_bytes"):
        size = getattr(kernel, name, None)
        if not isinstance(size, (int, np.integer)) or size < 0:
            raise _Stop("prepare", f"the kernel's {name} is {size!r}, wanted a number of bytes")
    return kernel


def _bound(subject: Subject, kernel: Kernel, check: str = "bind", **where: Any) -> StoredRig:
    made: list[StoredRig] = []
    _guarded(check, lambda: made.append(subject.rig(kernel, **where)))
    return made[0]


def _run(rig: StoredRig, arrays: object, poison_byte: int = POISONS[0], check: str = "run") -> list[np.ndarray]:
    rig.poison(0, poison_byte)
    rig.load(arrays)  # type: ignore[arg-type]
    _guarded(check, rig.run)
    return rig.outputs()


# -- values, bounds, completeness --------------------------------------------------------------------------------


def _first_run(subject: Subject, kernel: Kernel, outcome: Outcome) -> tuple[StoredRig, list[np.ndarray]]:
    rig = _bound(subject, kernel)
    first = _run(rig, subject.arrays)
    stored = rig.stored()
    if damage := rig.zones_intact():
        raise _Stop("red-zone", damage)
    if changed := rig.inputs_intact():
        raise _Stop("inputs", changed)
    _run(rig, subject.arrays, POISONS[1])
    if unwritten := _unwritten(subject, stored, rig.stored()):
        raise _Stop("unwritten", unwritten)
    for number, error in enumerate(_errors(subject, first, subject.wanted)):
        outcome.max_error, outcome.nmse = max(outcome.max_error, error.relative), max(outcome.nmse, error.nmse)
        if error.problem:
            check = "offset" if _is_right_elsewhere(subject, kernel) else "values"
            raise _Stop(check, f"output {number} {error.problem}")
    outcome.found += _padding(subject, stored)
    return rig, first


def _is_right_elsewhere(subject: Subject, kernel: Kernel) -> bool:
    rigs = (_bound(subject, kernel, offset=steps * subject.alignment) for steps in range(1, 5))
    return any(_wrong(subject, _run(rig, subject.arrays), subject.wanted) is None for rig in rigs)


def _errors(subject: Subject, made: list[np.ndarray], wanted: Expected) -> Iterator[Error]:
    for array, goal, (value, spec) in zip(made, wanted.arrays, subject.outputs, strict=True):
        yield compare(array, goal, value, spec, subject.accuracy, wanted.slack)


def _wrong(subject: Subject, made: list[np.ndarray], wanted: Expected) -> str | None:
    problems = [f"output {i} {e.problem}" for i, e in enumerate(_errors(subject, made, wanted)) if e.problem]
    return problems[0] if problems else None


def _unwritten(subject: Subject, stored: list[np.ndarray], again: list[np.ndarray]) -> str | None:
    """Elements that hold the poison after both runs, though they should not."""
    for number, (one, two) in enumerate(zip(stored, again, strict=True)):
        left = _is_poison(one, POISONS[0]) & _is_poison(two, POISONS[1])
        value, spec = subject.outputs[number]
        wanted = subject.wanted.arrays[number]
        if one.dtype.kind not in "iub":  # a NaN that is wanted looks like the poison
            with np.errstate(all="ignore"):
                left &= ~np.isnan(spec.layout.pack(wanted.astype(np.float64)).astype(np.float64))
        if count := int(left.sum()):
            at = tuple(int(i) for i in np.unravel_index(int(np.argmax(left)), left.shape))
            return (
                f"{count} of {left.size} stored elements of output {number} ({value.name!r}) hold what was there "
                f"before, or were computed from it; the first at {at} of the {spec.layout} storage"
            )
    return None


def _is_poison(stored: np.ndarray, byte: int) -> np.ndarray:
    pattern = poison(stored.shape, stored.dtype, byte)
    if stored.dtype.kind not in "iub" and np.isnan(pattern.astype(np.float32)).all():
        return np.isnan(stored.astype(np.float32))
    width = stored.dtype.itemsize

    def bits(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape((*array.shape, width))

    return (bits(stored) == bits(pattern)).all(axis=-1)


def _padding(subject: Subject, stored: list[np.ndarray]) -> Iterator[Found]:
    for number, (array, (value, spec)) in enumerate(zip(stored, subject.outputs, strict=True)):
        if not spec.layout.blocks(len(value.static_shape)):
            continue
        inside = spec.layout.pack(np.ones(value.static_shape, bool))
        lost = ~inside & (array != np.zeros((), array.dtype))
        if lost.any():
            yield "padding", f"{int(lost.sum())} padding lanes of output {number} ({spec}) are not zero"


# -- repetition, state, binding ------------------------------------------------------------------------------------


def _repeat(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    if difference := same_bits(first, _run(rig, subject.arrays)):
        yield "repeat", f"the same inputs again: {difference}"
        return
    if difference := same_bits(first, _run(rig, subject.arrays, POISONS[1])):
        yield "scratch", f"other contents in the {kernel.scratch} bytes of scratch: {difference}"


def _state(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    if problem := _wrong(subject, _run(rig, subject.other_arrays), subject.other_wanted):
        alone = _run(_bound(subject, _prepared(subject)), subject.other_arrays)
        inherent = _wrong(subject, alone, subject.other_wanted)
        yield ("values", f"other inputs: {inherent}") if inherent else ("state", f"other inputs next: {problem}")
    elif difference := same_bits(first, _run(rig, subject.arrays)):
        yield "state", f"the first inputs again, after others: {difference}"


def _bind(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    other = _bound(subject, kernel)
    made = _run(other, subject.other_arrays, check="bind")
    if problem := _wrong(subject, made, subject.other_wanted):
        yield "bind", f"bound a second time: {problem}"
    elif difference := same_bits(first, _run(rig, subject.arrays, check="bind")):
        yield "bind", f"the first binding, after the kernel was bound again: {difference}"
    elif difference := same_bits(made, other.outputs()):
        yield "bind", f"running the first binding changed the second one's {difference}"


def _prepare_twice(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    again = _bound(subject, _prepared(subject))
    if difference := same_bits(first, _run(again, subject.arrays, check="prepare-twice")):
        yield "prepare-twice", f"the second kernel: {difference}"
    elif difference := same_bits(first, _run(rig, subject.arrays, check="prepare-twice")):
        yield "prepare-twice", f"the first kernel, after a second was prepared: {difference}"


def _linked(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    runs: list[Callable[[], None]] = []
    _guarded("linked", lambda: runs.append(rig.linked(subject.catalog.link, subject.target(), [0])))

    def run() -> None:
        runs[0]()
        rig.synchronize()

    rig.poison(0)
    rig.load(subject.arrays)
    _guarded("linked", run)
    if difference := same_bits(first, rig.outputs()):
        yield "linked", difference


# -- place, threads, memory ----------------------------------------------------------------------------------------


def _placed(subject: Subject, rig: StoredRig, check: str, bits: list[np.ndarray] | None = None) -> Iterator[Found]:
    """The usual checks on a rig that differs in where its buffers lie."""
    made = _run(rig, subject.arrays, check=check)
    if problem := _wrong(subject, made, subject.wanted):
        yield check, problem
    elif bits is not None and (difference := same_bits(bits, made)):
        yield check, difference
    elif damage := rig.zones_intact() or rig.inputs_intact():
        yield check, damage


def _offset(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    for steps in (1, 5):
        yield from _placed(subject, _bound(subject, kernel, "offset", offset=steps * subject.alignment), "offset")


def _threads(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    for threads in sorted({2, max(3, usable_cores())}):
        try:
            other = _bound(subject, _prepared(subject, threads), "threads")
            found = list(_placed(subject, other, "threads", first if subject.deterministic else None))
        except _Stop as stop:
            found = [("threads", stop.found[1])]
        yield from ((check, f"with {threads} threads: {detail}") for check, detail in found)


def _tasks(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    """A native step cut for two threads, its tasks done in parts as their linker hands them out."""
    other = _bound(subject, _prepared(subject, 2), "tasks")
    step = other.calls[0].native
    if step is None or step.tasks < 2:
        return
    for byte in POISONS:
        other.poison(0, byte)
        other.load(subject.arrays)
        run_in_parts(step, byte)
        made = other.outputs()
        problem = _wrong(subject, made, subject.wanted)
        if problem is None and subject.deterministic:
            problem = same_bits(first, made)
        if problem := problem or other.zones_intact():
            yield "tasks", f"{step.tasks} tasks done in parts: {problem}"
            return


def _inplace(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    if subject.inplace is not None:
        yield from _placed(subject, _bound(subject, kernel, "inplace", alias=subject.inplace), "inplace")


def _strided(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    if subject.strided:
        yield from _placed(subject, _bound(subject, kernel, "strided", strided=subject.strided), "strided")


def _pitched(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    if subject.pitched:
        yield from _placed(subject, _bound(subject, kernel, "pitched", pitched=subject.pitched), "pitched")


def _parts(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    """Each part in place by itself, then several at once."""
    single = [{number: place} for number, place in subject.parts.items()]
    for parts in [*single, dict(subject.parts)] if len(single) > 1 else single:
        yield from _placed(subject, _bound(subject, kernel, "parts", parts=parts), "parts")


def _allocation(subject: Subject, kernel: Kernel, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    """Host memory as Python and numpy know it; a device that simulates itself in Python is left alone."""
    if {subject.device, *(spec.device for _, spec in (*subject.inputs, *subject.outputs))} != {"cpu"}:
        return
    rig.load(subject.arrays)
    rig.run()
    tracemalloc.start()
    try:
        rig.run()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        rig.run()
        _, peak = tracemalloc.get_traced_memory()
        for _ in range(LEAK_RUNS):
            rig.run()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if peak - before > ALLOCATION_BYTES:
        yield "allocation", f"{peak - before} bytes in one run, at most {ALLOCATION_BYTES} are allowed"
    elif (after - before) / LEAK_RUNS > LEAK_BYTES:
        yield "allocation", f"each run keeps {(after - before) // LEAK_RUNS} bytes"


# -- constants ---------------------------------------------------------------------------------------------------


def _prepare_cache(subject: Subject, rig: StoredRig, first: list[np.ndarray]) -> Iterator[Found]:
    """Regions alike in name, shape and (the second time) in the identity of their objects, with other weights."""
    identities: frozenset[int] = frozenset()
    for turn in (1, 2):
        try:
            other = subject.renewed(turn, identities)
        except (SoftneuroError, ValueError):
            return  # these constants are no weights: moved on, they mean another shape or nothing
        if other is None:
            return
        made = _run(_bound(other, _prepared(other)), other.arrays)
        if problem := _wrong(other, made, other.wanted):
            yield "prepare-cache", f"with other constants: {problem}"
            return
        if difference := same_bits(first, _run(rig, subject.arrays)):
            yield "prepare-cache", f"the first kernel, after one with other constants was prepared: {difference}"
            return
        identities = other.identities
        del other, made  # so that their successors can take their places


def _weights(subject: Subject, before: list[np.ndarray]) -> Iterator[Found]:
    for number, (old, now) in enumerate(zip(before, subject.constants, strict=True)):
        if old.tobytes() != now.tobytes():
            yield "weights", f"constant {number} of shape {now.shape} was changed"
            np.copyto(now, old)  # the next subject shares it
