"""The products of a Winograd convolution, a matrix product for each position of a tile: in float32 on vectors, or on a
matrix unit with both factors split in two of bfloat16."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from softneuro_cpu_numba.amx import SIDE, Tiles
from softneuro_cpu_numba.emit.bfloat import PRODUCT, parts_of
from softneuro_cpu_numba.emit.emitter import Emitter, Value
from softneuro_cpu_numba.emit.matrix import Runs, Sums, configure, release
from softneuro_cpu_numba.emit.tile import Panel, Segments, accumulate, coming, in_pieces

Arguments = dict[str, Value]


class Products(ABC):
    """``a`` are the arguments of ``emit.winograd``."""

    @abstractmethod
    def begin(self, e: Emitter, a: Arguments) -> None:
        """Before the first task."""

    @abstractmethod
    def end(self, e: Emitter) -> None:
        """Behind the last."""

    @abstractmethod
    def place(self, e: Emitter, channel: Value) -> Value:
        """Floats from a tile's first channel to this one, where :meth:`keep` writes."""

    @abstractmethod
    def keep(self, e: Emitter, a: Arguments, value: Value, to: Value) -> None:
        """Writes a vector of transformed input."""

    @abstractmethod
    def position(self, e: Emitter, a: Arguments, p: Value, data: Value, out: Value, count: Value) -> None:
        """Products of ``count`` tiles, of the panels from ``a["begin"]`` to ``a["end"]``, at position ``p``; ``data``
        and ``out`` are those of the position."""

    @abstractmethod
    def columns(self, e: Emitter, a: Arguments) -> tuple[Value, Value]:
        """First output channel of those panels, and the first behind them."""


@dataclass(frozen=True, slots=True)
class OnVectors(Products):
    """Weights: [position][panel][channel][width]; panels are ``vectors`` wide, the last ones one vector. ``lines``:
    cache lines of the next panel every step of a product asks for."""

    pieces: Sequence[int]
    vectors: int
    narrow_pieces: Sequence[int]
    lines: int

    def begin(self, e: Emitter, a: Arguments) -> None:
        pass

    def end(self, e: Emitter) -> None:
        pass

    def place(self, e: Emitter, channel: Value) -> Value:
        return channel

    def keep(self, e: Emitter, a: Arguments, value: Value, to: Value) -> None:
        e.store(value, to)

    def position(self, e: Emitter, a: Arguments, p: Value, data: Value, out: Value, count: Value) -> None:
        starts = e.integers(a["starts"])
        weights = e.at(e.floats(a["w"]), e.mul(p, a["channels"], self._columns(e, a)))

        def panel(number: Value, width: int, sizes: Sequence[int]) -> None:
            ahead = e.mul(number, width * e.lanes)
            if width == 1:
                ahead = e.add(ahead, e.mul(a["wide"], (self.vectors - 1) * e.lanes))
            panel_weights = e.at(weights, e.mul(ahead, a["channels"]))
            column = e.at(out, e.integer(starts, number))

            def tile(first: Value, size: int) -> None:
                pointers = [e.at(data, e.mul(e.add(first, i), a["ld_v"])) for i in range(size)]
                zeros = [e.constant(0.0)] * (size * width)
                next_panel = coming(e, panel_weights, a["channels"], width * e.lanes, first, self.pieces[0], self.lines)
                columns = Panel(panel_weights, coming=next_panel)
                sums = accumulate(e, pointers, columns, Segments(a["channels"]), zeros)
                for i in range(size):
                    row = e.at(column, e.mul(e.add(first, i), a["out_channels"]))
                    for v in range(width):
                        e.store(sums[i * width + v], row, v * e.lanes)

            in_pieces(e, count, sizes, width, tile)

        begin, end = a["begin"], a["end"]
        middle = e.smaller(e.larger(begin, a["wide"]), end)
        e.loop(middle, lambda number: panel(number, self.vectors, self.pieces), first=begin)
        e.loop(end, lambda number: panel(number, 1, self.narrow_pieces), first=middle)

    def columns(self, e: Emitter, a: Arguments) -> tuple[Value, Value]:
        starts = e.integers(a["starts"])
        in_wide = e.b.icmp_signed("<=", a["end"], a["wide"])
        last = e.integer(starts, e.sub(a["end"], 1))
        width = e.b.select(in_wide, e.i(self.vectors * e.lanes), e.i(e.lanes))
        return e.integer(starts, a["begin"]), e.add(last, width)

    def _columns(self, e: Emitter, a: Arguments) -> Value:
        """Of all panels, overlaps counted twice."""
        narrow = e.sub(a["panels"], a["wide"])
        return e.add(e.mul(a["wide"], self.vectors * e.lanes), e.mul(narrow, e.lanes))


@dataclass(frozen=True, slots=True)
class OnMatrixUnit(Products):
    """Weights: [position][panel][step][part][vector][word][channel][pair], panels two vectors wide, the last perhaps
    one (``last``). Data: [position][part][tile][word of two channels], tiles made up to whole ones of the unit."""

    tiles: Tiles
    last: int

    def begin(self, e: Emitter, a: Arguments) -> None:
        configure(e, a["config"])

    def end(self, e: Emitter) -> None:
        release(e)

    def place(self, e: Emitter, channel: Value) -> Value:
        return e.b.lshr(channel, e.i(1))

    def keep(self, e: Emitter, a: Arguments, value: Value, to: Value) -> None:
        for part, bits in enumerate(parts_of(e, value, self.tiles.parts)):
            e.store(bits, e.at(to, e.mul(a["apart"], part)))

    def position(self, e: Emitter, a: Arguments, p: Value, data: Value, out: Value, count: Value) -> None:
        sums, channels = Sums(self.tiles, PRODUCT), a["channels"]
        runs = Runs(1, e.b.udiv(a["ld_v"], e.i(self.tiles.words)), None, a["apart"])
        weights = e.at(e.floats(a["w"]), e.mul(p, channels, a["out_channels"]))
        blocks = e.b.udiv(e.add(count, SIDE - 1), e.i(SIDE))
        even = e.b.and_(blocks, e.i(-2))
        many = self.tiles.lines * self.tiles.streams

        def panel(number: Value, vectors: int) -> None:
            at = e.at(weights, e.mul(number, channels, 2 * SIDE))
            column = e.at(out, e.mul(number, 2 * SIDE))

            def pair(block: Value, size: int) -> None:
                firsts = [e.mul(e.add(block, i), SIDE) for i in range(size)]
                pixels = [e.at(data, e.mul(first, a["ld_v"])) for first in firsts]
                asked = self._coming(e, at, channels, block) if many else []
                sums.multiply(e, pixels, a["ld_v"], [at, *asked], None, runs, vectors)
                places = [e.at(column, e.mul(first, a["out_channels"])) for first in firsts]
                sums.put(e, places, e.mul(a["out_channels"], 4), vectors)

            e.loop(even, lambda block: pair(block, 2), step=2)
            e.loop(blocks, lambda block: pair(block, 1), first=even)

        before = e.smaller(a["end"], e.sub(a["panels"], 1))
        e.loop(before, lambda number: panel(number, 2), first=a["begin"])
        e.loop(a["end"], lambda number: panel(number, self.last), first=e.larger(before, a["begin"]))

    def _coming(self, e: Emitter, at: Value, channels: Value, block: Value) -> list[Value]:
        """Where two tiles begin to ask for the next panel; later ones repeat the last shares."""
        lines, streams = self.tiles.lines, self.tiles.streams
        each = -(-2 * self.tiles.parts * self.tiles.words // (lines * streams))
        number = e.mul(e.smaller(e.b.lshr(block, e.i(1)), each - 1), streams)
        words = e.mul(e.b.udiv(channels, e.i(2 * self.tiles.words)), lines * SIDE)
        following = e.at(at, e.mul(channels, 2 * SIDE))
        return [e.at(following, e.mul(e.add(number, s), words)) for s in range(streams)]

    def columns(self, e: Emitter, a: Arguments) -> tuple[Value, Value]:
        return e.mul(a["begin"], 2 * SIDE), e.smaller(e.mul(a["end"], 2 * SIDE), a["out_channels"])
