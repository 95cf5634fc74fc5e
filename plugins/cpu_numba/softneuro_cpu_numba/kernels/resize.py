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
    if out != "same":
        return _rounded_pixels(linear, element, out)
    elements = pointer(element)

    def run(args, begin, end, scratch):
        x, y = elements(args[0]), elements(args[1])
        h, w, oh, ow, c = args[2], args[3], args[4], args[5], args[10]
        rows, row_weights, columns, column_weights = i64(args[6]), f32(args[7]), i64(args[8]), f32(args[9])
        for task in range(begin, end):
            image, oy = task // oh, task % oh
            top, bottom = (image * h + rows[2 * oy]) * w, (image * h + rows[2 * oy + 1]) * w
            v = row_weights[oy]
            for ox in range(ow):
                out, a, b = (task * ow + ox) * c, columns[2 * ox], columns[2 * ox + 1]
                p, q, r, s = (top + a) * c, (top + b) * c, (bottom + a) * c, (bottom + b) * c
                u = column_weights[ox]
                if linear:
                    for i in range(c):
                        upper = x[p + i] + (x[q + i] - x[p + i]) * u
                        lower = x[r + i] + (x[s + i] - x[r + i]) * u
                        y[out + i] = upper + (lower - upper) * v
                else:
                    for i in range(c):
                        y[out + i] = x[p + i]

    return run


def _rounded_pixels(linear, element, out):
    """:func:`pixels` of integers."""
    elements, results = pointer(element), pointer(out)

    def run(args, begin, end, scratch):
        x, y = elements(args[0]), results(args[1])
        h, w, oh, ow, c = args[2], args[3], args[4], args[5], args[10]
        rows, row_weights, columns, column_weights = i64(args[6]), f32(args[7]), i64(args[8]), f32(args[9])
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
                    blend = np.float32(x[p + i])
                    if linear:
                        upper = blend + (np.float32(x[q + i]) - blend) * u
                        lower = np.float32(x[r + i])
                        lower = lower + (np.float32(x[s + i]) - lower) * u
                        blend = upper + (lower - upper) * v
                    y[to + i] = int_of(min(max(np.rint(blend * factor + shift), low), high))

    return run
