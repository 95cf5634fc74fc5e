"""Strided copies: one kernel for everything that only moves elements, and gathers along an axis."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from softneuro_cpu_numba.kernels.base import I64, i64, i64_address, pointer
from softneuro_cpu_numba.native import kernel

HEAD, BLOCK_WORDS, MAX_OUTER = 1, 30, 6


@cache
def transpose_block(bits: int, n: int) -> Any:
    """Intrinsic ``(src, src_step, dst, dst_step)``: an n x n block of ``bits``-wide elements; addresses, byte steps.

    log2(n) rounds of interleaving rows i and i + n/2.
    """
    element = ir.IntType(bits)
    vector, lane = ir.VectorType(element, n), ir.IntType(32)

    def mask(indices: list[int]) -> Any:
        return ir.Constant(ir.VectorType(lane, n), indices)

    low = mask([k // 2 + (n if k % 2 else 0) for k in range(n)])
    high = mask([n // 2 + k // 2 + (n if k % 2 else 0) for k in range(n)])

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        src, src_step, dst, dst_step = args

        def at(base: Any, step: Any, i: int) -> Any:
            return builder.inttoptr(builder.add(base, builder.mul(step, ir.Constant(I64, i))), vector.as_pointer())

        rows = [builder.load(at(src, src_step, i), align=bits // 8) for i in range(n)]
        for _ in range(n.bit_length() - 1):
            pairs = [(rows[i], rows[i + n // 2]) for i in range(n // 2)]
            rows = [builder.shuffle_vector(a, b, m) for a, b in pairs for m in (low, high)]
        for i, row in enumerate(rows):
            builder.store(row, at(dst, dst_step, i), align=bits // 8)
        return context.get_dummy_value()

    @intrinsic
    def run(typing_context: Any, src: Any, src_step: Any, dst: Any, dst_step: Any) -> Any:
        return types.void(*[types.int64] * 4), codegen

    return run


@kernel
def copy(itemsize):
    """args: blocks, then per block: src dst | first_task tasks rows_per_task | outer_rank M N | src_m src_n dst_m
    dst_n | outer sizes[6] src steps[6] dst steps[6] (elements). A row is one of outer * M; N is innermost.

    Rows run along N. Where N is strided in src and M is not, 8x8 blocks are transposed.
    """
    element = pointer(f"uint{8 * itemsize}")
    n8 = 8
    block8 = transpose_block(8 * itemsize, n8)

    def run(args, begin, end, scratch):
        here = i64(i64_address(args))
        for task in range(begin, end):
            b = HEAD
            while task >= here[b + 2] + here[b + 3]:
                b += BLOCK_WORDS
            rank, m, n = here[b + 5], here[b + 6], here[b + 7]
            sm, sn, dm, dn = here[b + 8], here[b + 9], here[b + 10], here[b + 11]
            total = m
            for d in range(rank):
                total *= here[b + 12 + d]
            row = (task - here[b + 2]) * here[b + 4]
            last = min(total, row + here[b + 4])
            while row < last:
                rest, so, do = row // m, 0, 0
                for d in range(rank - 1, -1, -1):
                    size = here[b + 12 + d]
                    at = rest % size
                    rest = rest // size
                    so += at * here[b + 12 + MAX_OUTER + d]
                    do += at * here[b + 12 + 2 * MAX_OUTER + d]
                first = row % m
                count = min(m - first, last - row)
                source = here[b] + (so + first * sm) * itemsize
                target = here[b + 1] + (do + first * dm) * itemsize
                x, y = element(source), element(target)
                if sn == 1 and dn == 1:
                    for i in range(count):
                        p, q = i * dm, i * sm
                        for j in range(n):
                            y[p + j] = x[q + j]
                elif sm == 1 and dn == 1:
                    i0 = 0
                    while i0 < count:
                        if i0 + n8 <= count:
                            j0 = 0
                            while j0 + n8 <= n:
                                block8(
                                    source + (i0 + j0 * sn) * itemsize,
                                    sn * itemsize,
                                    target + (i0 * dm + j0) * itemsize,
                                    dm * itemsize,
                                )
                                j0 += n8
                            for i in range(i0, i0 + n8):
                                for j in range(j0, n):
                                    y[i * dm + j] = x[i + j * sn]
                            i0 += n8
                        else:
                            for j in range(n):
                                y[i0 * dm + j] = x[i0 + j * sn]
                            i0 += 1
                else:
                    for i in range(count):
                        p, q = i * dm, i * sm
                        for j in range(n):
                            y[p + j * dn] = x[q + j * sn]
                row += count

    return run


@kernel
def gather(itemsize, index):
    """args: data indices y | outer axis_size inner count rows_per_task. A row is one (outer, index) pair."""
    element, at = pointer(f"uint{8 * itemsize}"), pointer(index)

    def run(args, begin, end, scratch):
        x, where, y = element(args[0]), at(args[1]), element(args[2])
        outer, size, inner, count, block = args[3], args[4], args[5], args[6], args[7]
        for row in range(begin * block, min(outer * count, end * block)):
            i = np.int64(where[row % count])
            if i < 0:
                i += size
            i = max(0, min(size - 1, i))  # out of range is the caller's error; reading outside would be ours
            p, q = ((row // count) * size + i) * inner, row * inner
            for j in range(inner):
                y[q + j] = x[p + j]

    return run
