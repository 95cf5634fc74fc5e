"""The band: the input rows a stretch of output rows reads, copied with their zero border, channels last.

After it a convolution has no edge cases. Copying costs 2 to 5 % of a 3x3 convolution's time, and it reads any layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from softneuro_cpu_numba.emit.emitter import I32, Emitter, Index, Value

WORDS = ("height", "width", "top", "left", "reach", "step_y", "step_x", "take_y", "take_x", "span", "y", "x", "c")
"""What a kernel's argument list gives of a band, in order: the input's size, the padding before it, band rows an
output row reads; band rows (columns) between outputs, input rows (columns) between band rows (columns), columns
of the band; the input's strides in elements."""


@dataclass(frozen=True, slots=True)
class Band:
    """The words of :data:`WORDS` as values, and how the input lies.

    ``source``: ``runs`` (pixels of the input lie behind each other with all their channels), ``planes`` (so do those of
    each of ``planes`` channels), ``pixels`` (each pixel's channels lie together) or ``planar`` (any strides).
    """

    source: str
    words: dict[str, Value]
    planes: int = 0

    @classmethod
    def read(cls, e: Emitter, source: str, first: int, planes: int = 0) -> Band:
        return cls(source, dict(zip(WORDS, e.words(first, len(WORDS)), strict=True)), planes)

    def pack(self, e: Emitter, x: Value, channels: Value, first_row: Value, rows: Value, out: Value) -> None:
        """Writes the band under output rows ``first_row .. first_row + rows`` of the image at ``x`` to ``out``."""
        w = self.words
        count = e.add(e.mul(e.sub(rows, 1), w["step_y"]), w["reach"])
        begin = e.sub(e.mul(first_row, w["step_y"], w["take_y"]), w["top"])
        pitch = e.mul(w["span"], channels)

        def row(r: Value) -> None:
            y, into = e.add(begin, e.mul(r, w["take_y"])), e.at(out, e.mul(r, pitch))
            inside = e.b.icmp_unsigned("<", y, w["height"])

            def fill() -> tuple[()]:
                self._row(e, e.at(x, e.mul(y, w["y"])), channels, into)
                return ()

            def clear() -> tuple[()]:
                self.clear(e, into, pitch)
                return ()

            e.when(inside, fill, clear)

        e.loop(count, row)

    def _row(self, e: Emitter, x: Value, channels: Value, out: Value) -> None:
        w = self.words
        if self.source in ("runs", "planes"):
            before = e.smaller(w["left"], w["span"])
            inside = e.smaller(w["width"], e.sub(w["span"], before))
            self.clear(e, out, e.mul(before, channels))
            self.run(e, e.at(out, e.mul(before, channels)), x, inside, channels)
            written = e.add(before, inside)
            self.clear(e, e.at(out, e.mul(written, channels)), e.mul(e.sub(w["span"], written), channels))
            return

        def pixel(p: Value) -> None:
            column, into = e.sub(e.mul(p, w["take_x"]), w["left"]), e.at(out, e.mul(p, channels))

            def fill() -> tuple[()]:
                self.pixel(e, e.at(x, e.mul(column, w["x"])), channels, into)
                return ()

            def clear() -> tuple[()]:
                self.clear(e, into, channels)
                return ()

            e.when(e.b.icmp_unsigned("<", column, w["width"]), fill, clear)

        e.loop(w["span"], pixel)

    def run(self, e: Emitter, out: Value, x: Value, pixels: Value, channels: Value) -> None:
        """Pixels that lie behind each other."""
        if self.source == "runs":
            self.copy(e, out, x, e.mul(pixels, channels))
            return
        lanes, planes = e.lanes, self.planes
        sources = [e.at(x, e.mul(self.words["c"], c)) for c in range(planes)]

        def vector(p: Value) -> None:
            seen = [e.load(source, p) for source in sources]
            for k in range(planes):
                e.store(interleaved(e, seen, k * lanes), out, e.add(e.mul(p, planes), k * lanes))

        def one(p: Value) -> None:
            for c, source in enumerate(sources):
                e.b.store(e.b.load(e.at(source, p)), e.at(out, e.add(e.mul(p, planes), c)))

        e.run(pixels, vector, one)

    def clear(self, e: Emitter, out: Value, count: Index) -> None:
        """Zeros at ``out``."""
        e.zero_run(out, count)

    def copy(self, e: Emitter, out: Value, x: Value, count: Index) -> None:
        """``count`` elements that lie together, as the band holds them."""
        e.copy_run(out, x, count)

    def pixel(self, e: Emitter, x: Value, channels: Index, out: Value) -> None:
        """One pixel's channels."""
        if self.source == "pixels":
            self.copy(e, out, x, channels)
            return
        step = self.words["c"]
        e.loop(channels, lambda c: e.b.store(e.b.load(e.at(x, e.mul(c, step))), e.at(out, c)) and None)


def interleaved(e: Emitter, planes: Sequence[Value], first: int) -> Value:
    """Elements first .. first + lanes of the planes' vectors with their lanes in turn: a, b, c, a, b, c ..."""
    places = [divmod(first + lane, len(planes)) for lane in range(e.lanes)]
    made = planes[0]
    for number, plane in enumerate(planes):
        picked = [e.lanes + pixel if c == number else lane for lane, (pixel, c) in enumerate(places)]
        made = e.b.shuffle_vector(made, plane, ir.Constant(e.vector_type(element=I32), picked))
    return made
