"""Convolution and matrix product on a matrix unit (Intel AMX): tiles of 16 by 16 sums, 64 bytes of k in a step.

Two tiles of pixels by two of output channels are in the works at a time: four loads for four products, which take
twice as long. Everything is counted in words of 32 bits (two bfloat16, four bytes of integers), so bands and pixels are
those of float32. Sums pass through memory on their way to the epilogue: the unit shares no registers with the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from softneuro_cpu_numba.amx import ALIGNMENT, ROW_BYTES, SIDE, Tiles, room_bytes
from softneuro_cpu_numba.emit.band import Band
from softneuro_cpu_numba.emit.emitter import F32, I8, I32, I64, Emitter, Index, Value
from softneuro_cpu_numba.emit.tasks import neighbours, once, room

AHEAD = 1024
"""Words: 4 KiB. Where weights come from memory, 512 channels at 7x7 take 0.90 of the time; where they are near, 1.01 to
1.07. Further ahead is no better."""
SUMS, PIXELS, WEIGHTS = (0, 1, 2, 3), (4, 5), (6, 7)
"""Tile registers."""
ROUNDS = {1: ((0, 0),), 2: ((0, 0), (0, 1), (1, 1))}
"""By parts of a factor: which parts of pixels and weights are multiplied, one after the other, so that a part is loaded
once. Of two the pixels' high one comes first, the weights' low one; low by low is too small to count."""


@dataclass(frozen=True, slots=True)
class Runs:
    """K as ``count`` runs of ``steps`` steps; run ``s`` begins ``offsets[s]`` words behind a window's first."""

    count: Index
    steps: Index
    offsets: Value | None
    apart: Index = 0
    """Words from a pixel's first part to its second."""


def configure(e: Emitter, config: Value) -> None:
    """Shapes of the eight tile registers, from 64 bytes at this address."""
    e.intrinsic("llvm.x86.ldtilecfg", ir.VoidType(), [e.b.inttoptr(config, I8.as_pointer())])


def release(e: Emitter) -> None:
    """Tells the system that this thread's tiles need not be kept."""
    e.intrinsic("llvm.x86.tilerelease", ir.VoidType(), [])


def _move(e: Emitter, what: str, tile: int, pointer: Value, pitch_bytes: Index) -> None:
    place = e.b.bitcast(pointer, I8.as_pointer())
    e.intrinsic(f"llvm.x86.tile{what}64", ir.VoidType(), [ir.Constant(I8, tile), place, e.i(pitch_bytes)])


@dataclass(frozen=True, slots=True)
class Sums:
    """Products of one or two tiles of pixels with one or two of output channels, and where their sums are put."""

    tiles: Tiles
    product: str
    """The instruction."""
    room: Value = None
    """float pointer, 64-byte aligned: where :meth:`compute` puts sums and :meth:`read` finds them."""

    @property
    def element(self) -> Any:
        return F32 if self.product == "tdpbf16ps" else I32

    def compute(
        self,
        e: Emitter,
        pixels: Sequence[Value],
        pitch: Value,
        weights: Sequence[Value],
        start: Value,
        runs: Runs,
        vectors: int,
    ) -> None:
        """:meth:`multiply`, and the sums put into the room."""
        self.multiply(e, pixels, pitch, weights, start, runs, vectors)
        places = [e.at(self.room, i * self.tiles.rows * vectors * SIDE) for i in range(len(pixels))]
        self.put(e, places, vectors * ROW_BYTES, vectors)

    def multiply(
        self,
        e: Emitter,
        pixels: Sequence[Value],
        pitch: Value,
        weights: Sequence[Value],
        start: Value | None,
        runs: Runs,
        vectors: int,
    ) -> None:
        """``pixels`` point to the first row of each tile, rows are ``pitch`` words apart; ``start`` points to what the
        sums of every row begin with (None: zeros); ``weights`` to those used and, with ``lines``, to those asked for.
        """
        words = self.tiles.words
        for i in range(len(pixels)):
            for v in range(vectors):
                if start is None:
                    e.intrinsic("llvm.x86.tilezero", ir.VoidType(), [ir.Constant(I8, SUMS[2 * i + v])])
                else:
                    _move(e, "loadd", SUMS[2 * i + v], e.at(start, v * SIDE), 0)

        def step(offset: Index, at: Value, *coming: Value) -> list[Value]:
            held: tuple[int, int] | tuple[None, None] = None, None
            for part, other in ROUNDS[self.tiles.parts]:
                if other != held[1]:
                    self._load_weights(e, at, other, vectors)
                if held == (None, None):
                    for later in coming:
                        for line in range(self.tiles.lines):
                            e.prefetch(later, line * SIDE, near=False)
                for i, pixel in enumerate(pixels):
                    if part != held[0]:
                        place = e.at(pixel, e.add(offset, e.mul(runs.apart, part)))
                        _move(e, "loadd", PIXELS[i], place, e.mul(pitch, 4))
                    for v in range(vectors):
                        numbers = [ir.Constant(I8, n) for n in (SUMS[2 * i + v], PIXELS[i], WEIGHTS[v])]
                        e.intrinsic(f"llvm.x86.{self.product}", ir.VoidType(), numbers)
                held = part, other
            moved = e.at(at, self.tiles.parts * vectors * words * SIDE)
            return [moved, *(e.at(later, self.tiles.lines * SIDE) for later in coming)]

        def run(shift: Index, at: Sequence[Value]) -> list[Value]:
            return e.loop(runs.steps, lambda k, *at: step(e.add(e.mul(k, words), shift), *at), at)

        if runs.offsets is None:
            run(0, weights)
        else:
            offsets = runs.offsets
            e.loop(runs.count, lambda s, *at: run(e.integer(offsets, s), at), weights)

    def put(self, e: Emitter, places: Sequence[Value], pitch_bytes: Index, vectors: int) -> None:
        """Writes the sums of each tile of pixels to one of ``places``, rows ``pitch_bytes`` apart."""
        for i, place in enumerate(places):
            for v in range(vectors):
                _move(e, "stored", SUMS[2 * i + v], e.at(place, v * SIDE), pitch_bytes)

    def _load_weights(self, e: Emitter, at: Value, part: int, vectors: int) -> None:
        """Those of a step, which begin at ``at``."""
        words = self.tiles.words
        for v in range(vectors):
            place = (part * vectors + v) * words * SIDE
            _move(e, "loadd", WEIGHTS[v], e.at(at, place), ROW_BYTES)
            if self.tiles.ahead:
                for line in range(words):
                    e.prefetch(at, AHEAD + place + line * SIDE)

    def read(self, e: Emitter, tile: int, row: Value, vectors: int) -> list[Value]:
        """Sums of one pixel, of tile 0 or 1."""
        first = e.mul(e.add(row, tile * self.tiles.rows), vectors * SIDE)
        kind = e.vector_type(SIDE, self.element).as_pointer()
        places = [e.at(self.room, e.add(first, v * SIDE)) for v in range(vectors)]
        return [e.b.load(e.b.bitcast(place, kind), align=ROW_BYTES) for place in places]


ARGUMENTS = (
    *("x", "w", "start", "residual", "y", "config"),
    *("row_tasks", "rows_per_task", "most_tasks", "panel_tasks", "panels_per_task", "rows"),
    *("y_image", "y_row", "y_origin"),
    *("x_image", "channels", "pitch", "ld_y", "panels", "panel_words"),
    *("runs", "steps", "apart", "run_offsets", "tile_counts", "tile_places", "row_places"),
)
"""``start``: what the sums of each output channel begin with; ``rows`` are the output's (in place: all pixels), lying
``y_row`` pixels of the result apart, images ``y_image``, the first pixel at ``y_origin``; ``x_image``: elements between
images; ``channels``: words of a pixel in the band; ``pitch``: words between rows of a tile; ``ld_y``: elements between
pixels of the result; ``panels`` of ``panel_words`` words of weights, the last perhaps half as wide.
``apart``: words from the band of the pixels' first part to that of their second; ``tile_counts``: tiles by output rows
of a stretch; ``tile_places``: by tile where its first row begins in the band; ``row_places``: by row of a tile its
pixel of the result, from the stretch's first on, or -1."""

Store = Callable[[list[Value], Value, Value, list[Value | None]], None]
"""Writes the sums of one pixel: vectors, its first output channel, ``ld_y`` times its number plus that, masks of the
vectors that are not full."""
Write = Callable[[Value], None]
"""Does something with the number of an output pixel."""


class Stretch(ABC):
    """The pixels of a task as tiles."""

    count: Value
    """Of tiles."""

    @abstractmethod
    def pointer(self, tile: Value) -> Value:
        """Where a tile's first row of k begins."""

    @abstractmethod
    def result(self, tile: Value, row: Value, write: Write) -> None:
        """``write`` for the output pixel of a tile's row, if it is one."""


class InPlace(Stretch):
    """x is read where it lies, every pixel behind the other; the last tile is moved back to end with them."""

    def __init__(self, e: Emitter, a: dict[str, Value], rows: int, first: Value, here: Value) -> None:
        self.e, self.rows, self.first = e, rows, first
        self.count = e.b.udiv(e.add(here, rows - 1), e.i(rows))
        self.last, self.x, self.pitch = e.sub(a["rows"], rows), e.floats(a["x"]), a["pitch"]

    def _begin(self, tile: Value) -> Value:
        return self.e.smaller(self.e.add(self.first, self.e.mul(tile, self.rows)), self.last)

    def pointer(self, tile: Value) -> Value:
        return self.e.at(self.x, self.e.mul(self._begin(tile), self.pitch))

    def result(self, tile: Value, row: Value, write: Write) -> None:
        write(self.e.add(self._begin(tile), row))


class Copied(Stretch):
    """x is a band; tables say where tiles begin and which rows are results."""

    def __init__(
        self, e: Emitter, a: dict[str, Value], rows: int, band: Value, image: Value, first: Value, here: Value
    ) -> None:
        self.e, self.rows, self.band = e, rows, band
        self.places, self.pixels = e.integers(a["tile_places"]), e.integers(a["row_places"])
        self.count = e.integer(e.integers(a["tile_counts"]), here)
        self.limit = e.mul(here, a["y_row"])
        self.first = e.add(a["y_origin"], e.mul(image, a["y_image"]), e.mul(first, a["y_row"]))

    def pointer(self, tile: Value) -> Value:
        return self.e.at(self.band, self.e.integer(self.places, tile))

    def result(self, tile: Value, row: Value, write: Write) -> None:
        e = self.e
        own = e.integer(self.pixels, e.add(e.mul(tile, self.rows), row))

        def inside() -> tuple[()]:
            write(e.add(self.first, own))
            return ()

        e.when(e.b.icmp_unsigned("<", own, self.limit), inside, tuple)


def products(
    e: Emitter,
    a: dict[str, Value],
    tiles: Tiles,
    product: str,
    last: tuple[int, int],
    band: Band | None,
    store: Store,
    element: Any = F32,
) -> None:
    """All tasks of a kernel, by the instruction ``product``. ``last``: vectors of the last panel, and channels of its
    last one if that is not full; without a band x is read in place. ``element``: what the band reads, and ``x_image``
    and its strides count. scratch: sums, then the band."""
    w, start = (e.floats(a[name]) for name in ("w", "start"))
    head = room(e)
    sums, packed = Sums(tiles, product, aligned(e, head)), e.at(head, room_bytes(tiles.rows) // 4)
    offsets = None if band is None else e.integers(a["run_offsets"])
    runs = Runs(a["runs"], a["steps"], offsets, a["apart"] if tiles.parts > 1 else 0)
    configure(e, a["config"])

    def tasks(number: Value, many: Value, wide: Value) -> None:
        block, panel_stretch = e.divmod(number, a["panel_tasks"])
        image, place = e.divmod(block, a["row_tasks"])
        first = e.mul(place, a["rows_per_task"])
        here = e.smaller(e.mul(many, a["rows_per_task"]), e.sub(a["rows"], first))
        begin = e.mul(panel_stretch, a["panels_per_task"])
        end = e.smaller(e.add(begin, e.mul(wide, a["panels_per_task"])), a["panels"])
        stretch: Stretch
        if band is None:
            stretch = InPlace(e, a, tiles.rows, first, here)
        else:
            origin = e.at(e.b.inttoptr(a["x"], element.as_pointer()), e.mul(image, a["x_image"]))
            once(e, block, lambda: band.pack(e, origin, a["channels"], first, here, packed))
            stretch = Copied(e, a, tiles.rows, packed, image, first, here)

        def compute(panel: Value, vectors: int, few: int, first: Value, size: int) -> None:
            numbers = [e.add(first, i) for i in range(size)]
            column, weights = e.mul(panel, 2 * SIDE), [e.at(w, e.mul(panel, a["panel_words"]))]
            if tiles.lines:
                weights += shares(weights[0], first)
            pointers = [stretch.pointer(n) for n in numbers]
            sums.compute(e, pointers, a["pitch"], weights, e.at(start, column), runs, vectors)
            for i, tile in enumerate(numbers):

                def row(r: Value, i: int = i, tile: Value = tile) -> None:
                    def write(pixel: Value) -> None:
                        to = e.add(e.mul(pixel, a["ld_y"]), column)
                        masks = [None] * (vectors - 1) + [e.lanes_below(e.i(few)) if few else None]
                        store(sums.read(e, i, r, vectors), column, to, masks)

                    stretch.result(tile, r, write)

                e.loop(tiles.rows, row)

        def shares(weights: Value, first: Value) -> list[Value]:
            """Where two tiles begin to ask for the next panel; later ones repeat the last shares."""
            streams, each = tiles.streams, -(-2 * tiles.parts * tiles.words // (tiles.lines * tiles.streams))
            number = e.mul(e.smaller(e.b.lshr(first, e.i(1)), each - 1), streams)
            words = e.mul(a["runs"], a["steps"], tiles.lines * SIDE)
            return [e.at(weights, e.add(a["panel_words"], e.mul(e.add(number, s), words))) for s in range(streams)]

        def by_tiles(body: Callable[[Value, int], None]) -> None:
            even = e.b.and_(stretch.count, e.i(-2))
            e.loop(even, lambda t: body(t, 2), step=2)
            e.loop(stretch.count, lambda t: body(t, 1), first=even)

        def by_panels(body: Callable[[Value, int, int], None]) -> None:
            before = e.smaller(end, e.sub(a["panels"], 1))
            e.loop(before, lambda p: body(p, 2, 0), first=begin)
            e.loop(end, lambda p: body(p, *last), first=e.larger(before, begin))

        if tiles.pixels_first:
            by_tiles(lambda t, size: by_panels(lambda p, vectors, few: compute(p, vectors, few, t, size)))
        else:
            by_panels(lambda p, vectors, few: by_tiles(lambda t, size: compute(p, vectors, few, t, size)))

    neighbours(e, a["row_tasks"], a["panel_tasks"], a["most_tasks"], tasks)
    release(e)


def aligned(e: Emitter, pointer: Value) -> Value:
    """The next address, this one included, that a line of the cache begins at."""
    address = e.b.ptrtoint(pointer, I64)
    return e.floats(e.b.and_(e.add(address, ALIGNMENT - 1), e.i(-ALIGNMENT)))
