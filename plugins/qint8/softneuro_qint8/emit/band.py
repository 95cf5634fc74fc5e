"""The band of an integer convolution, its channels made whole words: differences from the zero point in 16 bits, or the
bytes themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from llvmlite import ir
from softneuro_cpu_numba.emit.band import Band
from softneuro_cpu_numba.emit.emitter import I8, I16, I32, Emitter, Index, Value

REGISTER_BYTES = 4
"""Of a vector, in lanes of float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerBand(Band):
    """As :class:`Band`, whose ``channels`` are those of whole words; ``real`` are those of the input. ``few`` gives
    both where pixels of so few lie together that several are taken at once; ``zero`` is the zero point as the band
    holds it."""

    real: Value
    zero: Value
    signed: bool
    few: tuple[int, int] | None = None
    element: ClassVar[ir.IntType]

    def held(self, e: Emitter, seen: Value) -> Value:
        """Bytes of the input, one or a vector, as the band holds them."""
        raise NotImplementedError

    def border(self) -> Value:
        """What stands where there is no input."""
        raise NotImplementedError

    def _lanes(self, e: Emitter) -> int:
        """Elements of a register."""
        return 8 * REGISTER_BYTES * e.lanes // self.element.width

    def clear(self, e: Emitter, out: Value, count: Index) -> None:
        lanes = self._lanes(e)
        many = e.splat(self.border(), lanes)
        one = lambda i: e.b.store(self.border(), e.at(out, i)) and None  # noqa: E731
        e.run(count, lambda i: e.store(many, out, i), one, lanes)

    def copy(self, e: Emitter, out: Value, x: Value, count: Index) -> None:
        lanes = self._lanes(e)

        def vector(i: Value) -> None:
            e.store(self.held(e, e.load_integers(x, i, x.type.pointee, lanes)), e.at(out, i))

        def one(i: Value) -> None:
            e.b.store(self.held(e, e.b.load(e.at(x, i))), e.at(out, i))

        e.run(count, vector, one, lanes)

    def run(self, e: Emitter, out: Value, x: Value, pixels: Value, channels: Value) -> None:
        if self.few is None:
            self.copy(e, out, x, e.mul(pixels, channels))
            return
        lanes, (real, whole) = self._lanes(e), self.few
        together = lanes // whole
        # what is read behind the last of them lies within the run; a channel too many is multiplied by 0
        room = e.larger(0, e.sub(pixels, -(-lanes // real) - together))
        picked = [p * real + min(c, real - 1) for p in range(together) for c in range(whole)]
        order = ir.Constant(e.vector_type(lanes, I32), picked)

        def vector(p: Value) -> None:
            seen = e.load_integers(x, e.mul(p, real), x.type.pointee, lanes)
            e.store(self.held(e, e.b.shuffle_vector(seen, seen, order)), e.at(out, e.mul(p, whole)))

        rounds = e.b.and_(room, e.i(-together))
        e.loop(rounds, vector, step=together)
        one = lambda p: self.pixel(e, e.at(x, e.mul(p, real)), channels, e.at(out, e.mul(p, whole)))  # noqa: E731
        e.loop(pixels, one, first=rounds)

    def pixel(self, e: Emitter, x: Value, channels: Index, out: Value) -> None:
        self.copy(e, out, x, self.real)
        none = ir.Constant(self.element, 0)
        e.loop(e.sub(channels, self.real), lambda i: e.b.store(none, e.at(out, e.add(self.real, i))) and None)


class Differences(IntegerBand):
    """x - zero in 16 bits: the border is 0, and neither factor of a product needs a correction."""

    __slots__ = ()
    element = I16

    def held(self, e: Emitter, seen: Value) -> Value:
        widen: Any = e.b.sext if self.signed else e.b.zext
        if isinstance(seen.type, ir.VectorType):
            lanes = seen.type.count
            return e.b.sub(widen(seen, e.vector_type(lanes, I16)), e.splat(self.zero, lanes))
        return e.b.sub(widen(seen, I16), self.zero)

    def border(self) -> Value:
        return ir.Constant(I16, 0)


class Bytes(IntegerBand):
    """The bytes without a sign (``without_sign``), the border the zero point: what sums begin with takes its products
    away."""

    __slots__ = ()
    element = I8

    def held(self, e: Emitter, seen: Value) -> Value:
        return without_sign(e, seen) if self.signed else seen

    def border(self) -> Value:
        return self.zero


def without_sign(e: Emitter, seen: Value) -> Value:
    """int8, one or a vector, as the uint8 that is 128 more."""
    flip = ir.Constant(I8, -128)
    return e.b.xor(seen, e.splat(flip, seen.type.count) if isinstance(seen.type, ir.VectorType) else flip)
