"""ConvTranspose. NHWC: one plain convolution for each phase of the output (row and column modulo the strides), whose
taps are those of the kernel that reach it; results are scattered. NCHW: a plain loop nest, to be complete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.phases import Phase, begin_pads, has_phases, phase_flops, phases_of
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NHWC
from softneuro_core.windows import NCHW_F32, NHWC_F32, is_f32
from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.epilogues import Epilogue, parse_epilogue, pitched_result
from softneuro_cpu_numba.join import JoinedKernel
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, aligned, emitted_address
from softneuro_cpu_numba.rows import RowProduct


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
        pads = begin_pads(layer, shape[2:], made[2:], kernel)
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


def joined(parts: Iterable[NativeKernel], target: Target) -> JoinedKernel:
    """The phases as one step."""
    return JoinedKernel(emitted_address("join", "parts", isa_of(target)), tuple(parts))
