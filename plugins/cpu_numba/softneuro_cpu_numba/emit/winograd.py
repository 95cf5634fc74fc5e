"""Winograd convolution, NHWC: transform tiles, one matrix product for each position of a tile, transform back.

A task is a few tiles, or a block of them and a few panels of output channels where blocks are too few for the threads.
Positions are the outer loop of the products, so every transformed filter is read once for the tiles done together, in
order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import reduce

from softneuro_core.cook_toom import Matrix, Transform, small_vectors, transform
from softneuro_cpu_numba.amx import Tiles
from softneuro_cpu_numba.emit.emitter import Emitter, Index, Value
from softneuro_cpu_numba.emit.tasks import neighbours, once, room
from softneuro_cpu_numba.emit.tile import Finish
from softneuro_cpu_numba.emit.winograd_products import OnMatrixUnit, OnVectors, Products
from softneuro_cpu_numba.native import emitted

ARGUMENTS = (
    *("x", "w", "bias", "residual", "y", "starts"),
    *("height", "width", "channels", "top", "left", "rows", "columns", "out_channels"),
    *(
        "tiles_y",
        "tiles_x",
        "row_tasks",
        "rows_per_task",
        "most_tasks",
        "panel_tasks",
        "panels_per_task",
        "panels",
        "wide",
    ),
    *("ld_v", "position", "sums", "step_y", "step_x", "ld_y", "apart", "config"),
)
"""Then p0 and p1. ``step_y`` and ``step_x`` are the dilations; rows of a task are tiles, row tasks those of an image;
``ld_v`` and ``position`` are the floats between two tiles and two positions of the transformed input, ``apart`` between
the parts of a position, ``sums`` between two positions of the products; ``rows`` and ``columns`` of what is written,
less where it is pooled, ``ld_y`` floats a pixel; ``config``: shapes of a matrix unit's registers."""

WRITE_AHEAD = 32
"""Floats between what is written and what is asked for to be written next: results are new memory, a tile's pixels far
apart, and a store that misses holds up those behind it. 64 channels at 224x224: 13.0 ms with it, 13.6 without."""


@emitted
def winograd(
    e: Emitter,
    down: tuple[int, int, int],
    along: tuple[int, int, int],
    act: str,
    residual: bool,
    pool: int,
    pieces: Sequence[int] = (),
    vectors: int = 0,
    narrow_pieces: Sequence[int] = (),
    lines: int = 0,
    tiles: Tiles | None = None,
    last: int = 0,
) -> None:
    """y = conv(x, w) + bias, + residual, activated. ``down`` and ``along`` a tile: outputs, taps and stride of its
    rows and of its columns. ``pool``: of each pool x pool outputs of a tile the largest.

    A dilated convolution is a plain one on each of step_y x step_x interleaved grids; a tile belongs to one grid.

    ``tiles`` and ``last`` are those of :class:`OnMatrixUnit`, ``pieces`` to ``lines`` those of :class:`OnVectors`.
    Channels and output channels fill a vector at least.
    scratch: a patch and a result tile, then the transformed input, then the products.
    """
    method: Products = OnMatrixUnit(tiles, last) if tiles else OnVectors(pieces, vectors, narrow_pieces, lines)
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    at = len(ARGUMENTS)
    finish = Finish(act, e.number(at), e.number(at + 1), e.floats(a["residual"]) if residual else None)
    x, bias, y = (e.floats(a[name]) for name in ("x", "bias", "y"))
    vertical, horizontal = transform(*down), transform(*along)
    positions = vertical.size * horizontal.size
    small = room(e)
    patch = e.at(small, small_vectors(vertical, horizontal) * e.lanes)
    data = e.at(patch, e.mul(a["channels"], vertical.pixels * horizontal.pixels))
    products = e.at(data, e.mul(a["position"], positions))
    grid = e.mul(a["tiles_y"], a["tiles_x"])
    tiles_in_all = e.mul(grid, a["step_y"], a["step_x"])

    def place(number: Value, height: int, width: int) -> tuple[Value, Value]:
        """Row and column a tile begins at where it covers height x width pixels."""
        phase, rest = e.divmod(number, grid)
        (ty, tx), (py, px) = e.divmod(rest, a["tiles_x"]), e.divmod(phase, a["step_x"])
        return e.add(e.mul(ty, a["step_y"], height), py), e.add(e.mul(tx, a["step_x"], width), px)

    high, wide = vertical.outputs // pool, horizontal.outputs // pool

    def fitting(side: int, size: Value, begin: Value, step: Value) -> Value:
        """How many of a tile's ``side`` results lie inside."""
        return e.smaller(side, e.b.sdiv(e.add(e.sub(size, begin), e.sub(step, 1)), step))

    def tasks(number: Value, many: Value, broad: Value) -> None:
        block, split = e.divmod(number, a["panel_tasks"])
        image, stretch = e.divmod(block, a["row_tasks"])
        first = e.mul(stretch, a["rows_per_task"])
        count = e.smaller(e.mul(many, a["rows_per_task"]), e.sub(tiles_in_all, first))
        x_image = e.at(x, e.mul(image, a["height"], a["width"], a["channels"]))

        def forward(tile: Value) -> None:
            row, column = place(e.add(first, tile), vertical.outputs, horizontal.outputs)
            row, column = e.sub(e.mul(row, down[2]), a["top"]), e.sub(e.mul(column, along[2]), a["left"])
            shape = (vertical.pixels, horizontal.pixels)
            source, pitch, pixel = _whole_or_patch(e, a, shape, x_image, row, column, patch)
            out = e.at(data, e.mul(tile, a["ld_v"]))

            def lanes(c: Value) -> None:
                matrices, to = (vertical.bt, horizontal.bt), e.at(out, method.place(e, c))
                for p, value in _forward(e, matrices, e.at(source, c), pitch, pixel, small):
                    method.keep(e, a, value, e.at(to, e.mul(a["position"], p)))

            e.vectors(a["channels"], lanes)

        once(e, block, lambda: e.loop(count, forward))
        begin = e.mul(split, a["panels_per_task"])
        own = a | {"begin": begin, "end": e.smaller(e.add(begin, e.mul(broad, a["panels_per_task"])), a["panels"])}

        def position(p: Value) -> None:
            source, out = e.at(data, e.mul(p, a["position"])), e.at(products, e.mul(p, a["sums"]))
            method.position(e, own, p, source, out, count)

        e.loop(positions, position)
        low, until = method.columns(e, own)

        def back(tile: Value) -> None:
            row, column = place(e.add(first, tile), high, wide)
            rows = fitting(high, a["rows"], row, a["step_y"])
            columns = fitting(wide, a["columns"], column, a["step_x"])
            pixel = e.add(e.mul(e.add(e.mul(image, a["rows"]), row), a["columns"]), column)
            source = e.at(products, e.mul(tile, a["out_channels"]))
            below = e.mul(a["step_y"], a["columns"], a["ld_y"])
            right = e.mul(a["step_x"], a["ld_y"])

            def put(value: Value, c: Value, i: Index, j: Index) -> None:
                spot = e.add(e.mul(pixel, a["ld_y"]), e.mul(i, below), e.mul(j, right), c)
                finish.store(e, e.b.fadd(value, e.load(bias, c)), y, spot)
                e.prefetch(y, e.add(spot, WRITE_AHEAD), write=True)

            def whole(c: Value) -> None:
                for i, j, value in _backward(e, vertical, horizontal, e.at(source, c), a["sums"], small, pool):
                    put(value, c, i, j)

            def some(c: Value) -> None:
                for i, j, value in _backward(e, vertical, horizontal, e.at(source, c), a["sums"], small, pool):
                    e.store(value, small, (i * wide + j) * e.lanes)

                def store_row(i: Value) -> None:
                    def store(j: Value) -> None:
                        put(e.load(small, e.mul(e.add(e.mul(i, wide), j), e.lanes)), c, i, j)

                    e.loop(columns, store)

                e.loop(rows, store_row)

            def every(body: Callable[[Value], None]) -> tuple[()]:
                return _done(e.vectors(until, body, first=low))

            inside = e.b.and_(_same(e, rows, high), _same(e, columns, wide))
            e.when(inside, lambda: every(whole), lambda: every(some))

        e.loop(count, back)

    method.begin(e, a)
    neighbours(e, a["row_tasks"], a["panel_tasks"], a["most_tasks"], tasks)
    method.end(e)


def _whole_or_patch(
    e: Emitter, a: dict[str, Value], shape: tuple[int, int], x: Value, row: Value, column: Value, patch: Value
) -> list[Value]:
    """Where the ``shape`` pixels from (row, column) on lie, the floats between their rows and between their columns:
    the input itself, or a copy with zeros for what lies outside."""
    channels, (height, width) = a["channels"], shape

    def here(r: Value, c: Value) -> Value:
        return e.at(x, e.mul(e.add(e.mul(r, a["width"]), c), channels))

    def copied() -> list[Value]:
        def fill(i: Value) -> None:
            def one(j: Value) -> None:
                r, c = e.add(row, e.mul(i, a["step_y"])), e.add(column, e.mul(j, a["step_x"]))
                out = e.at(patch, e.mul(e.add(e.mul(i, width), j), channels))
                inside = e.b.and_(_below(e, r, a["height"]), _below(e, c, a["width"]))
                e.when(
                    inside,
                    lambda: _done(e.copy_run(out, here(r, c), channels)),
                    lambda: _done(e.zero_run(out, channels)),
                )

            e.loop(width, one)

        e.loop(height, fill)
        return [patch, e.mul(channels, width), channels]

    def in_place() -> list[Value]:
        return [here(row, column), e.mul(a["width"], channels, a["step_y"]), e.mul(channels, a["step_x"])]

    inside = e.b.and_(
        _below(e, row, e.sub(a["height"], e.mul(a["step_y"], height - 1))),
        _below(e, column, e.sub(a["width"], e.mul(a["step_x"], width - 1))),
    )
    return e.when(inside, in_place, copied)


def _same(e: Emitter, x: Value, y: Index) -> Value:
    return e.b.icmp_signed("==", x, e.i(y))


def _done(_: object) -> tuple[()]:
    return ()


def _below(e: Emitter, value: Value, limit: Value) -> Value:
    """0 <= value < limit, false for a limit of 0 or less."""
    return e.b.and_(e.b.icmp_signed(">=", value, e.i(0)), e.less(value, limit))


def _forward(
    e: Emitter, bt: tuple[Matrix, Matrix], source: Value, pitch: Value, pixel: Value, small: Value
) -> Iterator[tuple[int, Value]]:
    """BT d B of one vector of channels, columns first, into ``small``: each position and its value."""
    vertical, horizontal = bt
    height, width = len(vertical[0]), len(horizontal[0])
    rows = [e.at(source, e.mul(pitch, i)) for i in range(height)]
    for j in range(width):
        offset = e.mul(pixel, j)
        for i, value in enumerate(apply(e, vertical, [e.load(row, offset) for row in rows])):
            e.store(value, small, (i * width + j) * e.lanes)
    for i in range(len(vertical)):
        row = [e.load(small, (i * width + k) * e.lanes) for k in range(width)]
        for j, value in enumerate(apply(e, horizontal, row)):
            yield i * len(horizontal) + j, value


def _backward(
    e: Emitter, vertical: Transform, horizontal: Transform, source: Value, position: Value, small: Value, pool: int
) -> Iterator[tuple[int, int, Value]]:
    """AT y A of one vector of channels, columns first, into what lies behind the results in ``small``: row, column
    and value of each result, of which ``pool`` x ``pool`` make one."""
    n, height, width = horizontal.size, vertical.outputs, horizontal.outputs
    columns = e.at(small, height * width * e.lanes)
    for j in range(n):
        column = [e.load(e.at(source, e.mul(position, i * n + j))) for i in range(vertical.size)]
        for i, value in enumerate(apply(e, vertical.at, column)):
            e.store(value, columns, (i * n + j) * e.lanes)
    for top in range(0, height, pool):
        rows = [
            apply(e, horizontal.at, [e.load(columns, (i * n + k) * e.lanes) for k in range(n)])
            for i in range(top, top + pool)
        ]
        for left in range(0, width, pool):
            yield top // pool, left // pool, reduce(e.maximum, (v for row in rows for v in row[left : left + pool]))


def apply(e: Emitter, matrix: Matrix, vector: Sequence[Value]) -> list[Value]:
    """matrix @ vector with constant coefficients; rows that differ in the sign of some terms share their sums."""
    made: dict[int, Value] = {}
    for i, row in enumerate(matrix):
        if i in made:
            continue
        twin = next((k for k in range(i + 1, len(matrix)) if k not in made and _mirrored(row, matrix[k])), None)
        if twin is None:
            made[i] = _sum(e, list(zip(row, vector, strict=True)))
            continue
        same = [(c, v) for c, d, v in zip(row, matrix[twin], vector, strict=True) if c == d]
        other = [(c, v) for c, d, v in zip(row, matrix[twin], vector, strict=True) if c != d]
        even, odd = _sum(e, same), _sum(e, other)
        made[i], made[twin] = e.b.fadd(even, odd), e.b.fsub(even, odd)
    return [made[i] for i in range(len(matrix))]


def _mirrored(row: Sequence[Fraction], other: Sequence[Fraction]) -> bool:
    """Whether the rows agree up to the signs of some terms, at least two equal and two opposite."""
    if any(abs(a) != abs(b) for a, b in zip(row, other, strict=True)):
        return False
    same = sum(1 for a, b in zip(row, other, strict=True) if a == b != 0)
    opposite = sum(1 for a, b in zip(row, other, strict=True) if a == -b != 0)
    return same >= 1 and opposite >= 1


def _sum(e: Emitter, terms: Sequence[tuple[Fraction, Value]]) -> Value:
    """sum of c * v; the first term is one without a product if there is any."""
    ordered: list[tuple[Fraction, Value]] = sorted((t for t in terms if t[0]), key=lambda t: t[0] != 1)
    total: Value = None
    step: Callable[[Value, Value], Value]
    for c, v in ordered:
        if total is None:
            total = v if c == 1 else e.b.fmul(v, e.constant(float(c)))
        elif abs(c) == 1:
            step = e.b.fadd if c == 1 else e.b.fsub
            total = step(total, v)
        else:
            total = e.fma(v, e.constant(float(c)), total)
    return total
