"""MatMul of two computed values: element by element, or by the kernels of Conv, its second factor packed first."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Region, Value
from softneuro_core.routine import SUMS, Kernel, Offer
from softneuro_core.spec import NCHW
from softneuro_core.windows import is_f32
from softneuro_opencl.conv_rows import tiles_for
from softneuro_opencl.conv_tiles import SIDE, tiles_products
from softneuro_opencl.launches import Constant, In, Launch, OpenCLKernel, Out
from softneuro_opencl.register_tiles import Products, Tiling, panelled, rows_products, scratch_of
from softneuro_opencl.routine import OpenCLRoutine, accuracy_in, storage


class Factors(NamedTuple):
    """The operands, and how many matrices each has."""

    a: Value
    b: Value
    batch: tuple[int, ...]

    @property
    def flops(self) -> float:
        return 2.0 * math.prod(self.batch) * math.prod(self.a.static_shape[-2:]) * self.b.static_shape[-1]

    @property
    def products(self) -> Products | None:
        """Entry by entry, with ``a`` or ``b`` shared by all; None where one is broadcast along part of the batch."""
        rows, depth = self.a.static_shape[-2:]
        columns, entries = self.b.static_shape[-1], math.prod(self.batch)
        ours, theirs = (math.prod(v.static_shape[:-2]) for v in (self.a, self.b))
        if 0 in (entries, rows, columns):
            return None
        if theirs == 1:
            return Products(1, entries * rows, depth, columns)
        if theirs == entries and ours in (1, entries):
            return Products(entries, rows, depth, columns, ours == 1)
        return None


def factors_of(region: Region) -> Factors | None:
    """Of a float32 MatMul whose operands are both computed and matrices."""
    a, b = region.exit.operands
    if not is_f32(a, b, *region.outputs) or a.is_constant or b.is_constant:
        return None
    if min(len(a.static_shape), len(b.static_shape)) < 2:
        return None
    return Factors(a, b, region.outputs[0].static_shape[:-2])


class PlainMatMul(OpenCLRoutine):
    """An item makes an element; batches broadcast in any way."""

    algorithm, pattern = "matmul", ("MatMul",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if (found := factors_of(region)) is not None:
            for spec in self.storages(NCHW):
                yield Offer([spec, spec], [spec], accuracy=accuracy_in(spec, SUMS), flops=found.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, found = self.opencl(target), factors_of(region)
        assert found is not None
        a, b, batch = found
        *_, rows, columns = region.outputs[0].static_shape
        starts = np.stack([_starts(batch, v.static_shape) for v in (a, b)], -1).astype(np.int32)
        arguments = (In(0), In(1), Out(0), Constant(device, starts), rows, a.static_shape[-1], columns)
        work, defines = (columns, rows, math.prod(batch)), storage(offer.outputs[0])
        return OpenCLKernel(device, (Launch("rows.cl", "products", defines, arguments, work, (1, 1, 1)),))


def _starts(batch: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Where the matrix of every entry of the batch begins in a value of this shape."""
    own = shape[:-2]
    numbers = np.arange(math.prod(own)).reshape(own) * (shape[-2] * shape[-1])
    return np.broadcast_to(numbers, batch).reshape(-1)


class RowsMatMul(OpenCLRoutine):
    """In registers, the second factor packed into panels first."""

    algorithm, pattern = "matmul_rows", ("MatMul",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = factors_of(region)
        if found is None or (products := found.products) is None:
            return
        for spec in self.storages(NCHW):
            for pixels, vectors in tiles_for(products.rows, products.columns, self.opencl(target).lanes):
                params, accuracy = {"pixels": pixels, "vectors": vectors}, accuracy_in(spec, SUMS)
                yield Offer([spec, spec], [spec], params, accuracy=accuracy, flops=found.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, found, spec = self.opencl(target), factors_of(region), offer.outputs[0]
        assert found is not None and found.products is not None
        tiling = Tiling(int(offer.params["pixels"]), int(offer.params["vectors"]), device.lanes)
        packed, products = scratch_of(spec), found.products
        a, b = (In(region.inputs.index(v)) for v in (found.a, found.b))
        launches = (
            panelled(products, tiling, b, packed, spec),
            rows_products(device, products, tiling, a, packed, Out(0), storage(spec)),
        )
        elements = products.entries * products.panels(tiling) * tiling.width * products.depth
        return OpenCLKernel(device, launches, elements * spec.dtype.numpy.itemsize)


class TilesMatMul(OpenCLRoutine):
    """By tiles in local memory."""

    algorithm, pattern = "matmul_tiles", ("MatMul",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = factors_of(region)
        if found is not None and found.products is not None and self.opencl(target).most_items >= SIDE * SIDE:
            for spec in self.storages(NCHW):
                yield Offer([spec, spec], [spec], accuracy=accuracy_in(spec, SUMS), flops=found.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, found = self.opencl(target), factors_of(region)
        assert found is not None and found.products is not None
        a, b = (In(region.inputs.index(v)) for v in (found.a, found.b))
        launch = tiles_products(found.products, a, b, Out(0), storage(offer.outputs[0]))
        return OpenCLKernel(device, (launch,))
