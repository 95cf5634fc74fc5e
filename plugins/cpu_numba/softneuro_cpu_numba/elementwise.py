"""Elementwise layers, alone or as a tree of several in one pass over memory (``cpu/map``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, NCHW, NHWC, Layout, TensorSpec
from softneuro_core.strides import Axis, broadcast_axes
from softneuro_cpu_numba.expressions import ELEMENTWISE, Expression, expression_of
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, aligned
from softneuro_cpu_numba.storage import BFLOAT_ERROR, NHWC_BF16, stores_bfloat

MAX_OUTER, MAX_OPERANDS, MAX_LAYERS = 6, 6, 8
TASK_ELEMENTS = 2048
HALF_ERROR = 9e-4
"""Rounding to float16 is 5e-4 of the element; inner results that ONNX would round are not."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A region as one expression: statements, leaves (constants and inputs, by position), numbers, error."""

    statements: tuple[str, ...]
    leaves: tuple[Value, ...]
    numbers: tuple[float, ...]
    error: float


def tree_of(region: Region) -> Tree | None:
    """The region as an expression over its leaves, None if any layer is not elementwise."""
    if any(v.is_object or 0 in v.static_shape for layer in region.layers for v in (*layer.operands, *layer.results)):
        return None
    names: dict[Value, str] = {}
    statements: list[str] = []
    leaves: list[Value] = []
    numbers: list[float] = []
    error = 0.0
    for i, layer in enumerate(region.layers):
        found = expression_of(layer)
        if found is None:
            return None
        words = {}
        for place in found.inputs:
            value = layer.inputs[place]
            assert value is not None
            if value not in names:
                names[value] = words[place] = f"a{len(leaves)}"
                leaves.append(value)
            else:
                words[place] = names[value]
        skipped = [v for j, v in enumerate(layer.inputs) if v is not None and j not in found.inputs]
        if any(not v.is_constant for v in skipped):
            return None
        name = "r" if layer is region.exit else f"t{i}"
        statements.append(f"{name} = {_filled(found, words, len(numbers))}")
        names[layer.results[0]] = name
        numbers += found.numbers
        error += found.error
    if len(leaves) > MAX_OPERANDS or len(numbers) > 8:
        return None
    if error and region.outputs[0].dtype.name == "float16":
        error = HALF_ERROR  # computed in float32, rounded once
    return Tree(tuple(statements), tuple(leaves), tuple(numbers), error)


def _filled(expression: Expression, words: dict[int, str], first: int) -> str:
    places = [words.get(i, "") for i in range(max(words) + 1)]
    names = {f"p{i}": f"p{first + i}" for i in range(len(expression.numbers))}
    return expression.text.format(*places, **names)


class Map(Routine):
    """Any tree of elementwise layers over operands of any type, broadcast, in NCHW and NHWC."""

    name = "cpu/map"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        if exit.type not in ELEMENTWISE or exit.domain:
            return
        yield (exit,)
        whole = _grown(graph, exit)
        if len(whole) > 1:
            yield whole

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        tree = tree_of(region)
        if tree is None:
            return
        result = region.outputs[0]
        rank = len(result.static_shape)
        for layout in (NCHW, NHWC) if rank >= 3 else (NCHW,):
            specs = tuple(_spec(v, rank, layout) for v in region.inputs)
            axes = _axes(tree, region, layout)
            if len(axes) <= MAX_OUTER + 1:
                out = TensorSpec("cpu", result.dtype, layout)
                yield _offer(region, specs, out, tree.error)
                if layout == NHWC and stores_bfloat(target):
                    yield from _narrow_offers(region, specs, tree.error)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        tree = tree_of(region)
        assert tree is not None
        layout = offer.outputs[0].layout
        rank = len(region.outputs[0].static_shape)
        leaves = []
        for value in tree.leaves:
            spec, source = _spec(value, rank, layout), value.data
            if source is None:
                number = region.inputs.index(value)
                spec, source = offer.inputs[number], In(number)
            leaves.append(Leaf(value.static_shape, spec.layout, spec.dtype.name, source))
        out = offer.outputs[0].dtype.name
        return map_kernel(region.outputs[0].static_shape, layout, out, leaves, tree.statements, tree.numbers)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One operand of :func:`map_kernel`: an input in ``layout``, or a constant in ONNX order."""

    shape: tuple[int, ...]
    layout: Layout
    dtype: str
    source: In | np.ndarray


def map_kernel(
    shape: tuple[int, ...],
    layout: Layout,
    dtype: str,
    leaves: Sequence[Leaf],
    statements: tuple[str, ...],
    numbers: Sequence[float] = (),
) -> NativeKernel:
    """The kernel that computes ``r`` by ``statements`` over ``a0, a1, ...`` (the leaves, broadcast to ``shape``).

    ``p0, p1, ...`` are ``numbers``. ``shape`` is not empty and needs at most ``MAX_OUTER + 1`` merged loops.
    """
    axes = broadcast_axes(shape, layout, [(leaf.shape, leaf.layout) for leaf in leaves])
    outer, inner = _rows(axes, len(leaves))
    rows = math.prod(axis.size for axis in outer)
    per_row = max(1, TASK_ELEMENTS // inner.size)
    blank = MAX_OUTER - len(outer)
    table: list[int] = []
    for i in range(len(leaves)):
        table += [inner.steps[i], *(axis.steps[i] for axis in outer), *[0] * blank]
    operands = [
        leaf.source if isinstance(leaf.source, In) else aligned(leaf.layout.pack(leaf.source)) for leaf in leaves
    ]
    types = tuple(leaf.dtype for leaf in leaves)
    return NativeKernel(
        address_of("elementwise", "mapped", dtypes=types, out=dtype, statements=statements),
        (
            *(*operands, Out(0), rows, inner.size, per_row, len(outer), 0),
            *(*(axis.size for axis in outer), *[1] * blank, *table, *numbers),
        ),
        -(-rows // per_row),
        4 * inner.size if dtype == "bfloat16" else 0,
    )


def _rows(axes: list[Axis], operands: int) -> tuple[list[Axis], Axis]:
    """Loops over rows, and the row itself. A long flat run is cut into rows where it divides."""
    if not axes:
        return [], Axis(1, (0,) * operands)
    *outer, inner = axes
    if outer or inner.size <= TASK_ELEMENTS:
        return outer, inner
    cut = next((c for c in range(TASK_ELEMENTS, 63, -1) if inner.size % c == 0), inner.size)
    return [Axis(inner.size // cut, tuple(s * cut for s in inner.steps))], Axis(cut, inner.steps)


def _grown(graph: Graph, exit: Layer) -> tuple[Layer, ...]:
    """The exit with every elementwise float32 layer before it that feeds only this tree, largest first."""
    shape, dtype = exit.results[0].shape, exit.results[0].dtype
    inside = {exit}
    outputs = set(graph.outputs)
    queue = [exit]
    while queue and len(inside) < MAX_LAYERS:
        for value in queue.pop(0).operands:
            maker = graph.producers.get(value)
            if maker is None or maker in inside or maker.type not in ELEMENTWISE or maker.domain:
                continue
            same = value.shape == shape and value.dtype is dtype and maker.inputs[0] is not None
            users = graph.consumers.get(value, ())
            if same and value not in outputs and inside.issuperset(users) and len(maker.results) == 1:
                inside.add(maker)
                queue.append(maker)
    return tuple(sorted(inside, key=graph.index.__getitem__))


def _spec(value: Value, rank: int, layout: Layout) -> TensorSpec:
    """Operands of the result's rank share its layout; smaller ones lie in plain order."""
    return TensorSpec("cpu", value.dtype, layout if len(value.static_shape) == rank else NCHW)


def _axes(tree: Tree, region: Region, layout: Layout) -> list[Axis]:
    shape = region.outputs[0].static_shape
    operands = [(v.static_shape, _spec(v, len(shape), layout).layout) for v in tree.leaves]
    return broadcast_axes(shape, layout, operands)


def _offer(region: Region, specs: tuple[TensorSpec, ...], out: TensorSpec, error: float) -> Offer:
    """In place of the first operand the result may overwrite: same shape and element size (so the same layout)."""
    shape = region.outputs[0].shape
    same = (
        i
        for i, (value, spec) in enumerate(zip(region.inputs, specs, strict=True))
        if value.shape == shape and spec.dtype.itemsize == out.dtype.itemsize
    )
    return Offer(specs, (out,), accuracy=error, inplace=next(same, None))


def _narrow_offers(region: Region, specs: tuple[TensorSpec, ...], error: float) -> Iterable[Offer]:
    """float32 operands of the result's shape and the result stored as bfloat16; smaller ones of its rank (a factor a
    channel, as squeeze-and-excite makes it) as they are, or as bfloat16 too."""
    result = region.outputs[0]
    real = [value.dtype is FLOAT32 and spec.layout == NHWC for value, spec in zip(region.inputs, specs, strict=True)]
    whole = [is_real and value.shape == result.shape for value, is_real in zip(region.inputs, real, strict=True)]
    if result.dtype is not FLOAT32 or not any(whole):
        return
    for narrow in dict.fromkeys((tuple(whole), tuple(real))):
        mixed = tuple(NHWC_BF16 if chosen else spec for chosen, spec in zip(narrow, specs, strict=True))
        yield _offer(region, mixed, NHWC_BF16, error + BFLOAT_ERROR)
