"""The band of an integer convolution: differences from the zero point in 16 bits, so that the border is 0 and neither
factor of a product needs a correction. Channels are made even."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from softneuro_cpu_numba.emit.band import Band
from softneuro_cpu_numba.emit.emitter import I16, I32, Emitter, Index, Value

I8_LANES = 2
"""Bytes widened at a time, in lanes of float32: a register full of 16-bit numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerBand(Band):
    """As :class:`Band`, whose ``channels`` are the even ones; ``real`` are those of the input. ``odd`` is their number
    where pixels of so few lie together that several are widened at once (1, 3 or 7), else 0."""

    real: Value
    zero: Value
    signed: bool
    odd: int = 0

    def clear(self, e: Emitter, out: Value, count: Index) -> None:
        lanes = I8_LANES * e.lanes
        zeros = e.splat(ir.Constant(I16, 0), lanes)
        one = lambda i: e.b.store(ir.Constant(I16, 0), e.at(out, i)) and None  # noqa: E731
        e.run(count, lambda i: e.store(zeros, out, i), one, lanes)

    def copy(self, e: Emitter, out: Value, x: Value, count: Index) -> None:
        lanes = I8_LANES * e.lanes
        widen: Any = e.b.sext if self.signed else e.b.zext

        def vector(i: Value) -> None:
            self._put(e, e.load_integers(x, i, x.type.pointee, lanes), e.at(out, i))

        def one(i: Value) -> None:
            e.b.store(e.b.sub(widen(e.b.load(e.at(x, i)), I16), self.zero), e.at(out, i))

        e.run(count, vector, one, lanes)

    def run(self, e: Emitter, out: Value, x: Value, pixels: Value, channels: Value) -> None:
        if not self.odd:
            self.copy(e, out, x, e.mul(pixels, channels))
            return
        lanes, even = I8_LANES * e.lanes, self.odd + 1
        together = lanes // even
        # what is read behind the last of them lies within the run; the even channel is multiplied by 0
        room = e.larger(0, e.sub(pixels, -(-lanes // self.odd) - together))
        picked = [p * self.odd + min(c, self.odd - 1) for p in range(together) for c in range(even)]
        order = ir.Constant(e.vector_type(lanes, I32), picked)

        def vector(p: Value) -> None:
            seen = e.load_integers(x, e.mul(p, self.odd), x.type.pointee, lanes)
            self._put(e, e.b.shuffle_vector(seen, seen, order), e.at(out, e.mul(p, even)))

        whole = e.b.and_(room, e.i(-together))
        e.loop(whole, vector, step=together)
        one = lambda p: self.pixel(e, e.at(x, e.mul(p, self.odd)), channels, e.at(out, e.mul(p, even)))  # noqa: E731
        e.loop(pixels, one, first=whole)

    def _put(self, e: Emitter, seen: Value, out: Value) -> None:
        """Bytes as differences in 16 bits."""
        lanes = seen.type.count
        widen: Any = e.b.sext if self.signed else e.b.zext
        e.store(e.b.sub(widen(seen, e.vector_type(lanes, I16)), e.splat(self.zero, lanes)), out)

    def pixel(self, e: Emitter, x: Value, channels: Index, out: Value) -> None:
        self.copy(e, out, x, self.real)
        odd = e.sub(channels, self.real)
        e.loop(odd, lambda i: e.b.store(ir.Constant(I16, 0), e.at(out, e.add(self.real, i))) and None)
