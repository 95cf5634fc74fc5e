"""Functions of one grid as tables, and copies through them (``emit.lookup``)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from softneuro_cpu_numba.copies import MAX_LOOPS, Block, loops
from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.native import Argument, In, NativeKernel, Out, aligned, emitted_address
from softneuro_cpu_numba.probe import works

from softneuro_core.device import Target
from softneuro_core.strides import Axis
from softneuro_qint8.numbers import Bounded, Grid

MAX_OUTER = MAX_LOOPS - 1
"""Loops over rows of ``emit.lookup``: with the inner one as many as a copy may have."""
TASK_ELEMENTS = 16384


def regrid(source: Grid, result: Bounded) -> np.ndarray:
    """The table that takes integers of one grid to another, bounded: 256 bytes, by the stored byte."""
    real = (stored(source).astype(np.float32) - np.float32(source.zero)) * np.float32(source.scale)
    return as_table(quantised(real, result))


def quantised(real: np.ndarray, result: Bounded) -> np.ndarray:
    """As QuantizeLinear does it."""
    steps = np.rint(real.astype(np.float32) / np.float32(result.grid.scale)) + np.float32(result.grid.zero)
    return np.clip(steps, result.low, result.high).astype(result.grid.dtype.numpy)


def stored(grid: Grid) -> np.ndarray:
    """Every number of the grid's type, ordered by its byte read as unsigned."""
    return np.arange(256, dtype=np.uint8).view(grid.dtype.numpy)


def as_table(results: np.ndarray) -> np.ndarray:
    """What :func:`stored` becomes, as bytes."""
    return aligned(results.view(np.uint8))


def lookup_kernel(
    blocks: Sequence[Block], tables: Sequence[np.ndarray], target: Target, permutes: bool | None = None
) -> NativeKernel:
    """Every block through its table; ``permutes`` (unless given: where that works) as ``emit.lookup`` has it."""
    if permutes is None:
        permutes = _may_permute(target) and works("softneuro_qint8.probes:byte_tables", target)
    isa = isa_of(target)
    words: list[Argument] = []
    first = 0
    for block, table in zip(blocks, tables, strict=True):
        found, tasks = _words(block, table, first)
        words += found
        first += tasks
    address = emitted_address("softneuro_qint8.emit.lookup", "lookup", isa, permutes=permutes)
    return NativeKernel(address, (len(blocks), *words), first)


def _may_permute(target: Target) -> bool:
    return isa_of(target) == "avx512" and "AVX512VBMI" in target.isa.split(",")


def _words(block: Block, table: np.ndarray, first: int) -> tuple[list[Argument], int]:
    axes = loops(block)
    inner = axes.pop() if axes else Axis(1, (1, 1))
    if not axes and inner.size > TASK_ELEMENTS:  # rows of a flat run, so that it can be split
        cut = next((c for c in range(TASK_ELEMENTS, 255, -1) if inner.size % c == 0), inner.size)
        axes, inner = [Axis(inner.size // cut, (cut * inner.steps[0], cut * inner.steps[1]))], Axis(cut, inner.steps)
    rows = math.prod(a.size for a in axes)
    per_task = max(1, TASK_ELEMENTS // inner.size)
    tasks = -(-rows // per_task)
    blank = MAX_OUTER - len(axes)
    constant = isinstance(block.source, np.ndarray)
    source: Argument = block.source if constant else In(int(block.source), block.source_offset)
    ends: list[Argument] = [source, Out(block.out, block.out_offset), table]
    shape = [first, tasks, per_task, rows, inner.size, *inner.steps]
    nest = [1] * blank + [a.size for a in axes]
    steps = [[0] * blank + [a.steps[i] for a in axes] for i in (0, 1)]
    return [*ends, *shape, *nest, *steps[0], *steps[1]], tasks
