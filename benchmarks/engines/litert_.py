"""LiteRT on the CPU: XNNPACK in float32, from a .tflite that litert-torch makes of the ONNX file by way of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks.engines import Arrays

SIGNATURE = "serving_default"
"""As litert-torch calls the only one; its inputs are args_0, args_1, ..., its outputs have the names of the graph's."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    interpreter: Interpreter
    inputs: list[int]
    outputs: dict[str, int]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def run(self, feeds: Arrays) -> Mapping[str, np.ndarray]:
        """No view of a tensor may live while it is invoked."""
        for index, array in zip(self.inputs, feeds.values(), strict=True):
            _write(self.interpreter.tensor(index)(), array)
        self.interpreter.invoke()
        return {name: self.interpreter.get_tensor(index) for name, index in self.outputs.items()}


def _write(tensor: np.ndarray, array: np.ndarray) -> None:
    """In place, NCHW into NHWC: channel by channel, which takes numpy a quarter of the time of one transposed copy.
    Numbers of tokens are int32 there."""
    if array.ndim != 4:
        tensor[...] = array
        return
    for channel in range(array.shape[1]):
        tensor[..., channel] = array[:, channel]


def as_given(feeds: Arrays) -> list[np.ndarray]:
    """The inputs as the converted model takes them: images NHWC."""
    return [np.ascontiguousarray(a.transpose(0, 2, 3, 1) if a.ndim == 4 else a) for a in feeds.values()]


@dataclass(frozen=True, slots=True)
class LiteRt:
    name: str = "litert"
    version: str = version("ai-edge-litert")

    def prepare(self, model: Path, feeds: Arrays, threads: int, folder: Path) -> dict[str, Any]:
        """Converts the model. torch is imported here only: the process that is measured never loads it."""
        import litert_torch
        import onnx
        import torch

        from benchmarks.convert.rewrites import rewritten
        from benchmarks.convert.torch_module import OnnxModule

        channel_last = frozenset(name for name, array in feeds.items() if array.ndim == 4)
        module = OnnxModule(rewritten(onnx.load(model)), channel_last).eval()
        made = litert_torch.convert(module, tuple(map(torch.from_numpy, as_given(feeds))))
        made.export(str(folder / f"{model.stem}.tflite"))
        return {"converter": f"litert-torch {version('litert-torch')}"}

    def load(self, model: Path, feeds: Arrays, threads: int) -> _Loaded:
        raise RuntimeError("LiteRT reads no ONNX file; use prepare and load_prepared")

    def load_prepared(self, model: Path, feeds: Arrays, threads: int, folder: Path) -> _Loaded:
        """XNNPACK is the interpreter's default where it supports a node."""
        interpreter = Interpreter(str(folder / f"{model.stem}.tflite"), num_threads=threads)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner(SIGNATURE)
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        return _Loaded(
            interpreter,
            [inputs[f"args_{number}"]["index"] for number in range(len(inputs))],
            {name: details["index"] for name, details in outputs.items()},
        )


ENGINE = LiteRt()
