"""Depthwise convolution, NHWC: a tile is one vector of channels of several neighbouring output pixels.

Each input vector is loaded once for all outputs of the tile that use it. Taps outside the image are never computed:
rows are cut by the loop over them, columns when the kernel is written, because an output row is cut into tiles then
(a left one, a run of equal inner ones, a right one). So nothing is copied, and padding makes a layer cheaper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from softneuro_cpu_numba.emit.emitter import Emitter, Value
from softneuro_cpu_numba.emit.tile import Finish
from softneuro_cpu_numba.native import emitted

ARGUMENTS = (
    *("x", "w", "bias", "residual", "y"),
    *("height", "rows", "top", "kernel_rows", "step_y", "dilation_y"),
    *("stretch", "stretches", "block", "blocks"),
)
"""Then p0 and p1. A task is ``stretch`` output rows (``stretches`` an image) of ``block`` vectors of channels
(``blocks`` of them)."""


Range = tuple[Value, Value]


@dataclass(frozen=True, slots=True)
class Tile:
    """``repeats`` tiles from output ``first`` on; ``taps[q]``: the kernel columns of output ``q`` that lie inside."""

    first: int
    repeats: int
    taps: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        return len(self.taps)


@dataclass(frozen=True, slots=True)
class Columns:
    """Geometry along a row: pixels in and out, taps, output step, dilation, padding before."""

    width: int
    out: int
    kernel: int
    step: int
    dilation: int
    left: int

    def tiles(self, most: int) -> tuple[Tile, ...]:
        """The output row cut into tiles of about equal size, ``most`` at most; equal neighbours are one entry."""
        size = -(-self.out // -(-self.out // most))
        made: list[Tile] = []
        for first in range(0, self.out, size):
            taps = tuple(self._taps(o) for o in range(first, min(first + size, self.out)))
            if made and made[-1].taps == taps:
                made[-1] = Tile(made[-1].first, made[-1].repeats + 1, taps)
            else:
                made.append(Tile(first, 1, taps))
        return tuple(made)

    def _taps(self, output: int) -> tuple[int, ...]:
        places = ((j, output * self.step - self.left + j * self.dilation) for j in range(self.kernel))
        return tuple(j for j, at in places if 0 <= at < self.width)


@emitted
def nhwc(
    e: Emitter, channels: int, columns: tuple[int, ...], most: int, act: str, residual: bool, unrolled: bool
) -> None:
    """y = depthwise(x, w) + bias, + residual, activated. ``columns`` are the numbers of :class:`Columns`.

    Weights: [vector of channels][kernel rows][kernel columns][lanes], the last vector overlapping the one before, or
    filled with zeros where there are fewer channels than lanes. ``unrolled``: tiles of ``most`` outputs, code for each
    different one; otherwise loops over the kernel's columns and outputs.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    at = len(ARGUMENTS)
    shape = Columns(*columns)
    finish = Finish(act, e.number(at), e.number(at + 1), e.floats(a["residual"]) if residual else None)
    row = _Row(e, a, channels, shape, finish)

    def task(number: Value) -> None:
        place, block = e.divmod(number, a["blocks"])
        image, part = e.divmod(place, a["stretches"])
        first = e.mul(part, a["stretch"])
        last = e.smaller(e.add(first, a["stretch"]), a["rows"])
        low = e.mul(block, a["block"])
        vectors = (low, e.smaller(e.add(low, a["block"]), -(-channels // e.lanes)))
        e.loop(last, lambda y: row.write(image, y, vectors, most, unrolled), first=first)

    e.loop(e.end, task, first=e.begin)


class _Row:
    """Writes one output row."""

    def __init__(self, e: Emitter, a: dict[str, Value], channels: int, shape: Columns, finish: Finish) -> None:
        self.e, self.a, self.channels, self.shape, self.finish = e, a, channels, shape, finish
        self.x, self.w, self.bias, self.y = (e.floats(a[name]) for name in ("x", "w", "bias", "y"))
        self.mask = e.lanes_below(e.i(channels)) if channels < e.lanes else None

    def write(self, image: Value, y: Value, vectors: Range, most: int, unrolled: bool) -> None:
        e, a = self.e, self.a
        top = e.sub(e.mul(y, a["step_y"]), a["top"])
        above = e.larger(0, e.sub(0, top))
        low = e.b.sdiv(e.add(above, e.sub(a["dilation_y"], 1)), a["dilation_y"])
        room = e.larger(0, e.add(e.sub(a["height"], top), e.sub(a["dilation_y"], 1)))
        high = e.smaller(a["kernel_rows"], e.b.sdiv(room, a["dilation_y"]))
        line = e.add(e.mul(image, a["height"]), e.add(top, e.mul(low, a["dilation_y"])))
        source = e.at(self.x, e.mul(line, self.shape.width * self.channels))
        out = e.mul(e.add(e.mul(image, a["rows"]), y), self.shape.out * self.channels)
        taps = (low, high)
        if unrolled:
            for tile in self.shape.tiles(most):
                self._tiles(tile, source, out, taps, vectors)
        else:
            self._by_loops(source, out, taps, vectors, most)

    def _tiles(self, tile: Tile, source: Value, out: Value, rows: Range, vectors: Range) -> None:
        e, s, c = self.e, self.shape, self.channels
        uses: dict[int, list[tuple[int, int]]] = {}
        for q, taps in enumerate(tile.taps):
            for j in taps:
                uses.setdefault(q * s.step + j * s.dilation, []).append((q, j))

        def one(number: Value) -> None:
            first = e.add(e.mul(number, tile.size), tile.first)
            pixel = e.at(source, e.mul(e.sub(e.mul(first, s.step), s.left), c))

            def taps_of_row(x: Value, w: Value, sums: Sequence[Value]) -> list[Value]:
                made = list(sums)
                needed = sorted({j for taps in tile.taps for j in taps})
                weights = {j: e.load(w, j * e.lanes) for j in needed}
                for offset in sorted(uses):
                    value = self._load(x, offset * c)
                    for q, j in uses[offset]:
                        made[q] = e.fma(value, weights[j], made[q])
                return made

            self._vectors(pixel, e.add(out, e.mul(first, c)), rows, vectors, tile.size, taps_of_row)

        e.loop(tile.repeats, one)

    def _by_loops(self, source: Value, out: Value, rows: Range, vectors: Range, most: int) -> None:
        """Inner outputs ``most`` at a time, those at the border one by one."""
        e, s, c = self.e, self.shape, self.channels
        reach = (s.kernel - 1) * s.dilation
        inner = min(s.out, -(-s.left // s.step))
        end = max(inner, min(s.out, (s.width - 1 - reach + s.left) // s.step + 1)) if s.width > reach else inner
        end -= (end - inner) % most

        def run(first: Value, size: int) -> None:
            start = e.sub(e.mul(first, s.step), s.left)
            low, high = e.i(0), e.i(s.kernel)
            if size == 1:
                low = e.b.sdiv(e.add(e.larger(0, e.sub(0, start)), s.dilation - 1), e.i(s.dilation))
                room = e.larger(0, e.add(e.sub(s.width, start), s.dilation - 1))
                high = e.smaller(high, e.b.sdiv(room, e.i(s.dilation)))

            def taps_of_row(x: Value, w: Value, sums: Sequence[Value]) -> list[Value]:
                def tap(j: Value, *now: Value) -> list[Value]:
                    weight, at = e.load(w, e.mul(j, e.lanes)), e.at(x, e.mul(j, s.dilation * c))
                    return [e.fma(self._load(at, q * s.step * c), weight, now[q]) for q in range(size)]

                return e.loop(high, tap, sums, first=low)

            pixel = e.at(source, e.mul(start, c))
            self._vectors(pixel, e.add(out, e.mul(first, c)), rows, vectors, size, taps_of_row)

        e.loop(inner, lambda o: run(o, 1))
        e.loop(end, lambda o: run(o, most), step=most, first=inner)
        e.loop(s.out, lambda o: run(o, 1), first=end)

    def _vectors(
        self, pixel: Value, out: Value, rows: Range, vectors: Range, size: int, taps_of_row: Callable[..., list[Value]]
    ) -> None:
        """One tile, vector by vector: ``pixel`` is where its first tap would lie, ``out`` its first output;
        ``taps_of_row(x, w, sums)`` adds one kernel row."""
        e, a, c = self.e, self.a, self.channels
        pitch = e.mul(a["dilation_y"], self.shape.width * c)
        per_row = self.shape.kernel * e.lanes
        per_vector = e.mul(a["kernel_rows"], per_row)
        ahead = e.mul(rows[0], per_row)

        def vector(v: Value) -> None:
            lane = e.mul(v, e.lanes)
            channel = lane if c % e.lanes == 0 else e.smaller(lane, max(0, c - e.lanes))
            start = e.load(self.bias, lane)
            weights = e.at(self.w, e.add(e.mul(v, per_vector), ahead))

            def kernel_row(_: Value, x: Value, w: Value, *sums: Value) -> list[Value]:
                return [e.at(x, pitch), e.at(w, per_row), *taps_of_row(x, w, sums)]

            carried = [e.at(pixel, channel), weights, *[start] * size]
            sums = e.loop(rows[1], kernel_row, carried, first=rows[0])[2:]
            for q, value in enumerate(sums):
                self.finish.store(e, value, self.y, e.add(out, channel, q * c), self.mask)

        e.loop(vectors[1], vector, first=vectors[0])

    def _load(self, x: Value, offset: int) -> Value:
        return self.e.load(x, offset) if self.mask is None else self.e.load_some(x, offset, self.mask)
