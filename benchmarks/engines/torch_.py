"""torch on the first CUDA device with cuDNN, eager or as one CUDA graph; eager on the CPU where there is none.

Runs in an interpreter that has torch. float32 is float32: no TF32. Inputs and outputs lie with the host, as ours do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from benchmarks.convert.rewrites import rewritten
from benchmarks.convert.torch_module import OnnxModule
from benchmarks.engines import Arrays

WARM_RUNS = 3
"""Before a graph is captured, as torch asks for: cuDNN chooses its algorithms in them."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    inputs: dict[str, Tensor]
    """Where the device reads them."""
    compute: Callable[[], dict[str, Tensor]]
    facts: Mapping[str, Any]

    def run(self, feeds: Arrays) -> Mapping[str, np.ndarray]:
        for name, held in self.inputs.items():
            held.copy_(torch.from_numpy(feeds[name]))
        return {name: made.float().cpu().numpy() for name, made in self.compute().items()}


@dataclass(frozen=True, slots=True)
class Torch:
    name: str = "torch"
    half: bool = False
    graphs: bool = False
    version: str = torch.__version__

    def load(self, model: Path, feeds: Arrays, threads: int) -> _Loaded:
        """Raises RuntimeError for graphs where there is no CUDA device."""
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        kind = torch.float16 if self.half else torch.float32
        module = OnnxModule(rewritten(onnx.load(model))).eval().to(device, kind)
        inputs = {name: self._held(array, device, kind) for name, array in feeds.items()}
        compute = lambda: module(*inputs.values())  # noqa: E731
        facts = {"device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"}
        return _Loaded(inputs, _captured(compute) if self.graphs else compute, facts)

    def _held(self, array: np.ndarray, device: torch.device, kind: torch.dtype) -> Tensor:
        """float16 images lie channels last, as tensor cores want them."""
        held = torch.from_numpy(array).to(device)
        if not held.is_floating_point():
            return held
        is_image = self.half and held.ndim == 4
        return held.to(kind, memory_format=torch.channels_last if is_image else torch.contiguous_format)


def _captured(compute: Callable[[], dict[str, Tensor]]) -> Callable[[], dict[str, Tensor]]:
    """One CUDA graph of the computation; its results lie in the same place every time."""
    if not torch.cuda.is_available():
        raise RuntimeError("a CUDA graph needs a CUDA device")
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_RUNS):
            compute()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = compute()

    def replay() -> dict[str, Tensor]:
        graph.replay()
        return made

    return replay


ENGINE = Torch()
