"""Depthwise convolution and pooling of 8-bit integers, NHWC, over sliding windows (``softneuro_cpu_numba.emit.slide``).

Bytes become float32 when they are loaded, once for all outputs of a tile that use them. Sums of so few products are
whole numbers below 2^24, so float32 holds them exactly; a product and a sum are one FMA of eight lanes (AVX2), where
16-bit pairs would first have to be interleaved: as many instructions, and a table of kernels of its own.
"""

from __future__ import annotations

from typing import Any

from softneuro_cpu_numba.emit.emitter import I8, I32, Emitter, Index, Value
from softneuro_cpu_numba.emit.pool import Average, Maximum
from softneuro_cpu_numba.emit.slide import ARGUMENTS, Fold, Place, slide
from softneuro_cpu_numba.native import emitted
from softneuro_cpu_numba.slides import Columns

from softneuro_qint8.emit.finish import WORDS as FINISH_WORDS
from softneuro_qint8.emit.finish import Rounded

DEPTHWISE = (*ARGUMENTS, "w", "factors", "shifts", "zero", *FINISH_WORDS)
POOL = (*ARGUMENTS, "bottom", "zero", *FINISH_WORDS)
"""Then the factor, a float."""


@emitted
def depthwise(
    e: Emitter,
    channels: int,
    columns: tuple[int, ...],
    most: int,
    unrolled: bool,
    signed: bool,
    shifted: bool,
    finish: tuple[bool, bool],
) -> None:
    """y = rounded(depthwise(x - zero, w) * factor + shift). Weights are float32, as ``emit.depthwise`` takes them,
    factors and shifts like its bias; ``shifted``: the zero point is not 0. ``finish``: see ``Rounded``."""
    a = dict(zip(DEPTHWISE, e.words(0, len(DEPTHWISE)), strict=True))
    operation = _Products(e, a, Taps(e, a, signed, shifted), finish)
    slide(e, a, channels, Columns(*columns), most, unrolled, operation, I8)


@emitted
def pool(
    e: Emitter,
    kind: str,
    channels: int,
    columns: tuple[int, ...],
    right: int,
    most: int,
    count_pads: bool,
    unrolled: bool,
    signed: bool,
    shifted: bool,
    finish: tuple[bool, bool],
) -> None:
    """y = rounded(pool(x - zero) * factor); parameters as for ``emit.pool.nhwc`` and :func:`depthwise`."""
    a = dict(zip(POOL, e.words(0, len(POOL)), strict=True))
    shape = Columns(*columns)
    factor = e.splat(e.number(len(POOL)))
    taps = Taps(e, a, signed, shifted), Rounded.read(e, a, finish), factor
    operation = _Maximum(*taps) if kind == "max" else _Average(*taps, a, shape, right, count_pads)
    slide(e, a, channels, shape, most, unrolled, operation, I8)


class Taps:
    """How bytes become float32: stored - zero."""

    def __init__(self, e: Emitter, a: dict[str, Value], signed: bool, shifted: bool) -> None:
        self.signed, self.zero = signed, e.splat(e.b.trunc(a["zero"], I32)) if shifted else None

    def load(self, e: Emitter, x: Value, offset: Index, mask: Value | None) -> Value:
        seen = e.load_integers(x, offset, I8) if mask is None else e.load_some(x, offset, mask)
        widen: Any = e.b.sext if self.signed else e.b.zext
        whole = widen(seen, e.vector_type(element=I32))
        return e.b.sitofp(whole if self.zero is None else e.b.sub(whole, self.zero), e.vector_type())


class _Products(Fold):
    def __init__(self, e: Emitter, a: dict[str, Value], taps: Taps, finish: tuple[bool, bool]) -> None:
        self.weights, self.factors, self.shifts = (e.floats(a[name]) for name in ("w", "factors", "shifts"))
        self.taps, self.finish = taps, Rounded.read(e, a, finish)

    def load(self, e: Emitter, x: Value, offset: Index, mask: Value | None) -> Value:
        return self.taps.load(e, x, offset, mask)

    def start(self, e: Emitter, lane: Value) -> Value:
        return e.constant(0.0)

    def fold(self, e: Emitter, tap: Value, weight: Value | None, so_far: Value) -> Value:
        return e.fma(tap, weight, so_far)

    def write(self, e: Emitter, value: Value, lane: Value, count: Value | None, place: Place) -> None:
        self.finish.store(e, [e.fma(value, e.load(self.factors, lane), e.load(self.shifts, lane))], place)


class _Maximum(Maximum):
    def __init__(self, taps: Taps, finish: Rounded, factor: Value) -> None:
        self.taps, self.finish, self.factor = taps, finish, factor

    def load(self, e: Emitter, x: Value, offset: Index, mask: Value | None) -> Value:
        return self.taps.load(e, x, offset, mask)

    def write(self, e: Emitter, value: Value, lane: Value, count: Value | None, place: Place) -> None:
        self.finish.store(e, [e.b.fmul(value, self.factor)], place)


class _Average(Average):
    """The number of taps is part of the factor: the sum is rounded once."""

    def __init__(
        self,
        taps: Taps,
        finish: Rounded,
        factor: Value,
        a: dict[str, Value],
        shape: Columns,
        right: int,
        count_pads: bool,
    ) -> None:
        super().__init__(a, a["bottom"], shape, right, count_pads)
        self.taps, self.finish, self.factor = taps, finish, factor

    def load(self, e: Emitter, x: Value, offset: Index, mask: Value | None) -> Value:
        return self.taps.load(e, x, offset, mask)

    def write(self, e: Emitter, value: Value, lane: Value, count: Value | None, place: Place) -> None:
        self.finish.store(e, [e.b.fmul(value, e.b.fmul(count, self.factor))], place)
