"""onnxruntime in 8-bit integers: its own static quantisation, QDQ form, unsigned activations, weights by channel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines import Arrays
from benchmarks.engines.ort import Loaded, OnnxRuntime
from benchmarks.inputs import calibration


class _Reader:
    """Samples one after the other, None after the last, as the quantiser asks for them."""

    def __init__(self, samples: Iterable[Arrays]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> Arrays | None:
        return next(self._samples, None)


@dataclass(frozen=True, slots=True)
class OnnxRuntimeInt8(OnnxRuntime):
    name: str = "onnxruntime-int8"

    def prepare(self, model: Path, feeds: Arrays, threads: int, folder: Path) -> dict[str, Any]:
        """Optimises the graph first, as the quantiser advises; the measured process never loads the quantiser."""
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        optimised, quantised = folder / "optimised.onnx", folder / model.name
        quant_pre_process(model, optimised, skip_symbolic_shape=True)
        quantize_static(optimised, quantised, _Reader(calibration(feeds)), QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)  # fmt: skip
        optimised.unlink()
        return {"quantiser": f"onnxruntime {self.version}"}

    def load_prepared(self, model: Path, feeds: Arrays, threads: int, folder: Path) -> Loaded:
        return self.load(folder / model.name, feeds, threads)


ENGINE = OnnxRuntimeInt8()
