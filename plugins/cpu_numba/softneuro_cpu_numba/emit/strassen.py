"""Matrix product with a constant factor by one step of Strassen's algorithm in Winograd's form: seven products of
halves instead of eight, on the register tiles of ``emit.tile``.

A's rows are taken in pairs, one of the upper half and one of the lower. Only the four sums of A's quarters are stored;
those of B are packed beforehand. No product is stored whole: a few tiles take one after the other, each beginning from
the sum it is added to, in buffers that stay in the first-level cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from softneuro_cpu_numba.emit.emitter import Emitter, Value
from softneuro_cpu_numba.emit.tasks import neighbours, once, room
from softneuro_cpu_numba.emit.tile import Finish, Panel, Segments, accumulate, in_pieces
from softneuro_cpu_numba.native import emitted
from softneuro_cpu_numba.strassen_form import (
    CHAIN,
    FACTORS,
    FIFTH,
    FROM,
    GROUP_TILES,
    INTO,
    LEFT,
    LOWER,
    LOWER_RIGHT,
    PRODUCTS,
    RIGHT,
    S1,
    UPPER_RIGHT,
    ZERO,
)

ARGUMENTS = (
    *("x", "w", "bias", "residual", "y"),
    *("pairs", "lower", "depth", "half_columns", "ld_sums"),
    *("row_tasks", "pairs_per_task", "most_tasks", "panel_tasks", "panels_per_task", "panels"),
)
"""Then p0 and p1. Row i is paired with row pairs + i, which ``lower`` of the ``pairs`` have (all, or all but the last);
``depth`` and ``half_columns`` are half of K and of N; ``ld_sums`` the floats between two rows of A's sums."""


@emitted
def strassen(e: Emitter, pieces: Sequence[int], vectors: int, act: str, residual: bool) -> None:
    """y[row, n] = x @ w + bias, + residual, activated; panels of ``vectors`` divide half a row of y.

    Tasks are stretches of pairs x stretches of panels. Weights: [panel][product][depth][width]; bias: y's columns.
    scratch: A's four sums, then the buffers, each of :data:`GROUP_TILES` tiles.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    at = len(ARGUMENTS)
    finish = Finish(act, e.number(at), e.number(at + 1), e.floats(a["residual"]) if residual else None)
    step = _Step(e, a, pieces, vectors, finish)

    def tasks(number: Value, many: Value, wide: Value) -> None:
        stretch, panel_stretch = e.divmod(number, a["panel_tasks"])
        first = e.mul(stretch, a["pairs_per_task"])
        count = e.smaller(e.mul(many, a["pairs_per_task"]), e.sub(a["pairs"], first))
        once(e, stretch, lambda: step.add_up(first, count))
        begin = e.mul(panel_stretch, a["panels_per_task"])
        end = e.smaller(e.add(begin, e.mul(wide, a["panels_per_task"])), a["panels"])

        def group(panel: Value, at: Value) -> None:
            many = e.smaller(step.group, e.sub(count, at))
            e.loop(PRODUCTS, lambda p: step.multiply(panel, p, first, at, many))
            row = e.add(first, at)
            step.put(panel, row, many, (LEFT,), (RIGHT, FIFTH))
            step.put(panel, e.add(row, a["pairs"]), e.smaller(many, e.sub(a["lower"], row)), (LOWER,), (CHAIN, FIFTH))

        def panel(number: Value) -> None:
            e.loop(count, lambda at: group(number, at), step=step.group)

        e.loop(end, panel, first=begin)

    neighbours(e, a["row_tasks"], a["panel_tasks"], a["most_tasks"], tasks)


@dataclass(frozen=True, slots=True)
class _Step:
    """The emitter, the arguments, and what the parts of a task have in common."""

    e: Emitter
    a: dict[str, Value]
    pieces: Sequence[int]
    vectors: int
    finish: Finish

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.e.lanes

    @property
    def group(self) -> int:
        """Pairs that take one product after the other."""
        return GROUP_TILES * self.pieces[0]

    def buffer(self, which: Value) -> Value:
        """Sums of one group and panel, [pair][column]."""
        e, planes = self.e, self.e.mul(self.a["pairs_per_task"], self.a["most_tasks"], self.a["ld_sums"], 4)
        return e.at(room(e), e.add(planes, e.mul(which, self.group * self.width)))

    def row_of_x(self, number: Value) -> Value:
        """The last one, for the partner a last pair may lack."""
        e, a = self.e, self.a
        inside = e.smaller(number, e.sub(e.add(a["pairs"], a["lower"]), 1))
        return e.at(e.floats(a["x"]), e.mul(inside, a["depth"], 2))

    def row_of_sum(self, which: Value, row: Value) -> Value:
        """Row of S1 (``which`` 0) to S4, counted from the task's first."""
        e, a = self.e, self.a
        return e.at(room(e), e.mul(e.add(e.mul(which, a["pairs_per_task"], a["most_tasks"]), row), a["ld_sums"]))

    def add_up(self, first: Value, count: Value) -> None:
        """The sums of ``count`` pairs from ``first`` on, and zeros to begin from."""
        e, a = self.e, self.a
        e.zero_run(self.buffer(ZERO), self.group * self.width)

        def row(i: Value) -> None:
            upper = self.row_of_x(e.add(first, i))
            lower = self.row_of_x(e.add(first, i, a["pairs"]))
            made = [self.row_of_sum(number, i) for number in range(4)]

            def column(c: Value) -> None:
                a11, a12 = (e.load(upper, at) for at in (c, e.add(c, a["depth"])))
                a21, a22 = (e.load(lower, at) for at in (c, e.add(c, a["depth"])))
                s1 = e.b.fadd(a21, a22)
                s2 = e.b.fsub(s1, a11)
                for place, value in zip(made, (s1, s2, e.b.fsub(a11, a21), e.b.fsub(a12, s2)), strict=True):
                    e.store(value, place, c)

            e.vectors(a["depth"], column)

        e.loop(count, row)

    def multiply(self, panel: Value, product: Value, first: Value, at: Value, many: Value) -> None:
        """One product of one panel and ``many`` pairs from ``at`` of the task on, which begins with pair ``first``."""
        e, a = self.e, self.a
        which = e.lookup(FACTORS, product)
        is_sum = e.b.icmp_signed(">=", which, e.i(S1))
        below = e.mul(e.lookup([int(f == LOWER_RIGHT) for f in FACTORS], product), a["pairs"])
        right = e.mul(e.lookup([int(f in (UPPER_RIGHT, LOWER_RIGHT)) for f in FACTORS], product), a["depth"])

        def row_at(row: Value) -> Value:
            of_x = e.at(self.row_of_x(e.add(first, row, below)), right)
            return e.b.select(is_sum, self.row_of_sum(e.sub(which, S1), row), of_x)

        part = e.at(e.floats(a["w"]), e.mul(e.add(e.mul(panel, PRODUCTS), product), a["depth"], self.width))
        source, result = (self.buffer(e.lookup(table, product)) for table in (FROM, INTO))
        spots = [r * self.width + v * e.lanes for r in range(self.pieces[0]) for v in range(self.vectors)]

        def tile(begin: Value, size: int) -> None:
            rows = [row_at(e.add(at, begin, r)) for r in range(size)]
            old, new = (e.at(buffer, e.mul(begin, self.width)) for buffer in (source, result))
            mine = spots[: size * self.vectors]
            depth = e.word(ARGUMENTS.index("depth"))  # read anew: a value of long life would be compared on the stack
            sums = accumulate(e, rows, Panel(part), Segments(depth), [e.load(old, spot) for spot in mine])
            for spot, value in zip(mine, sums, strict=True):
                e.store(value, new, spot)

        in_pieces(e, many, self.pieces, self.vectors, tile)

    def put(self, panel: Value, row: Value, many: Value, left: Sequence[int], right: Sequence[int]) -> None:
        """Finishes ``many`` rows of y from ``row`` on: the buffers ``left`` and ``right`` add up to what its two halves
        have in this panel's columns."""
        e, a = self.e, self.a
        bias, y = e.floats(a["bias"]), e.floats(a["y"])

        def line(i: Value) -> None:
            place = e.mul(e.add(row, i), a["half_columns"], 2)
            for half, parts in ((0, left), (a["half_columns"], right)):
                for v in range(self.vectors):
                    column = e.add(e.mul(panel, self.width), v * e.lanes, half)
                    total = e.load(bias, column)
                    for part in parts:
                        total = e.b.fadd(total, e.load(self.buffer(part), e.add(e.mul(i, self.width), v * e.lanes)))
                    self.finish.store(e, total, y, e.add(place, column))

        e.loop(many, line)
