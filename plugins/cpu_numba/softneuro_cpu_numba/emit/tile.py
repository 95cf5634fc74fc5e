"""The register tile: C[rows][vectors * lanes] = start + sum over k of A[r, k] * B[k, :], all of C in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from softneuro_cpu_numba.emit.activation import ACTIVATIONS
from softneuro_cpu_numba.emit.emitter import Emitter, Index, Value
from softneuro_cpu_numba.emit.isa import CACHE_LINE

PREFETCH, ROWS_AHEAD = 1024, 8
"""How far ahead B is asked for, in floats where it is packed and in rows elsewhere. Free where B is in the first-level
cache, up to 1.5 times faster where it streams from the third (512 channels at 7x7, Winograd). Narrower elements are
asked for as many bytes ahead: one row by 4096 x 4096 takes 1.3 ms instead of 2.2 in 8 bits and 3.0 instead of 3.7 in
16."""
IN_A_FLOAT = {"float32": 1, "int8": 4}
"""Elements in the bytes of a float; of others two."""


@dataclass(frozen=True, slots=True)
class Segments:
    """K as ``count`` runs of ``length`` consecutive floats of A; run ``s`` begins at ``offsets[s]``.

    A pointwise product has one run; a convolution one for each kernel row (its columns and channels lie together).
    """

    length: Index
    count: Index = 1
    offsets: Value | None = None


@dataclass(frozen=True, slots=True)
class Coming:
    """What later tiles will read of B, asked for while one is computed: a cache line a step in each of ``streams``
    places, ``apart`` elements from each other, from ``first`` on."""

    first: Value
    streams: int
    apart: Value

    def ask(self, e: Emitter, at: Value) -> Value:
        """Where the next step goes on."""
        for stream in range(self.streams):
            e.prefetch(at, e.mul(self.apart, stream), near=False)
        return e.at(at, CACHE_LINE)


def coming(e: Emitter, panel: Value, k: Value, width: int, first: Value, rows: int, lines: int) -> Coming | None:
    """The share of the panel behind ``panel`` (k rows of ``width`` floats) that the tile from row ``first`` on asks
    for, of tiles of ``rows`` rows that ask for ``lines`` a step at most; later tiles repeat the last share."""
    if not lines:
        return None
    row = -(-width // CACHE_LINE)
    streams, tile = min(lines, row), e.b.udiv(e.i(first), e.i(rows))
    share, apart = e.smaller(tile, -(-row // streams) - 1), e.mul(k, CACHE_LINE)
    return Coming(e.at(panel, e.add(e.mul(k, width), e.mul(apart, share, streams))), streams, apart)


@dataclass(frozen=True, slots=True)
class Panel:
    """B: rows of k, ``pitch`` elements apart (None: packed, as wide as the tile), of elements ``stored`` as float32,
    float16, bfloat16, int8 or int16. With ``scale``, of one segment only, row k counts ``scale[k]`` times; float32
    columns outside ``mask`` are not read. ``pairs``: A and B are words of two bfloat16, k counts words."""

    pointer: Value
    stored: str = "float32"
    scale: Value | None = None
    pitch: Value | None = None
    mask: Value | None = None
    pairs: bool = False
    coming: Coming | None = None

    def multiply(self, e: Emitter, x: Value, column: Value, so_far: Value) -> Value:
        """so_far + x * column."""
        return (e.dot_bfloat if self.pairs else e.fma)(x, column, so_far)

    def row(self, e: Emitter, at: Value, k: Value, vectors: int, rows: int) -> tuple[list[Value], Value | None]:
        """Row k, which begins at ``at``, widened; and its scale where that is cheaper multiplied with the ``rows``
        numbers of A than with the columns."""
        if self.mask is None:
            columns = [e.load_stored(at, v * e.lanes, self.stored) for v in range(vectors)]
        else:
            columns = [e.load_some(at, v * e.lanes, self.mask) for v in range(vectors)]
        if self.scale is None:
            return columns, None
        factor = e.broadcast(self.scale, k)
        return (columns, factor) if rows < vectors else ([e.b.fmul(factor, column) for column in columns], None)

    def ask_ahead(self, e: Emitter, at: Value, width: int) -> None:
        """Prefetches what a later step will read."""
        wider = IN_A_FLOAT.get(self.stored, 2)
        ahead = PREFETCH * wider if self.pitch is None else e.mul(self.pitch, ROWS_AHEAD)
        for column in range(0, width, CACHE_LINE * wider):
            e.prefetch(at, e.add(ahead, column))


def accumulate(
    e: Emitter,
    rows: Sequence[Value],
    panel: Panel,
    segments: Segments,
    start: Sequence[Value],
    ahead: Value | None = None,
) -> list[Value]:
    """Sums of one tile, row by row, from ``start`` on. ``rows`` point to A's rows; ``ahead`` is how many floats further
    the next tile's rows begin, which are asked for on the way (one segment only)."""
    vectors = len(start) // len(rows)
    width = vectors * e.lanes
    sums = list(start)

    def step(at: Value, pointers: Sequence[Value], k: Value, carried: Sequence[Value]) -> list[Value]:
        columns, factor = panel.row(e, at, k, vectors, len(pointers))
        panel.ask_ahead(e, at, width)
        made = []
        for r, pointer in enumerate(pointers):
            x = e.broadcast(pointer, k)
            x = x if factor is None else e.b.fmul(factor, x)
            made += [panel.multiply(e, x, column, carried[r * vectors + v]) for v, column in enumerate(columns)]
        return made

    def run(pointers: Sequence[Value], carried: Sequence[Value]) -> list[Value]:
        def body(k: Value, at: Value, *now: Value) -> list[Value]:
            asked = [panel.coming.ask(e, now[0])] if panel.coming else []
            moved = e.at(at, width if panel.pitch is None else panel.pitch)
            return [moved, *asked, *step(at, pointers, k, now[len(asked) :])]

        if ahead is None:
            return e.loop(segments.length, body, carried)

        def line(first: Value, *now: Value) -> list[Value]:
            for pointer in pointers:
                e.prefetch(pointer, e.add(first, ahead), near=False)
            return e.loop(e.add(first, CACHE_LINE), body, now, first=first)

        whole = e.b.and_(e.i(segments.length), e.i(-CACHE_LINE))
        now = e.loop(whole, line, carried, step=CACHE_LINE)
        return e.loop(segments.length, body, now, first=whole)

    begin = [panel.pointer, *([panel.coming.first] if panel.coming else [])]
    if segments.offsets is None:
        return run(rows, [*begin, *sums])[len(begin) :]

    def segment(s: Value, *now: Value) -> list[Value]:
        assert segments.offsets is not None
        shift = e.integer(segments.offsets, s)
        return run([e.at(pointer, shift) for pointer in rows], now)

    return e.loop(segments.count, segment, [*begin, *sums])[len(begin) :]


@dataclass(frozen=True, slots=True)
class Finish:
    """What happens to a sum on its way to memory: + residual, activation. Parameters are scalars; y and the residual
    point to elements ``stored`` as float32, float16 or bfloat16."""

    activation: str
    p0: Value
    p1: Value
    residual: Value | None = None
    stored: str = "float32"

    def store(self, e: Emitter, value: Value, y: Value, offset: Index, mask: Value | int | None = None) -> None:
        """Writes a vector of results to ``y[offset]``; the residual is read at the same offset."""
        if self.residual is not None:
            value = e.b.fadd(value, e.load_stored(self.residual, offset, self.stored, mask))
        value = ACTIVATIONS[self.activation](e, value, e.splat(self.p0), e.splat(self.p1))
        e.store_stored(value, y, offset, self.stored, mask)


def in_pieces(
    e: Emitter, count: Index, pieces: Sequence[int], vectors: int, body: Callable[[Value, int], None]
) -> None:
    """``body(first, piece)`` over 0..count: the largest piece, then the rest in the cheapest way.

    A rest of one row is better taken together with the last whole tile: 7 rows as 4 + 3, not as 6 + 1, because a
    tile of few rows waits for its own sums. ``pieces`` descend to 1.
    """
    largest = pieces[0]
    plans = [_split(rest, pieces, vectors) for rest in range(2 * largest)]
    joined = [
        r > 0 and _cost(plans[r + largest], vectors) < _cost((largest, *plans[r]), vectors) for r in range(largest)
    ]
    tiles, rest = e.divmod(count, largest)
    take_back = e.smaller(e.lookup([int(j) for j in joined], rest), tiles)
    whole = e.mul(e.sub(tiles, take_back), largest)
    rest = e.sub(count, whole)
    e.loop(whole, lambda i: body(i, largest), step=largest)
    first = whole
    for piece in pieces:
        uses = [plan.count(piece) for plan in plans]
        if not any(uses) or piece == largest:
            continue
        end = e.add(first, e.mul(e.lookup(uses, rest), piece))

        def one(i: Value, _size: int = piece) -> None:
            body(i, _size)

        e.loop(end, one, step=piece, first=first)
        first = end


LATENCY = 8
"""FMAs in flight that keep both units busy: a tile of fewer sums costs as much as one of so many."""


def _cost(plan: Sequence[int], vectors: int) -> int:
    return sum(max(LATENCY, piece * vectors) + 1 for piece in plan)


@cache
def _split(rest: int, pieces: Sequence[int], vectors: int) -> tuple[int, ...]:
    """The cheapest pieces, smaller than the largest, that make up ``rest``."""
    if rest == 0:
        return ()
    smaller = [p for p in pieces[1:] or pieces if p <= rest]
    return min(((p, *_split(rest - p, pieces, vectors)) for p in smaller), key=lambda plan: _cost(plan, vectors))
