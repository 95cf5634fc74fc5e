"""Convolution and matrix product of bfloat16 with float32 sums, on a matrix unit (``emit.matrix``).

A float32 factor may be the sum of two parts, itself rounded to bfloat16 and what that leaves, rounded as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from llvmlite import ir

from softneuro_cpu_numba.amx import SIDE, Tiles
from softneuro_cpu_numba.emit.band import WORDS as BAND_WORDS
from softneuro_cpu_numba.emit.band import Band, interleaved
from softneuro_cpu_numba.emit.emitter import F32, I32, Emitter, Index, Value
from softneuro_cpu_numba.emit.matrix import ARGUMENTS, products
from softneuro_cpu_numba.emit.tile import Finish
from softneuro_cpu_numba.native import emitted

PRODUCT = "tdpbf16ps"


@emitted
def rows(
    e: Emitter,
    tiles: Tiles,
    last: tuple[int, int],
    source: str,
    planes: int,
    act: str,
    residual: bool,
    stored: str,
) -> None:
    """y = windows(x) @ w + bias, + residual, activated; NHWC. args: those of ``emit.matrix``, p0, p1, then the band
    unless ``source`` is ``pointwise``.

    ``last``: see ``emit.matrix.products``; ``source``: how the band reads x (two channels are a word), or ``planes``
    where x is float32, NCHW, of so many channels; result and residual are ``stored`` as float32 or bfloat16. With
    ``tiles.parts`` of two x is float32.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    at = len(ARGUMENTS)
    more = e.stored(a["residual"], stored) if residual else None
    finish = Finish(act, e.number(at), e.number(at + 1), more, stored)
    y = e.stored(a["y"], stored)

    def store(sums: list[Value], column: Value, place: Value, masks: list[Value | None]) -> None:
        for v, (total, mask) in enumerate(zip(sums, masks, strict=True)):
            finish.store(e, total, y, e.add(place, v * SIDE), mask)

    band = None if source == "pointwise" else _band(e, source, at + 2, planes, tiles.parts, a["apart"])
    products(e, a, tiles, PRODUCT, last, band, store)


def _band(e: Emitter, source: str, first: int, planes: int, parts: int, apart: Value) -> Band:
    words = dict(zip(BAND_WORDS, e.words(first, len(BAND_WORDS)), strict=True))
    if planes or parts > 1:
        return RoundedBand(source, words, planes, tuple(e.mul(apart, part) for part in range(parts)))
    return Band(source, words)


@dataclass(frozen=True, slots=True)
class RoundedBand(Band):
    """float32 as pixels of bfloat16, each part of a number in a band of its own, ``places`` words behind the first;
    channels of planes are made even with zeros."""

    places: Sequence[Index] = (0,)

    def clear(self, e: Emitter, out: Value, count: Index) -> None:
        for place in self.places:
            e.zero_run(e.at(out, place), count)

    def run(self, e: Emitter, out: Value, x: Value, pixels: Value, channels: Value) -> None:
        if not self.planes:
            self.copy(e, out, x, e.mul(pixels, channels))
            return
        sources = [e.at(x, e.mul(self.words["c"], c)) for c in range(self.planes)]
        lanes, count = e.lanes, -(-self.planes // 2)

        def words(p: Value, mask: int | None) -> list[list[Value]]:
            parts = [self.split(e, e.load_stored(source, p, "float32", mask)) for source in sources]
            return [_pairs(e, numbers) for numbers in zip(*parts, strict=True)]

        def vector(p: Value) -> None:
            for place, made in zip(self.places, words(p, None), strict=True):
                for k in range(count):
                    e.store(interleaved(e, made, k * lanes), out, e.add(e.mul(p, count), k * lanes, place))

        def one(p: Value) -> None:
            for place, made in zip(self.places, words(p, 1), strict=True):
                for k, word in enumerate(made):
                    number = e.b.extract_element(word, ir.Constant(I32, 0))
                    e.b.store(number, e.at(out, e.add(e.mul(p, count), k, place)))

        assert out.type.pointee == F32
        e.run(pixels, vector, one)

    def copy(self, e: Emitter, out: Value, x: Value, count: Index) -> None:
        """``count`` words from twice as many floats."""
        order = ir.Constant(e.vector_type(2 * e.lanes, I32), list(range(2 * e.lanes)))

        def vector(i: Value) -> None:
            halves = [self.split(e, e.load(x, e.add(e.mul(i, 2), half))) for half in (0, e.lanes)]
            for place, pair in zip(self.places, zip(*halves, strict=True), strict=True):
                bits = e.b.shuffle_vector(*pair, order)
                e.store(e.b.bitcast(bits, e.vector_type()), out, e.add(i, place))

        def one(i: Value) -> None:
            parts = self.split(e, e.load_some(x, e.mul(i, 2), 2))
            for place, bits in zip(self.places, parts, strict=True):
                words = e.b.bitcast(bits, e.vector_type(e.lanes // 2))
                e.b.store(e.b.extract_element(words, ir.Constant(I32, 0)), e.at(out, e.add(i, place)))

        e.run(count, vector, one)

    def split(self, e: Emitter, value: Value) -> list[Value]:
        return parts_of(e, value, len(self.places))


def parts_of(e: Emitter, value: Value, count: int) -> list[Value]:
    """The bits of a vector's parts, one or two."""
    made = [e.narrowed(value, "bfloat16")]
    if count > 1:
        high = e.b.bitcast(e.high_halves(made[0]), e.vector_type())
        made.append(e.narrowed(e.b.fsub(value, high), "bfloat16"))
    return made


def _pairs(e: Emitter, numbers: Sequence[Value]) -> list[Value]:
    """Vectors of words from the bits of every two channels."""
    low = [e.b.zext(bits, e.vector_type(element=I32)) for bits in numbers[::2]]
    high = [e.high_halves(bits) for bits in numbers[1::2]]
    pairs = zip_longest(low, high, fillvalue=e.whole(0))
    return [e.b.bitcast(e.b.or_(*pair), e.vector_type()) for pair in pairs]
