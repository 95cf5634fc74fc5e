"""What one instruction multiplies and sums in 32 bits: pairs of 16-bit numbers, or four bytes by four."""

from __future__ import annotations

from typing import ClassVar

from llvmlite import ir
from softneuro_cpu_numba.emit.emitter import I8, I16, I32, Emitter, Value

from softneuro_qint8.emit.band import Bytes, Differences, IntegerBand, without_sign


class Word:
    """``count`` elements of a row of pixels by as many of a column of weights."""

    count: ClassVar[int]
    band: ClassVar[type[IntegerBand]]

    def zero(self, e: Emitter, stored: Value, signed: bool) -> Value:
        """The input's zero point as the band takes it."""
        raise NotImplementedError

    def start(self, e: Emitter, zero: Value, columns: Value, at: Value) -> Value:
        """What the sums of a vector of columns begin with."""
        raise NotImplementedError

    def weights(self, e: Emitter, w: Value, offset: int) -> Value:
        """A vector of words of weights; ``w`` points to words as they are stored."""
        raise NotImplementedError

    def dot(self, e: Emitter, total: Value, x: Value, weights: Value) -> Value:
        """total + x . weights; ``x`` is one word."""
        raise NotImplementedError


class Pairs(Word):
    """pmaddwd. It does not saturate, as pmaddubsw does on bytes, and takes the same ports: on Zen 4 with AVX2 both end
    at 32 products a cycle, twice what float32 does. LLVM makes vpdpwssd of it and the sum where there is one."""

    count, band = 2, Differences

    def zero(self, e: Emitter, stored: Value, signed: bool) -> Value:
        return e.b.sext(stored, I16) if signed else e.b.zext(stored, I16)

    def start(self, e: Emitter, zero: Value, columns: Value, at: Value) -> Value:
        return e.whole(0)

    def weights(self, e: Emitter, w: Value, offset: int) -> Value:
        lanes, pair = 2 * e.lanes, w.type.pointee
        found = e.load_integers(w, offset, pair)
        if pair.width == 32:
            return e.b.bitcast(found, e.vector_type(lanes, I16))
        return e.b.sext(e.b.bitcast(found, e.vector_type(lanes, I8)), e.vector_type(lanes, I16))

    def dot(self, e: Emitter, total: Value, x: Value, weights: Value) -> Value:
        pairs, wide = e.b.bitcast(e.splat(x), weights.type), e.vector_type(element=I32)

        def half(v: Value, odd: int) -> Value:
            picked = ir.Constant(wide, [2 * i + odd for i in range(e.lanes)])
            return e.b.sext(e.b.shuffle_vector(v, v, picked), wide)

        return e.b.add(total, e.b.add(*(e.b.mul(half(pairs, odd), half(weights, odd)) for odd in (0, 1))))


class Quads(Word):
    """vpdpbusd: four bytes without a sign by four with one, exact, twice the products of a pair."""

    count, band = 4, Bytes

    def zero(self, e: Emitter, stored: Value, signed: bool) -> Value:
        return without_sign(e, stored) if signed else stored

    def start(self, e: Emitter, zero: Value, columns: Value, at: Value) -> Value:
        each = e.b.neg(e.b.zext(zero, I32))
        return e.b.mul(e.splat(each), e.load_integers(columns, at, I32))

    def weights(self, e: Emitter, w: Value, offset: int) -> Value:
        return e.load_integers(w, offset, I32)

    def dot(self, e: Emitter, total: Value, x: Value, weights: Value) -> Value:
        return self.dots(e, total, e.splat(x), weights)

    def dots(self, e: Emitter, total: Value, x: Value, weights: Value) -> Value:
        """total + x . weights, a vector of words of each."""
        name = f"llvm.x86.avx512.vpdpbusd.{32 * e.lanes}"
        return e.intrinsic(name, total.type, [total, x, weights])


WORDS: dict[str, type[Word]] = {"int16": Pairs, "int8": Pairs, "quads": Quads}
"""By how weights are stored: pairs in 16 bits or in 8, words of four bytes."""
