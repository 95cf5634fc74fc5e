"""Element by element: sums and products of grids, keeping what DequantizeLinear reads, the way on and off a grid."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from softneuro_cpu_numba.copies import Block, PlacedCopy
from softneuro_cpu_numba.elementwise import MAX_OUTER, Leaf, map_kernel
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.movement import nest
from softneuro_cpu_numba.native import In, NativeKernel, Out, emitted_address
from softneuro_cpu_numba.rows import MOST_PLANES

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.grids import is_laid
from softneuro_core.routine import EXACT, Adapter, Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, NCHW, NHWC, Layout, TensorSpec
from softneuro_core.strides import broadcast_axes
from softneuro_core.windows import storage_strides
from softneuro_qint8.numbers import ONE_STEP, Grid, grid_of
from softneuro_qint8.regions import between_grids, is_plain, layouts_of, read_between


class Keep(Routine):
    """DequantizeLinear that leaves its integers as they are: its result, stored on the grid it lies on."""

    name, pattern = "cpu/keep_integers", ("DequantizeLinear",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        x, y = region.exit.inputs[0], region.exit.results[0]
        grid = grid_of(y)
        if x is None or x.is_constant or grid is None or not is_plain(x):
            return
        for layout in layouts_of(x):
            spec = TensorSpec("cpu", grid.dtype, layout)
            yield Offer((spec,), (spec,), accuracy=EXACT, inplace=0)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        shape = region.inputs[0].static_shape
        strides = storage_strides(offer.inputs[0].layout, shape)
        return PlacedCopy.of([Block(nest(shape, strides, strides), 0)], 1)


class QBinary(Routine):
    """[DequantizeLinear of either side +] Add, Sub or Mul [+ Relu or Clip] + QuantizeLinear, broadcast; one side may be
    constant."""

    def __init__(self, operator: str) -> None:
        self.name, self.operator = f"cpu/q{operator.lower()}", operator

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return between_grids(graph, exit, (self.operator,))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        between = read_between(region)
        if between is None or len(between.main.operands) != 2 or any(v.size == 0 for v in between.main.operands):
            return
        result = region.outputs[0]
        for layout in layouts_of(result):
            read = dict(zip(between.places, between.computed, strict=True))
            ins, out = between.specs([_layout(read[i], result, layout) for i in range(len(region.inputs))], layout)
            shapes = [(v.static_shape, _layout(v, result, layout)) for v in between.main.operands]
            if len(broadcast_axes(result.static_shape, layout, shapes)) <= MAX_OUTER + 1:
                yield Offer(ins, out, accuracy=ONE_STEP)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        between = read_between(region)
        assert between is not None
        out, result = offer.outputs[0], region.outputs[0]
        places, grids = iter(between.places), iter(between.sources)
        leaves, terms, numbers = [], [], list[float]()
        for i, value in enumerate(between.main.operands):
            layout = _layout(value, result, out.layout)
            if value.data is not None:
                leaves.append(Leaf(value.static_shape, layout, "float32", np.asarray(value.data)))
                terms.append(f"a{i}")
            else:
                grid = next(grids)
                leaves.append(Leaf(value.static_shape, layout, grid.dtype.name, In(next(places))))
                terms.append(f"(f(a{i}) - p{len(numbers)}) * p{len(numbers) + 1}")
                numbers += [float(grid.zero), grid.scale]
        scale, zero, low, high = (f"p{len(numbers) + n}" for n in range(4))
        total = f"t = ({terms[0]}) {SIGNS[self.operator]} ({terms[1]})"
        rounded = f"r = act_clip(rint(t / {scale}) + {zero}, {low}, {high})"
        numbers += [between.result.grid.scale, *map(float, between.result.words)]
        return map_kernel(result.static_shape, out.layout, out.dtype.name, leaves, (total, rounded), numbers)


SIGNS = {"Add": "+", "Sub": "-", "Mul": "*"}


def _layout(value: Value, result: Value, layout: Layout) -> Layout:
    """Operands of the result's rank share its layout; smaller ones lie in plain order."""
    return layout if len(value.static_shape) == len(result.static_shape) else NCHW


HALF_STEP = 0.5 / 255
PLANE_PIXELS = 4096
"""Of a task that goes from planes to pixels: some microseconds of work."""


class OntoGrid(Adapter):
    """A real value stored as float32 to integers, and its layout on the way. What lies on the grid loses nothing."""

    name = "cpu/onto_grid"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        return _is_pair(src, dst, value)

    def error(self, src: TensorSpec, dst: TensorSpec, value: Value) -> float:
        """Half a step of all there are."""
        return HALF_STEP if is_laid(value) else 0.0

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        grid = grid_of(value)
        assert grid is not None
        if (src.layout, dst.layout) == (NCHW, NHWC) and value.static_shape[1] <= MOST_PLANES:
            kernel = _from_planes(value.static_shape, grid, target)
            if kernel is not None:
                return kernel
        leaves = [Leaf(value.static_shape, src.layout, "float32", In(0))]
        numbers = (grid.scale, grid.zero, *grid.range)
        text = "r = act_clip(rint(a0 / p0) + p1, p2, p3)"
        return map_kernel(value.static_shape, dst.layout, dst.dtype.name, leaves, (text,), [float(n) for n in numbers])


def _from_planes(shape: tuple[int, ...], grid: Grid, target: Target) -> NativeKernel | None:
    """NCHW to NHWC in registers, two layouts in one pass; None for less than a vector of pixels."""
    batch, channels, pixels = shape[0], shape[1], math.prod(shape[2:])
    lanes = lanes_of(target)
    if pixels < lanes:
        return None
    blocks = pixels // PLANE_PIXELS or 1
    low, high = (float(n - grid.zero) for n in grid.range)
    address = emitted_address("softneuro_qint8.emit.planes", "planes", isa_of(target), channels=channels)
    numbers = (pixels, PLANE_PIXELS, blocks, grid.scale, low, high, grid.zero)
    return NativeKernel(address, (In(0), Out(0), *numbers), batch * blocks)


class OffGrid(Adapter):
    """The way back."""

    name = "cpu/off_grid"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        return _is_pair(dst, src, value)

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        grid = grid_of(value)
        assert grid is not None
        leaves = [Leaf(value.static_shape, src.layout, src.dtype.name, In(0))]
        return map_kernel(
            value.static_shape,
            dst.layout,
            "float32",
            leaves,
            ("r = (f(a0) - p0) * p1",),
            [float(grid.zero), grid.scale],
        )


def _is_pair(real: TensorSpec, integer: TensorSpec, value: Value) -> bool:
    """Whether the specs are float32 and the grid's integers of a real value, on the CPU, in layouts we write."""
    grid = grid_of(value) if value.dtype is FLOAT32 else None
    if grid is None or real.dtype is not FLOAT32 or integer.dtype is not grid.dtype or 0 in value.static_shape:
        return False
    return {real.device, integer.device} == {"cpu"} and {real.layout, integer.layout} <= {*layouts_of(value)}
