"""Rough times from work and traffic, for what nobody measured. Only ever used marked ``estimate``."""

from __future__ import annotations

import numpy as np

from softneuro_core.candidates import AdapterChoice, Candidate
from softneuro_core.graph import Layer, Region, Value

FLOPS_PER_NS, BYTES_PER_NS, STEP_NS = 20.0, 10.0, 1_000.0
"""One core of a current desktop or server CPU doing plain vectorised work: order of magnitude, not a claim."""
REFERENCE_PENALTY, REFERENCE_STEP_NS = 8.0, 50_000.0
"""numpy evaluation of an operator: temporaries, no fusion, and the evaluator's own calls."""


def layer_flops(layer: Layer) -> float:
    """Floating-point operations of one layer (a multiply-add counts two), from its static shapes."""
    results = [v for v in layer.results if v.is_static]
    made = float(sum(v.size for v in results))
    if not results:
        return 0.0
    if layer.op in ("Conv", "ConvInteger", "QLinearConv", "ConvTranspose"):
        weights = layer.inputs[3 if layer.op == "QLinearConv" else 1]
        image = layer.inputs[0] if layer.op == "ConvTranspose" else results[0]
        if weights is not None and weights.is_static and image is not None and image.is_static:
            return 2.0 * image.size * weights.size / max(1, weights.static_shape[0])
    if layer.op in ("MatMul", "Gemm", "MatMulInteger", "Einsum", "QLinearMatMul"):
        first = layer.inputs[0]
        if first is not None and first.is_static and first.shape:
            axis = 0 if layer.attrs.get("transA") else -1
            return 2.0 * made * first.static_shape[axis]
    if layer.op in ("LSTM", "GRU", "RNN"):
        sequence = layer.inputs[0].static_shape[0] if layer.inputs[0] and layer.inputs[0].is_static else 1
        return 2.0 * sequence * sum(_size(v) for v in layer.inputs[1:3])
    if "Pool" in layer.type:
        return made * float(np.prod(layer.attrs.get("kernel_shape", [1]), dtype=np.int64))
    return made + sum(_size(v) for v in layer.operands)


def _size(value: Value | None) -> float:
    return float(value.size) if value is not None and value.is_static else 0.0


def region_bytes(region: Region) -> float:
    """Bytes that must be read and written at least once."""
    values = (*dict.fromkeys(region.inputs), *region.constants, *region.outputs)
    return float(sum(v.nbytes for v in values if v.is_static and not v.is_object))


def kernel_ns(candidate: Candidate, threads: int) -> int:
    """Estimated nanoseconds of a candidate: the larger of arithmetic and traffic, plus a step's overhead."""
    offer, region = candidate.offer, candidate.region
    flops = sum(map(layer_flops, region.layers)) if offer.flops is None else offer.flops
    traffic = region_bytes(region) if offer.bytes is None else offer.bytes
    work = max(flops / (FLOPS_PER_NS * threads), traffic / BYTES_PER_NS)
    if candidate.routine.name == "cpu/reference":
        inner = sum(_bodies_ns(layer) for layer in region.layers)
        return int(REFERENCE_STEP_NS + REFERENCE_PENALTY * threads * work + inner)
    return int(STEP_NS + work)


def _bodies_ns(layer: Layer) -> float:
    """The reference computing a control-flow layer's dearest body, on one thread as it does, as often as it turns."""
    return turns(layer) * max((sum(map(_reference_ns, body.layers)) for body in layer.bodies.values()), default=0.0)


def _reference_ns(layer: Layer) -> float:
    return REFERENCE_STEP_NS + REFERENCE_PENALTY * layer_flops(layer) / FLOPS_PER_NS + _bodies_ns(layer)


def turns(layer: Layer) -> int:
    """How often a Loop's or Scan's body runs where that is constant, else once."""
    first = layer.inputs[0] if layer.inputs else None
    if layer.type == "Loop" and first is not None and first.data is not None:
        return max(1, min(int(first.data.reshape(-1)[0]), 10**6))
    if layer.type == "Scan" and layer.inputs[-1] is not None and layer.inputs[-1].is_static:
        axis = (layer.attrs.get("scan_input_axes") or [0])[-1]
        return layer.inputs[-1].static_shape[axis]
    return 1


def adapter_ns(choice: AdapterChoice) -> int:
    """Estimated nanoseconds of a conversion: its traffic."""
    shape = choice.value.static_shape
    return int(STEP_NS + (choice.src.nbytes(shape) + choice.dst.nbytes(shape)) / BYTES_PER_NS)
