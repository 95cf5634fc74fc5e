"""Products of two computed factors of 8-bit integers, exact: as ``softneuro_cpu_numba.emit.matmul``, in pairs.

Rows of A and panels of B are widened to 16-bit differences from their zero points, B once for every matrix it belongs
to; then all is as in :mod:`softneuro_qint8.emit.rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from softneuro_cpu_numba.emit.emitter import I8, I16, I32, Emitter, Value
from softneuro_cpu_numba.emit.matmul import transposed
from softneuro_cpu_numba.emit.slide import Place
from softneuro_cpu_numba.emit.tasks import neighbours, once, room
from softneuro_cpu_numba.emit.tile import in_pieces
from softneuro_cpu_numba.native import emitted

from softneuro_qint8.emit.band import Differences
from softneuro_qint8.emit.finish import WORDS as FINISH_WORDS
from softneuro_qint8.emit.rows import Requantised, accumulate
from softneuro_qint8.emit.words import Pairs

ARGUMENTS = (
    *("a", "b", "y", "offsets", "starts", "no_shift", "factors", "shifts"),
    *("m", "n", "k", "a_row", "b_step", "y_row", "a_zero", "b_zero"),
    *("row_tasks", "rows_per_task", "most_tasks", "wide", "panels", *FINISH_WORDS),
)
"""``offsets``: int64 [batch, 3], where the matrices of an entry begin; ``starts``: the panels' first columns;
``no_shift``: the address of a 0; ``b_step``: elements between what does not lie together in B."""


@emitted
def pairs(
    e: Emitter,
    pieces: Sequence[int],
    vectors: int,
    narrow_pieces: Sequence[int],
    signed: tuple[bool, bool],
    across: bool,
    masked: bool,
    rounding: tuple[bool, bool],
) -> None:
    """Y[entry] = rounded(A[entry] @ B[entry] * factor) in 8 bits; a task is an entry and a block of its rows.

    ``signed``: A and B; ``across``: B's rows lie together, else its columns do; ``masked`` if there are fewer columns
    than lanes. scratch: panels of B, then rows of A.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    left, right, y = (e.b.inttoptr(a[name], I8.as_pointer()) for name in ("a", "b", "y"))
    offsets, starts = e.integers(a["offsets"]), e.integers(a["starts"])
    length = e.b.lshr(e.add(a["k"], 1), e.i(1))
    segments = length, e.i(1), e.integers(a["no_shift"])
    panels_at = e.b.bitcast(room(e), I32.as_pointer())
    columns = e.add(e.mul(a["wide"], (vectors - 1) * e.lanes), e.mul(a["panels"], e.lanes))
    rows_at = e.b.bitcast(e.at(panels_at, e.mul(columns, length)), I16.as_pointer())
    band = Differences("runs", {}, real=a["k"], zero=e.b.trunc(a["a_zero"], I16), signed=signed[0])
    factor = Factor(signed[1], across, a["b_step"], a["k"], e.b.trunc(a["b_zero"], I16))
    finish = Requantised(e, a, rounding, None)
    pitch = e.mul(length, 2)

    def before(number: Value, width: int) -> Value:
        """Columns computed before a panel."""
        if width > 1:
            return e.mul(number, width * e.lanes)
        return e.add(e.mul(a["wide"], (vectors - 1) * e.lanes), e.mul(number, e.lanes))

    def by_panels(body: Any) -> None:
        if vectors > 1:
            e.loop(a["wide"], lambda p: body(p, vectors, pieces))
        e.loop(a["panels"], lambda p: body(p, 1, narrow_pieces), first=a["wide"] if vectors > 1 else 0)

    def pack(matrix: Value) -> None:
        def panel(number: Value, width: int, _: Sequence[int]) -> None:
            into = e.at(panels_at, e.mul(before(number, width), length))
            factor.pack(e, matrix, e.integer(starts, number), a["n"], width, masked and width == 1, into)

        by_panels(panel)

    def tasks(number: Value, many: Value, _: Value) -> None:
        entry, block = e.divmod(number, a["row_tasks"])
        first = e.mul(block, a["rows_per_task"])
        here = e.smaller(e.mul(many, a["rows_per_task"]), e.sub(a["m"], first))
        begins = [e.integer(offsets, e.add(e.mul(entry, 3), n)) for n in range(3)]
        once(e, entry, lambda: pack(e.at(right, begins[1])))
        own = e.at(left, e.add(begins[0], e.mul(first, a["a_row"])))
        e.loop(here, lambda r: band.pixel(e, e.at(own, e.mul(r, a["a_row"])), pitch, e.at(rows_at, e.mul(r, pitch))))
        place = e.add(begins[2], e.mul(first, a["y_row"]))

        def panel(number: Value, width: int, sizes: Sequence[int]) -> None:
            ahead = before(number, width)
            weights, base = e.at(panels_at, e.mul(ahead, length)), e.add(place, e.integer(starts, number))
            mask = e.lanes_below(a["n"]) if masked and width == 1 else None

            def tile(r0: Value, size: int) -> None:
                pointers = [e.at(rows_at, e.mul(e.add(r0, r), pitch)) for r in range(size)]
                sums = accumulate(e, Pairs(), pointers, weights, segments, [e.whole(0)] * width)
                finish.read(e, ahead, width)
                for r in range(size):
                    at = e.add(base, e.mul(e.add(r0, r), a["y_row"]))
                    finish.store(e, sums[r * width : (r + 1) * width], Place(y, at, mask))

            in_pieces(e, here, sizes, width, tile)

        by_panels(panel)

    neighbours(e, a["row_tasks"], 1, a["most_tasks"], tasks)


@dataclass(frozen=True, slots=True)
class Factor:
    """B as it lies: ``step`` bytes between rows (``across``) or columns of ``k``; packed as pairs of differences."""

    signed: bool
    across: bool
    step: Value
    k: Value
    zero: Value

    def pack(self, e: Emitter, matrix: Value, column: Value, n: Value, width: int, masked: bool, out: Value) -> None:
        """``out[pair][width * lanes]``, words of two, from the panel that begins at ``column``; of ``n`` columns those
        that do not exist are anything."""
        if self.across:
            mask = e.lanes_below(n) if masked else None
            self._across(e, e.at(matrix, column), width, mask, out)
        else:
            e.loop(
                width * e.lanes,
                lambda c: self._strip(e, matrix, e.add(column, c), n, width, e.at(out, c)),
                step=e.lanes,
            )

    def _wide(self, e: Emitter, seen: Value) -> Value:
        """Bytes as words of two differences."""
        lanes = seen.type.count
        widen: Any = e.b.sext if self.signed else e.b.zext
        made = e.b.sub(widen(seen, e.vector_type(lanes, I16)), e.splat(self.zero, lanes))
        return e.b.bitcast(made, e.vector_type(lanes // 2, I32))

    def _across(self, e: Emitter, source: Value, width: int, mask: Value | None, out: Value) -> None:
        order = ir.Constant(e.vector_type(2 * e.lanes, I32), [i // 2 + i % 2 * e.lanes for i in range(2 * e.lanes)])
        even = e.b.and_(self.k, e.i(-2))

        def load(row: Value, v: int) -> Value:
            at = e.at(source, e.mul(row, self.step))
            return e.load_integers(at, v * e.lanes, I8) if mask is None else e.load_some(at, v * e.lanes, mask)

        def pair(row: Value, second: Any) -> None:
            into = e.at(out, e.mul(e.b.lshr(row, e.i(1)), width * e.lanes))
            for v in range(width):
                both = e.b.shuffle_vector(load(row, v), second(row, v), order)
                e.store(self._wide(e, both), into, v * e.lanes)

        e.loop(even, lambda row: pair(row, lambda r, v: load(e.add(r, 1), v)), step=2)
        # what there is no row for meets a 0 of A
        e.loop(self.k, lambda row: pair(row, load), first=even)

    def _strip(self, e: Emitter, matrix: Value, column: Value, n: Value, width: int, out: Value) -> None:
        """As many columns as lanes."""
        last = e.sub(n, 1)
        starts = [e.at(matrix, e.mul(e.smaller(e.add(column, j), last), self.step)) for j in range(e.lanes)]
        whole = e.b.and_(self.k, e.i(-2 * e.lanes))

        def square(i: Value) -> None:
            first = e.b.lshr(i, e.i(1))
            seen = [self._wide(e, e.load_integers(at, i, I8, 2 * e.lanes)) for at in starts]
            for r, vector in enumerate(transposed(e, seen)):
                e.store(vector, out, e.mul(e.add(first, r), width * e.lanes))

        def one(i: Value) -> None:
            widen: Any = e.b.sext if self.signed else e.b.zext
            place = e.add(e.mul(e.b.lshr(i, e.i(1)), 2 * width * e.lanes), e.b.and_(i, e.i(1)))
            into = e.b.bitcast(out, I16.as_pointer())
            for j, at in enumerate(starts):
                e.b.store(e.b.sub(widen(e.b.load(e.at(at, i)), I16), self.zero), e.at(into, e.add(place, 2 * j)))

        e.loop(whole, square, step=2 * e.lanes)
        e.loop(self.k, one, first=whole)
