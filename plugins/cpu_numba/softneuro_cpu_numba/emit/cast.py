"""Elements of one float type as another, in the order they lie in memory."""

from __future__ import annotations

from softneuro_cpu_numba.emit.emitter import Emitter, Value
from softneuro_cpu_numba.native import emitted

UNROLLED = 4
"""Vectors a turn: several loads on their way at once."""


@emitted
def elements(e: Emitter, source: str, out: str) -> None:
    """y = x, widened or rounded. args: x, y, count, per_task. A task is ``per_task`` elements, whole turns of the loop;
    ``source`` and ``out`` as :meth:`Emitter.load_stored` takes them."""
    x, y = e.stored(e.word(0), source), e.stored(e.word(1), out)
    count, per_task = e.words(2, 2)
    first, last = e.mul(e.begin, per_task), e.smaller(e.mul(e.end, per_task), count)
    turn = UNROLLED * e.lanes
    whole = e.add(first, e.b.and_(e.sub(last, first), e.i(-turn)))

    def several(at: Value) -> None:
        places = [e.add(at, v * e.lanes) for v in range(UNROLLED)]
        values = [e.load_stored(x, place, source) for place in places]
        for place, value in zip(places, values, strict=True):
            e.store_stored(value, y, place, out)

    def some(at: Value) -> None:
        mask = e.lanes_below(e.sub(last, at))
        e.store_stored(e.load_stored(x, at, source, mask), y, at, out, mask)

    e.loop(whole, several, step=turn, first=first)
    e.loop(last, some, step=e.lanes, first=whole)
