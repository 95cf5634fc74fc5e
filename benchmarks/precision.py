"""Classes of precision: which of our engines a peer is compared with, and how near float32 an answer must be.

Must not know how engines are run or timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.models import Model


@dataclass(frozen=True, slots=True)
class Precision:
    """One class: our engine in it, the engines compared unless others are named, and when an answer is right: by its
    largest deviation relative to the largest output, or by the cosine between all outputs."""

    name: str
    ours: str
    engines: tuple[str, ...]
    most_error: float | None = None
    least_cosine: float | None = None

    def verdict(self, model: Model, made: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """What is recorded of an engine's outputs; ``model`` holds those it should have made."""
        is_whole = set(model.expected) <= set(made)
        error = model.error(made) if is_whole else float("inf")
        if self.least_cosine is None:
            return {"error": error, "correct": self.most_error is None or error <= self.most_error}
        cosine = model.cosine(made) if is_whole else 0.0
        return {"error": error, "cosine": cosine, "correct": cosine >= self.least_cosine}


FLOAT32 = Precision(
    "float32", "softneuro", ("onnxruntime", "openvino", "ncnn", "deepsparse", "litert"), most_error=1e-3
)
BFLOAT16 = Precision("bfloat16", "softneuro-bf16", ("openvino-bf16",), most_error=1e-1)
ANY = Precision(
    "any",
    "softneuro-mixed",
    ("onnxruntime-int8", "openvino-bf16", "openvino-int8", "openvino-int8-bf16", "litert-int8"),
    least_cosine=0.99,
)
OPENCL = Precision(
    "opencl",
    "softneuro-opencl",
    ("softneuro-opencl", "softneuro-cpu", "softneuro", "onnxruntime"),
    most_error=1e-3,
)
"""float32 with every layer of ours on the first OpenCL device; beside it the CPU alone, and both together."""
GPU = Precision("gpu", "softneuro-opencl", ("softneuro-opencl", "torch", "torch-graphs"), most_error=1e-3)
GPU_HALF = Precision(
    "gpu-half",
    "softneuro-opencl-half",
    ("softneuro-opencl-half", "torch-half", "torch-half-graphs"),
    most_error=5e-2,
)
"""On a GPU: against torch there, in float32 and with tensors stored in float16 (torch computes in it, too)."""
WITH_OPENCL = (OPENCL, GPU, GPU_HALF)
PRECISIONS = {precision.name: precision for precision in (FLOAT32, BFLOAT16, ANY, *WITH_OPENCL)}


def class_of(engine: str, asked: Precision) -> Precision:
    """The class an engine plays in: where any precision or OpenCL is asked for that one, else that of its name."""
    if asked in (ANY, *WITH_OPENCL):
        return asked
    if "half" in engine.split("-"):
        return GPU_HALF
    if {"int8", "mixed"} & set(engine.split("-")):
        return ANY
    return BFLOAT16 if engine.endswith("-bf16") else FLOAT32


def is_ours(engine: str) -> bool:
    return engine.startswith("softneuro")


def eligible(found: Mapping[str, Any]) -> bool:
    """Whether an engine's times count: it ran, gave the right answer, and kept to its threads."""
    return "failed" not in found and not found["void"] and found["correct"] is not False
