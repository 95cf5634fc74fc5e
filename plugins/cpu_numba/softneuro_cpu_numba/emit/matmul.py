"""Matrix products of two computed factors: panels packed on the way, sums in registers, finished on their way out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from softneuro_cpu_numba.emit.emitter import I32, Emitter, Value
from softneuro_cpu_numba.emit.tasks import neighbours, once, room
from softneuro_cpu_numba.emit.tile import Finish, Panel, Segments, accumulate, in_pieces
from softneuro_cpu_numba.native import emitted

Store = Callable[[Value, Value, int, Value], None]
"""``store(sum, row, vector, column)``: one vector of a product, its row and the first column of its panel."""


def transposed(e: Emitter, rows: Sequence[Value]) -> list[Value]:
    """``lanes`` vectors of a square as its columns."""
    square, step = list(rows), 1
    while step < e.lanes:
        for i in (i for i in range(e.lanes) if not i & step):
            above, below = square[i], square[i | step]
            lanes = range(e.lanes)
            first = [j if not j & step else e.lanes + (j ^ step) for j in lanes]
            second = [j | step if not j & step else e.lanes + j for j in lanes]
            square[i], square[i | step] = (
                e.b.shuffle_vector(above, below, ir.Constant(e.vector_type(element=I32), mask))
                for mask in (first, second)
            )
        step *= 2
    return square


def pack_panel(
    e: Emitter, source: Value, step: Value, k: Value, columns: Value, vectors: int, out: Value, across: bool
) -> None:
    """``out[k][vectors * lanes]`` from a panel at ``source`` of which ``columns`` exist; the others hold anything.

    ``across``: a row of the panel lies together and ``step`` floats lead to the next; else a column does.
    """
    width = vectors * e.lanes
    if across:
        masks = [e.lanes_below(e.sub(columns, v * e.lanes)) for v in range(vectors)]

        def row(i: Value, load: Callable[[Value, int], Value]) -> None:
            here, into = e.at(source, e.mul(i, step)), e.at(out, e.mul(i, width))
            for v in range(vectors):
                e.store(load(here, v), into, v * e.lanes)

        def whole() -> tuple[()]:
            e.loop(k, lambda i: row(i, lambda at, v: e.load(at, v * e.lanes)))
            return ()

        def part() -> tuple[()]:
            e.loop(k, lambda i: row(i, lambda at, v: e.load_some(at, v * e.lanes, masks[v])))
            return ()

        e.when(e.less(columns, width), part, whole)
        return
    last = e.sub(columns, 1)
    squares = e.mul(e.divmod(k, e.lanes)[0], e.lanes)

    def strip(column: Value) -> None:
        starts = [e.at(source, e.mul(e.smaller(e.add(column, j), last), step)) for j in range(e.lanes)]
        into = e.at(out, column)

        def square(i: Value) -> None:
            for r, vector in enumerate(transposed(e, [e.load(at, i) for at in starts])):
                e.store(vector, into, e.mul(e.add(i, r), width))

        def rest(i: Value) -> None:
            for j, at in enumerate(starts):
                e.b.store(e.b.load(e.at(at, i)), e.at(into, e.add(e.mul(i, width), j)))

        e.loop(squares, square, step=e.lanes)
        e.loop(k, rest, first=squares)

    e.loop(width, strip, step=e.lanes)


def multiply(
    e: Emitter,
    count: Value,
    row_at: Callable[[Value], Value],
    panel: Value,
    k: Value,
    pieces: Sequence[int],
    start: Sequence[Value],
    store: Callable[[Value, int, list[Value]], None],
) -> None:
    """Rows 0..count times a packed panel as wide as ``start``, which is added; ``store(first, rows, sums)``."""

    def tile(first: Value, size: int) -> None:
        pointers = [row_at(e.add(first, r)) for r in range(size)]
        store(first, size, accumulate(e, pointers, Panel(panel), Segments(k), [*start] * size))

    in_pieces(e, count, pieces, len(start), tile)


ARGUMENTS = (
    *("a", "b", "bias", "residual", "y", "offsets", "starts"),
    *("m", "n", "k", "a_row", "b_step", "row_tasks", "rows_per_task", "most_tasks", "wide", "panels"),
)
"""Then p0, p1. ``offsets``: int64 [batch, 2], where the matrices of an entry begin; ``starts`` the panels' columns."""


@emitted
def dynamic(
    e: Emitter,
    pieces: Sequence[int],
    vectors: int,
    narrow_pieces: Sequence[int],
    across: bool,
    act: str,
    bias: bool,
    residual: bool,
    masked: bool,
) -> None:
    """Y[entry] = A[entry] @ B[entry] + bias, + residual, activated; a task is entry x panel x row block.

    ``across``: B's rows lie together (``b_step`` from one to the next), else its columns do. ``masked`` if there are
    fewer columns than lanes. scratch: one packed panel.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    at = len(ARGUMENTS)
    finish = Finish(act, e.number(at), e.number(at + 1), e.floats(a["residual"]) if residual else None)
    left, right, row, y = (e.floats(a[name]) for name in ("a", "b", "bias", "y"))
    offsets, starts, packed = e.integers(a["offsets"]), e.integers(a["starts"]), room(e)

    def tasks(number: Value, many: Value, _: Value) -> None:
        factor, block = e.divmod(number, a["row_tasks"])
        entry, panel = e.divmod(factor, a["panels"])
        first = e.mul(block, a["rows_per_task"])
        here = e.smaller(e.mul(many, a["rows_per_task"]), e.sub(a["m"], first))
        own = e.at(left, e.add(e.integer(offsets, e.mul(entry, 2)), e.mul(first, a["a_row"])))
        matrix = e.at(right, e.integer(offsets, e.add(e.mul(entry, 2), 1)))
        column = e.integer(starts, panel)
        place = e.add(e.mul(e.add(e.mul(entry, a["m"]), first), a["n"]), column)
        source = e.at(matrix, column if across else e.mul(column, a["b_step"]))

        def columns(width: int, sizes: Sequence[int]) -> tuple[()]:
            exist = e.smaller(width * e.lanes, e.sub(a["n"], column))
            once(e, factor, lambda: pack_panel(e, source, a["b_step"], a["k"], exist, width, packed, across))
            mask = e.lanes_below(a["n"]) if masked and width == 1 else None
            start = [e.constant(0.0)] * width
            if bias:
                load = (lambda v: e.load(row, e.add(column, v * e.lanes))) if mask is None else None
                start = [load(v) if load else e.load_some(row, column, mask) for v in range(width)]

            def store(r0: Value, size: int, sums: list[Value]) -> None:
                for r in range(size):
                    offset = e.add(place, e.mul(e.add(r0, r), a["n"]))
                    for v in range(width):
                        finish.store(e, sums[r * width + v], y, e.add(offset, v * e.lanes), mask)

            multiply(e, here, lambda r: e.at(own, e.mul(r, a["a_row"])), packed, a["k"], sizes, start, store)
            return ()

        if vectors > 1:
            e.when(e.less(panel, a["wide"]), lambda: columns(vectors, pieces), lambda: columns(1, narrow_pieces))
        else:
            columns(1, narrow_pieces)

    neighbours(e, a["row_tasks"], 1, a["most_tasks"], tasks)
