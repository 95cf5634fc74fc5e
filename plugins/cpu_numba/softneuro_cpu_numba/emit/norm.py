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


@dataclass(frozen=True, slots=True)
class Row:
    """A row a function is applied to. ``read(i, mask)`` gives the vector at ``i``, of which lanes outside ``mask``
    may not be read; ``out`` has room for whole vectors and may be where it reads."""

    read: Callable[[Value, Value | None], Value]
    out: Value
    result: Value | None = None
    """Where the results go, if not to ``out``; nothing is written behind them."""


def softmax_rows(e: Emitter, n: Value, rows: Sequence[Row]) -> None:
    """``out[0:n] = softmax(row)`` of several rows side by side: one alone waits for its maximum and its sum."""
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

    def third(i: Value, some: Value | None) -> None:
        for row, factor in zip(rows, factors, strict=True):
            value = e.b.fmul(e.load(row.out, i), factor)
            if some is None:
                e.store(value, row.result or row.out, i)
            else:
                e.store_some(value, row.result or row.out, i, some)

    if all(row.result is None for row in rows):
        e.loop(n, lambda i: third(i, None), step=e.lanes)
    else:
        by_vectors(e, n, third)


def by_vectors(e: Emitter, n: Value, body: Callable[[Value, Value | None], None]) -> None:
    """``body(i, mask)`` over 0..n: mask None for whole vectors, the lanes that exist for the rest."""
    whole = e.b.and_(n, e.i(-e.lanes))
    e.loop(whole, lambda i: body(i, None), step=e.lanes)

    def rest() -> tuple[()]:
        body(whole, e.lanes_below(e.sub(n, whole)))
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


def _rows_of_task(e: Emitter, first: int, body: Callable[[Value, int], None]) -> None:
    """``body(row, count)`` over the rows of all tasks; words ``first`` on: rows, rows of a task."""
    rows, block = e.words(first, 2)
    start = e.mul(e.begin, block)
    count = e.sub(e.smaller(rows, e.mul(e.end, block)), start)
    in_pieces(e, count, ROWS_TOGETHER, 1, lambda row, size: body(e.add(start, row), size))


@emitted
def softmax(e: Emitter) -> None:
    """args: x y | rows rows_per_task n. Every row of n on its own. scratch: 4 rows, each of whole vectors."""
    x, y, n, held = e.floats(e.word(0)), e.floats(e.word(1)), e.word(4), e.floats(e.scratch)
    pitch = e.b.and_(e.add(n, e.lanes - 1), e.i(-e.lanes))

    def some_rows(first: Value, size: int) -> None:
        def row(r: int) -> Row:
            at = e.mul(e.add(first, r), n)
            source = e.at(x, at)
            read = lambda i, some: e.load(source, i) if some is None else e.load_some(source, i, some)  # noqa: E731
            return Row(read, e.at(held, e.mul(pitch, r)), e.at(y, at))

        softmax_rows(e, n, [row(r) for r in range(size)])

    _rows_of_task(e, 2, some_rows)


@emitted
def normalise(e: Emitter, per_row: bool, added: bool) -> None:
    """args: x residual scale bias y | rows rows_per_task n channels | 1/n epsilon. Every row of n to mean 0, variance
    1, scaled; ``added``: of x + residual.

    ``per_row`` takes scale and bias by row (instance normalisation), else by column (layer normalisation).
    """
    x, more, scale, bias, y = (e.floats(e.word(n)) for n in range(5))
    n, channels = e.words(7, 2)
    share, epsilon, one = e.splat(e.number(9)), e.splat(e.number(10)), e.constant(1.0)

    def load(source: Value, i: Value, some: Value | None) -> Value:
        return e.load(source, i) if some is None else e.load_some(source, i, some)

    def store(value: Value, out: Value, i: Value, some: Value | None) -> None:
        if some is None:
            e.store(value, out, i)
        else:
            e.store_some(value, out, i, some)

    def some_rows(first: Value, size: int) -> None:
        numbers = [e.add(first, r) for r in range(size)]
        places = [e.mul(number, n) for number in numbers]
        outs = [e.at(y, place) for place in places]

        def sums(r: int) -> Callable[[Value, Value | None], Value]:
            def value(i: Value, some: Value | None) -> Value:
                found = load(e.at(x, places[r]), i, some)
                if added:
                    found = e.b.fadd(found, load(e.at(more, places[r]), i, some))
                    store(found, outs[r], i, some)
                return found

            return value

        means = [e.b.fmul(total, share) for total in _summed(e, n, [sums(r) for r in range(size)])]
        held = outs if added else [e.at(x, place) for place in places]

        def squares(r: int) -> Callable[[Value, Value | None], Value]:
            def value(i: Value, some: Value | None) -> Value:
                off = e.b.fsub(load(held[r], i, some), means[r])
                square = e.b.fmul(off, off)
                return square if some is None else e.b.select(some, square, e.constant(0.0))

            return value

        variances = [e.b.fmul(total, share) for total in _summed(e, n, [squares(r) for r in range(size)])]
        factors = []
        for variance in variances:
            root = e.intrinsic(f"llvm.sqrt.v{e.lanes}f32", variance.type, [e.b.fadd(variance, epsilon)])
            factors.append(e.b.fdiv(one, root))
        rows = [e.divmod(number, channels)[1] for number in numbers] if per_row else []
        fixed = [(e.broadcast(scale, row), e.broadcast(bias, row)) for row in rows]

        def result(i: Value, some: Value | None) -> None:
            shared = None if per_row else (load(scale, i, some), load(bias, i, some))
            for r in range(size):
                factor, shift = shared or fixed[r]
                off = e.b.fmul(e.b.fsub(load(held[r], i, some), means[r]), factors[r])
                store(e.fma(off, factor, shift), outs[r], i, some)

        by_vectors(e, n, result)

    _rows_of_task(e, 5, some_rows)
