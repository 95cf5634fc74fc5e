"""Depthwise convolution (channel multiplier 1) and pooling in NCHW: a row at a time, vectorised along it.

NHWC is emitted (``emit.slide``). Taps outside the image are skipped, never read. A 3x3 kernel's inside is unrolled.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from softneuro_cpu_numba.kernels.base import ACTIVATIONS, STRICT, f32, float_arg
from softneuro_cpu_numba.native import kernel


@njit(fastmath=STRICT, inline="always")
def first_inside(shift, stride, origin):
    """Smallest o >= origin with o * stride + shift >= 0."""
    return max(origin, (stride - 1 - shift) // stride)


@njit(fastmath=STRICT, inline="always")
def end_inside(shift, stride, size, end):
    """One past the largest o < end with o * stride + shift < size."""
    return min(end, (size - 1 - shift) // stride + 1) if size - 1 - shift >= 0 else 0


@kernel
def nchw(act, three, unit_stride):
    """args: x w bias residual y | planes channels h w oh ow kh kw sh sw dh dw pt pl | p0 p1. A task is a plane.

    w is [C, kh*kw]. ``three`` unrolls 3x3 without dilation; ``unit_stride`` fixes sw at 1.
    """
    activate = ACTIVATIONS[act]

    def run(args, begin, end, scratch):
        x, weights, biases, res, y = f32(args[0]), f32(args[1]), f32(args[2]), args[3], f32(args[4])
        channels, h, w, oh, ow = args[6], args[7], args[8], args[9], args[10]
        kh, kw, sh, sw, dh, dw, pt, pl = (
            args[11],
            args[12],
            args[13],
            args[14],
            args[15],
            args[16],
            args[17],
            args[18],
        )
        p0, p1 = float_arg(args[19]), float_arg(args[20])
        residual = f32(res)
        if unit_stride:
            sw = 1
        if three:
            kh, kw, dh, dw = 3, 3, 1, 1
        inner0 = first_inside(-pl, sw, 0)
        inner1 = max(inner0, end_inside((kw - 1) * dw - pl, sw, w, ow))
        for plane in range(begin, end):
            channel = plane % channels
            bias, tap = biases[channel], channel * kh * kw
            source = plane * h * w
            if three:
                w0, w1, w2 = weights[tap], weights[tap + 1], weights[tap + 2]
                w3, w4, w5 = weights[tap + 3], weights[tap + 4], weights[tap + 5]
                w6, w7, w8 = weights[tap + 6], weights[tap + 7], weights[tap + 8]
            for oy in range(oh):
                out = (plane * oh + oy) * ow
                iy0 = oy * sh - pt
                if three and iy0 >= 0 and iy0 + 2 < h and inner1 > inner0:
                    top = source + iy0 * w - pl
                    for ox in range(inner0, inner1):
                        a = top + ox * sw
                        b = a + w
                        c = b + w
                        v = bias + x[a] * w0 + x[a + 1] * w1 + x[a + 2] * w2
                        v += x[b] * w3 + x[b + 1] * w4 + x[b + 2] * w5
                        v += x[c] * w6 + x[c + 1] * w7 + x[c + 2] * w8
                        y[out + ox] = v
                    for ox in range(ow):
                        if ox >= inner0 and ox < inner1:
                            continue
                        v = bias
                        for i in range(3):
                            for j in range(3):
                                ix = ox * sw - pl + j
                                if ix >= 0 and ix < w:
                                    v += x[source + (iy0 + i) * w + ix] * weights[tap + i * 3 + j]
                        y[out + ox] = v
                else:
                    for ox in range(ow):
                        y[out + ox] = bias
                    for i in range(kh):
                        iy = iy0 + i * dh
                        if iy < 0 or iy >= h:
                            continue
                        for j in range(kw):
                            shift, weight = j * dw - pl, weights[tap + i * kw + j]
                            row = source + iy * w + shift
                            for ox in range(first_inside(shift, sw, 0), end_inside(shift, sw, w, ow)):
                                y[out + ox] += x[row + ox * sw] * weight
                if res != 0:
                    for ox in range(out, out + ow):
                        y[ox] = activate(y[ox] + residual[ox], p0, p1)
                else:
                    for ox in range(out, out + ow):
                        y[ox] = activate(y[ox], p0, p1)

    return run


@kernel
def pool_nchw(kind):
    """args: x y | planes h w oh ow kh kw sh sw dh dw pt pl pb pr | count_pads. A task is a plane."""
    start = np.float32(-np.inf) if kind == "max" else np.float32(0.0)
    is_max = kind == "max"

    def run(args, begin, end, scratch):
        x, y = f32(args[0]), f32(args[1])
        h, w, oh, ow, kh, kw = args[3], args[4], args[5], args[6], args[7], args[8]
        sh, sw, dh, dw, pt, pl, pb, pr = args[9], args[10], args[11], args[12], args[13], args[14], args[15], args[16]
        count_pads = args[17]
        for plane in range(begin, end):
            source = plane * h * w
            for oy in range(oh):
                out = (plane * oh + oy) * ow
                for ox in range(ow):
                    y[out + ox] = start
                for i in range(kh):
                    iy = oy * sh - pt + i * dh
                    if iy < 0 or iy >= h:
                        continue
                    for j in range(kw):
                        shift = j * dw - pl
                        row = source + iy * w + shift
                        low, high = first_inside(shift, sw, 0), end_inside(shift, sw, w, ow)
                        if is_max:
                            for ox in range(low, high):
                                v, best = x[row + ox * sw], y[out + ox]
                                y[out + ox] = best if best > v else v
                        else:
                            for ox in range(low, high):
                                y[out + ox] += x[row + ox * sw]
                if not is_max:
                    rows = taps_inside(oy, sh, dh, kh, pt, h, pb, count_pads)
                    for ox in range(ow):
                        y[out + ox] /= np.float32(rows * taps_inside(ox, sw, dw, kw, pl, w, pr, count_pads))

    return run


@njit(fastmath=STRICT)
def taps_inside(o, stride, dilation, size, pad, extent, end_pad, count_pads):
    """Taps of one axis an average divides by: those in the image, or in image and padding."""
    inside = 0
    for i in range(size):
        at = o * stride - pad + i * dilation
        if (at >= 0 and at < extent) or (count_pads and at < extent + end_pad):
            inside += 1
    return inside
