"""Products of two computed factors of 8-bit integers, exact: as ``softneuro_cpu_numba.emit.matmul``, word by word.

Rows of A and panels of B are copied as words (``emit.words``), B once for every matrix it belongs to; then all is as in
:mod:`softneuro_qint8.emit.rows`. Pairs hold differences from the zero points. Of words of bytes, what A's zero point
adds to a sum is taken away from what the sums of a column of B begin with, what B's adds from the sums of a row of A.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir
from softneuro_cpu_numba.emit.emitter import I8, I32, Emitter, Value
from softneuro_cpu_numba.emit.matmul import transposed
from softneuro_cpu_numba.emit.norm import across
from softneuro_cpu_numba.emit.slide import Place
from softneuro_cpu_numba.emit.tasks import room
from softneuro_cpu_numba.emit.tile import in_pieces
from softneuro_cpu_numba.native import emitted

from softneuro_qint8.emit.batches import SHARED, entries
from softneuro_qint8.emit.finish import WORDS as FINISH_WORDS
from softneuro_qint8.emit.rows import Requantised, accumulate
from softneuro_qint8.emit.words import Pairs, Quads

ARGUMENTS = (
    *("a", "b", "y", "offsets", "starts", "no_shift", "factors", "shifts"),
    *(*SHARED, "wide", "panels", *FINISH_WORDS),
)
"""``starts``: the panels' first columns; ``no_shift``: the address of a 0."""


ONES = 0x01010101


@emitted
def products(
    e: Emitter,
    pieces: Sequence[int],
    vectors: int,
    narrow_pieces: Sequence[int],
    signed: tuple[bool, bool],
    down: bool,
    masked: bool,
    quads: bool,
    rounding: tuple[bool, bool],
) -> None:
    """Y[entry] = rounded(A[entry] @ B[entry] * factor) in 8 bits; a task is an entry and a block of its rows.

    ``signed``: A and B; ``down``: B's columns lie together, else its rows do; ``masked`` if there are fewer columns
    than lanes; ``quads``: words of four bytes, else pairs. scratch: panels of B, what sums of their columns begin
    with, what is taken from rows of A, those rows.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    y, starts = e.b.inttoptr(a["y"], I8.as_pointer()), e.integers(a["starts"])
    word = Quads() if quads else Pairs()
    length = e.b.udiv(e.add(a["k"], word.count - 1), e.i(word.count))
    segments = length, e.i(1), e.integers(a["no_shift"])
    panels_at = e.b.bitcast(room(e), I32.as_pointer())
    columns = e.add(e.mul(a["wide"], (vectors - 1) * e.lanes), e.mul(a["panels"], e.lanes))
    begins_at = e.at(panels_at, e.mul(columns, length))
    taken_at = e.at(begins_at, columns)
    rows_at = e.b.bitcast(e.at(taken_at, e.mul(a["rows_per_task"], a["most_tasks"])), word.band.element.as_pointer())
    zeros = [e.b.trunc(a[name], I8) for name in ("a_zero", "b_zero")]
    zero = word.zero(e, zeros[0], signed[0])
    band = word.band("runs", {}, real=a["k"], zero=zero, signed=signed[0])
    factor = Factor(word, signed[1], down, a["b_step"], a["k"], length, zeros[1])
    finish = Requantised(e, a, rounding, None)
    pitch = e.mul(length, word.count)

    def before(number: Value, width: int) -> Value:
        """Columns computed before a panel."""
        if width > 1:
            return e.mul(number, width * e.lanes)
        return e.add(e.mul(a["wide"], (vectors - 1) * e.lanes), e.mul(number, e.lanes))

    def by_panels(body: Callable[[Value, int, Sequence[int]], None]) -> None:
        if vectors > 1:
            e.loop(a["wide"], lambda p: body(p, vectors, pieces))
        e.loop(a["panels"], lambda p: body(p, 1, narrow_pieces), first=a["wide"] if vectors > 1 else 0)

    def pack(matrix: Value) -> None:
        def panel(number: Value, width: int, _: Sequence[int]) -> None:
            ahead = before(number, width)
            into = e.at(panels_at, e.mul(ahead, length))
            factor.pack(e, matrix, e.integer(starts, number), a["n"], width, masked and width == 1, into)
            if isinstance(word, Quads):
                factor.sum_up(e, word, into, width, e.at(begins_at, ahead))

        by_panels(panel)

    def block(own: Value, here: Value, place: Value) -> None:
        def copy(r: Value) -> None:
            into = e.at(rows_at, e.mul(r, pitch))
            band.pixel(e, e.at(own, e.mul(r, a["a_row"])), pitch, into)
            if isinstance(word, Quads):
                e.b.store(factor.taken(e, word, into), e.at(taken_at, r))

        e.loop(here, copy)

        def panel(number: Value, width: int, sizes: Sequence[int]) -> None:
            ahead = before(number, width)
            weights, base = e.at(panels_at, e.mul(ahead, length)), e.add(place, e.integer(starts, number))
            mask = e.lanes_below(a["n"]) if masked and width == 1 else None

            def tile(r0: Value, size: int) -> None:
                pointers = [e.at(rows_at, e.mul(e.add(r0, r), pitch)) for r in range(size)]
                start = [word.start(e, zero, begins_at, e.add(ahead, v * e.lanes)) for v in range(width)]
                sums = accumulate(e, word, pointers, weights, segments, start)
                finish.read(e, ahead, width)
                for r in range(size):
                    row = sums[r * width : (r + 1) * width]
                    if quads:
                        taken = e.splat(e.b.load(e.at(taken_at, e.add(r0, r))))
                        row = [e.b.sub(total, taken) for total in row]
                    finish.store(e, row, Place(y, e.add(base, e.mul(e.add(r0, r), a["y_row"])), mask))

            in_pieces(e, here, sizes, width, tile)

        by_panels(panel)

    entries(e, a, pack, block)


@dataclass(frozen=True, slots=True)
class Factor:
    """B as it lies: ``step`` bytes between columns (``down``) or rows; its ``k`` rows make ``length`` words. ``zero``
    is its zero point as it is stored."""

    word: Pairs | Quads
    signed: bool
    down: bool
    step: Value
    k: Value
    length: Value
    zero: Value

    def pack(self, e: Emitter, matrix: Value, column: Value, n: Value, width: int, masked: bool, out: Value) -> None:
        """``out[word][width * lanes]`` from the panel that begins at ``column``, zeros behind k; of ``n`` columns those
        that do not exist are anything."""
        if self.down:
            strip = lambda c: self._strip(e, matrix, e.add(column, c), n, width, e.at(out, c))  # noqa: E731
            e.loop(width * e.lanes, strip, step=e.lanes)
        else:
            mask = e.lanes_below(n) if masked else None
            self._across(e, e.at(matrix, column), width, mask, out)

    def _held(self, e: Emitter, seen: Value) -> Value:
        """Bytes, one or a vector: as differences in 16 bits, or with a sign."""
        signed = self.signed != isinstance(self.word, Quads)  # to take 128 away turns the same bit as to add it
        zero = self.word.zero(e, self.zero, signed)
        return self.word.band("runs", {}, real=self.k, zero=zero, signed=signed).held(e, seen)

    def _across(self, e: Emitter, source: Value, width: int, mask: Value | None, out: Value) -> None:
        count, last = self.word.count, e.sub(self.k, 1)
        order = [i // count + i % count * e.lanes for i in range(count * e.lanes)]

        def load(row: Value, v: int) -> Value:
            at = e.at(source, e.mul(e.smaller(row, last), self.step))
            seen = e.load_integers(at, v * e.lanes, I8) if mask is None else e.load_some(at, v * e.lanes, mask)
            held = self._held(e, seen)
            return e.b.select(e.less(row, self.k), held, ir.Constant(held.type, [0] * e.lanes))

        def one(w: Value) -> None:
            for v in range(width):
                every = e.joined([load(e.add(e.mul(w, count), j), v) for j in range(count)])
                made = e.b.shuffle_vector(every, every, ir.Constant(e.vector_type(count * e.lanes, I32), order))
                words = e.b.bitcast(made, e.vector_type(element=I32))
                e.store(words, out, e.add(e.mul(w, width * e.lanes), v * e.lanes))

        e.loop(self.length, one)

    def _strip(self, e: Emitter, matrix: Value, column: Value, n: Value, width: int, out: Value) -> None:
        """As many columns as lanes."""
        last, count, line = e.sub(n, 1), self.word.count, width * e.lanes
        starts = [e.at(matrix, e.mul(e.smaller(e.add(column, j), last), self.step)) for j in range(e.lanes)]
        words = e.b.udiv(self.k, e.i(count))
        squares = e.b.and_(words, e.i(-e.lanes))
        e.store(e.whole(0), out, e.mul(e.sub(self.length, 1), line))

        def rest() -> tuple[()]:
            for r, vector in enumerate(self._square(e, starts, squares, e.lanes_below(e.sub(words, squares)))):
                e.when(e.less(e.add(squares, r), words), lambda r=r, v=vector: put(e.add(squares, r), v), tuple)
            return ()

        def put(w: Value, vector: Value) -> tuple[()]:
            e.store(vector, out, e.mul(w, line))
            return ()

        def square(first: Value) -> None:
            for r, vector in enumerate(self._square(e, starts, first, None)):
                put(e.add(first, r), vector)

        elements = e.b.bitcast(out, self.word.band.element.as_pointer())

        def one(i: Value) -> None:
            place = e.add(e.mul(words, line, count), e.sub(i, e.mul(words, count)))
            for j, at in enumerate(starts):
                e.b.store(self._held(e, e.b.load(e.at(at, i))), e.at(elements, e.add(place, j * count)))

        e.loop(squares, square, step=e.lanes)
        e.when(e.less(squares, words), rest, tuple)
        e.loop(self.k, one, first=e.mul(words, count))

    def _square(self, e: Emitter, starts: Sequence[Value], first: Value, mask: Value | None) -> list[Value]:
        """As many words as lanes of every column, from word ``first`` on, as rows; those outside ``mask`` are not
        read."""
        bits, seen = ir.IntType(8 * self.word.count), []
        for start in starts:
            at = e.b.bitcast(start, bits.as_pointer())
            found = e.load_integers(at, first, bits) if mask is None else e.load_some(at, first, mask)
            held = self._held(e, e.b.bitcast(found, e.vector_type(self.word.count * e.lanes, I8)))
            seen.append(e.b.bitcast(held, e.vector_type(element=I32)))
        return transposed(e, seen)

    def _shifted_zero(self, e: Emitter) -> Value:
        """The zero point of bytes with a sign, in 32 bits."""
        return e.b.sext(self._held(e, self.zero), I32)

    def sum_up(self, e: Emitter, word: Quads, panel: Value, width: int, out: Value) -> None:
        """Of a packed panel's columns the sums of what they mean, for :meth:`Quads.start`."""
        none = e.b.mul(e.b.trunc(self.k, I32), self._shifted_zero(e))

        def one(w: Value, *totals: Value) -> list[Value]:
            at = e.at(panel, e.mul(w, width * e.lanes))
            seen = [e.load_integers(at, v * e.lanes, I32) for v in range(width)]
            return [word.dots(e, total, e.whole(ONES), words) for total, words in zip(totals, seen, strict=True)]

        for v, total in enumerate(e.loop(self.length, one, [e.whole(0)] * width)):
            e.store(e.b.sub(total, e.splat(none)), out, v * e.lanes)

    def taken(self, e: Emitter, word: Quads, row: Value) -> Value:
        """What the zero point of B adds to every sum of a row of A."""
        words = e.b.bitcast(row, I32.as_pointer())
        whole = e.b.and_(self.length, e.i(-e.lanes))

        def some(i: Value, total: Value, mask: Value | None) -> list[Value]:
            seen = e.load_integers(words, i, I32) if mask is None else e.load_some(words, i, mask)
            return [word.dots(e, total, seen, e.whole(ONES))]

        (total,) = e.loop(whole, lambda i, so_far: some(i, so_far, None), [e.whole(0)], step=e.lanes)
        rest = e.lanes_below(e.sub(self.length, whole))
        (total,) = e.when(e.less(whole, self.length), lambda: some(whole, total, rest), lambda: [total])
        every = e.b.extract_element(across(e, total, e.b.add), ir.Constant(I32, 0))
        return e.b.mul(every, self._shifted_zero(e))
