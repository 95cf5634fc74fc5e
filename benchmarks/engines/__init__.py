"""The engines a benchmark compares, behind one small interface. To add one: a module here, and a line in ``ENGINES``.

Must not know how anything is timed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Loaded(Protocol):
    """A model ready to run on a fixed number of threads."""

    facts: Mapping[str, Any]
    """What else is worth recording: tuning times, predictions, options."""

    def run(self, feeds: Arrays) -> Mapping[str, np.ndarray]:
        """Every output by name."""
        ...


class Engine(Protocol):
    """One engine. Its module imports the engine's package at the top, so a missing one shows on import.

    An engine may also have ``prepare(model, feeds, threads, folder) -> facts``, work done once and kept in ``folder``
    (tuning, conversion); ``load_prepared(model, feeds, threads, folder)`` then takes the place of ``load``.
    """

    name: str
    version: str

    def load(self, model: Path, feeds: Arrays, threads: int) -> Loaded:
        """The model with inputs of the shapes of ``feeds``, on ``threads`` threads in all."""
        ...


ENGINES = {
    "softneuro": "ours",
    "softneuro-bf16": "ours_bf16",
    "softneuro-mixed": "ours_mixed",
    "softneuro-int8": "ours_int8",
    "softneuro-opencl": "ours_opencl",
    "softneuro-opencl-half": "ours_opencl_half",
    "softneuro-cpu": "ours_cpu",
    "onnxruntime": "ort",
    "onnxruntime-int8": "ort_int8",
    "openvino": "ov",
    "openvino-bf16": "ov_bf16",
    "openvino-int8": "ov_int8",
    "openvino-int8-bf16": "ov_int8_bf16",
    "ncnn": "ncnn_",
    "deepsparse": "deepsparse_",
    "litert": "litert_",
    "litert-int8": "litert_int8",
    "torch": "torch_",
    "torch-graphs": "torch_graphs",
    "torch-half": "torch_half",
    "torch-half-graphs": "torch_half_graphs",
}
"""Engine name -> module here; the first is the one all others are compared with."""

IN_ONE_PROCESS = ("softneuro", "onnxruntime")
"""Those that ``benchmarks.run`` times inside one process when not told otherwise."""


def open_engine(name: str) -> Engine:
    """The engine of this name; raises ImportError where its package is missing."""
    engine: Engine = importlib.import_module(f"{__name__}.{ENGINES[name]}").ENGINE
    return engine
