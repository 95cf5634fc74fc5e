"""Routines with one planted fault each, and the same routine without it: what the conformance kit is tested on.

A plugin module: every creature is offered twice, as ``cpu/wrong_NAME`` and as ``cpu/right_NAME``.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from zoo_adapters import ADAPTERS, Block
from zoo_numeric import CREATURES as NUMERIC
from zoo_numeric import Creature, Make, plain

from softneuro_core.device import Buffer, Target
from softneuro_core.graph import Region
from softneuro_core.hookspecs import hookimpl
from softneuro_core.routine import EXACT, Adapter, AnyBuffer, Call, FunctionKernel, Kernel, NativeCall, Offer, Routine
from softneuro_core.spec import TensorSpec

ZERO = np.float32(0)
RELU = ("relu-*", "-relu-float*")


@dataclass(slots=True)
class ScratchKernel:
    """``fn(x, y, scratch as float32)``."""

    fn: Callable[..., None]
    scratch: int
    constant_bytes: int = 0

    def bind(self, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None) -> Call:
        x, y = inputs[0].array, outputs[0].array  # type: ignore[union-attr]
        assert scratch is not None
        work = scratch.array.view(np.float32).reshape(x.shape)
        return Call(lambda: self.fn(x, y, work))


@dataclass(slots=True)
class BindKernel:
    """``call(inputs, outputs)`` makes the function that runs."""

    call: Callable[[Sequence[Any], Sequence[Any]], Callable[[], None]]
    scratch: Any = 0
    constant_bytes: int = 0

    def bind(self, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None) -> Call:
        return Call(self.call(inputs, outputs))


# -- memory ------------------------------------------------------------------------------------------------------


def reads_scratch(region: Region, wrong: bool) -> Kernel:
    def relu(x: np.ndarray, y: np.ndarray, work: np.ndarray) -> None:
        np.add(work, x, out=work) if wrong else np.copyto(work, x)
        np.maximum(work, ZERO, out=y)

    return ScratchKernel(relu, 4 * region.outputs[0].size)


def past_the_end(region: Region, wrong: bool) -> Kernel:
    def relu(x: np.ndarray, y: np.ndarray) -> None:
        np.maximum(x, ZERO, out=y)
        if wrong:
            np.lib.stride_tricks.as_strided(y.reshape(-1), (y.size + 1,))[y.size :] = 1

    return FunctionKernel(relu)


def before_the_start(region: Region, wrong: bool) -> Kernel:
    def call(inputs: Sequence[Any], outputs: Sequence[Any]) -> Callable[[], None]:
        x, y, address = inputs[0].array, outputs[0].array, outputs[0].address

        def run() -> None:
            np.maximum(x, ZERO, out=y)
            if wrong:
                ctypes.c_float.from_address(address - 4).value = 1.0

        return run

    return BindKernel(call)


def forgets_the_tail(region: Region, wrong: bool) -> Kernel:
    def relu(x: np.ndarray, y: np.ndarray) -> None:
        end = x.size // 8 * 8 if wrong else x.size
        np.maximum(x.reshape(-1)[:end], ZERO, out=y.reshape(-1)[:end])

    return FunctionKernel(relu)


def adds_to_the_output(region: Region, wrong: bool) -> Kernel:
    def relu(x: np.ndarray, y: np.ndarray) -> None:
        if not wrong:
            y.fill(0)
        np.add(y, np.maximum(x, ZERO), out=y)

    return FunctionKernel(relu)


def leaves_an_output(region: Region, wrong: bool) -> Kernel:
    axis = region.exit.attrs.get("axis", 0)

    def split(x: np.ndarray, *made: np.ndarray) -> None:
        at = 0
        for number, y in enumerate(made):
            if number == 0 or not wrong:
                np.copyto(y, np.take(x, range(at, at + y.shape[axis]), axis))
            at += y.shape[axis]

    return FunctionKernel(split)


def allocates(region: Region, wrong: bool) -> Kernel:
    def relu(x: np.ndarray, y: np.ndarray) -> None:
        np.copyto(y, np.maximum(x, ZERO)) if wrong else np.maximum(x, ZERO, out=y)

    return FunctionKernel(relu)


def leaks(region: Region, wrong: bool) -> Kernel:
    kept: list[bytes] = []

    def relu(x: np.ndarray, y: np.ndarray) -> None:
        np.maximum(x, ZERO, out=y)
        if wrong:
            kept.append(bytes(2048))

    return FunctionKernel(relu)


def ignores_strides(region: Region, wrong: bool) -> Kernel:
    def call(inputs: Sequence[Any], outputs: Sequence[Any]) -> Callable[[], None]:
        x, y = (
            b.device.buffer(b.memory, b.offset, b.shape, b.dtype).array if wrong else b.array
            for b in (*inputs, *outputs)
        )
        return lambda: np.copyto(y, np.maximum(x, ZERO))

    return BindKernel(call)


def clears_before_joining(region: Region, wrong: bool) -> Kernel:
    """A Concat whose inputs may lie in the result."""

    def call(inputs: Sequence[Any], outputs: Sequence[Any]) -> Callable[[], None]:
        y = outputs[0].array
        pieces = np.split(y, [inputs[0].shape[1]], axis=1)
        pairs = [(x.array, piece) for x, piece in zip(inputs, pieces, strict=True)]

        def run() -> None:
            if wrong:
                y[...] = 0
            for x, piece in pairs:
                if x.ctypes.data != piece.ctypes.data:
                    np.copyto(piece, x)

        return run

    return BindKernel(call)


def joins_32_and_17(region: Region) -> bool:
    return [v.static_shape[1:2] for v in region.inputs] == [(32,), (17,)]


def wants_even_lines(region: Region, wrong: bool) -> Kernel:
    def call(inputs: Sequence[Any], outputs: Sequence[Any]) -> Callable[[], None]:
        x, y, odd = inputs[0].array, outputs[0].array, inputs[0].offset % 128 != 0
        return lambda: np.maximum(x, np.float32(0.25) if wrong and odd else ZERO, out=y)

    return BindKernel(call)


# -- lifecycle -----------------------------------------------------------------------------------------------------


def remembers(region: Region, wrong: bool) -> Kernel:
    known: list[np.ndarray] = []

    def relu(x: np.ndarray, y: np.ndarray) -> None:
        if not known or not wrong:
            known[:] = [np.maximum(x, ZERO)]
        np.copyto(y, known[0])

    return FunctionKernel(relu)


def counts_runs(region: Region, wrong: bool) -> Kernel:
    runs = [0]

    def relu(x: np.ndarray, y: np.ndarray) -> None:
        np.maximum(x, ZERO, out=y)
        runs[0] += 1
        if wrong and runs[0] % 3 == 0:
            np.multiply(y, np.float32(1.0001), out=y)

    return FunctionKernel(relu)


def binds_once(region: Region, wrong: bool) -> Kernel:
    bound: list[tuple[np.ndarray, np.ndarray]] = []

    def call(inputs: Sequence[Any], outputs: Sequence[Any]) -> Callable[[], None]:
        bound.append((inputs[0].array, outputs[0].array))
        x, y = bound[0] if wrong else bound[-1]
        return lambda: np.copyto(y, np.maximum(x, ZERO))

    return BindKernel(call)


def changes_inputs(region: Region, wrong: bool) -> Kernel:
    def relu(x: np.ndarray, y: np.ndarray) -> None:
        np.maximum(x, ZERO, out=x if wrong else y)
        if wrong:
            np.copyto(y, x)

    return FunctionKernel(relu)


def wrong_in_place(region: Region, wrong: bool) -> Kernel:
    """HardSwish: x * clip(x / 6 + 0.5, 0, 1)."""

    def hardswish(x: np.ndarray, y: np.ndarray, work: np.ndarray) -> None:
        gate = y if wrong else work  # y may be x
        np.multiply(x, np.float32(1 / 6), out=gate)
        np.add(gate, np.float32(0.5), out=gate)
        np.clip(gate, ZERO, np.float32(1), out=gate)
        np.multiply(gate, x, out=y)

    return ScratchKernel(hardswish, 4 * region.outputs[0].size)


def hangs(region: Region, wrong: bool) -> Kernel:
    def relu(x: np.ndarray, y: np.ndarray) -> None:
        while wrong:
            time.sleep(0.01)
        np.maximum(x, ZERO, out=y)

    return FunctionKernel(relu)


def crashes(region: Region, wrong: bool) -> Kernel:
    def relu(x: np.ndarray, y: np.ndarray) -> None:
        if wrong:
            ctypes.string_at(0)
        np.maximum(x, ZERO, out=y)

    return FunctionKernel(relu)


def raises_on_scalars(region: Region, wrong: bool) -> Kernel:
    def relu(x: np.ndarray, y: np.ndarray) -> None:
        if wrong and x.ndim == 0:
            raise ValueError("no scalars, please")
        np.maximum(x, ZERO, out=y)

    return FunctionKernel(relu)


def hides_scratch(region: Region, wrong: bool) -> Kernel:
    return BindKernel(
        lambda inputs, outputs: lambda: np.copyto(outputs[0].array, np.maximum(inputs[0].array, ZERO)),
        scratch=None if wrong else 0,
    )


NATIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


@dataclass(slots=True)
class NativeRelu:
    """One task an element; of those asked for, the linked form does ``done``."""

    done: Callable[[int, int], slice]
    scratch: int = 0
    constant_bytes: int = 0
    kept: list[Any] = field(default_factory=list)

    def bind(self, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None) -> Call:
        x, y = (b.array.reshape(-1) for b in (inputs[0], outputs[0]))  # type: ignore[union-attr]

        def kernel(args: int, begin: int, end: int, scratch: int) -> None:
            here = self.done(begin, end)
            np.maximum(x[here], ZERO, out=y[here])

        function = NATIVE(kernel)
        self.kept.append(function)
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        native = NativeCall(address, np.zeros(1, np.int64), x.size)
        return Call(lambda: np.copyto(y, np.maximum(x, ZERO)), native)


def forgets_the_last_task(region: Region, wrong: bool) -> Kernel:
    return NativeRelu(lambda begin, end: slice(begin, end - int(wrong)))


def counts_from_the_first_task(region: Region, wrong: bool) -> Kernel:
    return NativeRelu(lambda begin, end: slice(0, end - begin) if wrong else slice(begin, end))


# -- offers --------------------------------------------------------------------------------------------------------


class Animal(Routine):
    """One creature, wrong or right."""

    def __init__(self, creature: Creature, wrong: bool) -> None:
        self.name = f"cpu/{'wrong' if wrong else 'right'}_{creature.name}"
        self.pattern, self.creature, self.wrong = (creature.op,), creature, wrong
        self.asked = 0
        self.memory: dict[Any, Any] = {}

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if not self.creature.accepts(region):
            return []
        self.asked += 1
        specs = [[TensorSpec("cpu", v.dtype) for v in side] for side in (region.inputs, region.outputs)]
        return self.creature.offers(self, Offer(tuple(specs[0]), tuple(specs[1]), **self.creature.offer))

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        return self.creature.make(region, self.wrong, target, self.memory)


def changes_its_mind(animal: Any, offer: Offer) -> list[Offer]:
    return [offer] * (1 + animal.asked % 2 if animal.wrong else 1)


def params_are_tuples(animal: Any, offer: Offer) -> list[Offer]:
    return [Offer(offer.inputs, offer.outputs, {"tile": (4, 8) if animal.wrong else [4, 8]}, EXACT)]


def takes_its_time(animal: Any, offer: Offer) -> list[Offer]:
    if animal.wrong:
        time.sleep(0.002)
    return [offer]


def forgets_a_spec(animal: Any, offer: Offer) -> list[Offer]:
    return [Offer(offer.inputs, () if animal.wrong else offer.outputs, accuracy=EXACT)]


def relu(name: str, check: str, make: Callable[[Region, bool], Kernel] | None = None, **more: Any) -> Creature:
    """A creature that computes Relu, right by itself."""
    simple = make or (lambda region, wrong: FunctionKernel(lambda x, y: np.maximum(x, ZERO, out=y)))
    offer = {"accuracy": EXACT, **more.pop("offer", {})}
    return Creature(name, check, "Relu", plain(simple), offer=offer, **more)


BEHAVIOUR = (
    relu("reads_scratch", "scratch", reads_scratch),
    relu("past_the_end", "red-zone", past_the_end),
    relu("before_the_start", "red-zone", before_the_start),
    relu("forgets_the_tail", "unwritten", forgets_the_tail, at="relu-17"),
    relu("adds_to_the_output", "unwritten", adds_to_the_output, allocates=True),
    Creature(
        "leaves_an_output", "unwritten", "Split", plain(leaves_an_output), offer={"accuracy": EXACT}, allocates=True
    ),
    relu("allocates", "allocation", allocates, at="relu-big"),
    relu("leaks", "allocation", leaks),
    relu("ignores_strides", "strided", ignores_strides, offer={"strided": frozenset({0, 1})}, allocates=True),
    relu("counts_from_the_first_task", "tasks", counts_from_the_first_task, allocates=True),
    relu("ignores_pitch", "pitched", ignores_strides, offer={"pitched": frozenset({0, 1})}, allocates=True),
    Creature(
        *("clears_before_joining", "parts", "Concat", plain(clears_before_joining)),
        offer={"accuracy": EXACT, "parts": {0: (1, 0), 1: (1, 32)}},
        accepts=joins_32_and_17,
        at="concat-big",
        allocates=True,
    ),
    relu("wants_even_lines", "offset", wants_even_lines),
    relu("remembers", "state", remembers, allocates=True),
    relu("counts_runs", "repeat", counts_runs),
    relu("binds_once", "bind", binds_once, allocates=True),
    relu("changes_inputs", "inputs", changes_inputs),
    Creature("wrong_in_place", "inplace", "HardSwish", plain(wrong_in_place), offer={"inplace": 0}),
    relu("hangs", "hang", hangs),
    relu("crashes", "crash", crashes),
    relu("raises_on_scalars", "run", raises_on_scalars, at="relu-scalar"),
    relu("hides_scratch", "prepare", hides_scratch, allocates=True),
    relu("links_wrong", "linked", forgets_the_last_task, allocates=True),
    relu("changes_its_mind", "pure", offers=changes_its_mind),
    relu("params_are_tuples", "json", offers=params_are_tuples),
    relu("takes_its_time", "fast", offers=takes_its_time),
    relu("forgets_a_spec", "offers", offers=forgets_a_spec),
)
CREATURES: Mapping[str, Creature] = {c.name: c for c in (*BEHAVIOUR, *NUMERIC)}
FIRST_CONV = CREATURES["symmetric_pads"]


@hookimpl
def softneuro_routines() -> list[Routine]:
    return [Animal(creature, wrong) for creature in CREATURES.values() for wrong in (True, False)]


@hookimpl
def softneuro_adapters() -> list[Adapter]:
    return [Block(fault, wrong) for fault in ADAPTERS for wrong in (True, False)]


@hookimpl
def softneuro_link(target: Target, calls: Sequence[Call]) -> Callable[[], None] | None:
    natives = [call.native for call in calls if call.native is not None]
    if len(natives) != len(calls):
        return None

    def run() -> None:
        for native in natives:
            NATIVE(native.address)(native.args.ctypes.data, 0, native.tasks, None)

    return run


__all__ = ["ADAPTERS", "CREATURES", "Make"]
