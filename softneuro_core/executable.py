"""A program with memory of its own: memory plan -> bind -> link -> run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from softneuro_core.device import Buffer, Device, ObjectBuffer, dense_strides
from softneuro_core.errors import RunError, SoftneuroError
from softneuro_core.memory import Lifetime, color_whole
from softneuro_core.pages import side_by_side
from softneuro_core.plan import AdapterStep, Step
from softneuro_core.program import Program
from softneuro_core.routine import AnyBuffer, Call
from softneuro_core.slots import PreparedStep, Slot
from softneuro_core.spec import OBJECT


class Executable:
    """One program with memory of its own. Not thread-safe: the session makes runs take turns."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._shares: dict[str, Any] = {}
        self.buffers = self._allocate()
        self._calls = [self._bind(i, step) for i, step in enumerate(program.steps)]
        with side_by_side():
            self._segments = self._link()
        self._inputs = [self.buffers.get(Slot(v, v.host_spec)) for v in program.graph.inputs]

    def _allocate(self) -> dict[Slot | int, AnyBuffer]:
        """Every slot (and the scratch of step i, under i) at its place in the arenas."""
        program, devices, places = self.program, self.program.catalog.devices, self._places()
        buffers: dict[Slot | int, AnyBuffer] = {}
        for slot in program.slots.slots:
            if slot.spec.dtype is OBJECT:
                buffers[slot] = ObjectBuffer()
                continue
            part = program.slots.parts.get(slot)
            held = slot if part is None else part.whole
            memory, offset = places[program.slots.owner.get(held, held)]
            memory = self._word_for(memory, slot.spec.device)
            kind, strides = slot.spec.dtype.numpy, dense_strides(held.shape, slot.spec.dtype.numpy)
            offset += 0 if part is None else part.first * strides[part.axis]
            buffers[slot] = devices[slot.spec.device].buffer(memory, offset, slot.shape, kind, strides)
        for i, step in enumerate(program.steps):
            if step.kernel.scratch:
                memory, offset = places[i]
                memory = self._word_for(memory, step.device)
                buffers[i] = devices[step.device].buffer(memory, offset, (step.kernel.scratch,), np.dtype(np.uint8))
        return buffers

    def _word_for(self, memory: Any, name: str) -> Any:
        """What a device has for memory of its home: the arena all its tensors lie in, shared once."""
        device = self.program.catalog.devices[name]
        if device.home == name:
            return memory
        if name not in self._shares:
            self._shares[name] = device.share(memory)
        return self._shares[name]

    def _places(self) -> dict[Hashable, tuple[Any, int]]:
        """Owner slot or step number -> (memory, byte offset)."""
        program, places = self.program, dict[Hashable, tuple[Any, int]]()
        for name, device in program.catalog.devices.items():
            mine = [life for life in program.slots.lifetimes if life.device == name]
            if mine and device.supports_views:
                arena = program.arenas[name]
                memory, first = _aligned(device, max(arena.nbytes, 1), program.alignment(name))
                places.update({slot: (memory, first + offset) for slot, offset in arena.offsets.items()})
            elif mine:
                places.update(_whole_allocations(device, mine))
        return places

    def _bind(self, index: int, step: PreparedStep) -> Call:
        scratch = self.buffers.get(index)
        assert scratch is None or isinstance(scratch, Buffer)
        reads, writes = [self.buffers[s] for s in step.reads], [self.buffers[s] for s in step.writes]
        with _named(step.step.name, _label(step.step)):
            return step.kernel.bind(reads, writes, scratch)

    def _link(self) -> list[tuple[Callable[[], None], str, str]]:
        """(callable, layer, routine) for every stretch of steps: one for a linked device run, else one a step; and a
        wait where others see the device's memory as soon as the stretch is over."""
        segments: list[tuple[Callable[[], None], str, str]] = []
        steps = list(zip(self.program.steps, self._calls, strict=True))
        start = 0
        while start < len(steps):
            end = start
            while end < len(steps) and steps[end][0].device == steps[start][0].device:
                end += 1
            run = steps[start:end]
            target = self.program.catalog.target(run[0][0].device, self.program.plan.threads)
            linked = self.program.catalog.link(target, [call for _, call in run])
            if linked is not None:
                segments.append((linked, f"{run[0][0].step.name} .. {run[-1][0].step.name}", "linked run"))
            else:
                segments += [(call.run, s.step.name, _label(s.step)) for s, call in run]
            if target.device.home != target.device.name:
                segments.append((target.device.synchronize, run[-1][0].step.name, "wait"))
            start = end
        return segments

    @cached_property
    def _singles(self) -> list[Callable[[], None]]:
        """Every step linked by itself, so that it runs on the plan's threads as it does among others."""
        catalog, threads = self.program.catalog, self.program.plan.threads
        linked = [
            catalog.link(catalog.target(step.device, threads), [call])
            for step, call in zip(self.program.steps, self._calls, strict=True)
        ]
        return [found or call.run for found, call in zip(linked, self._calls, strict=True)]

    @property
    def _readied(self) -> list[Callable[[], None]]:
        """What wakes the threads of the first linked step (see ``softneuro_link``): one stands for all."""
        return [ready for run in self._singles if (ready := getattr(run, "ready", None)) is not None][:1]

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """One inference: ``arrays`` parallel to the graph's inputs; the results are the caller's own copies."""
        self._feed(arrays)
        name = routine = ""
        try:
            for call, name, routine in self._segments:  # noqa: B007 (named for the error message)
                call()
        except SoftneuroError:
            raise
        except Exception as error:
            raise _failure(error, name, routine) from error
        return self._results()

    def run_timed(self, arrays: Sequence[Any]) -> tuple[list[Any], list[tuple[int, int]]]:
        """One inference step by step, each waited for: results, and (start, end) of each step in nanoseconds of the
        host's clock."""
        self._feed(arrays)
        devices, times = self.program.catalog.devices, []
        host = devices["cpu"]
        for ready in self._readied:
            ready()
        for step, run in zip(self.program.steps, self._singles, strict=True):
            start = host.now_ns()
            with _named(step.step.name, _label(step.step)):
                run()
                devices[step.device].synchronize()
            times.append((start, host.now_ns()))
        return self._results(), times

    def _feed(self, arrays: Sequence[Any]) -> None:
        for buffer, array in zip(self._inputs, arrays, strict=True):
            if isinstance(buffer, ObjectBuffer):
                buffer.value = array
            elif buffer is not None:
                np.copyto(buffer.array, array)

    def _results(self) -> list[Any]:
        results = []
        for value in self.program.graph.outputs:
            if value.is_constant:
                assert value.data is not None
                results.append(value.data.copy())
            else:
                buffer = self.buffers[Slot(value, value.host_spec)]
                results.append(buffer.value if isinstance(buffer, ObjectBuffer) else buffer.array.copy())
        return results


def _aligned(device: Device, nbytes: int, alignment: int) -> tuple[Any, int]:
    """Memory and the first byte in it at a multiple of ``alignment``, which may be another device's that shares it."""
    if alignment <= device.alignment:
        return device.alloc(nbytes), 0
    memory = device.alloc(nbytes + alignment)
    whole = device.buffer(memory, 0, (1,), np.dtype(np.uint8))
    return memory, -whole.address % alignment


@contextmanager
def _named(layer: str, routine: str) -> Iterator[None]:
    """Whatever a plugin raises in here becomes one error naming the step."""
    try:
        yield
    except SoftneuroError:
        raise
    except Exception as error:
        raise _failure(error, layer, routine) from error


def _failure(error: Exception, layer: str, routine: str) -> RunError:
    return RunError(f"{routine} failed: {type(error).__name__}: {error}", layer=layer)


def _label(step: Step) -> str:
    return step.adapter if isinstance(step, AdapterStep) else step.routine


def _whole_allocations(device: Device, lifetimes: Sequence[Lifetime]) -> dict[Hashable, tuple[Any, int]]:
    colors = color_whole(lifetimes)
    sizes: dict[int, int] = {}
    for life in lifetimes:
        sizes[colors[life.slot]] = max(sizes.get(colors[life.slot], 1), life.nbytes)
    memories = {color: device.alloc(nbytes) for color, nbytes in sizes.items()}
    return {slot: (memories[color], 0) for slot, color in colors.items()}
