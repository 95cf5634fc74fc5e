"""MatMul of two computed factors between grids, as attention has them: scores of keys, and values weighed by scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from softneuro_cpu_numba.amx import ALIGNMENT, SIDE, room_bytes, tile_config
from softneuro_cpu_numba.attention import RESHAPES, Operand, Search, factor_of, result_of
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.matrix_rows import PANEL
from softneuro_cpu_numba.native import In, NativeKernel, Out, aligned, emitted_address
from softneuro_cpu_numba.panels import cut
from softneuro_cpu_numba.rows import NARROW_ROWS, best_tile
from softneuro_cpu_numba.tiles import HEAD_BYTES, TASKS_PER_THREAD, Cut

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, NCHW, TensorSpec
from softneuro_qint8.matrix import UNIT, has_integer_unit
from softneuro_qint8.numbers import ONE_STEP, Bounded, Grid, Requantise, bounded, grid_of
from softneuro_qint8.regions import between_grids, ends_on_laid_grid, is_plain, read_between
from softneuro_qint8.rows import BLOCK_BYTES, TILES, quads_isa

MOVES = ("Transpose", *RESHAPES)
LEAST_QUADS = 33
"""Shorter sums are pairs: 12 products of 128 x 32 by 32 x 128 take 69 us, in words of four bytes 92, as the corrections
are then most of the work; at 64 those take 47 instead of 74."""
MOST_PACKED_BYTES = 1 << 20
"""Of one packed matrix: it stays in the second-level cache."""


@dataclass(frozen=True, slots=True, eq=False)
class IntegerFactors:
    """Y = rounded(A @ B * scale): how each lies, which of the region's inputs A and B are, and their grids."""

    factors: tuple[Operand, Operand]
    places: tuple[int, int]
    grids: tuple[Grid, Grid]
    y: Operand
    scale: float
    result: Bounded

    @property
    def batch(self) -> tuple[int, ...]:
        return self.y.shape[:-2]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """M, N, K."""
        return *self.y.shape[-2:], self.factors[0].shape[-1]

    @property
    def flops(self) -> float:
        return 2.0 * math.prod(self.batch) * math.prod(self.sizes)

    @property
    def finish(self) -> Requantise:
        """Of a single column: all have the same numbers."""
        one = np.array([self.scale * self.grids[1].scale], np.float64)
        return Requantise.of(one, self.grids[0], self.result)

    @property
    def is_across(self) -> bool:
        """Whether rows of B lie together; else its columns do."""
        return self.factors[1].is_across

    @property
    def b_step(self) -> int:
        """Elements from one row of B, or one column, to the next."""
        return self.factors[1].strides[-2 if self.is_across else -1]

    def offsets(self) -> np.ndarray:
        """int64 [batch, 3]: where the matrices of every entry begin in A, B and Y."""
        ends = [operand.offsets(self.batch) for operand in (*self.factors, self.y)]
        return aligned(np.stack(ends, axis=1).reshape(-1, 3).astype(np.int64))


def factors_of(region: Region) -> IntegerFactors | None:
    """The region as such a product, or None."""
    found = _between(region) if region.exit.op == "QuantizeLinear" else _laid(region)
    if found is None or not math.prod(found.y.shape) or not found.finish.fits(found.sizes[2]):
        return None
    a, b = found.factors
    return found if a.is_across and (b.is_across or b.is_down) and found.y.is_across else None


def _between(region: Region) -> IntegerFactors | None:
    between = read_between(region)
    if between is None or len(between.sources) != 2 or len(between.main.operands) != 2 or between.bias is not None:
        return None
    everything: Callable[[Layer], bool] = lambda _: False  # noqa: E731
    search, result = Search(region.graph, everything), between.main.results[0]
    return _found(
        (search.operand(between.main, 0, False), search.operand(between.main, 1, False)),
        between.places,
        between.sources,
        result_of(between.main, (), result.static_shape),
        1.0,
        between.result,
    )


def _laid(region: Region) -> IntegerFactors | None:
    inside = frozenset(region.layers)
    taken = _taken(region.graph, region.exit, inside.__contains__, True)
    grid = grid_of(region.outputs[0]) if len(region.outputs) == 1 else None
    if taken is None or taken.layers != inside or grid is None:
        return None
    sources = [None if f is None else f.source for f in taken.factors]
    grids = [grid_of(v) for v in sources]
    numbers = [v for v in (*region.inputs, *region.outputs) if not is_plain(v) or v.dtype is not FLOAT32]
    if numbers or set(sources) != set(region.inputs):
        return None
    places = tuple(region.inputs.index(v) for v in sources if v is not None)
    result = bounded(grid, None)
    return None if result is None else _found(taken.factors, places, tuple(grids), taken.y, taken.scale, result)


def _found(
    factors: tuple[Operand | None, ...],
    places: tuple[int, ...],
    grids: tuple[Grid | None, ...],
    y: Operand | None,
    scale: float,
    result: Bounded,
) -> IntegerFactors | None:
    (a, b), (first, second), (of_a, of_b) = factors, places, grids
    if a is None or b is None or y is None or of_a is None or of_b is None:
        return None
    return IntegerFactors((a, b), (first, second), (of_a, of_b), y, scale * a.scale * b.scale, result)


@dataclass(frozen=True, slots=True)
class _Taken:
    layers: frozenset[Layer]
    factors: tuple[Operand | None, Operand | None]
    y: Operand | None
    scale: float


def _taken(graph: Graph, exit: Layer, allowed: Callable[[Layer], bool], moves: bool) -> _Taken | None:
    """[Transpose, Reshape, Mul or Div by a number ... of each factor +] MatMul [+ a number] [+ Transpose, Reshape ...]
    up to ``exit``."""
    search, after, scale = Search(graph, allowed), list[Layer](), 1.0
    scaled: list[Layer] = []
    layer: Layer | None = exit
    while layer is not None and layer.op in MOVES:
        after.insert(0, layer)
        layer = search.before(layer, 0, (*MOVES, "Mul", "Div", "MatMul"))
    while layer is not None and layer.op in ("Mul", "Div"):
        place = next((i for i in (0, 1) if factor_of(layer, i) is not None), None)
        if place is None or layer.inputs[place] is None or layer.inputs[place].shape != layer.results[0].shape:  # type: ignore[union-attr]
            return None
        scale *= factor_of(layer, place) or 0.0
        scaled.append(layer)
        layer = search.before(layer, place, ("Mul", "Div", "MatMul"))
    if layer is None or layer.op != "MatMul" or not exit.results[0].is_static or not scale:
        return None
    shape = layer.results[0].static_shape
    if len(shape) < 2 or any(v.is_constant or not v.is_static or len(v.static_shape) < 2 for v in layer.operands):
        return None
    factors = search.operand(layer, 0, moves), search.operand(layer, 1, moves)
    taken = [moved for factor in factors if factor is not None for moved in factor.layers]
    return _Taken(frozenset([*after, *scaled, layer, *taken]), factors, result_of(exit, after, shape), scale)


class QMatMul(Routine):
    """MatMul of two computed factors between grids, any batch shape, exact sums; where grids are laid with the moves
    (Transpose, Reshape) and the multiplications by a number around it."""

    name = "cpu/qmatmul"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        if exit.op == "QuantizeLinear":
            yield from between_grids(graph, exit, ("MatMul",))
        elif exit.op in (*MOVES, "MatMul", "Mul", "Div") and ends_on_laid_grid(exit):
            seen = [_taken(graph, exit, lambda _: True, moves) for moves in (True, False)]
            for layers in dict.fromkeys(taken.layers for taken in seen if taken is not None):
                yield tuple(sorted(layers, key=graph.index.__getitem__))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = factors_of(region)
        if found is None:
            return
        ins = [TensorSpec("cpu", FLOAT32, NCHW)] * len(region.inputs)
        for place, grid in zip(found.places, found.grids, strict=True):
            ins[place] = TensorSpec("cpu", grid.dtype, NCHW)
        outs = (TensorSpec("cpu", found.result.grid.dtype, NCHW),)
        _, n, k = found.sizes
        if 2 * k * n <= MOST_PACKED_BYTES:
            yield Offer(tuple(ins), outs, accuracy=ONE_STEP, flops=found.flops)
            if (found.is_across or k % 4 == 0) and has_integer_unit(target):
                yield Offer(tuple(ins), outs, UNIT, accuracy=ONE_STEP, flops=found.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = factors_of(region)
        assert found is not None
        return (on_matrix_unit if offer.params == UNIT else on_vectors)(found, target)


def on_vectors(p: IntegerFactors, target: Target) -> NativeKernel:
    """The prepared step in words of four bytes or pairs, as the processor has them and the sums are long."""
    (m, n, k), lanes, entries = p.sizes, lanes_of(target), math.prod(p.batch)
    quads = quads_isa(target) if k >= LEAST_QUADS else None
    rows, vectors = best_tile(target, m, n, TILES)
    panels, element = cut(n, vectors, lanes), 1 if quads else 2
    pitch = 4 * -(-k * element // 4)
    blocks = _blocks(m, rows, max(1, BLOCK_BYTES // (pitch * rows)), entries, target)
    address = emitted_address(
        *("softneuro_qint8.emit.products", "products", quads or isa_of(target)),
        pieces=tuple(range(rows, 0, -1)),
        vectors=vectors,
        narrow_pieces=NARROW_ROWS if rows > 1 else (1,),
        signed=tuple(grid.is_signed for grid in p.grids),
        down=not p.is_across,
        masked=n < lanes,
        quads=quads is not None,
        rounding=p.result.finish,
    )
    numbers = [np.broadcast_to(v, panels.columns) for v in (p.finish.factors, p.finish.shifts)]
    return NativeKernel(
        address,
        (
            *(In(p.places[0]), In(p.places[1]), Out(0), p.offsets(), aligned(np.array(panels.starts, np.int64))),
            *(aligned(np.zeros(1, np.int64)), *map(aligned, numbers)),
            *(m, n, k, p.factors[0].row, p.b_step, p.y.row, *(grid.zero for grid in p.grids)),
            *(*blocks.row_words, panels.wide, len(panels.starts), *p.result.words),
        ),
        entries * blocks.row_tasks,
        HEAD_BYTES + (pitch + 4) * (panels.columns + blocks.most_rows),
    )


def on_matrix_unit(p: IntegerFactors, target: Target) -> NativeKernel:
    """The prepared step where :func:`softneuro_qint8.matrix.has_integer_unit`."""
    (m, n, k), entries = p.sizes, math.prod(p.batch)
    steps = -(-k // (4 * SIDE))
    words = -(-k // (4 * steps))
    rows = -(-m // -(-m // SIDE))
    panels = -(-n // PANEL)
    rest = n - (panels - 1) * PANEL
    pitch = _ceil(4 * words * steps, ALIGNMENT)
    blocks = _blocks(m, rows, max(1, BLOCK_BYTES // (pitch * rows)), entries, target)
    address = emitted_address(
        *("softneuro_qint8.emit.matrix_products", "matrix", isa_of(target)),
        tile=(rows, words),
        last=(-(-rest // SIDE), rest % SIDE),
        signed=tuple(grid.is_signed for grid in p.grids),
        down=not p.is_across,
        rounding=p.result.finish,
    )
    panel_words, most_rows = steps * words * PANEL, _ceil(blocks.most_rows, SIDE)
    inside = [room_bytes(rows), 4 * (panels + 1) * PANEL, 4 * rows * words, 4 * most_rows, most_rows * pitch]
    return NativeKernel(
        address,
        (
            *(In(p.places[0]), In(p.places[1]), Out(0), p.offsets(), aligned(tile_config(rows, words))),
            *(m, n, k, p.factors[0].row, p.b_step, p.y.row, *(grid.zero for grid in p.grids)),
            *(*blocks.row_words, panels, panel_words, steps, pitch // 4, most_rows, *p.result.words),
            float(p.finish.factors[0]),
        ),
        entries * blocks.row_tasks,
        HEAD_BYTES + ALIGNMENT + sum(inside) + 4 * panels * panel_words,
    )


def _ceil(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _blocks(m: int, unit: int, together: int, entries: int, target: Target) -> Cut:
    """Rows of an entry as tasks: no more than needed, as B is packed again for every thread that takes some."""
    if target.threads == 1 or entries >= TASKS_PER_THREAD * target.threads:
        return Cut(m, unit, together)
    stretch = -(-m // (-(-TASKS_PER_THREAD * target.threads // entries)))
    return Cut(m, -(-stretch // unit) * unit, 1)
