"""Convolution in NCHW: the pixels of a plane are the lanes.

``pointwise`` reads planes as they lie. ``depthwise`` copies the input rows under a few output rows with their zero
border, apart for each phase of the step along x, so that every tap of neighbouring outputs is one plain load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from softneuro_cpu_numba.emit.emitter import Emitter, Index, Value
from softneuro_cpu_numba.emit.tile import Finish, Panel, Segments, accumulate, in_pieces
from softneuro_cpu_numba.native import emitted

POINTWISE = (
    *("x", "w", "bias", "residual", "y", "pixels", "k", "groups", "out_channels"),
    *("pixel_tasks", "pixels_per_task", "channel_tasks", "channels_per_task"),
)
"""Then p0 and p1. ``out_channels`` of a group; ``w`` as [groups * out_channels][k]."""


@emitted
def pointwise(
    e: Emitter, pieces: Sequence[int], vectors: int, narrow_pieces: Sequence[int], act: str, residual: bool
) -> None:
    """y[channel, pixel] = w @ x + bias, + residual, activated: a tile is a few output channels by ``vectors`` vectors
    of pixels. Tasks are image x group x stretch of pixels x stretch of output channels."""
    a = dict(zip(POINTWISE, e.words(0, len(POINTWISE)), strict=True))
    at = len(POINTWISE)
    finish = Finish(act, e.number(at), e.number(at + 1), e.floats(a["residual"]) if residual else None)
    x, w, bias, y = (e.floats(a[name]) for name in ("x", "w", "bias", "y"))
    pixels, k = a["pixels"], a["k"]

    def task(number: Value) -> None:
        rest, channel_stretch = e.divmod(number, a["channel_tasks"])
        planes, pixel_stretch = e.divmod(rest, a["pixel_tasks"])
        _, group = e.divmod(planes, a["groups"])
        first = e.mul(channel_stretch, a["channels_per_task"])
        channels = e.smaller(a["channels_per_task"], e.sub(a["out_channels"], first))
        begin = e.mul(pixel_stretch, a["pixels_per_task"])
        end = e.smaller(e.add(begin, a["pixels_per_task"]), pixels)
        source = e.at(x, e.mul(planes, k, pixels))
        row = e.add(e.mul(group, a["out_channels"]), first)
        weights, biases = e.at(w, e.mul(row, k)), e.at(bias, row)
        place = e.mul(e.add(e.mul(planes, a["out_channels"]), first), pixels)

        def panel(pixel: Value, width: int, mask: Value | None) -> None:
            columns = Panel(e.at(source, pixel), pitch=pixels, mask=mask)

            def tile(channel: Value, size: int) -> None:
                rows = [e.add(channel, r) for r in range(size)]
                pointers = [e.at(weights, e.mul(r, k)) for r in rows]
                start = [value for r in rows for value in [e.broadcast(biases, r)] * width]
                sums = accumulate(e, pointers, columns, Segments(k), start)
                for number, value in enumerate(sums):
                    r, v = divmod(number, width)
                    offset = e.add(place, e.mul(rows[r], pixels), pixel, v * e.lanes)
                    finish.store(e, value, y, offset, mask)

            in_pieces(e, channels, pieces if width == vectors else narrow_pieces, width, tile)

        _by_vectors(e, begin, end, vectors, panel)

    e.loop(e.end, task, first=e.begin)


def _by_vectors(
    e: Emitter, begin: Index, end: Value, vectors: int, body: Callable[[Value, int, Value | None], None]
) -> None:
    """``body(first, width, mask)`` over begin..end: ``vectors`` at a time, then one, then what is left of one."""
    for width in dict.fromkeys((vectors, 1)):
        step = width * e.lanes
        whole = e.add(begin, e.mul(e.divmod(e.sub(end, begin), step)[0], step))
        e.loop(whole, lambda i, width=width: body(i, width, None), step=step, first=begin)
        begin = whole
    e.loop(end, lambda i: body(i, 1, e.lanes_below(e.sub(end, i))), step=e.lanes, first=begin)


DEPTHWISE = (
    *("x", "w", "bias", "residual", "y", "channels", "height", "width", "rows", "columns", "top", "left"),
    *("kernel_y", "step_y", "dilation_y", "rows_per_task", "stretches", "pitch", "phase"),
)
"""Then p0 and p1. ``rows`` x ``columns`` are the output's; in the copy rows are ``pitch`` floats apart, phases
``phase``; ``w`` as [channels][kernel_y * kernel_x]."""
UNROLLED_TAPS = 7
"""Wider kernels run as a loop over the taps of a row."""
TILE_VECTORS = 2


@emitted
def depthwise(
    e: Emitter, pieces: Sequence[int], kernel: int, step: int, dilation: int, act: str, residual: bool
) -> None:
    """y = depthwise(x, w) + bias, + residual, activated; ``kernel``, ``step`` and ``dilation`` along x. A tile is one
    of ``pieces`` rows by two vectors. A task is a stretch of output rows of a plane. scratch: the copy."""
    a = dict(zip(DEPTHWISE, e.words(0, len(DEPTHWISE)), strict=True))
    at = len(DEPTHWISE)
    finish = Finish(act, e.number(at), e.number(at + 1), e.floats(a["residual"]) if residual else None)
    x, w, bias, y, copy = (e.floats(p) for p in (*(a[n] for n in ("x", "w", "bias", "y")), e.scratch))

    def task(number: Value) -> None:
        plane, stretch = e.divmod(number, a["stretches"])
        _, channel = e.divmod(plane, a["channels"])
        first = e.mul(stretch, a["rows_per_task"])
        here = e.smaller(a["rows_per_task"], e.sub(a["rows"], first))
        _copy_rows(e, a, step, e.at(x, e.mul(plane, a["height"], a["width"])), first, here, copy)
        weights = e.at(w, e.mul(channel, a["kernel_y"], kernel))
        place = e.add(e.mul(plane, a["rows"]), first)

        def strip(column: Value, width: int, mask: Value | None) -> None:
            def tile(row: Value, size: int) -> None:
                start = [e.broadcast(bias, channel)] * (size * width)
                tops = [e.add(e.mul(e.add(row, r), a["step_y"], a["pitch"]), column) for r in range(size)]
                places = [e.add(top, v * e.lanes) for top in tops for v in range(width)]
                sums = _window_sums(e, a, weights, copy, places, start, kernel, step, dilation)
                for number, value in enumerate(sums):
                    r, v = divmod(number, width)
                    offset = e.add(e.mul(e.add(place, row, r), a["columns"]), column, v * e.lanes)
                    finish.store(e, value, y, offset, mask)

            in_pieces(e, here, pieces, width, tile)

        _by_vectors(e, 0, a["columns"], TILE_VECTORS, strip)

    e.loop(e.end, task, first=e.begin)


def _window_sums(
    e: Emitter,
    a: dict[str, Value],
    weights: Value,
    copy: Value,
    places: Sequence[Value],
    start: Sequence[Value],
    kernel: int,
    step: int,
    dilation: int,
) -> list[Value]:
    """Products and sums of the windows whose first taps lie at ``places`` of the copy, from ``start`` on."""

    def line(i: Value, *sums: Value) -> list[Value]:
        down = e.at(copy, e.mul(i, a["dilation_y"], a["pitch"]))
        factors = e.at(weights, e.mul(i, kernel))

        def tap(j: Index, *now: Value) -> list[Value]:
            shift, factor = _along(e, a["phase"], j, step, dilation), e.broadcast(factors, j)
            taps = (e.load(down, e.add(place, shift)) for place in places)
            return [e.fma(factor, value, so_far) for value, so_far in zip(taps, now, strict=True)]

        if kernel > UNROLLED_TAPS:
            return e.loop(kernel, tap, sums)
        return reduce(lambda now, j: tap(j, *now), range(kernel), list(sums))

    return e.loop(a["kernel_y"], line, start)


def _along(e: Emitter, phase: Value, tap: Index, step: int, dilation: int) -> Value:
    """Floats from an output's place to its tap: the phase the tap falls into, and how far along."""
    if isinstance(tap, int):
        far, apart = divmod(tap * dilation, step)
        return e.add(e.mul(phase, apart), far)
    whole, rest = e.divmod(e.mul(tap, dilation), step)
    return e.add(e.mul(phase, rest), whole)


def _copy_rows(e: Emitter, a: dict[str, Value], step: int, x: Value, first: Value, here: Value, copy: Value) -> None:
    """The input rows under output rows ``first .. first + here``, padded; phase f holds columns f, f + step, ..."""
    count = e.add(e.mul(e.sub(here, 1), a["step_y"]), e.mul(e.sub(a["kernel_y"], 1), a["dilation_y"]), 1)
    begin = e.sub(e.mul(first, a["step_y"]), a["top"])
    pitch = a["pitch"]

    def row(r: Value) -> None:
        above = e.add(begin, r)
        inside = e.b.icmp_unsigned("<", above, a["height"])
        source = e.at(x, e.mul(above, a["width"]))

        def phase(f: Value) -> None:
            into = e.at(copy, e.add(e.mul(f, a["phase"]), e.mul(r, pitch)))
            before = e.sub(e.add(a["left"], step - 1), f)  # column c holds x[c * step + f - left]
            low = e.smaller(e.divmod(e.larger(before, 0), step)[0], pitch)
            high = e.divmod(e.larger(e.sub(e.add(a["width"], a["left"], step - 1), f), 0), step)[0]
            high = e.smaller(e.larger(high, low), pitch)
            high = e.b.select(inside, high, low)
            e.zero_run(into, low)
            data = e.at(source, e.sub(e.add(e.mul(low, step), f), a["left"]))
            e.copy_run(e.at(into, low), data, e.sub(high, low), step)
            e.zero_run(e.at(into, high), e.sub(pitch, high))

        e.loop(step, phase)

    e.loop(count, row)
