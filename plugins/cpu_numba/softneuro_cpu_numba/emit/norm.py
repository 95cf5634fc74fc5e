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

MINUS_INFINITY = float("-inf")
ROWS_TOGETHER = (4, 3, 2, 1)


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

    def third(i: Value) -> None:
        for row, factor in zip(rows, factors, strict=True):
            e.store(e.b.fmul(e.load(row.out, i), factor), row.out, i)

    e.loop(n, third, step=e.lanes)
