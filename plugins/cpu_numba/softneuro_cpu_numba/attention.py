"""Attention as exporters write it, in one routine: MatMul, scale, mask, Softmax, MatMul, with the moves around them.

Finds the pattern and turns every Transpose and Reshape beside it into strides, so that Q, K and V are read where the
projections left them ([batch, sequence, heads * depth]) and the result is written as the next one wants it. The
kernel is ``emit.attention``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.windows import NCHW_F32, is_f32
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.native import In, NativeKernel, Out, aligned, emitted_address
from softneuro_cpu_numba.panels import cut
from softneuro_cpu_numba.rows import NARROW_ROWS, tile_choices
from softneuro_cpu_numba.tiles import HEAD_BYTES, Cut

if TYPE_CHECKING:
    from softneuro_core.testing.case import Case

SCORE_BYTES = 256 * 1024
"""Scores of one task: they should stay in the second-level cache beside K and V."""
RESHAPES = ("Reshape", "Unsqueeze", "Squeeze", "Flatten")
Allowed = Callable[[Layer], bool]


@dataclass(frozen=True, slots=True)
class Operand:
    """A factor: the value it is read from, the layers that only move (or scale) it, and the element strides it then
    has in the shape the product wants."""

    source: Value
    layers: tuple[Layer, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    scale: float = 1.0

    def offsets(self, batch: tuple[int, ...]) -> np.ndarray:
        """First element of every entry's matrix, broadcasting as ONNX does."""
        count = len(self.shape) - 2
        steps = [0] * (len(batch) - count) + [
            0 if n == 1 else s for n, s in zip(self.shape[:count], self.strides[:count], strict=True)
        ]
        places = np.array(list(np.ndindex(*batch)), np.int64)
        return np.asarray(places @ np.array(steps, np.int64))

    @property
    def row(self) -> int:
        return self.strides[-2]

    @property
    def is_across(self) -> bool:
        """Whether a row's elements lie together."""
        return self.shape[-1] == 1 or self.strides[-1] == 1

    @property
    def is_down(self) -> bool:
        """Whether a column's elements lie together."""
        return self.shape[-2] == 1 or self.strides[-2] == 1


@dataclass(frozen=True, slots=True)
class Attention:
    """The parts of the region. ``k`` is [.., depth, keys]; ``y`` has the strides of the result."""

    layers: frozenset[Layer]
    q: Operand
    k: Operand
    v: Operand
    y: Operand
    mask: Value | None
    scale: float

    @property
    def batch(self) -> tuple[int, ...]:
        return self.y.shape[:-2]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Queries, keys, depth, columns of V."""
        return self.q.shape[-2], self.k.shape[-1], self.q.shape[-1], self.v.shape[-1]

    @property
    def flops(self) -> float:
        queries, keys, depth, values = self.sizes
        return 2.0 * math.prod(self.batch) * queries * keys * (depth + values)

    def mask_strides(self) -> tuple[int, ...] | None:
        """Strides of the mask over [batch, queries, keys], None where it does not differ by key."""
        assert self.mask is not None
        shape = (*self.batch, *self.sizes[:2])
        strides = _broadcast(_strides(self.mask.static_shape), self.mask.static_shape, shape)
        return strides if strides[-1] == 1 or shape[-1] == 1 else None


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def _broadcast(strides: Sequence[int], own: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    kept = [0 if n == 1 and m != 1 else s for s, n, m in zip(strides, own, shape[len(shape) - len(own) :], strict=True)]
    return (*[0] * (len(shape) - len(own)), *kept)


def find_attention(graph: Graph, exit: Layer, allowed: Allowed, moves: bool = True) -> Attention | None:
    """The attention whose last layer is ``exit``, of layers that are ``allowed``; ``moves`` takes those before Q, K
    and V in."""
    search = Search(graph, allowed)
    after, product = search.back_to_product(exit)
    softmax = search.before(product, 0, ("Softmax",)) if product is not None else None
    if product is None or softmax is None or not _is_last(softmax):
        return None
    scaled = search.scores(softmax)
    if scaled is None:
        return None
    scores, between, mask, scale = scaled
    made = product.results[0].static_shape
    if len(made) < 2 or scores.results[0].static_shape[:-2] != made[:-2] or 0 in made:
        return None
    q, k = (search.operand(scores, i, moves) for i in (0, 1))
    v, y = search.operand(product, 1, moves), result_of(exit, after, made)
    if q is None or k is None or v is None or y is None:
        return None
    if not (q.is_across and (k.is_across or k.is_down) and (v.is_across or v.is_down) and y.is_across):
        return None
    layers = frozenset([*after, product, softmax, *between, scores, *q.layers, *k.layers, *v.layers])
    found = Attention(layers, q, k, v, y, mask, scale * q.scale * k.scale)
    return None if mask is not None and found.mask_strides() is None else found


def _is_last(softmax: Layer) -> bool:
    rank = len(softmax.results[0].static_shape)
    return int(softmax.attrs.get("axis", -1 if softmax.version >= 13 else 1)) % rank == rank - 1


class Search:
    """Walks back over values that nothing else reads."""

    def __init__(self, graph: Graph, allowed: Allowed) -> None:
        self.graph, self.allowed = graph, allowed
        self.outputs = frozenset(graph.outputs)

    def before(self, layer: Layer, place: int, types: Sequence[str]) -> Layer | None:
        """The layer of one of these types that makes input ``place`` for ``layer`` alone."""
        value = layer.inputs[place] if place < len(layer.inputs) else None
        maker = self.graph.producers.get(value) if value is not None else None
        if value is None or maker is None or maker.op not in types or not self.allowed(maker):
            return None
        private = value not in self.outputs and self.graph.consumers.get(value) == (layer,)
        return maker if private and layer.operands.count(value) == 1 and value.is_static else None

    def back_to_product(self, exit: Layer) -> tuple[list[Layer], Layer | None]:
        """The moves that end with ``exit``, first to last, and the MatMul before them."""
        after: list[Layer] = []
        layer: Layer | None = exit
        while layer is not None and layer.op in ("Transpose", *RESHAPES):
            after.insert(0, layer)
            layer = self.before(layer, 0, ("Transpose", "MatMul", *RESHAPES))
        return after, layer if layer is not None and layer.op == "MatMul" else None

    def scores(self, softmax: Layer) -> tuple[Layer, list[Layer], Value | None, float] | None:
        """The MatMul of Q and K, the layers between it and the Softmax, the mask they add, what they multiply by."""
        layer, between, mask, scale = softmax, list[Layer](), None, 1.0
        while True:
            makers = [
                (i, self.before(layer, i, ("Mul", "Div", "Add", "MatMul")))
                for i in range(1 if layer.op in ("Softmax", "Div") else 2)
            ]
            shape = layer.results[0].shape
            found = [(i, m) for i, m in makers if m is not None and m.results[0].shape == shape]
            step = next(((i, m) for i, m in found if layer.op == "Softmax" or self._other(layer, i) is not None), None)
            if step is None:
                return None
            place, maker = step
            if layer.op == "Add":
                mask = layer.inputs[1 - place]
            elif layer.op in ("Mul", "Div"):
                scale *= factor_of(layer, place) or 1.0
            if maker.op == "MatMul":
                return maker, between, mask, scale
            if maker.op == "Add" and layer.op != "Softmax":
                return None
            between.append(maker)
            layer = maker

    def _other(self, layer: Layer, place: int) -> Value | None:
        """The operand besides ``place`` if it is a scale or a mask."""
        other = layer.inputs[1 - place]
        if layer.op == "Add":
            return other if other is not None and other.is_static and other.dtype.name == "float32" else None
        return other if factor_of(layer, place) is not None else None

    def operand(self, product: Layer, place: int, moves: bool) -> Operand | None:
        """The factor with as many of the moves before it as strides can express."""
        value = product.inputs[place]
        if value is None or value.is_constant or not value.is_static or len(value.static_shape) < 2:
            return None
        plain = Operand(value, (), value.static_shape, _strides(value.static_shape))
        found, layers, layer, at = plain, list[Layer](), product, place
        scale = 1.0
        while moves:
            maker = self.before(layer, at, ("Transpose", "Mul", "Div", *RESHAPES))
            source = maker.inputs[0] if maker is not None else None
            if maker is None or source is None or source.is_constant or not source.is_static:
                break
            factor = factor_of(maker, 0) if maker.op in ("Mul", "Div") else 1.0
            if factor is None or (maker.op in ("Mul", "Div") and source.shape != maker.results[0].shape):
                break
            scale *= factor
            layers.insert(0, maker)
            strides = _moved(source.static_shape, layers)
            if strides is not None:
                candidate = Operand(source, tuple(layers), value.static_shape, strides, scale)
                if candidate.is_across or (place == 1 and candidate.is_down):
                    found = candidate
            layer, at = maker, 0
        return found


def factor_of(layer: Layer, place: int) -> float | None:
    """What a Mul or Div multiplies input ``place`` by, if it is one constant number."""
    other = layer.inputs[1 - place] if len(layer.inputs) == 2 else None
    if other is None or other.data is None or other.size != 1 or (layer.op == "Div" and place == 1):
        return None
    number = float(np.asarray(other.data).reshape(-1)[0])
    if layer.op == "Div":
        return 1.0 / number if number else None
    return number


def _moved(shape: tuple[int, ...], layers: Sequence[Layer]) -> tuple[int, ...] | None:
    """Strides of a dense value after moves, None if they cannot be had without copying."""
    array = np.empty(shape, np.int8)  # never written: only its strides are of interest
    for layer in layers:
        if layer.op == "Transpose":
            array = array.transpose(_order(layer, array.ndim))
        elif layer.op in RESHAPES:
            made = array.reshape(layer.results[0].static_shape)
            if not np.may_share_memory(made, array):
                return None
            array = made
    return array.strides


def _order(layer: Layer, rank: int) -> list[int]:
    return [int(i) for i in layer.attrs.get("perm", range(rank)[::-1])]


def result_of(exit: Layer, after: Sequence[Layer], shape: tuple[int, ...]) -> Operand | None:
    """The product as it lies in the region's dense result."""
    result = exit.results[0]
    array = np.empty(result.static_shape, np.int8)
    for layer in reversed(after):
        if layer.op == "Transpose":
            array = array.transpose(np.argsort(_order(layer, array.ndim)))
        else:
            source = layer.inputs[0]
            assert source is not None
            made = array.reshape(source.static_shape)
            if not np.may_share_memory(made, array):
                return None
            array = made
    return Operand(result, tuple(after), shape, array.strides)


class FusedAttention(Routine):
    """softmax(Q K^T * scale + mask) V in float32, any batch shape, with the Transposes and Reshapes around it."""

    name = "cpu/attention"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        if exit.op not in ("MatMul", "Transpose", *RESHAPES) or not all(v.is_static for v in exit.results):
            return
        for moves in (True, False):
            found = find_attention(graph, exit, lambda _: True, moves)
            if found is not None:
                yield tuple(sorted(found.layers, key=graph.index.__getitem__))

    def _read(self, region: Region) -> Attention | None:
        inside = frozenset(region.layers)
        found = find_attention(region.graph, region.exit, inside.__contains__)
        values = () if found is None or found.mask is None else (found.mask,)
        if found is None or found.layers != inside or not is_f32(*region.inputs, *region.outputs, *values):
            return None
        return found

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = self._read(region)
        if found is not None:
            yield Offer((NCHW_F32,) * len(region.inputs), (NCHW_F32,), accuracy=SUMS, flops=found.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = self._read(region)
        assert found is not None
        queries, keys, depth, values = found.sizes
        lanes = lanes_of(target)
        rows, vectors = min(
            tile_choices(target, queries), key=lambda t: _ceil(keys, t[1] * lanes) + cut(values, t[1], lanes).columns
        )
        panels, pitch = cut(values, vectors, lanes), _ceil(keys, vectors * lanes)
        batch = math.prod(found.batch)
        cut_rows = Cut(queries, rows, max(1, SCORE_BYTES // (4 * pitch * rows)))
        address = emitted_address(
            *("attention", "attention", isa_of(target)),
            pieces=tuple(range(rows, 0, -1)),
            vectors=vectors,
            narrow_pieces=NARROW_ROWS if rows > 1 else (1,),
            k_across=found.k.is_across,
            v_across=found.v.is_across,
            mask=found.mask is not None,
            masked=values < lanes,
        )
        mask, mask_row, mask_offsets = _mask(found, region)
        offsets = [o.offsets(found.batch) for o in (found.q, found.k, found.v)]
        table = np.stack([*offsets, mask_offsets, found.y.offsets(found.batch)], axis=1)
        k_step = found.k.strides[-2 if found.k.is_across else -1]
        v_step = found.v.strides[-2 if found.v.is_across else -1]
        return NativeKernel(
            address,
            (
                *(In(region.inputs.index(o.source)) for o in (found.q, found.k, found.v)),
                *(mask, Out(0), aligned(table), aligned(np.array(panels.starts, np.int64))),
                *(*found.sizes, found.q.row, k_step, v_step, mask_row, found.y.row),
                *(*cut_rows.row_words, panels.wide, len(panels.starts), pitch, found.scale),
            ),
            batch * cut_rows.row_tasks,
            HEAD_BYTES + 4 * (cut_rows.most_rows * pitch + depth * pitch + keys * panels.columns),
        )


def _ceil(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _mask(found: Attention, region: Region) -> tuple[In | np.ndarray | None, int, np.ndarray]:
    """Where the mask is read, the step between its rows, and each entry's first element."""
    if found.mask is None:
        return None, 0, np.zeros(math.prod(found.batch), np.int64)
    strides = found.mask_strides()
    assert strides is not None
    shape = (*found.batch, *found.sizes[:2])
    spread = Operand(found.mask, (), shape, strides)
    data = found.mask.data
    return (
        In(region.inputs.index(found.mask)) if data is None else aligned(np.asarray(data)),
        strides[-2],
        spread.offsets(found.batch),
    )


def conformance_cases() -> list[Case]:
    """For the kit: two products with a Softmax between them, plain, and as exporters write them."""
    from onnx.helper import make_node

    from softneuro_core.testing.case import Case, normal

    middle = [make_node("MatMul", ["q", "k"], ["s"]), make_node("Softmax", ["s"], ["p"], axis=-1)]
    plain = (*middle, make_node("MatMul", ["p", "v"], ["y"]))
    inputs = {"q": normal(2, 3, 7, 8), "k": normal(2, 3, 8, 19), "v": normal(2, 3, 19, 5)}
    orders = {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}
    moved = [make_node("Transpose", [n.upper()], [n], perm=order) for n, order in orders.items()]
    masked = [
        *(*moved, middle[0], make_node("Mul", ["s", "scale"], ["t"]), make_node("Add", ["t", "mask"], ["m"])),
        make_node("Softmax", ["m"], ["p"], axis=-1),
        *(make_node("MatMul", ["p", "v"], ["o"]), make_node("Transpose", ["o"], ["y"], perm=[0, 2, 1, 3])),
    ]
    heads = {"Q": normal(2, 13, 3, 8), "K": normal(2, 9, 3, 8), "V": normal(2, 9, 3, 16), "mask": normal(2, 1, 13, 9)}
    scale = {"scale": np.array(0.35, np.float32)}
    return [Case("attention", plain, inputs), Case("attention-heads-mask", tuple(masked), heads, scale)]
