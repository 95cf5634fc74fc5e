"""Depthwise convolution, NHWC: products and sums over sliding windows (``emit.slide``)."""

from __future__ import annotations

from softneuro_cpu_numba.emit.emitter import Emitter, Value
from softneuro_cpu_numba.emit.slide import ARGUMENTS, Fold, Place, slide
from softneuro_cpu_numba.emit.tile import Finish
from softneuro_cpu_numba.native import emitted
from softneuro_cpu_numba.slides import Columns


@emitted
def nhwc(
    e: Emitter,
    channels: int,
    columns: tuple[int, ...],
    most: int,
    act: str,
    residual: bool,
    unrolled: bool,
    stored: str = "float32",
) -> None:
    """y = depthwise(x, w) + bias, + residual, activated. args: those of ``emit.slide``, then w, bias, residual, p0, p1.

    ``columns`` are the numbers of :class:`Columns`; bias and weights lie by vectors of channels, the last one
    overlapping the one before, or filled with zeros where there are fewer channels than lanes. x, y and the residual
    are ``stored`` as one type; arithmetic is float32.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    w, bias = (e.floats(word) for word in e.words(len(ARGUMENTS), 2))
    at = len(ARGUMENTS) + 3
    more = e.stored(e.word(at - 1), stored) if residual else None
    finish = Finish(act, e.number(at), e.number(at + 1), more, stored)
    slide(e, a, channels, Columns(*columns), most, unrolled, Products(w, bias, finish))


class Products(Fold):
    """Sums of products, from the bias on, finished as a matrix product's are."""

    def __init__(self, weights: Value, bias: Value, finish: Finish) -> None:
        self.weights, self.bias, self.finish, self.stored = weights, bias, finish, finish.stored

    def start(self, e: Emitter, lane: Value) -> Value:
        return e.load(self.bias, lane)

    def fold(self, e: Emitter, tap: Value, weight: Value | None, so_far: Value) -> Value:
        return e.fma(tap, weight, so_far)

    def write(self, e: Emitter, value: Value, lane: Value, count: Value | None, place: Place) -> None:
        self.finish.store(e, value, place.y, place.offset, place.mask)
