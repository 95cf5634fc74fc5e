"""Gemm and MatMul by BLAS, the bias, residual and activation in a native pass behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softneuro_core.device import Buffer, Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import SUMS, Call, Kernel, Offer, Routine
from softneuro_core.windows import NCHW_F32, product
from softneuro_cpu_numba.blas import keep_blas_to_one_thread
from softneuro_cpu_numba.epilogues import IDENTITY
from softneuro_cpu_numba.gemm import Product, product_of
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, aligned

MIN_FLOPS = 50_000
"""Below this the call alone costs more than the tiled kernel's whole work."""
TASK_ELEMENTS = 16384


@dataclass(frozen=True, slots=True)
class BlasKernel:
    """One ``matmul``, then what is left of the region."""

    product: Product
    matrix: np.ndarray | None
    finish: NativeKernel | None
    scratch: int = 0

    @property
    def constant_bytes(self) -> int:
        packed = 0 if self.matrix is None else self.matrix.nbytes
        return packed + (0 if self.finish is None else self.finish.constant_bytes)

    def bind(self, inputs: Sequence[Any], outputs: Sequence[Any], scratch: Buffer | None) -> Call:
        keep_blas_to_one_thread()
        p = self.product
        a, y = inputs[0].array, outputs[0].array
        b = inputs[1].array if self.matrix is None else self.matrix
        if p.trans_a:
            a = a.T
        elif self.matrix is not None:
            a = a.reshape(p.m, p.k)
        if p.trans_b and self.matrix is None:
            b = b.T
        y = y.reshape(*p.batch, p.m, p.n)
        finish = None if self.finish is None else self.finish.bind(inputs, outputs, None).run
        matmul = np.matmul

        def run() -> None:
            matmul(a, b, out=y)
            if finish is not None:
                finish()

        return Call(run)


class BlasProduct(Routine):
    """Gemm or MatMul [+ Add] [+ activation], float32; BLAS may round differently with another library."""

    name = "cpu/gemm_blas"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Gemm", "MatMul"))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = product_of(region)
        if found is not None and not found.a.is_constant and found.flops >= MIN_FLOPS:
            inputs = (NCHW_F32,) * len(region.inputs)
            yield Offer(inputs, (NCHW_F32,), accuracy=SUMS, deterministic=False, flops=found.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = product_of(region)
        assert found is not None
        matrix = None if found.matrix is None else aligned(np.ascontiguousarray(found.matrix[0]))
        return BlasKernel(found, matrix, _finish(found))


def _finish(p: Product) -> NativeKernel | None:
    act, residual = p.epilogue.activation, p.epilogue.residual
    if act == IDENTITY and residual is None and p.row is None:
        return None
    row = np.zeros(p.n, np.float32) if p.row is None else np.asarray(p.row, np.float32)
    rows, per_task = product(p.batch) * p.m, max(1, TASK_ELEMENTS // p.n)
    added = None if residual is None else In(residual)
    sizes = (rows, p.n, p.n, per_task, 0)
    return NativeKernel(
        address_of("patches", "finish", act=act.kind),
        (Out(0), aligned(row), added, *sizes, act.p0, act.p1),
        -(-rows // per_task),
    )
