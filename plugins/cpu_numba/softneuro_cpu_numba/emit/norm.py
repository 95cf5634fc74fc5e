"""Rows that become a function of their own sums: softmax and layer normalisation, a vector at a time.

A row is read from memory once; its later passes find it in the first-level cache. Sums run over lanes first and are
added across lanes at the end, in an order that depends on the vector width only.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from softneuro_cpu_numba.emit.activation import exp
from softneuro_cpu_numba.emit.emitter import I32, Emitter, Value

MINUS_INFINITY = float("-inf")


def across(e: Emitter, vector: Value, join: Callable[[Value, Value], Value]) -> Value:
    """Every lane holds ``join`` over all lanes."""
    step = e.lanes // 2
    while step:
        order = ir.Constant(e.vector_type(element=I32), [lane ^ step for lane in range(e.lanes)])
        vector = join(vector, e.b.shuffle_vector(vector, vector, order))
        step //= 2
    return vector


def softmax_row(e: Emitter, n: Value, prepared: Callable[[Value, Value | None], Value], out: Value) -> None:
    """``out[0:n]`` = softmax of the ``prepared`` values.

    ``prepared(i, mask)`` gives the vector at ``i``, of which lanes outside ``mask`` may not be read. ``out`` must
    have room for whole vectors.
    """
    whole = e.b.and_(n, e.i(-e.lanes))
    rest = e.lanes_below(e.sub(n, whole))
    low = e.constant(MINUS_INFINITY)

    def first(i: Value, best: Value) -> list[Value]:
        value = prepared(i, None)
        e.store(value, out, i)
        return [e.maximum(best, value)]

    (best,) = e.loop(whole, first, [low], step=e.lanes)

    def tail() -> list[Value]:
        value = e.b.select(rest, prepared(whole, rest), low)
        e.store(value, out, whole)
        return [e.maximum(best, value)]

    (best,) = e.when(e.less(whole, n), tail, lambda: [best])
    top = across(e, best, e.maximum)

    def second(i: Value, total: Value) -> list[Value]:
        power = exp(e, e.b.fsub(e.load(out, i), top))
        e.store(power, out, i)
        return [e.b.fadd(total, power)]

    (total,) = e.loop(n, second, [e.constant(0.0)], step=e.lanes)
    factor = e.b.fdiv(e.constant(1.0), across(e, total, e.b.fadd))
    e.loop(n, lambda i: e.store(e.b.fmul(e.load(out, i), factor), out, i), step=e.lanes)
