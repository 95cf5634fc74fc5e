"""Reductions over any axes, softmax along any: everything that sums along memory first.

Sums over a contiguous run may be reassociated into vector lanes; the order is fixed at compile time, so results do
not depend on threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softneuro_cpu_numba.kernels.base import FAST_SUM, STRICT, exp32, f32, sqrt32
from softneuro_cpu_numba.kernels.elementwise import loader
from softneuro_cpu_numba.native import kernel

MAX_AXES = 4


@njit(fastmath=FAST_SUM, inline="always")
def _sum(a, x):
    return a + x


@njit(fastmath=FAST_SUM, inline="always")
def _sum_abs(a, x):
    return a + abs(x)


@njit(fastmath=FAST_SUM, inline="always")
def _sum_square(a, x):
    return a + x * x


@njit(fastmath=FAST_SUM, inline="always")
def _product(a, x):
    return a * x


@njit(fastmath=STRICT, inline="always")
def _max(a, x):
    return a if a > x or a != a else x


@njit(fastmath=STRICT, inline="always")
def _min(a, x):
    return a if a < x or a != a else x


@njit(fastmath=STRICT, inline="always")
def _same(a, count):
    return a


@njit(fastmath=STRICT, inline="always")
def _mean(a, count):
    return a / np.float32(count)


@njit(fastmath=STRICT, inline="always")
def _root(a, count):
    return sqrt32(a)


REDUCTIONS = {
    "sum": (0.0, _sum, _same),
    "mean": (0.0, _sum, _mean),
    "l1": (0.0, _sum_abs, _same),
    "l2": (0.0, _sum_square, _root),
    "sumsquare": (0.0, _sum_square, _same),
    "prod": (1.0, _product, _same),
    "max": (-np.inf, _max, _same),
    "min": (np.inf, _min, _same),
}
"""kind -> first value, step, finish."""


@kernel
def reduce(kind, inner_kept, stored="float32"):
    """args: x y | outputs per_task count inner inner_out | kept rank, sizes[4], src steps[4], dst steps[4] | reduced
    rank, sizes[4], src steps[4].

    ``inner`` elements lie together in x. They are kept (one output each, ``inner_out`` apart) or reduced. ``outputs``
    counts the kept loops; ``count`` is what a mean divides by. x is ``stored`` as a float type, y is float32.
    """
    first, step, finish = REDUCTIONS[kind]
    start = np.float32(first)
    step_total = _sum if kind in ("l1", "l2", "sumsquare") else step
    load = loader(stored)

    def run(args, begin, end, scratch):
        x, y = args[0], f32(args[1])
        outputs, block, count, inner, inner_out = args[2], args[3], args[4], args[5], args[6]
        kept, reduced = args[7], args[20]
        turns = 1
        for d in range(reduced):
            turns *= args[21 + d]
        for output in range(begin * block, min(outputs, end * block)):
            rest, source, target = output, 0, 0
            for d in range(kept - 1, -1, -1):
                size = args[8 + d]
                at = rest % size
                rest = rest // size
                source += at * args[12 + d]
                target += at * args[16 + d]
            total = start
            if inner_kept:
                for j in range(inner):
                    y[target + j * inner_out] = start
            for turn in range(turns):
                rest, here = turn, source
                for d in range(reduced - 1, -1, -1):
                    size = args[21 + d]
                    here += rest % size * args[25 + d]
                    rest = rest // size
                if inner_kept:
                    if inner_out == 1:
                        for j in range(inner):
                            y[target + j] = step(y[target + j], load(x, here + j))
                    else:
                        for j in range(inner):
                            y[target + j * inner_out] = step(y[target + j * inner_out], load(x, here + j))
                else:
                    part = start
                    for j in range(inner):
                        part = step(part, load(x, here + j))
                    total = step_total(total, part)
            if inner_kept:
                for j in range(inner):
                    y[target + j * inner_out] = finish(y[target + j * inner_out], count)
            else:
                y[target] = finish(total, count)

    run.fastmath = FAST_SUM if kind not in ("max", "min") else STRICT
    return run


@kernel
def softmax(log):
    """args: x y | outer n inner inner_block inner_tasks. Along the middle axis; a task is one outer, some inner.

    Softmax along the last axis is ``emit.norm.softmax``.

    scratch: 2 * inner_block floats.
    """

    def run(args, begin, end, scratch):
        x, y = f32(args[0]), f32(args[1])
        n, inner, block, tasks = args[3], args[4], args[5], args[6]
        top, total = f32(scratch), f32(scratch + block * 4)
        for task in range(begin, end):
            first = task % tasks * block
            width = min(block, inner - first)
            base = task // tasks * n * inner + first
            if inner == 1 and log:
                best = x[base]
                for i in range(1, n):
                    v = x[base + i]
                    best = v if v > best else best
                summed = np.float32(0.0)
                for i in range(n):
                    summed += exp32(x[base + i] - best)
                shift = best + np.float32(np.log(summed))
                for i in range(n):
                    y[base + i] = x[base + i] - shift
                continue
            for j in range(width):
                top[j] = x[base + j]
                total[j] = np.float32(0.0)
            for i in range(1, n):
                for j in range(width):
                    v = x[base + i * inner + j]
                    top[j] = v if v > top[j] else top[j]
            for i in range(n):
                for j in range(width):
                    e = exp32(x[base + i * inner + j] - top[j])
                    total[j] += e
                    if not log:
                        y[base + i * inner + j] = e
            for i in range(n):
                if log:
                    for j in range(width):
                        at = base + i * inner + j
                        y[at] = x[at] - top[j] - np.float32(np.log(total[j]))
                else:
                    for j in range(width):
                        y[base + i * inner + j] /= total[j]

    run.fastmath = FAST_SUM
    return run
