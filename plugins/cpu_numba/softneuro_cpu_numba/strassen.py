"""Conv 1x1 and products with a constant factor by one step of Strassen's algorithm, in Winograd's form.

Seven eighths of the multiplications for 7/4 of the weights' memory, and 15 additions of quarters: four at run time on
A, four beforehand on B, seven where products begin and results are written (sources: ``strassen_form``). It is what
passes the limit of direct products where those reach 98 % of it (decision 0038).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import TensorSpec
from softneuro_core.windows import NCHW_F32, NHWC_F32
from softneuro_cpu_numba.conv_direct import convolution_of
from softneuro_cpu_numba.copies import strided_copy
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.epilogues import Epilogue
from softneuro_cpu_numba.gemm import product_of
from softneuro_cpu_numba.native import Argument, In, NativeKernel, Out, aligned, emitted_address, packed
from softneuro_cpu_numba.rows import activation_kind, tile_choices
from softneuro_cpu_numba.strassen_form import BUFFERS, GROUP_TILES, PRODUCTS, parts_of
from softneuro_cpu_numba.tiles import HEAD_BYTES, TASKS_PER_THREAD, Cut

ACCURACY = 1e-5
"""What the profiler holds every layer to on the values it is given; no bound for other values. Seen: 0.9e-6 to 2.6e-6,
but 3.2e-5 on inputs far from zero whose products cancel (the first layer of an autoencoder of spectrograms; its product
alone 1.1e-5, the direct one 2.1e-6). So it is not chosen unmeasured: for estimates it counts all eight products."""
LEAST_K, LEAST_N, LEAST_ROWS = 128, 64, 24
"""Nothing smaller is offered: 256 to 64 channels at 56x56 is already slower than the direct product (0.93)."""
MOST_ROWS = 8
"""Rows of a tile: with twelve their addresses leave the registers (a test reads the assembly)."""
BLOCK_BYTES = 512 << 10
"""What a task's rows of A and their sums may take in the second-level cache."""


@dataclass(frozen=True, slots=True)
class Factors:
    """y = x @ matrix + bias with its epilogue; all tensors in ``spec``."""

    matrix: np.ndarray  # (K, N), perhaps a view
    bias: np.ndarray | None
    epilogue: Epilogue
    rows: int
    spec: TensorSpec


def _factors_of(region: Region) -> Factors | None:
    """The region as a plain product with a constant matrix, or None."""
    if any(layer.op == "Conv" for layer in region.layers):
        conv = convolution_of(region)
        if conv is None or conv.groups != 1 or not conv.window.is_pointwise:
            return None
        matrix = conv.weights.reshape(conv.out_channels, -1).T
        return Factors(matrix, conv.bias, conv.epilogue, conv.window.batch * conv.window.pixels, NHWC_F32)
    found = product_of(region)
    if found is None or found.matrix is None or found.trans_a or found.a.is_constant:
        return None
    return Factors(found.matrix[0], found.row, found.epilogue, found.m, NCHW_F32)


def _tile_of(factors: Factors, target: Target) -> tuple[int, int] | None:
    """A tile (rows, vectors) whose panels fit half the columns exactly, or None."""
    k, n = factors.matrix.shape
    lanes, pairs = lanes_of(target), -(-factors.rows // 2)
    if k < LEAST_K or n < LEAST_N or factors.rows < LEAST_ROWS or k % 2 or n % 2:
        return None
    tiles = ((min(rows, MOST_ROWS), vectors) for rows, vectors in tile_choices(target, pairs))
    return next((tile for tile in tiles if n // 2 % (tile[1] * lanes) == 0), None)


class Strassen(Routine):
    """Conv 1x1, Gemm or MatMul with a constant factor [+ Add] [+ activation], float32."""

    name = "cpu/strassen"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Conv", "Gemm", "MatMul"))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        factors = _factors_of(region)
        if factors is not None and _tile_of(factors, target) is not None:
            k, n = factors.matrix.shape
            flops = 2.0 * factors.rows * (k * n + k + n)
            yield Offer((factors.spec,) * len(region.inputs), (factors.spec,), accuracy=ACCURACY, flops=flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        factors = _factors_of(region)
        assert factors is not None
        tile = _tile_of(factors, target)
        assert tile is not None
        return _kernel(factors, tile, target)


def _kernel(factors: Factors, tile: tuple[int, int], target: Target) -> NativeKernel:
    (k, n), (rows, vectors) = factors.matrix.shape, tile
    lanes, pairs, depth = lanes_of(target), -(-factors.rows // 2), k // 2
    width, panels = vectors * lanes, n // 2 // (vectors * lanes)
    cut = _cut(pairs, panels, rows, k, target)
    act, residual = factors.epilogue.activation, factors.epilogue.residual
    address = emitted_address(
        *("strassen", "strassen", isa_of(target)),
        pieces=tuple(range(rows, 0, -1)),
        vectors=vectors,
        act=activation_kind(act),
        residual=residual is not None,
    )
    bias = np.zeros(n, np.float32) if factors.bias is None else factors.bias.astype(np.float32)
    ld_sums = depth + lanes
    args: list[Argument] = [
        *(In(0), _weights(factors.matrix, width), aligned(bias)),
        *(None if residual is None else In(residual), Out(0)),
        *(pairs, factors.rows - pairs, depth, n // 2, ld_sums),
        *(*cut.words, panels, act.p0, act.p1),
    ]
    scratch = HEAD_BYTES + 4 * (4 * cut.most_rows * ld_sums + BUFFERS * GROUP_TILES * rows * width)
    return NativeKernel(address, tuple(args), cut.tasks, scratch)


def _cut(pairs: int, panels: int, unit: int, k: int, target: Target) -> Cut:
    """By rows; where they are too few, by panels: every thread then adds up all of A's quarters."""
    most = max(1, BLOCK_BYTES // (4 * 4 * k * unit))
    cut = Cut(pairs, unit, most, panels, panels)
    if target.threads == 1 or cut.row_tasks >= TASKS_PER_THREAD * target.threads:
        return cut
    return Cut(pairs, unit * min(most, cut.row_tasks), 1, panels, 1)


def _weights(matrix: np.ndarray, width: int) -> np.ndarray:
    """[panel][product][depth][width]: the parts of B in the order they are read."""
    k, n = matrix.shape
    shape = (n // 2 // width, PRODUCTS, k // 2, width)

    def fill(made: np.ndarray) -> None:
        parts = parts_of(matrix).reshape(PRODUCTS, k // 2, -1, width)
        strided_copy(made.reshape(shape), parts.transpose(2, 0, 1, 3))

    return packed(("strassen", width), matrix, (math.prod(shape),), np.dtype(np.float32), fill)
