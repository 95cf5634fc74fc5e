"""The whole patch matrix of a convolution (im2col), the epilogue behind a BLAS product, transposed convolution."""

from __future__ import annotations

from softneuro_cpu_numba.kernels.base import ACTIVATIONS, f32, float_arg, i64, i64_address
from softneuro_cpu_numba.kernels.gemm import pack_patches
from softneuro_cpu_numba.native import kernel


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
