"""Any elementwise function of one grid between grids: a table of 256 bytes, filled by the reference itself."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from softneuro_cpu_numba.copies import Block
from softneuro_cpu_numba.movement import nest

from softneuro_core.builtin.reference import RegionEvaluator
from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, TensorSpec
from softneuro_core.windows import storage_strides
from softneuro_qint8.numbers import ONE_STEP, Bounded, Grid, grid_of
from softneuro_qint8.regions import ends_on_laid_grid, is_plain, layouts_of, producer
from softneuro_qint8.tables import as_table, lookup_kernel, quantised, stored

UNARY = frozenset(
    "Abs Ceil Celu Clip Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Mish Neg Reciprocal Relu Round "  # noqa: SIM905
    "Selu Sigmoid Softplus Softsign Sqrt Swish Tanh ThresholdedRelu".split()
)
BINARY = frozenset("Add Div Max Min Mul Pow PRelu Sub".split())  # noqa: SIM905
"""With another side that is one number or the same grid."""
WAYS = ("DequantizeLinear", "QuantizeLinear")
MOST_LAYERS = 8


class QFunction(Routine):
    """[DequantizeLinear +] layers that compute each element from the same one of the input [+ QuantizeLinear].

    The table holds what the reference makes of every stored number, whatever the layers are.
    """

    name = "cpu/qfunction"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        is_laid = exit.op in UNARY | BINARY and ends_on_laid_grid(exit)
        if exit.op == "QuantizeLinear" or is_laid:
            whole = _grown(graph, exit)
            yield whole
            if is_laid and len(whole) > 1:  # what is before may be no function of one grid: a product's bias
                yield (exit,)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = _grids(region)
        if found is not None:
            for layout in layouts_of(region.outputs[0]):
                x, y = (TensorSpec("cpu", grid.dtype, layout) for grid in found)
                yield Offer((x,) * len(region.inputs), (y,), accuracy=ONE_STEP, inplace=0)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = _grids(region)
        assert found is not None
        source = found[0]
        every = stored(source)
        if region.inputs[0].dtype.is_float:
            every = (every.astype(np.float32) - np.float32(source.zero)) * np.float32(source.scale)
        with np.errstate(all="ignore"):
            results = RegionEvaluator(region)([every] * len(region.inputs))[0]
        if region.outputs[0].dtype.is_float:
            results = quantised(results, Bounded(found[1], *found[1].range))
        shape = region.outputs[0].static_shape
        strides = storage_strides(offer.outputs[0].layout, shape)
        block = Block(nest(shape, strides, strides), 0)
        return lookup_kernel([block], [as_table(results.reshape(-1))], target)


def _grown(graph: Graph, exit: Layer) -> tuple[Layer, ...]:
    """The last layer with the elementwise ones before it that feed only this tree, and a DequantizeLinear."""
    inside = {exit}
    queue = [exit]
    while queue:
        for value in queue.pop(0).operands:
            maker = producer(graph, value)
            if maker is None or maker in inside or not inside.issuperset(graph.consumers[value]):
                continue
            if value in graph.outputs or (maker.op not in UNARY | BINARY and maker.op != "DequantizeLinear"):
                continue
            inside.add(maker)
            if maker.op != "DequantizeLinear" and len(inside) < MOST_LAYERS:
                queue.append(maker)
    return tuple(sorted(inside, key=graph.index.__getitem__))


def _grids(region: Region) -> tuple[Grid, Grid] | None:
    """Of the one value the region is a function of, and of its result."""
    x, y = region.inputs[0] if region.inputs else None, region.outputs[0]
    if x is None or len(set(region.inputs)) != 1 or not is_plain(x) or x.shape != y.shape:
        return None
    first = region.layers[0]
    source = grid_of(first.results[0] if first.op == "DequantizeLinear" else x)
    result = grid_of(y)
    if source is None or result is None or (first.op == "DequantizeLinear") == x.dtype.is_float:
        return None
    numbers = (v for layer in region.layers if layer.op not in WAYS for v in layer.operands)
    if not all(v.size == 1 if v.is_constant else v.shape == y.shape and v.dtype is FLOAT32 for v in numbers):
        return None
    return source, result
