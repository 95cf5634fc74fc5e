"""Elementwise layers, alone or as a tree of several in one pass over memory (``kernels/map.cl``)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.routine import Kernel, Offer
from softneuro_core.spec import FLOAT16, FLOAT32, NCHW, Layout
from softneuro_core.strides import Axis, broadcast_axes
from softneuro_opencl.expressions import ELEMENTWISE, SINGLE, TYPES, expression_of
from softneuro_opencl.launches import Argument, Constant, In, Launch, OpenCLKernel, Out
from softneuro_opencl.routine import OpenCLRoutine, accuracy_in, layouts_of, storage

MOST_LEAVES, MOST_LAYERS = 6, 8
LONG_CHUNK, GROUP = 4096, 64
"""Elements of an item that works alone; items of a group that make a vector each."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A region as statements over ``v0``, ``v1`` ..., the leaves in that order; the name of the last; its error.
    ``is_plain``: all is float32, and vectors will do."""

    statements: tuple[str, ...]
    result: str
    leaves: tuple[Value, ...]
    error: float
    is_plain: bool


def tree_of(region: Region) -> Tree | None:
    """None if a layer is not elementwise, or there are too many leaves."""
    names: dict[Value, str] = {}
    leaves: list[Value] = []
    statements: list[str] = []
    error = 0.0
    is_plain = all(v.dtype is FLOAT32 for layer in region.layers for v in (*layer.operands, *layer.results))
    is_plain = is_plain and not any(layer.type in SINGLE for layer in region.layers)
    for number, layer in enumerate(region.layers):
        if any(not v.is_static or 0 in v.static_shape for v in (*layer.operands, *layer.results)):
            return None
        found = expression_of(layer)
        if found is None:
            return None
        for value in layer.inputs[: found.reads]:
            assert value is not None
            if value not in names:
                names[value] = f"v{len(leaves)}"
                leaves.append(value)
        words = [names[v] for v in layer.inputs[: found.reads] if v is not None]
        names[layer.results[0]] = f"t{number}"
        kind = "floatv" if is_plain else TYPES[layer.results[0].dtype.name]
        statements.append(f"const {kind} t{number} = {found.text.format(*words)};")
        error += found.error
    if len(leaves) > MOST_LEAVES or any(v not in leaves for v in region.inputs):
        return None
    return Tree(tuple(statements), names[region.outputs[0]], tuple(leaves), error, is_plain)


class Map(OpenCLRoutine):
    """Any tree of elementwise layers, broadcast, in NCHW and NHWC."""

    algorithm = "map"

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
        rank = len(region.outputs[0].static_shape)
        for layout in layouts_of(region.outputs[0]):
            for dtype, kind in product((None, FLOAT16) if tree.is_plain else (None,), ("long", "short")):
                specs = [self.stored(_layout(v, rank, layout), dtype or v.dtype) for v in region.inputs]
                made = self.stored(layout, dtype or region.outputs[0].dtype)
                yield Offer(
                    specs, [made], {"chunk": kind}, accuracy=accuracy_in(made, tree.error) if dtype else tree.error
                )

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        tree = tree_of(region)
        assert tree is not None
        device, result, layout = self.opencl(target), region.outputs[0], offer.outputs[0].layout
        rank = len(result.static_shape)
        layouts = [_layout(v, rank, layout) for v in tree.leaves]
        axes = broadcast_axes(
            result.static_shape, layout, [(v.static_shape, w) for v, w in zip(tree.leaves, layouts, strict=True)]
        )
        *outer, inner = axes or [Axis(1, (0,) * len(tree.leaves))]
        is_dense = tree.is_plain and all(step in (0, 1) for step in inner.steps)
        lanes = next(n for n in (16, 8, 4, 2, 1) if n <= min(device.lanes, inner.size)) if is_dense else 1
        sources: list[Argument] = [
            In(region.inputs.index(v)) if v.data is None else Constant(device, w.pack(v.data))
            for v, w in zip(tree.leaves, layouts, strict=True)
        ]
        table = [axis.size for axis in outer] + [axis.steps[k] for k in range(len(sources)) for axis in outer]
        rows = math.prod(axis.size for axis in outer)
        chunk = lanes if offer.params["chunk"] == "short" else LONG_CHUNK // lanes * lanes
        items = -(-inner.size // chunk)
        group = 1 if chunk > lanes else min(GROUP, items)
        arguments = (*sources, Out(0), Constant(device, np.array([*table, 0], np.int32)), inner.size, chunk)
        work = (-(-items // group) * group, rows)
        defines = {**_defines(tree, result, inner, len(outer), lanes), **storage(offer.outputs[0])}
        return OpenCLKernel(device, (Launch("map.cl", "mapped", defines, arguments, work, (group, 1)),))


def _defines(tree: Tree, result: Value, inner: Axis, axes: int, lanes: int) -> dict[str, object]:
    numbers = range(len(tree.leaves))
    kinds = ["DATA" if tree.is_plain and v.data is None else TYPES[v.dtype.name] for v in tree.leaves]
    held = ["floatv" if tree.is_plain else kind for kind in kinds]
    lines = [f"const {held[k]} v{k} = {_read(tree, k, inner.steps[k])};" for k in numbers]
    return {
        "LANES": lanes,
        "AXES": axes,
        "RESULT_TYPE": "DATA" if tree.is_plain else TYPES[result.dtype.name],
        "PARAMETERS": "".join(f"TENSOR(const {kinds[k]}, a{k}), " for k in numbers),
        "BEGINS": " ".join(f"BEGIN(const {kinds[k]}, a{k});" for k in numbers),
        "LEAVES": " ".join(f"LEAF({k});" for k in numbers) if axes else "",
        "READS": " ".join(lines),
        "STATEMENTS": " ".join(tree.statements),
        "RESULT": tree.result,
    }


def _read(tree: Tree, leaf: int, step: int) -> str:
    """What gives a leaf's next elements: in float32 or float16 (:data:`LOADV`) if they come from the network, as they
    are where they are constants or of other types."""
    if not tree.is_plain:
        return f"a{leaf}[at * {step}]"
    suffix = "" if tree.leaves[leaf].data is None else "F"
    if step == 1:
        return f"LOAD{suffix or 'V'}(a{leaf} + at)"
    place = f"a{leaf} + at * {step}"
    return f"(floatv)({f'*({place})' if suffix else f'LOAD({place})'})"


def _layout(value: Value, rank: int, layout: Layout) -> Layout:
    """Operands of the result's rank share its layout; smaller ones lie in plain order."""
    return layout if len(value.static_shape) == rank else NCHW


def _grown(graph: Graph, exit: Layer) -> tuple[Layer, ...]:
    """The exit with every elementwise layer before it that feeds only this tree and has its shape, in graph order."""
    shape, inside, queue = exit.results[0].shape, {exit}, [exit]
    while queue and len(inside) < MOST_LAYERS:
        for value in queue.pop(0).operands:
            maker = graph.producers.get(value)
            if (
                maker is None
                or maker in inside
                or maker.type not in ELEMENTWISE
                or maker.domain
                or value.shape != shape
            ):
                continue
            grown = sorted((*inside, maker), key=graph.index.__getitem__)
            if Region(graph, tuple(grown)).is_legal():
                inside.add(maker)
                queue.append(maker)
    return tuple(sorted(inside, key=graph.index.__getitem__))
