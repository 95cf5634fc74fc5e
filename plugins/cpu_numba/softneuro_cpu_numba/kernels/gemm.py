"""Matrix products over register tiles, and convolution as one (the patch matrix exists a block at a time).

``planes``: C[channel, pixel], patches packed per block of pixels (NCHW).
``dynamic``: batched A @ B with both factors computed, B packed per task.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softneuro_cpu_numba.kernels.base import ACTIVATIONS, STRICT, f32, float_arg, i64, i64_address, tile
from softneuro_cpu_numba.native import kernel


@njit(fastmath=STRICT)
def pack_patches(geometry, x, first, count, step_k, step_p, out):
    """Writes the patches of pixels ``first .. first+count`` to ``out[k*step_k + p*step_p]``, zeros outside x.

    ``x`` is the address of the group's first channel; ``geometry`` holds N-free sizes, see ``conv.geometry_table``.
    k runs over (channel, kh, kw) if ``channel_first`` else (kh, kw, channel). Strides in elements.
    """
    c, h, w, oh, ow = geometry[0], geometry[1], geometry[2], geometry[3], geometry[4]
    kh, kw, sh, sw = geometry[5], geometry[6], geometry[7], geometry[8]
    dh, dw, pt, pl = geometry[9], geometry[10], geometry[11], geometry[12]
    xn, xc, xh, xw, channel_first = geometry[13], geometry[14], geometry[15], geometry[16], geometry[17]
    kc = kh * kw if channel_first else 1
    kt = 1 if channel_first else c
    src, dst = f32(x), f32(out)
    p = first
    while p < first + count:
        n, row = p // (oh * ow), p % (oh * ow)
        oy, ox0 = row // ow, row % ow
        run = min(ow - ox0, first + count - p)
        for i in range(kh):
            iy = oy * sh - pt + i * dh
            inside = iy >= 0 and iy < h
            for j in range(kw):
                shift = j * dw - pl
                low, high = 0, 0
                if inside:
                    low = max(ox0, (sw - 1 - shift) // sw)
                    high = min(ox0 + run, (w - 1 - shift) // sw + 1)
                low = min(max(low, ox0), ox0 + run)
                high = max(high, low)
                base = n * xn + iy * xh + shift * xw
                k0 = (i * kw + j) * kt * step_k + (p - first - ox0) * step_p
                if channel_first:
                    for q in range(c):
                        k1, b1 = k0 + q * kc * step_k, base + q * xc
                        for o in range(ox0, low):
                            dst[k1 + o * step_p] = np.float32(0.0)
                        if sw == 1 and xw == 1 and step_p == 1:
                            for o in range(low, high):
                                dst[k1 + o] = src[b1 + o]
                        else:
                            for o in range(low, high):
                                dst[k1 + o * step_p] = src[b1 + o * sw * xw]
                        for o in range(high, ox0 + run):
                            dst[k1 + o * step_p] = np.float32(0.0)
                else:
                    for o in range(ox0, ox0 + run):
                        k1, b1 = k0 + o * step_p, base + o * sw * xw
                        if o < low or o >= high:
                            for q in range(c):
                                dst[k1 + q * step_k] = np.float32(0.0)
                        elif xc == 1 and step_k == 1:
                            for q in range(c):
                                dst[k1 + q] = src[b1 + q]
                        else:
                            for q in range(c):
                                dst[k1 + q * step_k] = src[b1 + q * xc]
        p += run


@kernel
def planes(mr, vectors, lanes, act):
    """C[OC, P] = w[OC, K] @ patches(x)[K, P] + bias, + residual, activated; NCHW.

    args: x w bias residual y | batch pixels K channels_per_group groups out_channels_per_group | direct
    pixels_per_task pixel_tasks channels_per_task channel_tasks | p0 p1 | geometry[18].
    w is [group][OC rounded up to mr][K]. ``direct`` reads x as [K, P] without packing.
    scratch: tile, then K * pixels_per_task floats.
    """
    nr = vectors * lanes
    dot, activate = tile(mr, vectors, lanes), ACTIVATIONS[act]

    def run(args, begin, end, scratch):
        x, w, bias, res, y = args[0], args[1], args[2], args[3], args[4]
        pixels, k, cg, groups, ocg = args[6], args[7], args[8], args[9], args[10]
        direct, block, pixel_tasks = args[11], args[12], args[13]
        channel_block, channel_tasks = args[14], args[15]
        p0, p1 = float_arg(args[16]), float_arg(args[17])
        geometry = i64(i64_address(args) + 18 * 8)
        padded = (ocg + mr - 1) // mr * mr
        c, bias_of, out, residual = f32(scratch), f32(bias), f32(y), f32(res)
        patches = scratch + mr * nr * 4
        per_group = pixel_tasks * channel_tasks
        for task in range(begin, end):
            image, rest = task // (groups * per_group), task % (groups * per_group)
            group, rest = rest // per_group, rest % per_group
            first = (rest // channel_tasks) * block
            oc0 = (rest % channel_tasks) * channel_block
            oc1 = min(ocg, oc0 + channel_block)
            here = min(block, pixels - first)
            xg = x + group * cg * geometry[14] * 4
            packed = patches
            if not direct:
                pack_patches(geometry, xg, image * pixels + first, here, block, 1, patches)
            wg = w + group * padded * k * 4
            p = 0
            while p < here:
                some = min(nr, here - p)
                b, ldb = packed + p * 4, block
                if direct:
                    b, ldb = xg + (image * geometry[13] + first + p) * 4, geometry[14]
                    if some < nr:
                        pack_patches(geometry, xg, image * pixels + first + p, some, nr, 1, patches)
                        b, ldb = patches, nr
                for oc in range(oc0, oc1, mr):
                    dot(wg + oc * k * 4, k * 4, 4, b, ldb * 4, k, scratch)
                    for i in range(min(mr, oc1 - oc)):
                        channel = group * ocg + oc + i
                        y0 = (image * groups * ocg + channel) * pixels + first + p
                        shift = bias_of[channel]
                        if res != 0:
                            for j in range(some):
                                out[y0 + j] = activate(c[i * nr + j] + shift + residual[y0 + j], p0, p1)
                        else:
                            for j in range(some):
                                out[y0 + j] = activate(c[i * nr + j] + shift, p0, p1)
                p += some

    return run


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
