"""Prepared steps: kernels with their arguments, enqueued one behind the other on the device's queue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softneuro_core.device import Buffer
from softneuro_core.routine import AnyBuffer, Call
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.programs import Defines, kernel


@dataclass(frozen=True, slots=True)
class In:
    """Stands for input ``index``: its memory, and where it begins in elements."""

    index: int


@dataclass(frozen=True, slots=True)
class Out:
    """Stands for output ``index``."""

    index: int


THE_INPUT, THE_OUTPUT = In(0), Out(0)
"""Of a step that has one of each."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """Stands for the step's scratch, from ``offset`` elements on, which are floats unless told."""

    offset: int = 0
    itemsize: int = 4


class Constant:
    """An array in device memory, made once and shared by what is bound to it."""

    def __init__(self, device: OpenCLDevice, array: np.ndarray) -> None:
        self.nbytes, self.memory = array.nbytes, device.constant(array)


Argument = int | float | In | Out | Scratch | Constant | None
"""A number is given as int32 or float32, anything else as memory and an offset; None is memory never looked at."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel of a step. ``work`` counts items along up to three axes, ``group`` those of a work group."""

    file: str
    name: str
    defines: Defines
    arguments: tuple[Argument, ...]
    work: tuple[int, ...]
    group: tuple[int, ...]


GROUPS_EACH = 4
"""Of a unit of the device, at least: VGG16 on two cores kept 1.10 busy where a band of tiles was one group."""


def grouped(work: tuple[int, ...], device: OpenCLDevice) -> tuple[int, ...]:
    """The largest work group of independent items that divides the first two axes and leaves every unit some. Starting
    a group takes time: 144 channels at 56x56, depthwise, 908 us in groups of one item, 585 of all channels, 552 of
    whole rows (Intel's runtime, one core of Sapphire Rapids; by a script that is not kept)."""
    most = max(1, min(device.most_items, math.prod(work) // (GROUPS_EACH * device.units)))
    group = []
    for count in work[:2]:
        group.append(max(n for n in range(1, min(count, most) + 1) if count % n == 0))
        most //= group[-1]
    return (*group, *(1,) * (len(work) - len(group)))


@dataclass(frozen=True, eq=False, slots=True)
class OpenCLKernel:
    """A step of one or several launches; ``scratch`` in bytes."""

    device: OpenCLDevice
    launches: tuple[Launch, ...]
    scratch: int = 0

    @property
    def constant_bytes(self) -> int:
        shared = {a for launch in self.launches for a in launch.arguments if isinstance(a, Constant)}
        return sum(constant.nbytes for constant in shared)

    def bind(self, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None) -> Call:
        import pyopencl as cl

        steps = []
        for launch in self.launches:
            if 0 in launch.work:
                continue
            made = kernel(self.device, launch.file, launch.name, launch.defines)
            words = [w for a in launch.arguments for w in self._words(a, inputs, outputs, scratch)]
            made.set_args(*words)
            steps.append((made, launch.work, launch.group, words))  # the kernel keeps no reference to its arguments
        queue, enqueue = self.device.queue, cl.enqueue_nd_range_kernel

        def run() -> None:
            for made, work, group, _ in steps:
                enqueue(queue, made, work, group)

        return Call(run)

    def _words(
        self, argument: Argument, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None
    ) -> tuple[Any, ...]:
        match argument:
            case In(index):
                return _place(inputs[index])
            case Out(index):
                return _place(outputs[index])
            case Scratch(offset, itemsize):
                assert scratch is not None
                memory, at = _place(scratch, itemsize)
                return memory, np.uint64(int(at) + offset)
            case Constant():
                return argument.memory, np.uint64(0)
            case None:
                return _place(outputs[0])[0], np.uint64(0)
            case int():
                return (np.int32(argument),)
        return (np.float32(argument),)


def _place(buffer: AnyBuffer, itemsize: int | None = None) -> tuple[Any, np.uint64]:
    assert isinstance(buffer, Buffer)
    return buffer.memory, np.uint64(buffer.offset // (itemsize or buffer.dtype.itemsize))
