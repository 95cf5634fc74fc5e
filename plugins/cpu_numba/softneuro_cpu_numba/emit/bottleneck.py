"""A pointwise convolution and the depthwise one behind it, NHWC: the tensor between them exists a panel at a time.

A task takes a band of output rows and some panels of expanded channels. It goes down the band in steps: multiplies the
input rows under the next output rows into its scratch, [pixel][panel], slides the depthwise windows over them, and
keeps those that the step below needs too.
"""

from __future__ import annotations

from collections.abc import Sequence

from softneuro_cpu_numba.emit.depthwise import Products
from softneuro_cpu_numba.emit.emitter import Emitter, Value
from softneuro_cpu_numba.emit.slide import OutputRows
from softneuro_cpu_numba.emit.tile import Finish, Panel, Segments, accumulate, in_pieces
from softneuro_cpu_numba.native import emitted
from softneuro_cpu_numba.slides import Columns

ARGUMENTS = (
    *("x", "expand", "expand_bias", "weights", "bias", "y", "starts"),
    *("bands", "panel_tasks", "rows_per_band", "rows_per_step", "panels_per_task", "wide", "panels", "k"),
)
"""Then p0 and p1 of both activations. ``starts``: each panel's first channel; ``k``: channels of x. ``expand`` lies as
[panel][k][width], the depthwise weights as [panel][vector][kernel rows][kernel columns][lanes]."""


@emitted
def expand_depthwise(
    e: Emitter,
    pieces: Sequence[int],
    vectors: int,
    narrow_pieces: Sequence[int],
    channels: int,
    rows: tuple[int, ...],
    columns: tuple[int, ...],
    most: int,
    unrolled: bool,
    acts: tuple[str, str],
) -> None:
    """y = act(depthwise(act(x @ expand + expand_bias), weights) + bias) of ``channels``.

    Panels are ``vectors`` wide, the last ones one vector. ``rows`` and ``columns`` are the numbers of
    :class:`Columns` down and along the image. Rows two bands need are computed by both. scratch: the rows of a step.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    x, expand, expand_bias, weights, bias, y = (e.floats(a[name]) for name in ARGUMENTS[:6])
    starts, scratch = e.integers(a["starts"]), e.floats(e.scratch)
    down, along = Columns(*rows), Columns(*columns)
    pitch = vectors * e.lanes if channels >= e.lanes else e.lanes
    line = along.width * pitch
    names = ("height", "rows", "kernel_rows", "step_y", "dilation_y", "top")
    geometry = dict(zip(names, rows, strict=True))

    def finish(half: int) -> Finish:
        """Parameters are read here, so that those of one half take no registers in the other (NEON spilled sums)."""
        at = len(ARGUMENTS) + 2 * half
        return Finish(acts[half], e.number(at), e.number(at + 1))

    def multiply(first: Value, count: Value, panel: Value, biases: Value, out: Value, width: int) -> None:
        """Pixels ``first`` .. of x times a panel."""
        begin, act = e.at(x, e.mul(first, a["k"])), finish(0)

        def tile(pixel: Value, size: int) -> None:
            pointers = [e.at(begin, e.mul(e.add(pixel, r), a["k"])) for r in range(size)]
            start = [e.load(biases, v * e.lanes) for v in range(width)]
            sums = accumulate(e, pointers, Panel(panel), Segments(a["k"]), start * size)
            into = e.at(out, e.mul(pixel, pitch))
            for r in range(size):
                for v in range(width):
                    act.store(e, sums[r * width + v], into, r * pitch + v * e.lanes)

        in_pieces(e, count, pieces if width > 1 else narrow_pieces, width, tile)

    def begin_of(row: Value) -> Value:
        """First row of the image under output rows from ``row`` on."""
        return e.larger(0, e.sub(e.mul(row, down.step), down.left))

    def end_of(row: Value) -> Value:
        """End of the rows of the image under output rows up to ``row``."""
        reach = (down.kernel - 1) * down.dilation + 1 - down.left
        return e.smaller(e.add(e.mul(e.sub(row, 1), down.step), reach), down.width)

    def task(number: Value) -> None:
        place, panel_task = e.divmod(number, a["panel_tasks"])
        image, band = e.divmod(place, a["bands"])
        first = e.mul(band, a["rows_per_band"])
        last = e.smaller(e.add(first, a["rows_per_band"]), down.out)
        source = e.mul(image, down.width)
        out = e.at(y, e.mul(image, down.out * along.out * channels))

        def panel(number: Value, width: int) -> None:
            narrow = e.mul(a["wide"], (vectors - 1) * e.lanes) if width == 1 else 0
            ahead = e.add(e.mul(number, width * e.lanes), narrow)
            factor, factor_bias = e.at(expand, e.mul(ahead, a["k"])), e.at(expand_bias, ahead)
            taps, tap_bias = e.at(weights, e.mul(ahead, down.kernel * along.kernel)), e.at(bias, ahead)
            target = e.at(out, e.integer(starts, number))

            def step(low: Value, base: Value, done: Value) -> list[Value]:
                """Some output rows; the scratch holds rows ``base`` .. ``done`` of the expanded image."""
                high = e.smaller(e.add(low, a["rows_per_step"]), last)
                top = begin_of(low)
                kept = e.larger(0, e.sub(done, top))
                e.copy_run(scratch, e.at(scratch, e.mul(e.sub(top, base), line)), e.mul(kept, line))
                begin = e.add(top, kept)
                end = e.larger(begin, end_of(high))
                place = e.mul(e.add(source, begin), along.width)
                count = e.mul(e.sub(end, begin), along.width)
                multiply(place, count, factor, factor_bias, e.at(scratch, e.mul(kept, line)), width)
                origin = e.at(scratch, e.mul(e.sub(0, top), line))
                size, products = min(channels, width * e.lanes), Products(taps, tap_bias, finish(1))
                made = OutputRows(e, geometry, (origin, target), (pitch, channels), size, along, products)
                e.loop(high, lambda row: made.write(0, row, (0, width), most, unrolled), first=low)
                return [top, end]

            begin = begin_of(first)
            e.loop(last, step, [begin, begin], step=a["rows_per_step"], first=first)

        begin = e.mul(panel_task, a["panels_per_task"])
        end = e.smaller(e.add(begin, a["panels_per_task"]), a["panels"])
        middle = begin
        if vectors > 1:
            middle = e.smaller(e.larger(begin, a["wide"]), end)
            e.loop(middle, lambda number: panel(number, vectors), first=begin)
        e.loop(end, lambda number: panel(number, 1), first=middle)

    e.loop(e.end, task, first=e.begin)
