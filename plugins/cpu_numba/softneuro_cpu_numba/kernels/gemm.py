"""Batched A @ B with both factors computed, B packed per task."""

from __future__ import annotations

import numpy as np

from softneuro_cpu_numba.kernels.base import ACTIVATIONS, f32, float_arg, i64, tile
from softneuro_cpu_numba.native import kernel


@kernel
def dynamic(mr, vectors, lanes, act):
    """Y[b] = A[b] @ B[b] + bias, + residual, activated, with A and B computed; strides in elements.

    args: a b bias residual y | batch M N K | a_row a_k b_k b_col | row_block row_tasks | p0 p1 | offsets
    (address of int64 [batch, 2]: element offsets of A and B). bias is [N] or 0.
    scratch: tile, K * columns floats (B's panel), rows * K floats (A's last rows).
    """
    nr = vectors * lanes
    dot, activate = tile(mr, vectors, lanes), ACTIVATIONS[act]

    def run(args, begin, end, scratch):
        a, b, bias, res, y = args[0], args[1], args[2], args[3], args[4]
        m, n, k = args[6], args[7], args[8]
        a_row, a_k, b_k, b_col = args[9], args[10], args[11], args[12]
        row_block, row_tasks = args[13], args[14]
        p0, p1 = float_arg(args[15]), float_arg(args[16])
        offsets = i64(args[17])
        panels = (n + nr - 1) // nr
        panel_at = scratch + mr * nr * 4
        tail_at = panel_at + k * nr * 4
        c, panel, tail, bias_of = f32(scratch), f32(panel_at), f32(tail_at), f32(bias)
        out, residual = f32(y), f32(res)
        for task in range(begin, end):
            image, rest = task // (panels * row_tasks), task % (panels * row_tasks)
            column, first = rest // row_tasks * nr, rest % row_tasks * row_block
            columns = min(nr, n - column)
            a0 = a + offsets[2 * image] * 4
            source = f32(b + (offsets[2 * image + 1] + column * b_col) * 4)
            ldb, b_at = nr, panel_at
            if b_col == 1 and columns == nr and m <= 2 * mr:
                ldb, b_at = b_k, b + (offsets[2 * image + 1] + column) * 4
            elif b_col == 1:
                for i in range(k):
                    for j in range(columns):
                        panel[i * nr + j] = source[i * b_k + j]
                    for j in range(columns, nr):
                        panel[i * nr + j] = np.float32(0.0)
            else:
                for j in range(columns):
                    for i in range(k):
                        panel[i * nr + j] = source[i * b_k + j * b_col]
                for j in range(columns, nr):
                    for i in range(k):
                        panel[i * nr + j] = np.float32(0.0)
            last = min(m, first + row_block)
            for r in range(first, last, mr):
                some = min(mr, last - r)
                at, lda, step = a0 + r * a_row * 4, a_row, a_k
                if some < mr:
                    rest_of = f32(at)
                    for i in range(mr):
                        for q in range(k):
                            tail[i * k + q] = rest_of[i * a_row + q * a_k] if i < some else np.float32(0.0)
                    at, lda, step = tail_at, k, 1
                dot(at, lda * 4, step * 4, b_at, ldb * 4, k, scratch)
                for i in range(some):
                    y0 = (image * m + r + i) * n + column
                    for j in range(columns):
                        v = c[i * nr + j]
                        if bias != 0:
                            v += bias_of[column + j]
                        if res != 0:
                            v += residual[y0 + j]
                        out[y0 + j] = activate(v, p0, p1)

    return run
