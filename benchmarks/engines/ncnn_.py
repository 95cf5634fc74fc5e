"""ncnn, its model made from the ONNX file by the pnnx program: float32 storage and arithmetic, Winograd as it likes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ncnn
import numpy as np
import onnx

from benchmarks.engines import Arrays

NUMPY_TO_PNNX = {"float32": "f32", "int64": "i64"}


@dataclass(frozen=True, slots=True)
class _Loaded:
    net: Any
    inputs: list[str]
    outputs: dict[str, tuple[int, ...]]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def run(self, feeds: Arrays) -> Mapping[str, np.ndarray]:
        """ncnn knows no batch axis: it is cut off and put back. Blobs are called in0, in1, ..., out0, ..."""
        with self.net.create_extractor() as extractor:
            for index, name in enumerate(self.inputs):
                extractor.input(f"in{index}", ncnn.Mat(np.ascontiguousarray(feeds[name][0])))
            found = {}
            for index, (name, shape) in enumerate(self.outputs.items()):
                code, blob = extractor.extract(f"out{index}")
                if code:
                    raise RuntimeError(f"ncnn could not compute output {name!r} (code {code})")
                found[name] = np.array(blob).reshape(shape)
        return found


def _pnnx() -> str:
    """The program itself, out of the package: the script pip installs beside it imports torch for nothing."""
    package = importlib.util.find_spec("pnnx")
    for folder in (package.submodule_search_locations or []) if package else []:
        for program in Path(folder).rglob("pnnx*"):
            if program.is_file() and program.suffix in ("", ".exe") and os.access(program, os.X_OK):
                return str(program)
    raise RuntimeError("no pnnx program to convert the model (pip install --no-deps pnnx)")


@dataclass(frozen=True, slots=True)
class Ncnn:
    name: str = "ncnn"
    version: str = ncnn.__version__

    def prepare(self, model: Path, feeds: Arrays, threads: int, folder: Path) -> dict[str, Any]:
        """Converts the model; raises RuntimeError with pnnx's last words where it cannot."""
        program = _pnnx()
        here = folder / model.name
        shutil.copyfile(model, here)
        shapes = [f"[{','.join(map(str, a.shape))}]{NUMPY_TO_PNNX[str(a.dtype)]}" for a in feeds.values()]
        done = subprocess.run([program, here.name, "inputshape=" + ",".join(shapes), "fp16=0"], cwd=folder,
                              capture_output=True, text=True, timeout=300)  # fmt: skip
        here.unlink()
        if not (folder / f"{model.stem}.ncnn.param").exists():
            words = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
            raise RuntimeError(f"pnnx could not convert it: {words[-1]}")
        return {}

    def load(self, model: Path, feeds: Arrays, threads: int) -> _Loaded:
        raise RuntimeError("ncnn reads no ONNX file; use prepare and load_prepared")

    def load_prepared(self, model: Path, feeds: Arrays, threads: int, folder: Path) -> _Loaded:
        net = ncnn.Net()
        net.opt.num_threads = threads
        net.opt.use_vulkan_compute = False
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{option}", False)
        stem = folder / model.stem
        if net.load_param(f"{stem}.ncnn.param") or net.load_model(f"{stem}.ncnn.bin"):
            raise RuntimeError("ncnn cannot load what pnnx made (a layer it does not have)")
        graph = onnx.load(model, load_external_data=False).graph
        shapes = {o.name: tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in graph.output}
        return _Loaded(net, [i.name for i in graph.input], shapes)


ENGINE = Ncnn()
