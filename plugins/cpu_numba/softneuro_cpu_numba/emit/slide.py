"""Sliding windows over each channel by itself, NHWC: a tile is one vector of channels of several output pixels.

Each input vector is loaded once for all outputs of the tile that use it. Taps outside the image are never computed:
rows are cut by the loop over them, columns when the kernel is written, because an output row is cut into tiles then
(a left one, a run of equal inner ones, a right one). So nothing is copied, and padding makes a layer cheaper. What is
done with the taps (a product and a sum, a maximum) is the business of a :class:`Fold`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softneuro_cpu_numba.emit.emitter import Emitter, Index, Value
from softneuro_cpu_numba.emit.tasks import neighbours
from softneuro_cpu_numba.slides import Columns, Tile

ARGUMENTS = (
    *("x", "y", "height", "rows", "top", "kernel_rows", "step_y", "dilation_y"),
    *("block", "blocks"),
)
"""A task is an output row of ``block`` vectors of channels (``blocks`` of them); a block's rows are neighbours."""

Range = tuple[Value, Value]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vector of results goes: ``y[offset]``, only the lanes of ``mask`` if there is one."""

    y: Value
    offset: Value
    mask: Value | None

    def store(self, e: Emitter, value: Value, stored: str = "float32") -> None:
        """Writes a vector as it is, or of float32 rounded to a narrower type."""
        e.store_stored(value, self.y, self.offset, stored, self.mask)


class Fold(ABC):
    """What becomes of the taps of one output. Weights, if any: [vector of channels][kernel rows][kernel columns]
    [lanes], float32. Taps lie ``stored`` as float32, float16 or bfloat16."""

    weights: Value | None = None
    stored: str = "float32"

    def load(self, e: Emitter, x: Value, offset: Index, mask: Value | None) -> Value:
        """A vector of taps; lanes outside ``mask`` are not read."""
        return e.load_stored(x, offset, self.stored, mask)

    @abstractmethod
    def start(self, e: Emitter, lane: Value) -> Value:
        """The value before the first tap; ``lane`` counts floats in vectors of channels."""

    @abstractmethod
    def fold(self, e: Emitter, tap: Value, weight: Value | None, so_far: Value) -> Value: ...

    @abstractmethod
    def write(self, e: Emitter, value: Value, lane: Value, count: Value | None, place: Place) -> None:
        """Stores one vector of results, of the channels ``lane`` counts as for :meth:`start`."""

    def counts(
        self, e: Emitter, rows: Index, top: Value, columns: Sequence[Index], starts: Sequence[Value]
    ) -> list[Value]:
        """Something about each output of a tile, worked out before its vectors: it has ``columns`` x ``rows`` taps
        inside; its first tap lies at input row ``top`` and column ``starts``."""
        return [None] * len(columns)


def slide(
    e: Emitter,
    a: dict[str, Value],
    channels: int,
    shape: Columns,
    most: int,
    unrolled: bool,
    operation: Fold,
    element: Any = None,
) -> None:
    """All tasks of a kernel; ``a`` are the values of :data:`ARGUMENTS`, ``element`` the type x and y point to where it
    is not what the operation says.

    ``unrolled``: tiles of ``most`` outputs, code for each different one; otherwise loops over kernel columns and
    outputs. The last vector of channels overlaps the one before, or is masked where there are fewer than lanes.
    """
    if element is None:
        x, y = (e.stored(a[name], operation.stored) for name in ("x", "y"))
    else:
        x, y = (e.b.inttoptr(a[name], element.as_pointer()) for name in ("x", "y"))
    row = OutputRows(e, a, (x, y), (channels, channels), channels, shape, operation)

    def tasks(number: Value, many: Value, _: Value) -> None:
        place, first = e.divmod(number, a["rows"])
        image, block = e.divmod(place, a["blocks"])
        last = e.add(first, many)
        low = e.mul(block, a["block"])
        vectors = (low, e.smaller(e.add(low, a["block"]), -(-channels // e.lanes)))
        e.loop(last, lambda y: row.write(image, y, vectors, most, unrolled), first=first)

    neighbours(e, a["rows"], 1, a["rows"], tasks)


def inside(e: Emitter, start: Value, size: Index, taps: Index, dilation: Index) -> Range:
    """Numbers of the taps, the first of them at ``start``, that lie in 0 .. size."""
    less = e.sub(dilation, 1)
    low = e.b.sdiv(e.add(e.larger(0, e.sub(0, start)), less), e.i(dilation))
    room = e.larger(0, e.add(e.sub(size, start), less))
    return low, e.smaller(taps, e.b.sdiv(room, e.i(dilation)))


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of outputs: where its first inside tap row and its outputs begin, the input row of its first tap, the
    kernel rows inside, and the vectors to compute."""

    source: Value
    out: Value
    top: Value
    rows: Range
    vectors: tuple[Index, Index]


class OutputRows:
    """Writes output rows of ``channels``; ``origins`` are the first pixels of x and y, ``pitches`` the floats between
    two pixels of each. Of x only rows inside the image are read. Of :data:`ARGUMENTS`, ``a`` needs the geometry."""

    def __init__(
        self,
        e: Emitter,
        a: Mapping[str, Index],
        origins: tuple[Value, Value],
        pitches: tuple[int, int],
        channels: int,
        shape: Columns,
        operation: Fold,
    ) -> None:
        self.e, self.a, self.channels, self.shape, self.operation = e, a, channels, shape, operation
        self.x, self.y = origins
        self.x_pitch, self.y_pitch = pitches
        self.mask = e.lanes_below(e.i(channels)) if channels < e.lanes else None

    def write(self, image: Index, y: Value, vectors: tuple[Index, Index], most: int, unrolled: bool) -> None:
        """Row ``y`` of an image, of some vectors of channels; ``most`` and ``unrolled`` as for :func:`slide`."""
        e, a = self.e, self.a
        top = e.sub(e.mul(y, a["step_y"]), a["top"])
        rows = inside(e, top, a["height"], a["kernel_rows"], a["dilation_y"])
        line = e.add(e.mul(image, a["height"]), e.add(top, e.mul(rows[0], a["dilation_y"])))
        source = e.at(self.x, e.mul(line, self.shape.width * self.x_pitch))
        out = e.mul(e.add(e.mul(image, a["rows"]), y), self.shape.out * self.y_pitch)
        row = _Row(source, out, top, rows, vectors)
        if unrolled:
            for tile in self.shape.tiles(most):
                self._tiles(tile, row)
        else:
            self._by_loops(row, most)

    def _tiles(self, tile: Tile, row: _Row) -> None:
        e, s, c = self.e, self.shape, self.x_pitch
        uses: dict[int, list[tuple[int, int]]] = {}
        for q, taps in enumerate(tile.taps):
            for j in taps:
                uses.setdefault(q * s.step + j * s.dilation, []).append((q, j))

        def taps_of_row(x: Value, w: Value, so_far: Sequence[Value]) -> list[Value]:
            made = list(so_far)
            weights = {j: self._weight(w, j * e.lanes) for j in sorted({j for taps in tile.taps for j in taps})}
            for offset in sorted(uses):
                value = self._load(x, offset * c)
                for q, j in uses[offset]:
                    made[q] = self.operation.fold(e, value, weights[j], made[q])
            return made

        def one(number: Value) -> None:
            first = e.add(e.mul(number, tile.size), tile.first)
            self._vectors(row, first, [len(taps) for taps in tile.taps], taps_of_row)

        e.loop(tile.repeats, one)

    def _by_loops(self, row: _Row, most: int) -> None:
        """Inner outputs ``most`` at a time, those at the border one by one."""
        e, s, c = self.e, self.shape, self.x_pitch
        reach = (s.kernel - 1) * s.dilation
        inner = min(s.out, -(-s.left // s.step))
        end = max(inner, min(s.out, (s.width - 1 - reach + s.left) // s.step + 1)) if s.width > reach else inner
        end -= (end - inner) % most

        def run(first: Value, size: int) -> None:
            low, high = e.i(0), e.i(s.kernel)
            if size == 1:
                low, high = inside(e, e.sub(e.mul(first, s.step), s.left), s.width, s.kernel, s.dilation)

            def taps_of_row(x: Value, w: Value, so_far: Sequence[Value]) -> list[Value]:
                def tap(j: Value, *now: Value) -> list[Value]:
                    weight, at = self._weight(w, e.mul(j, e.lanes)), e.at(x, e.mul(j, s.dilation * c))
                    taps = [self._load(at, q * s.step * c) for q in range(size)]
                    return [self.operation.fold(e, tap, weight, v) for tap, v in zip(taps, now, strict=True)]

                return e.loop(high, tap, so_far, first=low)

            self._vectors(row, first, [e.larger(0, e.sub(high, low))] * size, taps_of_row)

        e.loop(inner, lambda o: run(o, 1))
        e.loop(end, lambda o: run(o, most), step=most, first=inner)
        e.loop(s.out, lambda o: run(o, 1), first=end)

    def _vectors(
        self, row: _Row, first: Value, columns: Sequence[Index], taps_of_row: Callable[..., list[Value]]
    ) -> None:
        """One tile from output ``first`` on, vector by vector; ``taps_of_row(x, w, so_far)`` takes one kernel row."""
        e, s, c, (low, high) = self.e, self.shape, self.channels, row.rows
        left = [e.sub(e.mul(e.add(first, q), s.step), s.left) for q in range(len(columns))]
        counts = self.operation.counts(e, e.larger(0, e.sub(high, low)), row.top, columns, left)
        pixel = e.at(row.source, e.mul(left[0], self.x_pitch))
        out = e.add(row.out, e.mul(first, self.y_pitch))
        pitch = e.mul(self.a["dilation_y"], s.width * self.x_pitch)
        per_row = s.kernel * e.lanes
        nothing = e.floats(e.i(0)) if self.operation.weights is None else self.operation.weights
        used = self.operation.weights is not None

        def vector(v: Value) -> None:
            lane = e.mul(v, e.lanes)
            channel = lane if c % e.lanes == 0 else e.smaller(lane, max(0, c - e.lanes))
            start = self.operation.start(e, lane)
            weights = e.at(nothing, e.mul(e.add(e.mul(v, self.a["kernel_rows"]), low), per_row)) if used else nothing

            def kernel_row(_: Value, x: Value, w: Value, *so_far: Value) -> list[Value]:
                return [e.at(x, pitch), e.at(w, per_row) if used else w, *taps_of_row(x, w, so_far)]

            carried = [e.at(pixel, channel), weights, *[start] * len(columns)]
            made = e.loop(high, kernel_row, carried, first=low)[2:]
            for q, value in enumerate(made):
                place = Place(self.y, e.add(out, channel, q * self.y_pitch), self.mask)
                self.operation.write(e, value, lane, counts[q], place)

        e.loop(row.vectors[1], vector, first=row.vectors[0])

    def _load(self, x: Value, offset: int) -> Value:
        return self.operation.load(self.e, x, offset, self.mask)

    def _weight(self, w: Value, offset: Index) -> Value | None:
        return None if self.operation.weights is None else self.e.load(w, offset)
