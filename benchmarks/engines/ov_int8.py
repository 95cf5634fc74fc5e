"""OpenVINO in 8-bit integers by its own post-training quantiser, NNCF; what stays float is computed in float32.

NNCF brings scikit-learn and scipy along, so it lives in a venv of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import openvino

from benchmarks.engines import Arrays
from benchmarks.engines.ov import Loaded, OpenVino
from benchmarks.inputs import calibration


@dataclass(frozen=True, slots=True)
class OpenVinoInt8(OpenVino):
    name: str = "openvino-int8"

    def prepare(self, model: Path, feeds: Arrays, threads: int, folder: Path) -> dict[str, Any]:
        """Quantises by NNCF's defaults, told of attention where there is some. Never imported where it is measured."""
        import nncf

        read, samples = self.read(model, feeds), calibration(feeds)
        attends = any(node.get_type_name() == "Softmax" for node in read.get_ordered_ops())
        kind = nncf.ModelType.TRANSFORMER if attends else None
        made = nncf.quantize(read, nncf.Dataset(samples), model_type=kind, subset_size=len(samples))
        openvino.save_model(made, _file(model, folder), compress_to_fp16=False)
        return {"quantiser": f"nncf {version('nncf')}"}

    def load_prepared(self, model: Path, feeds: Arrays, threads: int, folder: Path) -> Loaded:
        return self.load(_file(model, folder), feeds, threads)


def _file(model: Path, folder: Path) -> Path:
    return folder / f"{model.stem}.xml"


ENGINE = OpenVinoInt8()
