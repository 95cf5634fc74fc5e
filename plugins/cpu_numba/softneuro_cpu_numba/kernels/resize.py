"""Resizing with tables made in advance: per output row and column, up to two taps and their weights."""

from __future__ import annotations

import numpy as np

from softneuro_cpu_numba.kernels.base import f32, float_arg, i64, int_of, pointer
from softneuro_cpu_numba.native import kernel


@kernel
def planes(linear):
    """args: x y | h w oh ow | row taps (int64 [oh, 2]), row weights (float32 [oh]), column taps, column weights.

    A task is one plane (NCHW). ``linear`` blends taps by weight (of the second), else the first tap is copied.
    """

    def run(args, begin, end, scratch):
        x, y = f32(args[0]), f32(args[1])
        h, w, oh, ow = args[2], args[3], args[4], args[5]
        rows, row_weights, columns, column_weights = i64(args[6]), f32(args[7]), i64(args[8]), f32(args[9])
        for plane in range(begin, end):
            for oy in range(oh):
                out = (plane * oh + oy) * ow
                top = (plane * h + rows[2 * oy]) * w
                if linear:
                    bottom, v = (plane * h + rows[2 * oy + 1]) * w, row_weights[oy]
                    for ox in range(ow):
                        a, b, u = columns[2 * ox], columns[2 * ox + 1], column_weights[ox]
                        upper = x[top + a] + (x[top + b] - x[top + a]) * u
                        lower = x[bottom + a] + (x[bottom + b] - x[bottom + a]) * u
                        y[out + ox] = upper + (lower - upper) * v
                else:
                    for ox in range(ow):
                        y[out + ox] = x[top + columns[2 * ox]]

    return run


@kernel
def pixels(linear, element="float32", out="same"):
    """args as :func:`planes`, then channels. A task is one output row of one image (NHWC); pixels of any ``element``
    can be copied, those of float32 blended; integers of 8 bits are blended and written as integers of type ``out``,
    that is round(blend * factor + shift) between low and high: four more floats."""
    rounded = out != "same"
    elements, results = pointer(element), pointer(out if rounded else element)

    def run(args, begin, end, scratch):
        x, y = elements(args[0]), results(args[1])
        h, w, oh, ow, c = args[2], args[3], args[4], args[5], args[10]
        rows, row_weights, columns, column_weights = i64(args[6]), f32(args[7]), i64(args[8]), f32(args[9])
        if rounded:
            factor, shift = float_arg(args[11]), float_arg(args[12])
            low, high = float_arg(args[13]), float_arg(args[14])
        for task in range(begin, end):
            image, oy = task // oh, task % oh
            top, bottom = (image * h + rows[2 * oy]) * w, (image * h + rows[2 * oy + 1]) * w
            v = row_weights[oy]
            for ox in range(ow):
                to, a, b = (task * ow + ox) * c, columns[2 * ox], columns[2 * ox + 1]
                p, q, r, s = (top + a) * c, (top + b) * c, (bottom + a) * c, (bottom + b) * c
                u = column_weights[ox]
                for i in range(c):
                    if linear:
                        upper, lower = np.float32(x[p + i]), np.float32(x[r + i])
                        upper += (np.float32(x[q + i]) - upper) * u
                        lower += (np.float32(x[s + i]) - lower) * u
                        made = upper + (lower - upper) * v
                    else:
                        made = x[p + i]
                    if rounded:
                        y[to + i] = int_of(min(max(np.rint(np.float32(made) * factor + shift), low), high))
                    else:
                        y[to + i] = made

    return run
