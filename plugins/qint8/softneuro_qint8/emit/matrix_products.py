"""Products of two computed factors of 8-bit integers on a matrix unit, exact.

Bytes stay bytes. What the zero points add to a sum of products is taken away again: for a column of B before it begins
(``A``'s zero point times the sum of the column, which the unit computes from a tile of ones), for a row of A when it is
rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from softneuro_cpu_numba.amx import SIDE, Tiles, room_bytes
from softneuro_cpu_numba.emit.emitter import I8, I32, Emitter, Index, Value
from softneuro_cpu_numba.emit.matmul import transposed
from softneuro_cpu_numba.emit.matrix import Runs, Sums, aligned, configure, release
from softneuro_cpu_numba.emit.norm import across
from softneuro_cpu_numba.emit.slide import Place
from softneuro_cpu_numba.emit.tasks import room
from softneuro_cpu_numba.matrix_rows import PANEL
from softneuro_cpu_numba.native import emitted

from softneuro_qint8.emit.batches import SHARED, entries
from softneuro_qint8.emit.finish import WORDS as FINISH_WORDS
from softneuro_qint8.emit.finish import Rounded

ARGUMENTS = (
    *("a", "b", "y", "offsets", "config"),
    *(*SHARED, "panels", "panel_words", "steps", "pitch", "most_rows", *FINISH_WORDS),
)
"""Then the factor. As ``emit.products``; ``pitch``: words between rows of A as they are copied, ``most_rows`` of them;
``steps`` of the tiles' words make up k."""
PRODUCTS = {(True, True): "tdpbssd", (True, False): "tdpbsud", (False, True): "tdpbusd", (False, False): "tdpbuud"}
"""By whether A and B are signed."""


@emitted
def matrix(
    e: Emitter,
    tile: tuple[int, int],
    last: tuple[int, int],
    signed: tuple[bool, bool],
    down: bool,
    rounding: tuple[bool, bool],
) -> None:
    """Y[entry] = rounded(A[entry] @ B[entry] * factor) in 8 bits; a task is an entry and a block of its rows.

    ``tile``: its rows and words; ``last``: vectors of the last panel, and columns of its last vector where that is not
    full, else 0. ``down``: B's columns lie together, of whole words; else its rows do.
    scratch: sums on their way, what they begin with, ones, what rows take away, A's rows, B's panels.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    rows, words = tile
    sums = Sums(Tiles(rows, words), PRODUCTS[signed], aligned(e, room(e)))
    begins_at = e.at(sums.room, room_bytes(rows) // 4)
    ones_at = e.at(begins_at, e.mul(e.add(a["panels"], 1), PANEL))
    taken_at = e.b.bitcast(e.at(ones_at, rows * words), I32.as_pointer())
    rows_at = e.at(e.floats(taken_at), a["most_rows"])
    panels_at = e.at(rows_at, e.mul(a["most_rows"], a["pitch"]))
    runs = Runs(1, a["steps"], None)
    y, rounded = e.b.inttoptr(a["y"], I8.as_pointer()), Rounded.read(e, a, rounding)
    factor = e.splat(e.number(len(ARGUMENTS)))
    nothing = e.at(begins_at, e.mul(a["panels"], PANEL))

    def by_panels(body: Any) -> None:
        whole = e.sub(a["panels"], 1)
        e.loop(whole, lambda p: body(p, 2, 0))
        body(whole, *last)

    def pack(matrix: Value) -> None:
        pointer = e.b.bitcast(ones_at, I32.as_pointer())
        e.loop(rows * words, lambda i: e.b.store(ir.Constant(I32, 0x01010101), e.at(pointer, i)) and None)
        e.zero_run(nothing, PANEL)
        lay = Columns(down, matrix, a["b_step"], a["k"], a["n"], words, a["steps"])

        def panel(number: Value, vectors: int, few: int) -> None:
            column, into = e.mul(number, PANEL), e.at(panels_at, e.mul(number, a["panel_words"]))
            for v in range(vectors):
                lay.pack(e, e.add(column, v * SIDE), few if v == vectors - 1 else 0, (vectors, v), into)
            sums.compute(e, [ones_at], e.i(words), [into], nothing, runs, vectors)
            zero, both = a["a_zero"], e.mul(a["k"], a["a_zero"], a["b_zero"])
            for v, total in enumerate(sums.read(e, 0, e.i(0), vectors)):
                product = e.b.mul(total, e.splat(e.b.trunc(zero, I32)))
                e.store(e.b.sub(e.splat(e.b.trunc(both, I32)), product), begins_at, e.add(column, v * SIDE))

        by_panels(panel)

    def block(own: Value, here: Value, place: Value) -> None:
        def copy(r: Value) -> None:
            into = e.b.bitcast(e.at(rows_at, e.mul(r, a["pitch"])), I8.as_pointer())
            total = _copied(e, e.at(own, e.mul(r, a["a_row"])), a["k"], into, signed[0])
            e.b.store(e.b.mul(total, e.b.trunc(a["b_zero"], I32)), e.at(taken_at, r))

        e.loop(here, copy)

        def panel(number: Value, vectors: int, few: int) -> None:
            column, weights = e.mul(number, PANEL), e.at(panels_at, e.mul(number, a["panel_words"]))
            masks = [None] * (vectors - 1) + [e.lanes_below(e.i(few)) if few else None]

            def tiles(first_row: Value, count: int) -> None:
                pointers = [e.at(rows_at, e.mul(e.add(first_row, i * rows), a["pitch"])) for i in range(count)]
                sums.compute(e, pointers, a["pitch"], [weights], e.at(begins_at, column), runs, vectors)
                for i in range(count):
                    begin = e.add(first_row, i * rows)

                    def row(r: Value, i: int = i, begin: Value = begin) -> None:
                        at = e.add(begin, r)
                        taken = e.splat(e.b.load(e.at(taken_at, at)))
                        totals = [e.b.sub(total, taken) for total in sums.read(e, i, r, vectors)]
                        reals = [e.b.fmul(e.b.sitofp(total, e.vector_type()), factor) for total in totals]
                        to = e.add(place, e.mul(at, a["y_row"]), column)
                        if masks[-1] is None:
                            rounded.store(e, reals, Place(y, to, None))
                            return
                        for v, real in enumerate(reals):
                            rounded.store(e, [real], Place(y, e.add(to, v * SIDE), masks[v]))

                    e.loop(e.smaller(e.i(rows), e.sub(here, begin)), row)

            count = e.b.udiv(e.add(here, rows - 1), e.i(rows))
            even = e.mul(e.b.and_(count, e.i(-2)), rows)
            e.loop(even, lambda r: tiles(r, 2), step=2 * rows)
            e.loop(here, lambda r: tiles(r, 1), step=rows, first=even)

        by_panels(panel)

    configure(e, a["config"])
    entries(e, a, pack, block)
    release(e)


def _copied(e: Emitter, source: Value, count: Value, out: Value, signed: bool) -> Value:
    """Copies bytes, perhaps with some zeros behind, and adds them up."""
    widen: Any = e.b.sext if signed else e.b.zext
    whole = e.b.and_(count, e.i(-e.lanes))

    def vector(i: Value, total: Value, mask: Value | None) -> list[Value]:
        seen = e.load_integers(source, i, I8) if mask is None else e.load_some(source, i, mask)
        e.store(seen, out, i)
        return [e.b.add(total, widen(seen, e.vector_type(element=I32)))]

    (total,) = e.loop(whole, lambda i, so_far: vector(i, so_far, None), [e.whole(0)], step=e.lanes)
    rest = e.lanes_below(e.sub(count, whole))
    (total,) = e.when(e.less(whole, count), lambda: vector(whole, total, rest), lambda: [total])
    return e.b.extract_element(across(e, total, e.b.add), ir.Constant(I32, 0))


@dataclass(frozen=True, slots=True)
class Columns:
    """B as it lies: ``step`` bytes between columns (``down``) or rows; k in ``steps`` of ``words``."""

    down: bool
    matrix: Value
    step: Value
    k: Value
    n: Value
    words: int
    steps: Value

    def pack(self, e: Emitter, column: Value, few: int, place: tuple[int, int], panel: Value) -> None:
        """One vector of columns from ``column`` on (``few`` of them if not 0) into its panel: [step][vector][word]
        [column] words of four, zeros behind k; ``place``: vectors of the panel, and which of them this is."""
        vectors, v = place
        mask = e.lanes_below(e.i(few)) if few else None
        last = e.sub(self.n, 1)
        starts = [e.at(self.matrix, e.mul(e.smaller(e.add(column, j), last), self.step)) for j in range(SIDE)]
        starts = [e.b.bitcast(at, I32.as_pointer()) for at in starts] if self.down else []

        def step(s: Value) -> None:
            first, into = e.mul(s, self.words), e.at(panel, e.mul(e.add(e.mul(s, vectors), v), self.words * SIDE))
            if self.down:
                exist = e.lanes_below(e.smaller(self.words, e.sub(e.b.lshr(self.k, e.i(2)), first)))
                square = transposed(e, [e.load_some(at, first, exist) for at in starts])
                for w in range(self.words):
                    e.store(square[w], into, w * SIDE)
                return
            e.loop(self.words, lambda w: self._word(e, e.add(first, w), column, mask, e.at(into, e.mul(w, SIDE))))

        e.loop(self.steps, step)

    def _word(self, e: Emitter, word: Value, column: Value, mask: Value | None, out: Value) -> None:
        """Four rows, byte by byte."""
        rows = [self._row(e, e.add(e.mul(word, 4), j), column, mask) for j in range(4)]
        order = ir.Constant(e.vector_type(4 * SIDE, I32), [c + SIDE * j for c in range(SIDE) for j in range(4)])
        every = e.joined(rows)
        e.store(e.b.shuffle_vector(every, every, order), e.b.bitcast(out, I8.as_pointer()))

    def _row(self, e: Emitter, row: Index, column: Value, mask: Value | None) -> Value:
        at = e.at(self.matrix, e.add(e.mul(e.smaller(row, e.sub(self.k, 1)), self.step), column))
        seen = e.load_integers(at, 0, I8) if mask is None else e.load_some(at, 0, mask)
        nothing = ir.Constant(seen.type, [0] * SIDE)
        return e.b.select(e.less(row, self.k), seen, nothing)
