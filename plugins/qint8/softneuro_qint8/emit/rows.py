"""Convolution and matrix product of 8-bit integers, pixels as rows and output channels as columns, exact.

As ``softneuro_cpu_numba.emit.conv``, but the tile's step is a word of several numbers (``emit.words``), whose products
and their sum in 32 bits are one instruction where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from softneuro_cpu_numba.emit.band import WORDS as BAND_WORDS
from softneuro_cpu_numba.emit.emitter import I8, I16, I32, Emitter, Value
from softneuro_cpu_numba.emit.slide import Place
from softneuro_cpu_numba.emit.tasks import neighbours, once, room
from softneuro_cpu_numba.emit.tile import in_pieces
from softneuro_cpu_numba.native import emitted

from softneuro_qint8.emit.finish import ADDED, Added, Rounded
from softneuro_qint8.emit.finish import WORDS as FINISH_WORDS
from softneuro_qint8.emit.words import WORDS, Word

ARGUMENTS = (
    *("x", "zero", "w", "weight_sums", "factors", "shifts", "y", "starts"),
    *("row_tasks", "rows_per_task", "most_tasks", "panel_tasks", "panels_per_task", "rows", "columns"),
    *("x_image", "groups", "channels", "whole", "out_channels", "ld_y", "wide", "panels", "words"),
    *("run", "runs", "run_offsets", "offsets", *FINISH_WORDS, *ADDED),
    *("y_image", "y_row", "y_origin", "y_offsets"),
)
"""Then the band. ``zero`` is the address of the input's zero point, ``weight_sums`` (int32, for words of bytes) gives
each column's sum of weights. ``rows`` x ``columns`` and ``out_channels`` (of a
group, ``ld_y`` of all) are the output's. ``starts`` gives each panel's first column; ``offsets`` each pixel's place in
the band, which has ``whole`` channels; ``words`` is the length of a sum, made of ``runs`` of ``run`` words at
``run_offsets``."""

AHEAD = 1024
"""Words ahead that weights are asked for: 4 KiB, as for float32."""


@emitted
def rows(
    e: Emitter,
    pieces: Sequence[int],
    vectors: int,
    narrow_pieces: Sequence[int],
    source: str,
    signed: bool,
    result: str,
    masked: bool,
    few: tuple[int, int] | None = None,
    stored: str = "int16",
    rounding: tuple[bool, bool] = (True, False),
    residual: bool | None = None,
    scattered: bool = False,
) -> None:
    """y[pixel, channel] = windows(x - zero) @ w, as ``result``: ``rounded`` (* factor + shift [+ residual], rounded, in
    8 bits) or ``sums`` (int32).

    Tasks are image x group x row stretch x panel stretch. Panels are ``vectors`` wide, the last ones one vector;
    ``masked`` if there are fewer channels than lanes. ``source`` and ``few``: how the band reads x
    (``IntegerBand``).
    ``rounding``: see ``Rounded``; ``residual``: whether the added value is signed; ``scattered``: the
    pixels of a stretch lie at ``y_offsets`` behind ``y_origin``, its rows and images ``y_row`` and ``y_image`` apart.
    scratch: the band. Weights: [group][panel][word][column][element], ``stored`` as a key of ``emit.words.WORDS``;
    weight sums, factors and shifts [group][column].
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    x = e.b.inttoptr(a["x"], I8.as_pointer())
    word = WORDS[stored]()
    w = e.b.inttoptr(a["w"], (I16 if stored == "int8" else I32).as_pointer())
    weight_sums = e.b.inttoptr(a["weight_sums"], I32.as_pointer())
    y = e.b.inttoptr(a["y"], (I8 if result == "rounded" else I32).as_pointer())
    tables = ("starts", "offsets", "run_offsets", "y_offsets")
    starts, offsets, run_offsets, y_offsets = (e.integers(a[name]) for name in tables)
    packed = e.b.bitcast(room(e), word.band.element.as_pointer())
    zero = word.zero(e, e.b.load(e.b.inttoptr(a["zero"], I8.as_pointer())), signed)
    words = dict(zip(BAND_WORDS, e.words(len(ARGUMENTS), len(BAND_WORDS)), strict=True))
    band = word.band(source, words, real=a["channels"], zero=zero, signed=signed, few=few)
    finish = Requantised(e, a, rounding, residual) if result == "rounded" else Sums()
    columns_per_group = e.add(e.mul(a["wide"], vectors * e.lanes), e.mul(e.sub(a["panels"], a["wide"]), e.lanes))

    def tasks(number: Value, many: Value, broad: Value) -> None:
        block, panel_stretch = e.divmod(number, a["panel_tasks"])
        entry, stretch = e.divmod(block, a["row_tasks"])
        image, group = e.divmod(entry, a["groups"])
        first_row = e.mul(stretch, a["rows_per_task"])
        here = e.smaller(e.mul(many, a["rows_per_task"]), e.sub(a["rows"], first_row))
        origin = e.at(x, e.add(e.mul(image, a["x_image"]), e.mul(group, a["channels"])))
        once(e, block, lambda: band.pack(e, origin, a["whole"], first_row, here, packed))
        begin = e.mul(panel_stretch, a["panels_per_task"])
        end = e.smaller(e.add(begin, e.mul(broad, a["panels_per_task"])), a["panels"])
        ahead_of: Callable[[Value], Value] = lambda p: e.mul(p, a["ld_y"])  # noqa: E731
        if scattered:
            ahead_of = lambda p: e.mul(e.integer(y_offsets, p), a["ld_y"])  # noqa: E731
            pixel = e.add(a["y_origin"], e.mul(image, a["y_image"]), e.mul(first_row, a["y_row"]))
        else:
            pixel = e.mul(e.add(e.mul(image, a["rows"]), first_row), a["columns"])
        place = e.add(e.mul(pixel, a["ld_y"]), e.mul(group, a["out_channels"]))

        def panel(number: Value, width: int, sizes: Sequence[int]) -> None:
            if width == 1:
                ahead = e.add(e.mul(a["wide"], (vectors - 1) * e.lanes), e.mul(number, e.lanes))
            else:
                ahead = e.mul(number, width * e.lanes)
            ahead = e.add(e.mul(group, columns_per_group), ahead)
            weights = e.at(w, e.mul(ahead, a["words"]))
            base = e.add(place, e.integer(starts, number))
            mask = e.lanes_below(a["out_channels"]) if masked and width == 1 else None

            def tile(first: Value, size: int) -> None:
                pointers = [e.at(packed, e.integer(offsets, e.add(first, r))) for r in range(size)]
                start = [word.start(e, zero, weight_sums, e.add(ahead, v * e.lanes)) for v in range(width)]
                sums = accumulate(e, word, pointers, weights, (a["run"], a["runs"], run_offsets), start)
                finish.read(e, ahead, width)
                for r in range(size):
                    at = e.add(base, ahead_of(e.add(first, r)))
                    finish.store(e, sums[r * width : (r + 1) * width], Place(y, at, mask))

            in_pieces(e, e.mul(here, a["columns"]), sizes, width, tile)

        middle = e.smaller(e.larger(begin, a["wide"]), end)
        if vectors > 1:
            e.loop(middle, lambda p: panel(p, vectors, pieces), first=begin)
        else:
            middle = begin
        e.loop(end, lambda p: panel(p, 1, narrow_pieces), first=middle)

    neighbours(e, a["row_tasks"], a["panel_tasks"], a["most_tasks"], tasks)


class Sums:
    """Stores sums as they are."""

    def read(self, e: Emitter, column: Value, vectors: int) -> None:
        """Takes what the columns of a tile need."""

    def store(self, e: Emitter, sums: Sequence[Value], place: Place) -> None:
        """One row of a tile."""
        for v, total in enumerate(sums):
            Place(place.y, e.add(place.offset, v * e.lanes), place.mask).store(e, total)


class Requantised(Sums):
    """Stores round(sum * factor + shift [+ residual]) in 8 bits."""

    def __init__(self, e: Emitter, a: dict[str, Value], rounding: tuple[bool, bool], residual: bool | None) -> None:
        self.rounded = Rounded.read(e, a, rounding)
        self.added = None if residual is None else Added.read(e, a, residual)
        self.factors, self.shifts = e.floats(a["factors"]), e.floats(a["shifts"])
        self.numbers: list[tuple[Value, Value]] = []

    def read(self, e: Emitter, column: Value, vectors: int) -> None:
        places = [e.add(column, v * e.lanes) for v in range(vectors)]
        self.numbers = [(e.load(self.factors, at), e.load(self.shifts, at)) for at in places]

    def store(self, e: Emitter, sums: Sequence[Value], place: Place) -> None:
        pairs = zip(sums, self.numbers, strict=True)
        reals = [e.fma(e.b.sitofp(total, e.vector_type()), factor, shift) for total, (factor, shift) in pairs]
        if self.added is not None:
            places = [Place(place.y, e.add(place.offset, v * e.lanes), place.mask) for v in range(len(reals))]
            reals = [self.added.to(e, real, at) for real, at in zip(reals, places, strict=True)]
        for first, count in _parts(len(sums)):
            to = Place(place.y, e.add(place.offset, first * e.lanes), place.mask)
            self.rounded.store(e, reals[first : first + count], to)


def _parts(count: int) -> list[tuple[int, int]]:
    """0 .. count as runs of 1, 2, 4 ...: first and length of each."""
    parts, first = [], 0
    while first < count:
        length = 1 << ((count - first).bit_length() - 1)
        parts.append((first, length))
        first += length
    return parts


def accumulate(
    e: Emitter,
    word: Word,
    pointers: Sequence[Value],
    w: Value,
    segments: tuple[Value, Value, Value],
    start: Sequence[Value],
) -> list[Value]:
    """Sums of one tile, row by row, each row from ``start`` on."""
    length, runs, offsets = segments
    vectors = len(start)

    def segment(s: Value, at: Value, *sums: Value) -> list[Value]:
        shift = e.integer(offsets, s)
        shifted = [e.b.bitcast(e.at(p, shift), I32.as_pointer()) for p in pointers]

        def step(k: Value, at: Value, *now: Value) -> list[Value]:
            columns = [word.weights(e, at, v * e.lanes) for v in range(vectors)]
            e.prefetch(at, AHEAD)
            made = []
            for r, pointer in enumerate(shifted):
                x = e.b.load(e.at(pointer, k), align=4)
                made += [word.dot(e, now[r * vectors + v], x, columns[v]) for v in range(vectors)]
            return [e.at(at, vectors * e.lanes), *made]

        return e.loop(length, step, [at, *sums])

    return e.loop(runs, segment, [w, *list(start) * len(pointers)])[1:]
