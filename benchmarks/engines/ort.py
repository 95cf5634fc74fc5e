"""onnxruntime on the CPU, all graph optimisations on: its defaults but for the number of threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.engines import Arrays


@dataclass(frozen=True, slots=True)
class Loaded:
    session: onnxruntime.InferenceSession
    outputs: list[str]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def run(self, feeds: Arrays) -> Mapping[str, np.ndarray]:
        return dict(zip(self.outputs, self.session.run(self.outputs, dict(feeds)), strict=True))


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    name: str = "onnxruntime"
    version: str = onnxruntime.__version__

    def load(self, model: Path, feeds: Arrays, threads: int) -> Loaded:
        """``threads`` counts the calling thread, as intra_op_num_threads does."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        return Loaded(session, [output.name for output in session.get_outputs()])


ENGINE = OnnxRuntime()
