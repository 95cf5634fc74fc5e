"""Convolution and matrix product on a matrix unit (Intel AMX): tiles of 16 by 16 sums, 64 bytes of k in a step.

Two tiles of pixels by two of output channels are in the works at a time: four loads for four products, which take
twice as long. Everything is counted in words of 32 bits (two bfloat16, four bytes of integers), so bands and pixels are
those of float32. Sums pass through memory on their way to the epilogue: the unit shares no registers with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from softneuro_cpu_numba.emit.emitter import F32, I8, I32, I64, Emitter, Index, Value
from softneuro_cpu_numba.emit.tasks import neighbours

SIDE, ROW_BYTES = 16, 64
"""Most rows of a tile, and bytes of one."""
SUMS, PIXELS, WEIGHTS = (0, 1, 2, 3), (4, 5), (6, 7)
"""Tile registers."""
ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Tiles:
    """Known when a kernel is written: rows (pixels) of a tile, words of k in a step, the instruction's name."""

    rows: int
    words: int
    product: str

    @property
    def is_integer(self) -> bool:
        return self.product != "tdpbf16ps"

    @property
    def scratch_bytes(self) -> int:
        """Where sums pass through memory."""
        return ALIGNMENT + len(SUMS) * self.rows * ROW_BYTES


@dataclass(frozen=True, slots=True)
class Runs:
    """K as ``count`` runs of ``steps`` steps; run ``s`` begins ``offsets[s]`` words behind a window's first."""

    count: Index
    steps: Index
    offsets: Value | None


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
    room: Value
    """float pointer, 64-byte aligned."""

    @property
    def element(self) -> Any:
        return I32 if self.tiles.is_integer else F32

    def compute(
        self, e: Emitter, pixels: Sequence[Value], pitch: Value, weights: Value, start: Value, runs: Runs, vectors: int
    ) -> None:
        """``pixels`` point to the first row of each tile, rows are ``pitch`` words apart; ``start`` points to what the
        sums of every row begin with."""
        count, words = len(pixels), self.tiles.words
        for i in range(count):
            for v in range(vectors):
                _move(e, "loadd", SUMS[2 * i + v], e.at(start, v * SIDE), 0)

        def step(at: Value, offset: Index) -> Value:
            for v in range(vectors):
                _move(e, "loadd", WEIGHTS[v], e.at(at, v * words * SIDE), ROW_BYTES)
            for i, pixel in enumerate(pixels):
                _move(e, "loadd", PIXELS[i], e.at(pixel, offset), e.mul(pitch, 4))
                for v in range(vectors):
                    numbers = [ir.Constant(I8, n) for n in (SUMS[2 * i + v], PIXELS[i], WEIGHTS[v])]
                    e.intrinsic(f"llvm.x86.{self.tiles.product}", ir.VoidType(), numbers)
            return e.at(at, vectors * words * SIDE)

        def run(at: Value, shift: Index) -> Value:
            return e.loop(runs.steps, lambda k, at: [step(at, e.add(e.mul(k, words), shift))], [at])[0]

        if runs.offsets is None:
            run(weights, 0)
        else:
            offsets = runs.offsets
            e.loop(runs.count, lambda s, at: [run(at, e.integer(offsets, s))], [weights])
        for i in range(count):
            for v in range(vectors):
                place = e.at(self.room, (i * self.tiles.rows * vectors + v) * SIDE)
                _move(e, "stored", SUMS[2 * i + v], place, vectors * ROW_BYTES)

    def read(self, e: Emitter, tile: int, row: Value, vectors: int) -> list[Value]:
        """Sums of one pixel, of tile 0 or 1."""
        first = e.mul(e.add(row, tile * self.tiles.rows), vectors * SIDE)
        kind = e.vector_type(SIDE, self.element).as_pointer()
        places = [e.at(self.room, e.add(first, v * SIDE)) for v in range(vectors)]
        return [e.b.load(e.b.bitcast(place, kind), align=ROW_BYTES) for place in places]


ARGUMENTS = (
    *("x", "w", "start", "residual", "y", "config"),
    *("row_tasks", "rows_per_task", "most_tasks", "panel_tasks", "panels_per_task", "rows", "columns"),
    *("x_image", "channels", "pitch", "ld_y", "panels", "panel_words"),
    *("runs", "steps", "run_offsets", "tile_counts", "tile_places", "row_places"),
)
"""``start``: what the sums of each output channel begin with; ``rows`` x ``columns`` are the output's; ``x_image``:
words between images; ``channels``: words of a pixel in the band; ``pitch``: words between rows of a tile; ``ld_y``:
elements between pixels of the result; ``panels`` of ``panel_words`` words of weights, the last perhaps half as wide.
``tile_counts``: tiles by output rows of a stretch; ``tile_places``: by tile where its first row begins in the band;
``row_places``: by row of a tile the output pixel in the stretch, or -1."""

Store = Callable[[list[Value], Value, Value, bool], None]
"""Writes the sums of one pixel: vectors, its first output channel, ``ld_y`` times its number plus that, whether this is
the last panel."""


def products(
    e: Emitter,
    a: dict[str, Value],
    tiles: Tiles,
    last_vectors: int,
    pack: Callable[[Value, Value, Value, Value], Value] | None,
    room: Value,
    store: Store,
) -> None:
    """All tasks of a kernel. ``pack(block, image, first_row, rows)`` makes the band and returns it; None: x is read in
    place, every pixel behind the other."""
    x, w, start = (e.floats(a[name]) for name in ("x", "w", "start"))
    sums = Sums(tiles, _aligned(e, room))
    offsets = None if pack is None else e.integers(a["run_offsets"])
    runs = Runs(a["runs"], a["steps"], offsets)
    counts, places, pixels = (e.integers(a[name]) for name in ("tile_counts", "tile_places", "row_places"))
    configure(e, a["config"])

    def tasks(number: Value, many: Value, wide: Value) -> None:
        block, panel_stretch = e.divmod(number, a["panel_tasks"])
        image, stretch = e.divmod(block, a["row_tasks"])
        first_row = e.mul(stretch, a["rows_per_task"])
        here = e.smaller(e.mul(many, a["rows_per_task"]), e.sub(a["rows"], first_row))
        begin = e.mul(panel_stretch, a["panels_per_task"])
        end = e.smaller(e.add(begin, e.mul(wide, a["panels_per_task"])), a["panels"])
        limit = e.mul(here, a["columns"])
        pixel = e.mul(e.add(e.mul(image, a["rows"]), first_row), a["columns"])
        if pack is None:
            count = e.b.udiv(e.add(here, tiles.rows - 1), e.i(tiles.rows))
            last = e.sub(a["rows"], tiles.rows)
            source = x
        else:
            count, last = e.integer(counts, here), e.i(0)
            source = pack(block, e.at(x, e.mul(image, a["x_image"])), first_row, here)

        def first_pixel(tile: Value) -> Value:
            return e.smaller(e.add(first_row, e.mul(tile, tiles.rows)), last)

        def pair(panel: Value, vectors: int, is_last: bool, tile: Value, size: int) -> None:
            numbers = [e.add(tile, i) for i in range(size)]
            if pack is None:
                firsts = [first_pixel(n) for n in numbers]
                pointers = [e.at(source, e.mul(f, a["pitch"])) for f in firsts]
            else:
                firsts = []
                pointers = [e.at(source, e.integer(places, n)) for n in numbers]
            column = e.mul(panel, 2 * SIDE)
            weights = e.at(w, e.mul(panel, a["panel_words"]))
            sums.compute(e, pointers, a["pitch"], weights, e.at(start, column), runs, vectors)
            for i, n in enumerate(numbers):

                def row(r: Value, i: int = i, n: Value = n) -> None:
                    def write(at: Value) -> tuple[()]:
                        place = e.add(e.mul(at, a["ld_y"]), column)
                        store(sums.read(e, i, r, vectors), column, place, is_last)
                        return ()

                    if pack is None:
                        write(e.add(firsts[i], r))
                        return
                    own = e.integer(pixels, e.add(e.mul(n, tiles.rows), r))
                    inside = e.b.icmp_unsigned("<", own, limit)
                    e.when(inside, lambda: write(e.add(pixel, own)), tuple)

                e.loop(tiles.rows, row)

        def panel(number: Value, vectors: int, is_last: bool) -> None:
            even = e.b.and_(count, e.i(-2))
            e.loop(even, lambda t: pair(number, vectors, is_last, t, 2), step=2)
            e.loop(count, lambda t: pair(number, vectors, is_last, t, 1), first=even)

        before = e.smaller(end, e.sub(a["panels"], 1))
        e.loop(before, lambda p: panel(p, 2, False), first=begin)
        e.loop(end, lambda p: panel(p, last_vectors, True), first=e.larger(before, begin))

    neighbours(e, a["row_tasks"], a["panel_tasks"], a["most_tasks"], tasks)
    release(e)


def _aligned(e: Emitter, pointer: Value) -> Value:
    address = e.b.ptrtoint(pointer, I64)
    return e.floats(e.b.and_(e.add(address, ALIGNMENT - 1), e.i(-ALIGNMENT)))
