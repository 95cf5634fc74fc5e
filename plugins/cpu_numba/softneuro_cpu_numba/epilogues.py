"""What may follow a Conv, Gemm or MatMul inside the same kernel, in the words of this plugin's kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from softneuro_core import epilogue as core
from softneuro_core.graph import Layer, Region

SATURATING = frozenset(("sigmoid", "tanh", "hardsigmoid"))
"""Activations behind which the error of a large sum may be most of the result."""


@dataclass(frozen=True, slots=True)
class Activation:
    """Kind (a key of ``kernels.base.ACTIVATIONS``) and its two numbers."""

    kind: str
    p0: float = 0.0
    p1: float = 0.0


IDENTITY = Activation("clip", -math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Epilogue:
    """A region taken apart: the layer in front, what is added along one axis or as a whole, what is applied last.

    ``bias`` has one number for every channel; ``residual`` is the number of the added value among ``Region.inputs``.
    """

    main: Layer
    bias: np.ndarray | None
    residual: int | None
    activation: Activation


def activation_of(layer: Layer) -> Activation | None:
    """The activation ``layer`` is, None if it is none or its parameters are not constant."""
    found = core.read_activation(layer)
    return None if found is None else _translated(found)


def _translated(found: core.Activation) -> Activation | None:
    match found.kind:
        case "Relu":
            return Activation("clip", 0.0, math.inf)
        case "Clip":
            return Activation("clip", found.alpha, found.beta)
        case "PRelu":
            slope = found.slope
            return None if slope is None or slope.size != 1 else Activation("leaky", float(slope.reshape(-1)[0]))
        case "LeakyRelu":
            return Activation("leaky", found.alpha)
        case "HardSwish":
            return Activation("hardswish", 1 / 6, 0.5)
        case "Gelu":
            return Activation("gelu_tanh" if found.alpha else "gelu")
    return Activation(found.kind.lower(), found.alpha, found.beta)


def parse_epilogue(region: Region, axis: int) -> Epilogue | None:
    """The parts of a region made by ``core.epilogue_regions``; channels lie along ``axis`` of the result.

    None if a constant is added that differs along another axis, or the activation is not ours.
    """
    found = core.parse_epilogue(region)
    activation = IDENTITY if found.activation is None else _translated(found.activation)
    if activation is None or len(found.main.results) != 1:
        return None
    bias = None
    if found.bias is not None:
        shape = found.main.results[0].static_shape
        aligned = found.bias.reshape((1,) * (len(shape) - found.bias.ndim) + found.bias.shape)
        if any(n != 1 for i, n in enumerate(aligned.shape) if i != axis % len(shape)):
            return None
        bias = np.broadcast_to(aligned.reshape(-1), (shape[axis],)).astype(np.float32)
    return Epilogue(found.main, bias, found.residual, activation)


def pitched_result(region: Region, residual: int | None) -> frozenset[int]:
    """Number of the region's only output, for ``Offer.pitched``: none where a residual is read as it is written."""
    return frozenset() if residual is not None else frozenset({len(region.inputs)})
