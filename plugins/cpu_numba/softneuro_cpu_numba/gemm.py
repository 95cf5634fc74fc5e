"""Gemm and MatMul: constant factors packed once (``emit.conv``), computed ones per run (``emit.matmul``).

A transposed A and products of few rows, where packing is the work, are left to ``kernels.gemm.dynamic``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.windows import NCHW_F32, is_f32, product
from softneuro_cpu_numba import short_weights
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.epilogues import Epilogue, parse_epilogue
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, aligned, emitted_address
from softneuro_cpu_numba.panels import cut
from softneuro_cpu_numba.rows import (
    GEMV_VECTORS,
    MAX_STREAMED_ROWS,
    NARROW_ROWS,
    RowProduct,
    activation_kind,
    best_tile,
)
from softneuro_cpu_numba.tiles import HEAD_BYTES, Cut, split, tile_for_rows

MAX_UNPACKED_ROWS = 6
"""Rows for which packing B takes longer than it saves: 8 [6, 512] x [512, 64] take 42 us unpacked, 61 us packed."""
HALF_MAX = 65504.0


@dataclass(frozen=True, slots=True)
class Product:
    """Y[batch, M, N] = A @ B + row: which operand is what, B and the row where constant."""

    epilogue: Epilogue
    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    a: Value
    b: Value
    trans_a: bool
    trans_b: bool
    matrix: np.ndarray | None
    row: np.ndarray | None

    @property
    def flops(self) -> float:
        return 2.0 * product(self.batch) * self.m * self.n * self.k


def product_of(region: Region) -> Product | None:
    """The region as a float32 matrix product, or None."""
    epilogue = parse_epilogue(region, axis=-1)
    if epilogue is None or not is_f32(*region.inputs, *region.constants, *region.outputs):
        return None
    layer = epilogue.main
    return _gemm(layer, epilogue) if layer.op == "Gemm" else _matmul(layer, epilogue)


def _gemm(layer: Layer, epilogue: Epilogue) -> Product | None:
    a, b = layer.inputs[:2]
    c = layer.inputs[2] if len(layer.inputs) > 2 else None
    assert a is not None and b is not None
    alpha, beta = float(layer.attrs.get("alpha", 1.0)), float(layer.attrs.get("beta", 1.0))
    trans_a, trans_b = bool(layer.attrs.get("transA", 0)), bool(layer.attrs.get("transB", 0))
    m, n = layer.results[0].static_shape
    if (
        c is not None and (c.data is None or c.size not in (1, n) or (c.size == n and c.static_shape[-1:] != (n,)))
    ) or (b.data is None and alpha != 1.0):
        return None
    k = a.static_shape[0 if trans_a else 1]
    matrix = None if b.data is None else (b.data.T if trans_b else b.data)[None]
    if matrix is not None and alpha != 1.0:
        matrix = matrix * np.float32(alpha)
    row = epilogue.bias
    if c is not None:
        own = np.broadcast_to(np.asarray(c.data).reshape(-1) * np.float32(beta), (n,))
        row = own if row is None else own + row
    return Product(epilogue, (), m, n, k, a, b, trans_a, trans_b, matrix, row)


def _matmul(layer: Layer, epilogue: Epilogue) -> Product | None:
    a, b = layer.inputs[:2]
    assert a is not None and b is not None
    if len(a.static_shape) < 2 or len(b.static_shape) < 2 or a.is_constant:
        return None
    *batch, m, n = layer.results[0].static_shape
    k = a.static_shape[-1]
    if b.data is not None and b.data.size == k * n:  # one matrix for all batches: more rows
        return Product(
            epilogue, (), product(batch) * m, n, k, a, b, False, False, b.data.reshape(1, k, n), epilogue.bias
        )
    if b.data is not None:
        return None
    return Product(epilogue, tuple(batch), m, n, k, a, b, False, False, None, epilogue.bias)


class MatrixProduct(Routine):
    """Gemm or MatMul [+ Add] [+ activation], float32, any batch shape."""

    name = "cpu/gemm"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Gemm", "MatMul"))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = product_of(region)
        if found is not None and not found.a.is_constant:
            inputs = (NCHW_F32,) * len(region.inputs)
            yield Offer(inputs, (NCHW_F32,), accuracy=SUMS, flops=found.flops)
            for dtype, error in _stored_choices(found, target):
                params, uses = {"weights": dtype}, frozenset((dtype,))
                yield Offer(inputs, (NCHW_F32,), params, accuracy=error, flops=found.flops, uses=uses)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = product_of(region)
        assert found is not None
        if found.matrix is not None and not found.trans_a:
            return _constant_kernel(found, target, offer.params.get("weights", "float32"))
        return _dynamic_kernel(found, target)


def _stored_choices(p: Product, target: Target) -> Iterable[tuple[str, float]]:
    """Narrower types worth keeping a constant factor in, with the error they add: where reading it is the work."""
    if p.matrix is None or p.trans_a or p.m > MAX_STREAMED_ROWS or not p.matrix.size:
        return
    if "F16C" in target.isa.split(",") and max(p.matrix.max(), -p.matrix.min()) < HALF_MAX:
        yield "float16", 5e-4
    yield "bfloat16", 4e-3
    if short_weights.suits(p.matrix[0], GEMV_VECTORS * lanes_of(target), p.epilogue.activation):
        yield "int16", short_weights.ERROR


def _constant_kernel(p: Product, target: Target, stored: str) -> NativeKernel:
    assert p.matrix is not None
    product = RowProduct(p.matrix, p.row, p.epilogue.activation, p.epilogue.residual, rows=p.m, stored=stored)
    return product.kernel(target)


def _dynamic_kernel(p: Product, target: Target) -> NativeKernel:
    if p.matrix is not None or p.trans_a or (p.m <= MAX_UNPACKED_ROWS and not p.trans_b):
        return _plain_kernel(p, target)
    lanes, (rows, vectors) = lanes_of(target), best_tile(target, p.m, p.n)
    panels, batch = cut(p.n, vectors, lanes), product(p.batch)
    blocks = Cut(p.m, rows, p.m)
    act, residual = p.epilogue.activation, p.epilogue.residual
    address = emitted_address(
        *("matmul", "dynamic", isa_of(target)),
        pieces=tuple(range(rows, 0, -1)),
        vectors=vectors,
        narrow_pieces=NARROW_ROWS if rows > 1 else (1,),
        across=not p.trans_b,
        act=activation_kind(act),
        bias=p.row is not None,
        residual=residual is not None,
        masked=p.n < lanes,
    )
    return NativeKernel(
        address,
        (
            *(In(0), In(1), None if p.row is None else aligned(p.row), None if residual is None else In(residual)),
            *(Out(0), _places(p), aligned(np.array(panels.starts, np.int64)), p.m, p.n, p.k, p.k),
            *(p.k if p.trans_b else p.n, *blocks.row_words, panels.wide, len(panels.starts), act.p0, act.p1),
        ),
        batch * len(panels.starts) * blocks.row_tasks,
        HEAD_BYTES + 4 * p.k * vectors * lanes,
    )


def _plain_kernel(p: Product, target: Target) -> NativeKernel:
    tile = tile_for_rows(target, p.m, p.n)
    batch, panels = product(p.batch), -(-p.n // tile.columns)
    rows = split(p.m, tile.rows, p.m + tile.rows, batch * panels, target.threads)
    row_tasks = -(-p.m // rows)
    constant = None if p.matrix is None else aligned(p.matrix)
    a_strides = (1, p.m) if p.trans_a else (p.k, 1)
    b_strides = (1, p.k) if p.trans_b and constant is None else (p.n, 1)
    act, residual = p.epilogue.activation, p.epilogue.residual
    return NativeKernel(
        address_of("gemm", "dynamic", act=act.kind, **tile.params()),
        (
            *(In(0), In(1) if constant is None else constant, None if p.row is None else aligned(p.row)),
            *(None if residual is None else In(residual), Out(0), batch, p.m, p.n, p.k, *a_strides, *b_strides),
            *(rows, row_tasks, act.p0, act.p1, _places(p)),
        ),
        batch * panels * row_tasks,
        tile.bytes + (tile.columns + tile.rows) * p.k * 4,
    )


def _places(p: Product) -> np.ndarray:
    """int64 [batch, 2]: where the matrices of every entry begin."""
    a, b = (_offsets(v.static_shape, p.batch, n) for v, n in ((p.a, p.m * p.k), (p.b, p.k * p.n)))
    return aligned(np.stack([a, b], axis=1).astype(np.int64))


def _offsets(shape: Sequence[int], batch: tuple[int, ...], matrix: int) -> np.ndarray:
    """First element of the matrix each batch entry reads, broadcasting as ONNX does."""
    own = tuple(shape[:-2])
    numbers = np.arange(math.prod(own), dtype=np.int64).reshape(own)
    return np.broadcast_to(numbers, batch).reshape(-1) * matrix
