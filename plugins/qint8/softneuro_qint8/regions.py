"""Layers between grids: what reads integers and, perhaps bounded, becomes integers again.

In a quantised model the ways on and off a grid are layers; where only a plan may round, values have grids and no such
layer stands between them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from softneuro_core.epilogue import ACTIVATIONS, epilogue_regions
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.grids import is_laid
from softneuro_core.spec import FLOAT32, NCHW, NHWC, Layout, TensorSpec
from softneuro_qint8.numbers import Bounded, Grid, bounded, grid_of


@dataclass(frozen=True, slots=True, eq=False)
class Between:
    """[DequantizeLinear ...] + main [+ Add of a constant] [+ Relu or Clip] [+ QuantizeLinear], taken apart.

    ``computed`` is what the main layer reads that is no constant, ``sources`` are the grids of that, ``places`` where
    each stands among the region's inputs; all by position in the main layer.
    """

    main: Layer
    computed: tuple[Value, ...]
    sources: tuple[Grid, ...]
    places: tuple[int, ...]
    result: Bounded
    bias: np.ndarray | None

    def specs(self, layouts: Iterable[Layout], out: Layout) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Of the region's inputs (every one of them a source), each in its layout, and of its output."""
        grids = dict(zip(self.places, self.sources, strict=True))
        ins = [TensorSpec("cpu", grids[i].dtype, layout) for i, layout in enumerate(layouts)]
        return tuple(ins), (TensorSpec("cpu", self.result.grid.dtype, out),)


def between_grids(
    graph: Graph, exit: Layer, mains: Collection[str], added: bool = False
) -> Iterator[tuple[Layer, ...]]:
    """The region of a main layer before the QuantizeLinear ``exit``, or that ends with ``exit`` where its result may
    be put on a grid; ``added``: an Add of a constant may follow it."""
    tail: list[Layer] = []
    layer: Layer | None = exit if ends_on_laid_grid(exit) else None
    if exit.op == "QuantizeLinear":
        tail, layer = [exit], producer(graph, exit.inputs[0])
    if layer is not None and layer.op in ACTIVATIONS and layer.op not in mains:
        tail, layer = [layer, *tail], producer(graph, layer.inputs[0])
    if layer is not None and layer.op == "Add" and added and any(v.is_constant for v in layer.operands):
        tail, layer = [layer, *tail], producer(graph, _summed(layer))
    if layer is not None and layer.op in mains:
        yield with_dequantised(graph, layer, tail)


def ends_on_laid_grid(exit: Layer) -> bool:
    """Whether a plan may put the one result of a layer on a grid."""
    return len(exit.results) == 1 and is_laid(exit.results[0])


def with_dequantised(graph: Graph, main: Layer, tail: Iterable[Layer]) -> tuple[Layer, ...]:
    """Main layer and tail with every DequantizeLinear in front that nobody else reads. Those that others read, too,
    are ``cpu/keep_integers``."""
    makers = [producer(graph, v) for v in main.operands]
    mine = [m for m in makers if m is not None and m.op == "DequantizeLinear" and _is_private(graph, m, main)]
    return (*sorted(dict.fromkeys(mine), key=graph.index.__getitem__), main, *tail)


def _is_private(graph: Graph, maker: Layer, user: Layer) -> bool:
    value = maker.results[0]
    return graph.consumers.get(value) == (user,) and value not in graph.outputs and value not in user.captures


def read_between(region: Region) -> Between | None:
    """The parts of a region that :func:`between_grids` gave, None where it is not computed in integers."""
    layers = [layer for layer in region.layers if layer.op != "DequantizeLinear"]
    grid = grid_of(layers[-1].results[0])
    main, *tail = layers[:-1] if layers[-1].op == "QuantizeLinear" else layers
    add = tail.pop(0) if tail and tail[0].op == "Add" else None
    result = None if grid is None else bounded(grid, tail[0] if tail else None)
    read = [v for v in main.operands if not v.is_constant]
    sources = [grid_of(v) for v in read]
    made = {layer.results[0]: layer.inputs[0] for layer in region.layers if layer.op == "DequantizeLinear"}
    places = [region.inputs.index(made.get(v) or v) for v in read]
    if result is None or None in sources or set(range(len(region.inputs))) != set(places):
        return None
    if not all(is_plain(v) and v.dtype is FLOAT32 for v in (*read, *main.results)):
        return None
    bias = None if add is None else next((v.data for v in add.operands if v.data is not None), None)
    grids = tuple(grid for grid in sources if grid is not None)
    return Between(main, tuple(read), grids, tuple(places), result, bias)


def added_on_laid_grids(
    graph: Graph, exit: Layer, mains: Collection[str], added: bool = False
) -> Iterator[tuple[Layer, ...]]:
    """Main layer + Add of a computed value [+ activation] where every value may be put on a grid: nothing is rounded
    between them. In a quantised model something is. ``added``: an Add of a constant may stand before the other."""
    if not ends_on_laid_grid(exit):
        return
    for layers in epilogue_regions(graph, exit, {*mains, "Add"} if added else mains):
        if len(layers) == 1 or layers[1].op != "Add" or any(v.is_constant for v in layers[1].operands):
            continue
        before = producer(graph, _summed(layers[0])) if layers[0].op == "Add" else None
        if layers[0].op in mains:
            yield layers
        elif before is not None and before.op in mains:
            yield (before, *layers)


def _summed(add: Layer) -> Value | None:
    """What a constant is added to."""
    computed = [v for v in add.operands if not v.is_constant]
    return computed[0] if len(computed) == 1 else None


def read_added(region: Region) -> Between | None:
    """The parts of a region that :func:`added_on_laid_grids` gave, the added value as second source."""
    main, *tail = region.layers
    bias, made = None, main.results[0]
    if len(tail) > 1 and tail[0].op == "Add" and _summed(tail[0]) is made:
        bias = next(v.data for v in tail[0].operands if v.is_constant)
        made = tail.pop(0).results[0]
    if not tail or tail[0].op != "Add" or len(region.inputs) != 2 or not is_laid(region.outputs[0]):
        return None
    (x, *_), (other,) = main.operands, [v for v in tail[0].operands if v is not made]
    sources, grid = [grid_of(x), grid_of(other)], grid_of(region.outputs[0])
    result = None if grid is None else bounded(grid, tail[1] if tail[1:] else None)
    values = (x, other, *main.results)
    if result is None or None in sources or not all(is_plain(v) and v.dtype is FLOAT32 for v in values):
        return None
    places = (region.inputs.index(x), region.inputs.index(other))
    return Between(main, (x, other), tuple(g for g in sources if g is not None), places, result, bias)


def is_plain(value: Value) -> bool:
    """Whether the shape is known and not empty."""
    return value.is_static and 0 not in value.static_shape


def layouts_of(value: Value) -> tuple[Layout, ...]:
    return (NHWC, NCHW) if len(value.static_shape) >= 3 else (NCHW,)


def producer(graph: Graph, value: Value | None) -> Layer | None:
    return None if value is None else graph.producers.get(value)
