"""Convolution and matrix product of bfloat16 with float32 sums, on a matrix unit (``emit.matrix``)."""

from __future__ import annotations

from dataclasses import dataclass

from softneuro_cpu_numba.amx import SIDE
from softneuro_cpu_numba.emit.band import WORDS as BAND_WORDS
from softneuro_cpu_numba.emit.band import Band, interleaved
from softneuro_cpu_numba.emit.emitter import F32, I32, Emitter, Value
from softneuro_cpu_numba.emit.matrix import ARGUMENTS, Tiles, products
from softneuro_cpu_numba.emit.tasks import once, room
from softneuro_cpu_numba.emit.tile import Finish
from softneuro_cpu_numba.native import emitted

PRODUCT = "tdpbf16ps"


@emitted
def rows(
    e: Emitter,
    tile: tuple[int, int, bool, bool],
    last: tuple[int, int],
    source: str,
    planes: int,
    act: str,
    residual: bool,
    stored: str,
) -> None:
    """y = windows(x) @ w + bias, + residual, activated; NHWC. args: those of ``emit.matrix``, p0, p1, then the band
    unless ``source`` is ``pointwise``.

    ``tile``: as :class:`Tiles`; ``last``: vectors of the last panel, and channels of its last one if it is not
    full; ``source``: how the band reads x (two channels are a word), or ``planes`` where x is float32, NCHW, of so many
    channels; result and residual are ``stored`` as float32 or bfloat16. scratch: sums, then the band.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    at = len(ARGUMENTS)
    tiles = Tiles(*tile, PRODUCT)
    more = e.stored(a["residual"], stored) if residual else None
    finish = Finish(act, e.number(at), e.number(at + 1), more, stored)
    y = e.stored(a["y"], stored)
    head = room(e)
    band = None if source == "pointwise" else _band(e, source, at + 2, planes)
    packed = e.at(head, tiles.scratch_bytes // 4)

    def pack(block: Value, image: Value, first_row: Value, here: Value) -> Value:
        assert band is not None
        once(e, block, lambda: band.pack(e, image, a["channels"], first_row, here, packed))
        return packed

    def store(sums: list[Value], column: Value, place: Value, is_last: bool) -> None:
        for v, total in enumerate(sums):
            few = last[1] if is_last and v == len(sums) - 1 else 0
            finish.store(e, total, y, e.add(place, v * SIDE), e.lanes_below(e.i(few)) if few else None)

    products(e, a, tiles, last[0], None if band is None else pack, head, store)


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
            pairs = [bits[c : c + 2] for c in range(0, self.planes, 2)]
            sixteen = e.splat(e.b.trunc(e.i(16), I32))
            return [e.b.bitcast(e.b.or_(p[0], e.b.shl(p[-1], sixteen)) if p[1:] else p[0], e.vector_type())
                    for p in pairs]  # fmt: skip

        def vector(p: Value) -> None:
            made = words(p, None)
            for k in range(count):
                e.store(interleaved(e, made, k * lanes), out, e.add(e.mul(p, count), k * lanes))

        def one(p: Value) -> None:
            for k, word in enumerate(words(p, 1)):
                e.b.store(e.b.extract_element(word, e.b.trunc(e.i(0), I32)), e.at(out, e.add(e.mul(p, count), k)))

        assert out.type.pointee == F32
        e.run(pixels, vector, one)
