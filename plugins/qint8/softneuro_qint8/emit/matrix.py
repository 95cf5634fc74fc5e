"""Convolution and matrix product of 8-bit integers on a matrix unit (``softneuro_cpu_numba.emit.matrix``), exact."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir
from softneuro_cpu_numba.amx import SIDE, Tiles
from softneuro_cpu_numba.emit.band import WORDS as BAND_WORDS
from softneuro_cpu_numba.emit.band import Band
from softneuro_cpu_numba.emit.emitter import F32, I8, I32, Emitter, Index, Value
from softneuro_cpu_numba.emit.matrix import ARGUMENTS, products
from softneuro_cpu_numba.emit.slide import Place
from softneuro_cpu_numba.native import emitted

from softneuro_qint8.emit.finish import ADDED, Added, Rounded
from softneuro_qint8.emit.finish import WORDS as FINISH_WORDS

MORE = ("factors", "shifts", "border", *FINISH_WORDS, *ADDED[1:])
"""After ``emit.matrix.ARGUMENTS``; ``border``: four zero points as one word. Then the band."""
PRODUCTS = {True: "tdpbssd", False: "tdpbusd"}
"""By whether x is signed; weights are."""


@emitted
def rows(
    e: Emitter,
    tiles: Tiles,
    last: tuple[int, int],
    source: str,
    signed: bool,
    rounding: tuple[bool, bool],
    residual: bool | None = None,
    few: int = 0,
) -> None:
    """y = rounded(windows(x) @ w * factor + shift [+ residual]) in 8 bits; ``residual``: whether that is signed.

    ``start`` holds what the zero point takes from every sum; ``few``: channels of x where they are less than a word;
    ``tiles``, ``last`` and ``source`` as for ``softneuro_cpu_numba.emit.bfloat``, ``rounding`` as for :class:`Rounded`.
    """
    names = (*ARGUMENTS, *MORE)
    a = dict(zip(names, e.words(0, len(names)), strict=True))
    rounded = Rounded.read(e, a, rounding)
    factors, shifts = e.floats(a["factors"]), e.floats(a["shifts"])
    y = e.b.inttoptr(a["y"], I8.as_pointer())
    added = None if residual is None else Added.read(e, a, residual)

    def real(total: Value, column: Value, place: Place) -> Value:
        whole = e.b.sitofp(total, e.vector_type())
        made = e.fma(whole, e.load(factors, column), e.load(shifts, column))
        return made if added is None else added.to(e, made, place)

    def store(sums: list[Value], column: Value, place: Value, masks: list[Value | None]) -> None:
        places = [Place(y, e.add(place, v * SIDE), mask) for v, mask in enumerate(masks)]
        reals = [real(total, e.add(column, v * SIDE), places[v]) for v, total in enumerate(sums)]
        if masks[-1] is None:
            rounded.store(e, reals, places[0])
            return
        for one, to in zip(reals, places, strict=True):
            rounded.store(e, [one], to)

    words = dict(zip(BAND_WORDS, e.words(len(names), len(BAND_WORDS)), strict=True)) if source != "pointwise" else {}
    border = e.b.trunc(a["border"], I32)
    band: Band | None = None
    if few:
        band = SpreadBand(source, words, border=border, few=few)
    elif words:
        band = BorderedBand(source, words, border=border)
    products(e, a, tiles, PRODUCTS[signed], last, band, store, I8 if few else F32)


@dataclass(frozen=True, slots=True, kw_only=True)
class BorderedBand(Band):
    """Words of four bytes; the border is the zero point, whose products ``start`` takes away."""

    border: Value

    def clear(self, e: Emitter, out: Value, count: Index) -> None:
        place = e.b.bitcast(out, I32.as_pointer())
        many = e.splat(self.border)
        e.run(count, lambda i: e.store(many, place, i), lambda i: e.b.store(self.border, e.at(place, i)) and None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadBand(BorderedBand):
    """Pixels of ``few`` bytes that lie behind each other, each made a word: what else is in it meets weights of 0."""

    few: int

    def run(self, e: Emitter, out: Value, x: Value, pixels: Value, channels: Value) -> None:
        few = self.few
        bytes_of_words = [p * few + min(c, few - 1) for p in range(e.lanes) for c in range(4)]
        order = ir.Constant(e.vector_type(4 * e.lanes, I32), bytes_of_words)
        words = e.b.bitcast(out, I32.as_pointer())

        def vector(p: Value) -> None:
            seen = e.load_integers(x, e.mul(p, few), I8, few * e.lanes)
            e.store(e.b.bitcast(e.b.shuffle_vector(seen, seen, order), e.vector_type(element=I32)), words, p)

        def one(p: Value) -> None:
            word = ir.Constant(I32, 0)
            for c in range(few):
                byte = e.b.zext(e.b.load(e.at(x, e.add(e.mul(p, few), c))), I32)
                word = e.b.or_(word, e.b.shl(byte, ir.Constant(I32, 8 * c)))
            e.b.store(word, e.at(words, p))

        e.run(pixels, vector, one)
