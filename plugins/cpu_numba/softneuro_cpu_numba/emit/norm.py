"""Rows that become a function of their own sums: softmax and layer normalisation, a vector at a time.

A row is read from memory once; its later passes find it in the first-level cache. Sums run over lanes first and are
added across lanes at the end, in an order that depends on the vector width only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from softneuro_cpu_numba.emit.activation import exp_below_zero
from softneuro_cpu_numba.emit.emitter import I32, Emitter, Value
from softneuro_cpu_numba.emit.tile import in_pieces
from softneuro_cpu_numba.native import emitted
from softneuro_cpu_numba.tiles import ROWS_TOGETHER

MINUS_INFINITY = float("-inf")


def across(e: Emitter, vector: Value, join: Callable[[Value, Value], Value]) -> Value:
    """Every lane holds ``join`` over all lanes."""
    step = e.lanes // 2
    while step:
        order = ir.Constant(e.vector_type(element=I32), [lane ^ step for lane in range(e.lanes)])
        vector = join(vector, e.b.shuffle_vector(vector, vector, order))
        step //= 2
    return vector


Write = Callable[[Value, Sequence[Value], Value | None], None]
"""``write(i, values, mask)``: vectors of results from ``i`` on; with a mask it is one, and only those lanes."""


Scaling = Callable[[Value, Value | None], Sequence[tuple[Value, Value]]]
"""``scaling(i, mask)``: factor and shift of every row at ``i``."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row a function is applied to. ``read(i, mask)`` gives the vector at ``i``, of which lanes outside ``mask``
    may not be read; ``out`` has room for whole vectors and may be where it reads (None, where the function allows it:
    it is read again instead)."""

    read: Callable[[Value, Value | None], Value]
    out: Value | None
    write: Write | None = None
    """Where the results go, if not to ``out``."""


def floats_at(e: Emitter, place: Value) -> tuple[Callable[[Value, Value | None], Value], Write]:
    """Reading and writing float32 that lie together."""

    def read(i: Value, some: Value | None) -> Value:
        return e.load(place, i) if some is None else e.load_some(place, i, some)

    def write(i: Value, values: Sequence[Value], some: Value | None) -> None:
        for v, value in enumerate(values):
            if some is None:
                e.store(value, place, e.add(i, v * e.lanes))
            else:
                e.store_some(value, place, i, some)

    return read, write


def softmax_rows(e: Emitter, n: Value, rows: Sequence[Row], together: int = 1) -> None:
    """``out[0:n] = softmax(row)`` of several rows side by side: one alone waits for its maximum and its sum.
    ``together``: vectors written at a time."""
    whole = e.b.and_(n, e.i(-e.lanes))
    rest = e.lanes_below(e.sub(n, whole))
    low = e.constant(MINUS_INFINITY)

    def first(i: Value, *best: Value) -> list[Value]:
        values = [row.read(i, None) for row in rows]
        for row, value in zip(rows, values, strict=True):
            e.store(value, row.out, i)
        return [e.maximum(b, value) for b, value in zip(best, values, strict=True)]

    best = e.loop(whole, first, [low] * len(rows), step=e.lanes)

    def tail() -> list[Value]:
        values = [e.b.select(rest, row.read(whole, rest), low) for row in rows]
        for row, value in zip(rows, values, strict=True):
            e.store(value, row.out, whole)
        return [e.maximum(b, value) for b, value in zip(best, values, strict=True)]

    best = e.when(e.less(whole, n), tail, lambda: best)
    tops = [across(e, b, e.maximum) for b in best]

    def second(i: Value, *totals: Value) -> list[Value]:
        powers = [exp_below_zero(e, e.b.fsub(e.load(row.out, i), top)) for row, top in zip(rows, tops, strict=True)]
        for row, power in zip(rows, powers, strict=True):
            e.store(power, row.out, i)
        return [e.b.fadd(total, power) for total, power in zip(totals, powers, strict=True)]

    totals = e.loop(n, second, [e.constant(0.0)] * len(rows), step=e.lanes)
    factors = [e.b.fdiv(e.constant(1.0), across(e, total, e.b.fadd)) for total in totals]

    def third(places: Sequence[Value], some: Value | None) -> None:
        for row, factor in zip(rows, factors, strict=True):
            values = [e.b.fmul(e.load(row.out, i), factor) for i in places]
            if row.write is None:
                e.store(values[0], row.out, places[0])
            else:
                row.write(places[0], values, some)

    if all(row.write is None for row in rows):
        e.loop(n, lambda i: third([i], None), step=e.lanes)
    else:
        by_vectors(e, n, third, together)


def by_vectors(e: Emitter, n: Value, body: Callable[[Sequence[Value], Value | None], None], together: int = 1) -> None:
    """``body(places, mask)`` over 0..n: ``together`` (1, 2, 4 ...) whole vectors at a time, then one, mask None; then
    the lanes that exist for the rest."""
    whole, several = e.b.and_(n, e.i(-e.lanes)), e.i(0)
    if together > 1:
        step = together * e.lanes
        several = e.b.and_(n, e.i(-step))
        e.loop(several, lambda i: body([e.add(i, v * e.lanes) for v in range(together)], None), step=step)
    e.loop(whole, lambda i: body([i], None), step=e.lanes, first=several)

    def rest() -> tuple[()]:
        body([whole], e.lanes_below(e.sub(n, whole)))
        return ()

    e.when(e.less(whole, n), rest, tuple)


def _summed(e: Emitter, n: Value, values: Sequence[Callable[[Value, Value | None], Value]]) -> list[Value]:
    """The sum over 0..n of each of ``values(i, mask)``, in every lane. Lanes outside the mask must be 0."""
    whole = e.b.and_(n, e.i(-e.lanes))

    def step(i: Value, *totals: Value) -> list[Value]:
        return [e.b.fadd(total, value(i, None)) for total, value in zip(totals, values, strict=True)]

    totals = e.loop(whole, step, [e.constant(0.0)] * len(values), step=e.lanes)
    mask = e.lanes_below(e.sub(n, whole))

    def rest() -> list[Value]:
        return [e.b.fadd(total, value(whole, mask)) for total, value in zip(totals, values, strict=True)]

    totals = e.when(e.less(whole, n), rest, lambda: totals)
    return [across(e, total, e.b.fadd) for total in totals]


def rows_of_task(e: Emitter, first: int, body: Callable[[Value, int], None]) -> None:
    """``body(row, count)`` over the rows of all tasks; words ``first`` on: rows, rows of a task."""
    rows, block = e.words(first, 2)
    start = e.mul(e.begin, block)
    count = e.sub(e.smaller(rows, e.mul(e.end, block)), start)
    in_pieces(e, count, ROWS_TOGETHER, 1, lambda row, size: body(e.add(start, row), size))


def normalise_rows(
    e: Emitter,
    n: Value,
    rows: Sequence[Row],
    numbers: tuple[Value, Value],
    scaling: Scaling,
) -> None:
    """Every row to mean 0 and variance 1, then * factor + shift.

    ``numbers`` are 1/n and epsilon (vectors). What a row reads is kept where it has an ``out``; every row has a
    ``write``.
    """
    share, epsilon = numbers
    held = [row.read if row.out is None else floats_at(e, row.out)[0] for row in rows]

    def sums(row: Row) -> Callable[[Value, Value | None], Value]:
        def value(i: Value, some: Value | None) -> Value:
            found = row.read(i, some)
            if row.out is not None:
                floats_at(e, row.out)[1](i, [found], some)
            return found

        return value

    means = [e.b.fmul(total, share) for total in _summed(e, n, [sums(row) for row in rows])]

    def squares(r: int) -> Callable[[Value, Value | None], Value]:
        def value(i: Value, some: Value | None) -> Value:
            off = e.b.fsub(held[r](i, some), means[r])
            square = e.b.fmul(off, off)
            return square if some is None else e.b.select(some, square, e.constant(0.0))

        return value

    variances = [e.b.fmul(total, share) for total in _summed(e, n, [squares(r) for r in range(len(rows))])]
    factors = []
    for variance in variances:
        root = e.intrinsic(f"llvm.sqrt.v{e.lanes}f32", variance.type, [e.b.fadd(variance, epsilon)])
        factors.append(e.b.fdiv(e.constant(1.0), root))

    def result(places: Sequence[Value], some: Value | None) -> None:
        (i,) = places
        for r, (row, (factor, shift)) in enumerate(zip(rows, scaling(i, some), strict=True)):
            off = e.b.fmul(e.b.fsub(held[r](i, some), means[r]), factors[r])
            assert row.write is not None
            row.write(i, [e.fma(off, factor, shift)], some)

    by_vectors(e, n, result)


def scaling_by(e: Emitter, numbers: tuple[Value, Value], size: int, places: Sequence[Value]) -> Scaling:
    """Of ``size`` rows, from two arrays: by column, or of each whole row where ``places`` says which number is its."""
    fixed = [(e.broadcast(numbers[0], place), e.broadcast(numbers[1], place)) for place in places]
    reads = [floats_at(e, pointer)[0] for pointer in numbers]

    def by_column(i: Value, some: Value | None) -> Sequence[tuple[Value, Value]]:
        return [(reads[0](i, some), reads[1](i, some))] * size

    return by_column if not places else lambda i, some: fixed


@emitted
def softmax(e: Emitter) -> None:
    """args: x y | rows rows_per_task n. Every row of n on its own. scratch: 4 rows, each of whole vectors."""
    x, y, n, held = e.floats(e.word(0)), e.floats(e.word(1)), e.word(4), e.floats(e.scratch)
    pitch = e.b.and_(e.add(n, e.lanes - 1), e.i(-e.lanes))

    def some_rows(first: Value, size: int) -> None:
        def row(r: int) -> Row:
            at = e.mul(e.add(first, r), n)
            return Row(floats_at(e, e.at(x, at))[0], e.at(held, e.mul(pitch, r)), floats_at(e, e.at(y, at))[1])

        softmax_rows(e, n, [row(r) for r in range(size)])

    rows_of_task(e, 2, some_rows)


@emitted
def normalise(e: Emitter, per_row: bool, added: bool) -> None:
    """args: x residual scale bias y | rows rows_per_task n channels | 1/n epsilon. Every row of n to mean 0, variance
    1, scaled; ``added``: of x + residual.

    ``per_row`` takes scale and bias by row (instance normalisation), else by column (layer normalisation).
    """
    x, more, scale, bias, y = (e.floats(e.word(n)) for n in range(5))
    n, channels = e.words(7, 2)
    numbers = e.splat(e.number(9)), e.splat(e.number(10))

    def some_rows(first: Value, size: int) -> None:
        places = [e.add(first, r) for r in range(size)]

        def row(r: int) -> Row:
            at = e.mul(places[r], n)
            read, write = floats_at(e, e.at(x, at))[0], floats_at(e, e.at(y, at))[1]
            if not added:
                return Row(read, None, write)
            other = floats_at(e, e.at(more, at))[0]
            return Row(lambda i, some: e.b.fadd(read(i, some), other(i, some)), e.at(y, at), write)

        own = [e.divmod(place, channels)[1] for place in places] if per_row else []
        normalise_rows(e, n, [row(r) for r in range(size)], numbers, scaling_by(e, (scale, bias), size, own))

    rows_of_task(e, 5, some_rows)
