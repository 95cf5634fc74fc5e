"""The whole patch matrix of a convolution (im2col), the epilogue behind a BLAS product, transposed convolution."""

from __future__ import annotations

import numpy as np
from numba import njit

from softneuro_cpu_numba.kernels.base import ACTIVATIONS, STRICT, f32, float_arg, i64, i64_address
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
def im2col():
    """args: x out | group_size_in rows_out batch pixels K groups | pixels_per_task pixel_tasks | channel_first |
    geometry[18]. out is [group, image, K, pixels] if channel_first, else [group, image * pixels, K]."""

    def run(args, begin, end, scratch):
        x, out = args[0], args[1]
        cg, batch, pixels, k = args[2], args[4], args[5], args[6]
        block, pixel_tasks, channel_first = args[8], args[9], args[10]
        geometry = i64(i64_address(args) + 11 * 8)
        for task in range(begin, end):
            group, rest = task // (batch * pixel_tasks), task % (batch * pixel_tasks)
            image, first = rest // pixel_tasks, rest % pixel_tasks * block
            here = min(block, pixels - first)
            source = x + group * cg * geometry[14] * 4
            base = out + (group * batch + image) * pixels * k * 4
            if channel_first:
                pack_patches(geometry, source, image * pixels + first, here, pixels, 1, base + first * 4)
            else:
                pack_patches(geometry, source, image * pixels + first, here, 1, k, base + first * k * 4)

    return run


@kernel
def finish(act):
    """In place y = act(y + bias + residual). args: y bias residual | rows width channels block row_bias | p0 p1.

    ``row_bias`` takes the bias by row (modulo channels), else by column.
    """
    activate = ACTIVATIONS[act]

    def run(args, begin, end, scratch):
        y, bias, res = f32(args[0]), f32(args[1]), args[2]
        residual = f32(res)
        rows, width, channels, block, by_row = args[3], args[4], args[5], args[6], args[7]
        p0, p1 = float_arg(args[8]), float_arg(args[9])
        for row in range(begin * block, min(rows, end * block)):
            base, shift = row * width, bias[row % channels]
            for i in range(width):
                v = y[base + i] + (shift if by_row else bias[i])
                if res != 0:
                    v += residual[base + i]
                y[base + i] = activate(v, p0, p1)

    return run


@kernel
def transposed(act):
    """Transposed convolution, NCHW, a task per output plane row block. args: x w bias y | batch channels_per_group
    groups out_per_group h w oh ow kh kw sh sw dh dw pt pl | p0 p1. w is [C, out_per_group, kh, kw].

    A task is one output row of one output channel; every input row that reaches it is added along x.
    """
    activate = ACTIVATIONS[act]

    def run(args, begin, end, scratch):
        x, weights, bias, y = f32(args[0]), f32(args[1]), f32(args[2]), f32(args[3])
        cg, groups, og, h, w, oh, ow = args[5], args[6], args[7], args[8], args[9], args[10], args[11]
        kh, kw, sh, sw, dh, dw, pt, pl = (
            args[12],
            args[13],
            args[14],
            args[15],
            args[16],
            args[17],
            args[18],
            args[19],
        )
        p0, p1 = float_arg(args[20]), float_arg(args[21])
        for task in range(begin, end):
            plane, oy = task // oh, task % oh
            image, channel = plane // (groups * og), plane % (groups * og)
            group, o = channel // og, channel % og
            out = task * ow
            for ox in range(ow):
                y[out + ox] = bias[channel]
            for i in range(kh):
                up = oy + pt - i * dh
                if up < 0 or up % sh != 0 or up // sh >= h:
                    continue
                iy = up // sh
                for q in range(cg):
                    row = ((image * groups * cg + group * cg + q) * h + iy) * w
                    tap = ((group * cg + q) * og + o) * kh * kw + i * kw
                    for j in range(kw):
                        shift = j * dw - pl  # ox = ix * sw + shift
                        first = max(0, (sw - 1 - shift) // sw)
                        last = min(w, (ow - 1 - shift) // sw + 1) if ow - 1 - shift >= 0 else 0
                        weight = weights[tap + j]
                        if sw == 1:
                            for ix in range(first, last):
                                y[out + ix + shift] += x[row + ix] * weight
                        else:
                            for ix in range(first, last):
                                y[out + ix * sw + shift] += x[row + ix] * weight
            for ox in range(out, out + ow):
                y[ox] = activate(y[ox], p0, p1)

    return run
