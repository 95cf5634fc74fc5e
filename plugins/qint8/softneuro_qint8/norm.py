"""Softmax and LayerNormalization whose rows lie on grids where they are read, written, or both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.native import Argument, In, NativeKernel, Out, aligned, emitted_address
from softneuro_cpu_numba.norm import TASK_ELEMENTS, LayerNorm
from softneuro_cpu_numba.tiles import ROWS_TOGETHER

from softneuro_core.axes import softmax_extents
from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region, chains
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, NCHW, TensorSpec
from softneuro_qint8.numbers import ONE_STEP, Bounded, Grid, bounded, grid_of
from softneuro_qint8.regions import between_grids, is_plain, read_between

REAL = TensorSpec("cpu", FLOAT32, NCHW)


@dataclass(frozen=True, slots=True)
class Ends:
    """The grids of what a region reads, by its inputs, and of its result; None where that stays float32."""

    sources: tuple[Grid | None, ...]
    result: Bounded | None

    @property
    def specs(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        ins = tuple(REAL if grid is None else TensorSpec("cpu", grid.dtype, NCHW) for grid in self.sources)
        return ins, (REAL if self.result is None else TensorSpec("cpu", self.result.grid.dtype, NCHW),)

    @property
    def accuracy(self) -> float:
        return SUMS if self.result is None else ONE_STEP

    def params(self) -> dict[str, object]:
        """What ``emit.norm`` is written for."""
        signs = tuple(None if grid is None else grid.is_signed for grid in self.sources)
        return {"sources": signs, "rounding": None if self.result is None else self.result.finish}

    def words(self) -> Iterator[Argument]:
        for i, grid in enumerate(self.sources):
            yield from (In(i), 0 if grid is None else grid.zero, 1.0 if grid is None else grid.scale)
        steps = 1.0 if self.result is None else 1.0 / self.result.grid.scale
        yield from (Out(0), *((0, 0, 0) if self.result is None else self.result.words), steps)


def _choices(region: Region) -> Iterator[Ends]:
    """Every way to read and to write that has integers somewhere: what is read, all on its grids or not at all."""
    if region.exit.op == "QuantizeLinear":
        between = read_between(region)
        if between is not None and between.bias is None and len(between.sources) == len(region.inputs):
            grids = dict(zip(between.places, between.sources, strict=True))
            yield Ends(tuple(grids[i] for i in range(len(region.inputs))), between.result)
        return
    if not all(is_plain(v) and v.dtype is FLOAT32 for v in (*region.inputs, *region.outputs)):
        return
    grids_in, grid_out = tuple(grid_of(v) for v in region.inputs), grid_of(region.outputs[0])
    none = (None,) * len(grids_in)
    result = None if grid_out is None else bounded(grid_out, None)
    read = (none,) if None in grids_in else (none, grids_in)
    for sources, made in product(read, dict.fromkeys((None, result))):
        if made is not None or sources is not none:
            yield Ends(sources, made)


def _main(region: Region) -> Region:
    """The region without the ways on and off its grids."""
    layers = tuple(layer for layer in region.layers if layer.op not in ("DequantizeLinear", "QuantizeLinear"))
    return Region(region.graph, layers)


class _Rows(Routine):
    """What the two share: regions, offers by ends."""

    operator: str

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        if exit.op == "QuantizeLinear":
            yield from between_grids(graph, exit, (self.operator,))
        elif exit.op == self.operator:
            yield (exit,)

    def rows(self, region: Region) -> tuple[int, int] | None:
        """How many rows there are, and of what length; None where the routine does not compute them."""
        raise NotImplementedError

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if self.rows(_main(region)) is None:
            return
        for ends in _choices(region):
            yield Offer(*ends.specs, accuracy=ends.accuracy)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        shape = self.rows(_main(region))
        ends = next(ends for ends in _choices(region) if ends.specs == (offer.inputs, offer.outputs))
        assert shape is not None
        (rows, n), lanes, together = shape, lanes_of(target), ROWS_TOGETHER[0]
        per_task = max(1, TASK_ELEMENTS // n // together) * together
        kernel = "softmax" if self.operator == "Softmax" else "normalise"
        address = emitted_address("softneuro_qint8.emit.norm", kernel, isa_of(target), **ends.params())
        words = (*ends.words(), rows, per_task, n, *self.numbers(_main(region)))
        return NativeKernel(address, words, -(-rows // per_task), 4 * together * -(-n // lanes) * lanes)

    def numbers(self, region: Region) -> tuple[Argument, ...]:
        """What the kernel reads behind the shape."""
        return ()


class QSoftmax(_Rows):
    """Softmax along the last axis, of integers, to integers, or both."""

    name, operator = "cpu/qsoftmax", "Softmax"

    def rows(self, region: Region) -> tuple[int, int] | None:
        if len(region.inputs) != 1 or not is_plain(region.inputs[0]) or not region.inputs[0].static_shape:
            return None
        extents = softmax_extents(region.exit, NCHW)
        return None if extents is None or extents[2] != 1 else extents[:2]


class QLayerNorm(_Rows):
    """LayerNormalization of constant scale and bias, of a sum of two values too where grids are laid; of integers, to
    integers, or both."""

    name, operator = "cpu/qlayernorm", "LayerNormalization"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        yield from super().regions(graph, exit)
        if exit.op == self.operator:
            yield from chains(graph, exit, ("Add", self.operator))

    def rows(self, region: Region) -> tuple[int, int] | None:
        found = None if not all(map(is_plain, region.inputs)) else LayerNorm(self.operator).parts(region)
        if found is None or int(region.exit.attrs.get("stash_type", 1)) != 1:
            return None
        return found.rows, found.n

    def numbers(self, region: Region) -> tuple[Argument, ...]:
        found = LayerNorm(self.operator).parts(region)
        assert found is not None
        epsilon = float(region.exit.attrs.get("epsilon", 1e-5))
        return 1.0 / found.n, epsilon, aligned(found.scale), aligned(found.bias)
