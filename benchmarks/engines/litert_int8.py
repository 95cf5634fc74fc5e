"""LiteRT in 8-bit integers: the float .tflite of ``litert_``, quantised statically by ai-edge-quantizer."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines import Arrays
from benchmarks.engines.litert_ import SIGNATURE, LiteRt, as_given
from benchmarks.inputs import calibration


@dataclass(frozen=True, slots=True)
class LiteRtInt8(LiteRt):
    name: str = "litert-int8"

    def prepare(self, model: Path, feeds: Arrays, threads: int, folder: Path) -> dict[str, Any]:
        """The quantised file takes the float one's place. Weights by channel, inputs and outputs stay float32."""
        facts = LiteRt.prepare(self, model, feeds, threads, folder)
        path = folder / f"{model.stem}.tflite"
        path.write_bytes(_quantised(path, feeds, threads))
        return facts | {"quantiser": f"ai-edge-quantizer {version('ai-edge-quantizer')}"}


def _quantised(path: Path, feeds: Arrays, threads: int) -> bytearray:
    from ai_edge_quantizer import qtyping, quantizer, recipe
    from ai_edge_quantizer.recipe import AlgorithmName

    made = quantizer.Quantizer(str(path), recipe.static_wi8_ai8())
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        made.update_quantization_recipe(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    ranges = made.calibrate({SIGNATURE: [_signed(sample) for sample in calibration(feeds)]}, num_threads=threads)
    return made.quantize(ranges, enable_progress_report=False).quantized_model


def _signed(sample: Arrays) -> dict[str, np.ndarray]:
    """By the names of the signature; numbers of tokens are int32 there."""
    given = enumerate(as_given(sample))
    return {f"args_{i}": a if a.dtype.kind == "f" else a.astype(np.int32) for i, a in given}


ENGINE = LiteRtInt8()
