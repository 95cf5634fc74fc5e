"""ConvTranspose. NHWC: one plain convolution for each phase of the output (row and column modulo the strides), whose
taps are those of the kernel that reach it; results are scattered. NCHW: a plain loop nest, to be complete."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NHWC
from softneuro_core.windows import NCHW_F32, NHWC_F32, Window, is_f32, text
from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.epilogues import Epilogue, parse_epilogue, pitched_result
from softneuro_cpu_numba.join import JoinedKernel
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, aligned, emitted_address
from softneuro_cpu_numba.rows import RowProduct, Scatter


def _begin_pads(layer: Layer, size: tuple[int, ...], out: tuple[int, ...], kernel: tuple[int, ...]) -> list[int]:
    """Pads cut from the front of every spatial axis, as the operator derives them."""
    spatial = len(kernel)
    attrs = layer.attrs
    mode = text(attrs.get("auto_pad") or "NOTSET")
    if mode == "NOTSET" and "output_shape" not in attrs:
        return [int(p) for p in (attrs.get("pads") or [0] * (2 * spatial))[:spatial]]
    strides = attrs.get("strides") or [1] * spatial
    dilations = attrs.get("dilations") or [1] * spatial
    extra = attrs.get("output_padding") or [0] * spatial
    found = []
    for n, o, k, s, d, e in zip(size, out, kernel, strides, dilations, extra, strict=True):
        total = max(0, s * (n - 1) + e + (k - 1) * d + 1 - o)
        found.append(total // 2 if mode != "SAME_LOWER" else total - total // 2)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Transposed:
    """A float32 ConvTranspose of constant weights and what follows it."""

    epilogue: Epilogue
    weights: np.ndarray
    bias: np.ndarray

    @property
    def layer(self) -> Layer:
        return self.epilogue.main

    @property
    def has_phases(self) -> bool:
        return has_phases(self.layer, self.weights.shape)

    @property
    def flops(self) -> float:
        return phase_flops(self.layer, self.weights.size)

    def phases(self) -> Iterator[Phase]:
        """Where :attr:`has_phases`."""
        return phases_of(self.layer, self.weights)


def transposed_of(region: Region) -> Transposed | None:
    """The region as such a layer, or None."""
    found = parse_epilogue(region, axis=1)
    if found is None or found.residual is not None or len(region.inputs) != 1:
        return None
    x, w = found.main.inputs[:2]
    bias = found.main.inputs[2] if len(found.main.inputs) > 2 else None
    if x is None or w is None or x.is_constant or not is_f32(*region.inputs, *region.constants, *region.outputs):
        return None
    if w.data is None or (bias is not None and bias.data is None) or len(w.static_shape) not in (3, 4):
        return None
    channels = region.outputs[0].static_shape[1]
    total = np.zeros(channels, np.float32)
    for part in (None if bias is None else bias.data, found.bias):
        total = total if part is None else total + part
    return Transposed(found, w.data, total)


class TransposedConv(Routine):
    """ConvTranspose [+ Add of a constant] [+ activation], float32, one and two spatial axes."""

    name = "cpu/conv_transpose"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("ConvTranspose",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = transposed_of(region)
        if found is None:
            return
        yield Offer((NCHW_F32,), (NCHW_F32,), accuracy=SUMS)
        if found.has_phases:
            pitched = pitched_result(region, None)
            yield Offer((NHWC_F32,), (NHWC_F32,), accuracy=SUMS, flops=found.flops, pitched=pitched)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = transposed_of(region)
        assert found is not None
        weights, bias, layer, act = found.weights, found.bias, found.layer, found.epilogue.activation
        if offer.outputs[0].layout == NHWC:
            phases = found.phases()
            products = (RowProduct(p.weights, bias, act, None, window=p.window, scatter=p.scatter) for p in phases)
            return joined((product.kernel(target) for product in products), target)
        shape, made = region.inputs[0].static_shape, region.outputs[0].static_shape
        kernel = weights.shape[2:]
        spatial = len(kernel)
        groups = int(layer.attrs.get("group", 1))
        pads = _begin_pads(layer, shape[2:], made[2:], kernel)
        strides = list(layer.attrs.get("strides") or [1] * spatial)
        dilations = list(layer.attrs.get("dilations") or [1] * spatial)
        pairs = [shape[2:], made[2:], kernel, strides, dilations, pads]
        blanks = (1, 1, 1, 1, 1, 0)  # what a missing height is: one row, one tap, no padding
        numbers = [(b, *p) if spatial == 1 else tuple(p) for b, p in zip(blanks, pairs, strict=True)]
        sizes = [int(n) for pair in numbers for n in pair]
        return NativeKernel(
            address_of("patches", "transposed", act=act.kind),
            (
                *(In(0), aligned(weights), aligned(bias), Out(0), shape[0], shape[1] // groups, groups),
                *(weights.shape[1], *sizes, act.p0, act.p1),
            ),
            shape[0] * made[1] * sizes[2],
        )


def has_phases(layer: Layer, weights: Sequence[int]) -> bool:
    """No dilation, and every output pixel is reached by some tap of ``weights``' shape."""
    spatial = len(weights) - 2
    strides = layer.attrs.get("strides") or [1] * spatial
    dense = set(layer.attrs.get("dilations") or [1]) == {1}
    return dense and all(k >= s for k, s in zip(weights[2:], strides, strict=True))


def phase_flops(layer: Layer, weights: int) -> float:
    """Of the phases of a ConvTranspose of so many weights."""
    assert layer.inputs[0] is not None
    batch, _, *pixels = layer.inputs[0].static_shape
    return 2.0 * batch * math.prod(pixels) * weights


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """The output pixels of one row and column modulo the strides: a plain convolution whose results are scattered."""

    window: Window
    weights: np.ndarray  # (groups, taps, channels of a group, outputs of a group), a view
    scatter: Scatter


def phases_of(layer: Layer, weights: np.ndarray) -> Iterator[Phase]:
    """Of a ConvTranspose with phases (:func:`has_phases`); ``weights`` as the operator has them, of any type."""
    assert layer.inputs[0] is not None
    shape, made = layer.inputs[0].static_shape, layer.results[0].static_shape
    strides = list(layer.attrs.get("strides") or [1] * (weights.ndim - 2))
    pads = _begin_pads(layer, shape[2:], made[2:], weights.shape[2:])
    if weights.ndim == 3:
        weights, strides, pads = weights[:, :, None], [1, *strides], [0, *pads]
        shape, made = (*shape[:2], 1, shape[2]), (*made[:2], 1, made[2])
    groups = int(layer.attrs.get("group", 1))
    grouped = weights.reshape(groups, shape[1] // groups, *weights.shape[1:])
    for phase in np.ndindex(*strides):
        out = [-(-(size - p) // s) for size, p, s in zip(made[2:], phase, strides, strict=True)]
        if min(out) < 1:
            continue
        firsts = [(p + pad) % s for p, pad, s in zip(phase, pads, strides, strict=True)]
        taps = grouped[:, :, :, firsts[0] :: strides[0], firsts[1] :: strides[1]][..., ::-1, ::-1]
        count = taps.shape[3:]
        ahead = [(p + pad - f) // s for p, pad, f, s in zip(phase, pads, firsts, strides, strict=True)]
        top, left = (n - 1 - c for n, c in zip(count, ahead, strict=True))
        window = Window(
            *(int(shape[0]), int(shape[1]), (int(shape[2]), int(shape[3])), (int(out[0]), int(out[1]))),
            *((int(count[0]), int(count[1])), (1, 1), (1, 1), (int(top), int(left), 0, 0)),
        )
        matrix = taps.transpose(0, 3, 4, 1, 2).reshape(groups, -1, taps.shape[1], taps.shape[2])
        width = made[3]
        scatter = Scatter(made[2] * width, strides[0] * width, strides[1], phase[0] * width + phase[1])
        yield Phase(window, matrix, scatter)


def joined(parts: Iterable[NativeKernel], target: Target) -> JoinedKernel:
    """The phases as one step."""
    return JoinedKernel(emitted_address("join", "parts", isa_of(target)), tuple(parts))
