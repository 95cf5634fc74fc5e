"""Max and average pooling, NHWC, over sliding windows (``emit.slide``)."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from softneuro_cpu_numba.emit.emitter import F32, Emitter, Index, Value
from softneuro_cpu_numba.emit.slide import ARGUMENTS, Fold, Place, inside, slide
from softneuro_cpu_numba.native import emitted
from softneuro_cpu_numba.slides import Columns


@emitted
def nhwc(
    e: Emitter,
    kind: str,
    channels: int,
    columns: tuple[int, ...],
    right: int,
    most: int,
    count_pads: bool,
    unrolled: bool,
    stored: str = "float32",
) -> None:
    """args: those of ``emit.slide``, then the padding below. ``kind``: max or average; ``columns`` are the numbers of
    :class:`Columns`, ``right`` the padding behind them; ``count_pads``: an average divides by taps in it too. x and y
    are ``stored`` as one type."""
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    shape = Columns(*columns)
    operation = Maximum() if kind == "max" else Average(a, e.word(len(ARGUMENTS)), shape, right, count_pads)
    operation.stored = stored
    slide(e, a, channels, shape, most, unrolled, operation)


class Maximum(Fold):
    def start(self, e: Emitter, lane: Value) -> Value:
        return e.constant(float("-inf"))

    def fold(self, e: Emitter, tap: Value, weight: Value | None, so_far: Value) -> Value:
        return e.maximum(so_far, tap)

    def write(self, e: Emitter, value: Value, lane: Value, count: Value | None, place: Place) -> None:
        place.store(e, value, self.stored)


class Average(Maximum):
    """Sums divided by the number of taps in the image, or in image and padding."""

    def __init__(self, a: dict[str, Value], bottom: Value, shape: Columns, right: int, count_pads: bool) -> None:
        self.a, self.bottom, self.shape, self.right, self.count_pads = a, bottom, shape, right, count_pads

    def start(self, e: Emitter, lane: Value) -> Value:
        return e.constant(0.0)

    def fold(self, e: Emitter, tap: Value, weight: Value | None, so_far: Value) -> Value:
        return e.b.fadd(so_far, tap)

    def counts(
        self, e: Emitter, rows: Index, top: Value, columns: Sequence[Index], starts: Sequence[Value]
    ) -> list[Value]:
        if self.count_pads:
            a, s = self.a, self.shape
            rows = inside(e, top, e.add(a["height"], self.bottom), a["kernel_rows"], a["dilation_y"])[1]
            columns = [inside(e, start, s.width + self.right, s.kernel, s.dilation)[1] for start in starts]
        one = ir.Constant(F32, 1.0)
        return [e.splat(e.b.fdiv(one, e.b.sitofp(e.mul(rows, n), F32))) for n in columns]

    def write(self, e: Emitter, value: Value, lane: Value, count: Value | None, place: Place) -> None:
        place.store(e, e.b.fmul(value, count), self.stored)
