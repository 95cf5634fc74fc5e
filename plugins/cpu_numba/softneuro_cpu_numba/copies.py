"""Data movement as strided copies: a step is a list of blocks, each a loop nest from one operand to another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softneuro_core.device import Buffer
from softneuro_core.routine import Call
from softneuro_core.strides import Axis
from softneuro_cpu_numba.native import Argument, In, NativeKernel, Out, address_of

MAX_OUTER = 6
MAX_LOOPS = MAX_OUTER + 2
"""Of one block: the outer ones, the middle one whose steps are rows of a task, and the inner one."""
TASK_ELEMENTS = 16384
MOVABLE_SIZES = (1, 2, 4, 8)
"""Element sizes the copy kernel is generated for."""


@dataclass(frozen=True, slots=True)
class Block:
    """One loop nest: ``axes`` step through source and destination (elements), offsets are in elements."""

    axes: tuple[Axis, ...]
    source: int | np.ndarray
    """Number of the input, or a constant."""
    source_offset: int = 0
    out: int = 0
    out_offset: int = 0

    @property
    def elements(self) -> int:
        return math.prod(axis.size for axis in self.axes)


def loops(block: Block) -> list[Axis]:
    """The block's loops merged, in order of the destination's steps."""
    ordered = sorted((a for a in block.axes if a.size > 1), key=lambda a: -a.steps[1])
    made: list[Axis] = []
    for axis in ordered:
        last = made[-1] if made else None
        if last and all(a == b * axis.size for a, b in zip(last.steps, axis.steps, strict=True)):
            made[-1] = Axis(last.size * axis.size, axis.steps)
        else:
            made.append(axis)
    return made


def is_expressible(blocks: Sequence[Block]) -> bool:
    """Whether :data:`MAX_LOOPS` do for every block; merging is tried only where they are more as they stand."""
    return all(len(b.axes) <= MAX_LOOPS or len(loops(b)) <= MAX_LOOPS for b in blocks)


def is_whole(blocks: Sequence[Block], elements: int) -> bool:
    """Whether output 0 is input 0 byte for byte: nothing to do where the two share memory."""
    if len(blocks) != 1 or blocks[0].source != 0 or blocks[0].source_offset or blocks[0].out_offset:
        return False
    axes = loops(blocks[0])
    return blocks[0].elements == elements and (not axes or (len(axes) == 1 and axes[0].steps == (1, 1)))


def copy_kernel(blocks: Sequence[Block], itemsize: int) -> NativeKernel:
    """All blocks in one native step."""
    args: list[Argument] = []
    first = 0
    for block in blocks:
        words, tasks = _words(block, itemsize, first)
        args += words
        first += tasks
    address = address_of("movement", "copy", itemsize=itemsize)
    return NativeKernel(address, (len(blocks), *args), first)


@dataclass(frozen=True, slots=True)
class PlacedCopy:
    """A copy that leaves out the blocks whose source already lies where they go. ``whole`` is all of it."""

    whole: NativeKernel
    blocks: tuple[Block, ...]
    itemsize: int

    @staticmethod
    def of(blocks: Sequence[Block], itemsize: int) -> PlacedCopy:
        return PlacedCopy(copy_kernel(blocks, itemsize), tuple(blocks), itemsize)

    @property
    def scratch(self) -> int:
        return 0

    @property
    def constant_bytes(self) -> int:
        return self.whole.constant_bytes

    def bind(self, inputs: Sequence[Any], outputs: Sequence[Any], scratch: Buffer | None) -> Call:
        def goes_elsewhere(block: Block) -> bool:
            if isinstance(block.source, np.ndarray):
                return True
            source = inputs[block.source].address + block.source_offset * self.itemsize
            return bool(source != outputs[block.out].address + block.out_offset * self.itemsize)

        left = [block for block in self.blocks if goes_elsewhere(block)]
        copy = self.whole if len(left) == len(self.blocks) else copy_kernel(left, self.itemsize)
        return copy.bind(inputs, outputs, scratch)


def strided_copy(out: np.ndarray, source: np.ndarray) -> None:
    """``out[...] = source`` of one shape: by the copy kernel where both are of one type, as numpy does elsewhere.

    Ten times numpy's speed where one of them is transposed: 8x8 blocks are turned in registers.
    """
    steps = [(s // out.itemsize, d // out.itemsize) for s, d in zip(source.strides, out.strides, strict=True)]
    block = Block(tuple(Axis(n, step) for n, step in zip(out.shape, steps, strict=True)), 0)
    plain = source.dtype == out.dtype and source.dtype.itemsize in MOVABLE_SIZES and out.size >= TASK_ELEMENTS
    if not plain or not is_expressible([block]):
        np.copyto(out, source)
        return
    ends = [_Place(a.ctypes.data) for a in (source, out)]
    copy_kernel([block], out.itemsize).bind(ends[:1], ends[1:], None).run()


@dataclass(frozen=True, slots=True)
class _Place:
    address: int


def _words(block: Block, itemsize: int, first: int) -> tuple[list[Argument], int]:
    axes = loops(block)
    inner = axes.pop() if axes else Axis(1, (1, 1))
    flat = not axes and inner.steps == (1, 1)
    if flat and inner.size > TASK_ELEMENTS:  # a plain run: rows of it, so that it can be split
        cut = next((c for c in range(TASK_ELEMENTS, 255, -1) if inner.size % c == 0), inner.size)
        axes, inner = [Axis(inner.size // cut, (cut, cut))], Axis(cut, (1, 1))
    place = next((i for i, a in enumerate(axes) if inner.steps[0] != 1 and a.steps[0] == 1), len(axes) - 1)
    middle = axes.pop(place) if axes else Axis(1, (0, 0))
    rows = middle.size * math.prod(a.size for a in axes)
    per_task = max(1, TASK_ELEMENTS // inner.size)
    if middle.size > 8 and inner.steps[0] != 1:
        per_task = -(-per_task // 8) * 8  # whole 8x8 blocks
    tasks = -(-rows // per_task)
    blank = MAX_OUTER - len(axes)
    if isinstance(block.source, np.ndarray):
        assert not block.source_offset
        source: Argument = block.source
    else:
        source = In(block.source, block.source_offset * itemsize)
    sizes = [a.size for a in axes] + [1] * blank
    steps = [[a.steps[i] for a in axes] + [0] * blank for i in (0, 1)]
    head = [source, Out(block.out, block.out_offset * itemsize), first, tasks, per_task]
    shape = [len(axes), middle.size, inner.size]
    inner_steps = [middle.steps[0], inner.steps[0], middle.steps[1], inner.steps[1]]
    return [*head, *shape, *inner_steps, *sizes, *steps[0], *steps[1]], tasks
