"""OpenVINO on the CPU: latency hint, one stream, float32 arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from benchmarks.engines import Arrays


@dataclass(frozen=True, slots=True)
class Loaded:
    request: openvino.InferRequest
    outputs: list[str]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def run(self, feeds: Arrays) -> Mapping[str, np.ndarray]:
        found = self.request.infer(dict(feeds), share_inputs=True, share_outputs=False)
        return {name: found[index] for index, name in enumerate(self.outputs)}


@dataclass(frozen=True, slots=True)
class OpenVino:
    name: str = "openvino"
    precision: str = "f32"
    version: str = openvino.__version__

    def read(self, model: Path, feeds: Arrays) -> openvino.Model:
        read = openvino.Core().read_model(model)
        read.reshape({name: list(array.shape) for name, array in feeds.items()})
        return read

    def load(self, model: Path, feeds: Arrays, threads: int) -> Loaded:
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        compiled = openvino.Core().compile_model(self.read(model, feeds), "CPU", options)
        return Loaded(compiled.create_infer_request(), [port.get_any_name() for port in compiled.outputs])


ENGINE = OpenVino()
