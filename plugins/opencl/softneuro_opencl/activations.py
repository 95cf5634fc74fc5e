"""Activations as OpenCL C: expressions over ``v``, a float or a vector of them, and two numbers ``p0`` and ``p1``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from softneuro_core import epilogue as core
from softneuro_core.graph import Layer

CLAMPED = "((v) < p0 ? p0 : (v) > p1 ? p1 : (v))"
TEXTS = {
    "Relu": "((v) < 0.0f ? 0.0f : (v))",
    "Clip": CLAMPED,
    "LeakyRelu": "((v) < 0.0f ? p0 * (v) : (v))",
    "PRelu": "((v) < 0.0f ? p0 * (v) : (v))",
    "Sigmoid": "(1.0f / (1.0f + exp(-(v))))",
    "HardSigmoid": "(p0 * (v) + p1 < 0.0f ? 0.0f : p0 * (v) + p1 > 1.0f ? 1.0f : p0 * (v) + p1)",
    "HardSwish": "((v) * ((v) < -3.0f ? 0.0f : (v) > 3.0f ? 1.0f : (v) / 6.0f + 0.5f))",
    "Swish": "((v) / (1.0f + exp(-p0 * (v))))",
    "Tanh": "tanh(v)",
    "Gelu": "(0.5f * (v) * (1.0f + erf(0.70710678f * (v))))",
    "GeluTanh": "(0.5f * (v) * (1.0f + tanh(0.79788456f * ((v) + 0.044715f * (v) * (v) * (v)))))",
}
"""By ONNX operator. Comparisons choose between results, so that a NaN stays one."""


@dataclass(frozen=True, slots=True)
class Activation:
    """An expression and its numbers."""

    text: str = "(v)"
    p0: float = 0.0
    p1: float = 0.0

    @property
    def defines(self) -> dict[str, str]:
        return {"ACTIVATE(v)": self.text}


IDENTITY = Activation()


def activation_of(layer: Layer) -> Activation | None:
    """What the layer computes; None if it is no activation of constant parameters."""
    found = core.read_activation(layer)
    return None if found is None else translated(found)


def translated(found: core.Activation | None) -> Activation | None:
    """The core's activation in this plugin's words; None for a PRelu of several slopes."""
    if found is None:
        return IDENTITY
    if found.kind == "PRelu":
        slope = found.slope
        return None if slope is None or slope.size != 1 else Activation(TEXTS["PRelu"], float(slope.reshape(-1)[0]))
    if found.kind == "Clip" and (found.alpha, found.beta) == (-math.inf, math.inf):
        return IDENTITY
    kind = "GeluTanh" if found.kind == "Gelu" and found.alpha else found.kind
    return Activation(TEXTS[kind], found.alpha, found.beta)
