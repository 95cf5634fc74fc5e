"""Convolution and matrix product on pixels as rows and output channels as columns (NHWC, Gemm, MatMul).

Direct: no patch matrix exists. A pixel's window is a few runs of consecutive floats in the band (one for each kernel
row: its columns and channels lie together), so the tile's rows are addresses and the sums run over those runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from softneuro_cpu_numba.emit.band import Band
from softneuro_cpu_numba.emit.emitter import Emitter, Value
from softneuro_cpu_numba.emit.tasks import neighbours, once, room
from softneuro_cpu_numba.emit.tile import Finish, Panel, Segments, accumulate, coming, in_pieces
from softneuro_cpu_numba.native import emitted

ARGUMENTS = (
    *("x", "w", "bias", "residual", "y", "starts"),
    *("row_tasks", "rows_per_task", "most_tasks", "panel_tasks", "panels_per_task", "rows", "columns"),
    *("x_image", "groups", "channels", "x_channel", "out_channels", "ld_y", "wide", "panels", "k"),
    *("ld_a", "offsets", "run", "runs", "run_offsets", "y_image", "y_row", "y_origin", "y_offsets", "scale"),
    "factors",
)
"""Then p0, p1 and, unless pointwise, the band. ``rows`` x ``columns`` are the output's; ``starts`` gives each panel's
first column; ``offsets`` each pixel's place in the band; ``ld_a`` (pointwise) the floats between two pixels.
A scattered result has images ``y_image`` pixels apart, rows ``y_row``, and a stretch's pixels at ``y_offsets`` from
``y_origin`` on. ``ld_y``: floats between two pixels of the result."""


@emitted
def rows(
    e: Emitter,
    pieces: Sequence[int],
    vectors: int,
    narrow_pieces: Sequence[int],
    source: str,
    act: str,
    residual: bool,
    few: int,
    stored: str = "float32",
    scattered: bool = False,
    scaled: bool = False,
    ask_ahead: bool = False,
    lines: int = 0,
    planes: int = 0,
    pairs: bool = False,
    result: str = "float32",
) -> None:
    """y[pixel, channel] = windows(x) @ w + bias, + residual, activated.

    Tasks are image x group x row stretch x panel stretch. Panels are ``vectors`` wide, the last ones one vector;
    ``few``: the output channels of a group where there are fewer than lanes, else 0. ``source``: ``pointwise``, or how
    the band reads x; ``planes``: the channels where it reads planes.
    ``scaled``: row k of w is multiplied by ``scale[k]``; ``ask_ahead``: the next tile's pixels are asked for (both
    pointwise only).
    ``lines``: cache lines of the next panel every step asks for.
    ``pairs``: x and w are bfloat16; channels, k and all of x are counted in words of two. ``result``: how y and the
    residual are stored.
    scratch: the band. Weights: [group][panel][k][width], elements ``stored`` as float32, float16, bfloat16, int8 or
    int16. Sums of int8 are multiplied by ``factors``, by column, before the bias is added; behind all of int16 lie
    float32 [panel][k], what the integers of a row count (one group, pointwise).
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    at = len(ARGUMENTS)
    more = e.stored(a["residual"], result) if residual else None
    finish = Finish(act, e.number(at), e.number(at + 1), more, result)
    band = None if source == "pointwise" else Band.read(e, source, at + 2, planes)
    x, bias, y = e.floats(a["x"]), e.floats(a["bias"]), e.stored(a["y"], result)
    steps, factors = stored == "int8", e.floats(a["factors"])
    w = e.stored(a["w"], stored)
    starts = e.integers(a["starts"])
    scale = e.floats(a["scale"]) if scaled else None
    whole = Segments(a["k"])
    segments = whole if band is None else Segments(a["run"], a["runs"], e.integers(a["run_offsets"]))
    columns_per_group = e.add(e.mul(a["wide"], vectors * e.lanes), e.mul(e.sub(a["panels"], a["wide"]), e.lanes))
    units = e.floats(e.at(w, e.mul(columns_per_group, a["k"]))) if stored == "int16" else None

    def tasks(number: Value, many: Value, wide: Value) -> None:
        place, panel_stretch = e.divmod(number, a["panel_tasks"])
        entry, stretch = e.divmod(place, a["row_tasks"])
        image, group = e.divmod(entry, a["groups"])
        first_row = e.mul(stretch, a["rows_per_task"])
        here = e.smaller(e.mul(many, a["rows_per_task"]), e.sub(a["rows"], first_row))
        count = e.mul(here, a["columns"])
        pixel = e.mul(e.add(e.mul(image, a["rows"]), first_row), a["columns"])
        begin = e.mul(panel_stretch, a["panels_per_task"])
        end = e.smaller(e.add(begin, e.mul(wide, a["panels_per_task"])), a["panels"])
        origin = e.at(x, e.add(e.mul(image, a["x_image"]), e.mul(group, a["channels"], a["x_channel"])))
        row_at: Callable[[Value], Value]
        if band is None:
            origin = e.at(origin, e.mul(first_row, a["ld_a"]))
            row_at = lambda p: e.at(origin, e.mul(p, a["ld_a"]))  # noqa: E731
        else:
            packed, offsets = room(e), e.integers(a["offsets"])
            once(e, place, lambda: band.pack(e, origin, a["channels"], first_row, here, packed))
            row_at = lambda p: e.at(packed, e.integer(offsets, p))  # noqa: E731
        if scattered:
            pixel = e.add(a["y_origin"], e.mul(image, a["y_image"]), e.mul(first_row, a["y_row"]))
            y_offsets = e.integers(a["y_offsets"])
            ahead_of = lambda p: e.mul(e.integer(y_offsets, p), a["ld_y"])  # noqa: E731
        else:
            ahead_of = lambda p: e.mul(p, a["ld_y"])  # noqa: E731
        written = e.add(e.mul(pixel, a["ld_y"]), e.mul(group, a["out_channels"]))
        before = e.mul(group, columns_per_group)

        def panel(number: Value, width: int, sizes: Sequence[int]) -> None:
            column = e.integer(starts, number)
            if width == 1:
                ahead = e.add(e.mul(a["wide"], (vectors - 1) * e.lanes), e.mul(number, e.lanes))
            else:
                ahead = e.mul(number, width * e.lanes)
            ahead = e.add(before, ahead)
            weights, biases, own = e.at(w, e.mul(ahead, a["k"])), e.at(bias, ahead), e.at(factors, ahead)
            counts = scale if units is None else e.at(units, e.mul(number, a["k"]))
            base = e.add(written, column)
            mask = few if few and width == 1 else None

            def tile(first: Value, size: int) -> None:
                pointers = [row_at(e.add(first, r)) for r in range(size)]
                start = [e.constant(0.0) if steps else e.load(biases, v * e.lanes) for v in range(width)]
                following = e.mul(a["ld_a"], size) if ask_ahead and size == pieces[0] else None
                next_panel = coming(e, weights, a["k"], width * e.lanes, first, pieces[0], lines)
                columns = Panel(weights, stored, counts, pairs=pairs, coming=next_panel)
                sums = accumulate(e, pointers, columns, segments, start * size, following)
                if steps:
                    ends = [(e.load(own, v * e.lanes), e.load(biases, v * e.lanes)) for v in range(width)]
                    sums = [e.fma(total, *ends[i % width]) for i, total in enumerate(sums)]
                for r in range(size):
                    offset = e.add(base, ahead_of(e.add(first, r)))
                    for v in range(width):
                        finish.store(e, sums[r * width + v], y, e.add(offset, v * e.lanes), mask)

            in_pieces(e, count, sizes, width, tile)

        middle = e.smaller(e.larger(begin, a["wide"]), end)
        if vectors > 1:
            e.loop(middle, lambda p: panel(p, vectors, pieces), first=begin)
            e.loop(end, lambda p: panel(p, 1, narrow_pieces), first=middle)
        else:
            e.loop(end, lambda p: panel(p, 1, narrow_pieces), first=begin)

    neighbours(e, a["row_tasks"], a["panel_tasks"], a["most_tasks"], tasks)
