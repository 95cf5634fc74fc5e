"""DeepSparse: single stream, its cores limited. Pins numpy < 2 and an old onnx, so it lives in a venv of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import deepsparse
import numpy as np

from benchmarks.engines import Arrays


@dataclass(frozen=True, slots=True)
class _Loaded:
    engine: Any
    inputs: list[str]
    outputs: list[str]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def run(self, feeds: Arrays) -> Mapping[str, np.ndarray]:
        return dict(zip(self.outputs, self.engine.run([feeds[name] for name in self.inputs]), strict=True))


@dataclass(frozen=True, slots=True)
class DeepSparse:
    name: str = "deepsparse"
    version: str = deepsparse.__version__

    def load(self, model: Path, feeds: Arrays, threads: int) -> _Loaded:
        engine = deepsparse.Engine(str(model), batch_size=1, num_cores=threads)
        return _Loaded(engine, list(engine.input_names), list(engine.output_names))


ENGINE = DeepSparse()
