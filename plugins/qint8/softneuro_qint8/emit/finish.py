"""From sums to stored integers: the last instructions of every kernel of this plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from softneuro_cpu_numba.emit.emitter import F32, I8, I16, I32, Emitter, Value
from softneuro_cpu_numba.emit.slide import Place

WORDS = ("zero_out", "low", "high")
"""What a kernel's argument list gives: ``low`` and ``high`` bound the stored result."""


ADDED = ("residual", "added_zero", "added_scale")
"""What an argument list gives of a residual: ``added_scale``, a float, is the result's steps in one of the residual."""


@dataclass(frozen=True, slots=True)
class Added:
    """A value of 8 bits in the result's layout, added to what is about to be rounded."""

    signed: bool
    values: Value
    zero: Value
    scale: Value

    @classmethod
    def read(cls, e: Emitter, words: dict[str, Value], signed: bool) -> Added:
        scale = e.b.bitcast(e.b.trunc(words["added_scale"], I32), F32)
        zero = e.splat(e.b.trunc(words["added_zero"], I32))
        return cls(signed, e.b.inttoptr(words["residual"], I8.as_pointer()), zero, e.splat(scale))

    def to(self, e: Emitter, real: Value, place: Place) -> Value:
        """``real`` (steps of the result) plus what lies at the place it goes to."""
        values, at, mask = self.values, place.offset, place.mask
        seen = e.load_integers(values, at, I8) if mask is None else e.load_some(values, at, mask)
        widen: Any = e.b.sext if self.signed else e.b.zext
        steps = e.b.sub(widen(seen, e.vector_type(element=I32)), self.zero)
        return e.fma(e.b.sitofp(steps, e.vector_type()), self.scale, real)


@dataclass(frozen=True, slots=True)
class Rounded:
    """stored = saturate(round half to even(real) + zero) in 8 bits, bounded; ``real`` counts steps of the result.

    ``finish`` is the result's type, and whether its bounds are narrower than that. Saturating narrows twice, as x86 and
    ARM do in one instruction each: 11 for two vectors of eight, where bounding in float32 first took 17. Rounding is to
    32 bits, so whoever prepares such a kernel makes sure that no sum is further from 0 (:meth:`Requantise.fits`).
    """

    signed: bool
    zero: Value
    bounds: tuple[Value, Value] | None

    @classmethod
    def read(cls, e: Emitter, words: dict[str, Value], finish: tuple[bool, bool]) -> Rounded:
        signed, bounded = finish
        low, high = (e.b.trunc(words[name], I8) for name in ("low", "high"))
        return cls(signed, e.b.trunc(words["zero_out"], I16), (low, high) if bounded else None)

    def store(self, e: Emitter, reals: Sequence[Value], place: Place) -> None:
        """1, 2, 4 ... vectors of neighbours: the more, the fewer instructions narrow them."""
        integers = e.vector_type(element=I32)
        name = f"llvm.lrint.v{e.lanes}i32.v{e.lanes}f32"
        steps = _narrowed(e, e.joined([e.intrinsic(name, integers, [real]) for real in reals]), I16, signed=True)
        lanes = steps.type.count
        shifted = e.intrinsic(f"llvm.sadd.sat.v{lanes}i16", steps.type, [steps, e.splat(self.zero, lanes)])
        stored = _narrowed(e, shifted, I8, self.signed)
        for kind, bound in zip(("max", "min"), self.bounds or (), strict=False):
            stored = _extreme(e, kind, stored, e.splat(bound, lanes), self.signed)
        place.store(e, stored)


def _narrowed(e: Emitter, wide: Value, element: Any, signed: bool) -> Value:
    """Signed integers in half the bits, saturated."""
    lanes, bits = wide.type.count, element.width
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    for kind, bound in (("max", low), ("min", high)):
        wide = _extreme(e, kind, wide, ir.Constant(wide.type, [bound] * lanes), signed=True)
    return e.b.trunc(wide, e.vector_type(lanes, element))


def _extreme(e: Emitter, kind: str, x: Value, y: Value, signed: bool) -> Value:
    name = f"llvm.{'s' if signed else 'u'}{kind}.v{x.type.count}i{x.type.element.width}"
    return e.intrinsic(name, x.type, [x, y])
