"""Convolution and matrix product of bfloat16 with float32 sums, on a matrix unit (``emit.matrix``)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from llvmlite import ir

from softneuro_cpu_numba.amx import SIDE, Tiles
from softneuro_cpu_numba.emit.band import WORDS as BAND_WORDS
from softneuro_cpu_numba.emit.band import Band, interleaved
from softneuro_cpu_numba.emit.emitter import F32, I32, Emitter, Value
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

    ``last``: see ``emit.matrix.products``; ``source``: how the band reads x (two channels
    are a word), or ``planes`` where x is float32, NCHW, of so many channels; result and residual are ``stored`` as
    float32 or bfloat16.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    at = len(ARGUMENTS)
    more = e.stored(a["residual"], stored) if residual else None
    finish = Finish(act, e.number(at), e.number(at + 1), more, stored)
    y = e.stored(a["y"], stored)

    def store(sums: list[Value], column: Value, place: Value, masks: list[Value | None]) -> None:
        for v, (total, mask) in enumerate(zip(sums, masks, strict=True)):
            finish.store(e, total, y, e.add(place, v * SIDE), mask)

    band = None if source == "pointwise" else _band(e, source, at + 2, planes)
    products(e, a, tiles, PRODUCT, last, band, store)


def _band(e: Emitter, source: str, first: int, planes: int) -> Band:
    words = dict(zip(BAND_WORDS, e.words(first, len(BAND_WORDS)), strict=True))
    return PlanesBand(source, words, planes) if planes else Band(source, words)


@dataclass(frozen=True, slots=True)
class PlanesBand(Band):
    """Planes of float32 as pixels of bfloat16, the channels made even with zeros."""

    def run(self, e: Emitter, out: Value, x: Value, pixels: Value, channels: Value) -> None:
        sources = [e.at(x, e.mul(self.words["c"], c)) for c in range(self.planes)]
        lanes, count = e.lanes, -(-self.planes // 2)
        wide = e.vector_type(element=I32)

        def words(p: Value, mask: int | None) -> list[Value]:
            seen = [e.load_stored(source, p, "float32", mask) for source in sources]
            bits = [e.b.zext(e.narrowed(one, "bfloat16"), wide) for one in seen]
            high = [e.b.shl(one, e.whole(16)) for one in bits[1::2]]
            pairs = zip_longest(bits[::2], high, fillvalue=e.whole(0))
            return [e.b.bitcast(e.b.or_(*pair), e.vector_type()) for pair in pairs]

        def vector(p: Value) -> None:
            made = words(p, None)
            for k in range(count):
                e.store(interleaved(e, made, k * lanes), out, e.add(e.mul(p, count), k * lanes))

        def one(p: Value) -> None:
            for k, word in enumerate(words(p, 1)):
                e.b.store(e.b.extract_element(word, ir.Constant(I32, 0)), e.at(out, e.add(e.mul(p, count), k)))

        assert out.type.pointee == F32
        e.run(pixels, vector, one)
