"""Pooling in NCHW: a row at a time, vectorised along it. Taps outside the image are skipped, never read."""

from __future__ import annotations

import numpy as np
from numba import njit

from softneuro_cpu_numba.kernels.base import STRICT, f32
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
def nchw(kind):
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
