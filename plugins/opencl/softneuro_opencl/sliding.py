"""Depthwise Conv and pooling (``kernels/windows.cl``): every channel by itself, vectors of neighbouring channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import EXACT, SUMS, Kernel, Offer
from softneuro_core.spec import NHWC
from softneuro_core.windows import Window, is_f32, text, window_of
from softneuro_opencl.convolutions import convolution_of
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.launches import Argument, Constant, In, Launch, OpenCLKernel, Out, grouped
from softneuro_opencl.routine import OpenCLRoutine, accuracy_in, storage

FILE = "windows.cl"
PIXELS = (7, 4, 1)
"""Pixels of an item: of several filters are loaded once, one keeps a narrow device busy."""


def _vector(channels: int, lanes: int) -> int:
    """The widest vector, no longer than the device's, that as many channels fill."""
    return next(n for n in (16, 8, 4, 2, 1) if n <= min(channels, lanes))


def _launch(
    name: str,
    window: Window,
    lanes: int,
    pixels: int,
    defines: Mapping[str, object],
    arguments: tuple[Argument, ...],
    device: OpenCLDevice,
) -> Launch:
    work = (-(-window.channels // lanes), -(-window.out[1] // pixels), window.batch * window.out[0])
    return Launch(FILE, name, {"LANES": lanes, "PIXELS": pixels, **defines}, arguments, work, grouped(work, device))


def _geometry(window: Window) -> tuple[int, ...]:
    sizes = (window.channels, *window.size, *window.pads[:2], *window.kernel, *window.dilations, *window.strides)
    return (*sizes, *window.out)


def _ways(width: int) -> Iterable[int]:
    """Pixels of an item worth offering for rows of so many."""
    return [n for n in PIXELS if n <= width]


class DepthwiseConv(OpenCLRoutine):
    """Depthwise Conv [+ Add] [+ activation], one filter a channel, any window, 1-D and 2-D."""

    algorithm = "depthwise"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv = convolution_of(region)
        if conv is not None and conv.is_depthwise:
            for spec, pixels in product(self.storages(NHWC), _ways(conv.window.out[1])):
                ends, accuracy = ([spec] * len(region.inputs), [spec]), accuracy_in(spec, SUMS)
                yield Offer(*ends, {"pixels": pixels}, accuracy=accuracy, flops=conv.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = convolution_of(region)
        assert conv is not None
        device, window, finish = self.opencl(target), conv.window, conv.finish
        lanes = _vector(window.channels, device.lanes)
        filters = np.ascontiguousarray(conv.weights.reshape(window.channels, -1).T)
        arguments: tuple[Argument, ...] = (
            *(In(0), Constant(device, filters), Constant(device, finish.bias)),
            *(None if finish.residual is None else In(finish.residual), Out(0)),
            *(*_geometry(window), finish.activation.p0, finish.activation.p1),
        )
        defines = {**finish.defines, **storage(offer.outputs[0])}
        launch = _launch("depthwise", window, lanes, int(offer.params["pixels"]), defines, arguments, device)
        return OpenCLKernel(device, (launch,))


class Pool(OpenCLRoutine):
    """MaxPool and AveragePool, one result, any window, 1-D and 2-D; GlobalMaxPool and GlobalAveragePool."""

    def __init__(self, device: str, operator: str) -> None:
        self.operator, self.algorithm = operator, operator.lower()
        super().__init__(device)
        self.pattern = (operator,)

    @property
    def is_maximum(self) -> bool:
        return "Max" in self.operator

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if self._window(region) is not None:
            for spec in self.storages(NHWC):
                accuracy = EXACT if self.is_maximum else accuracy_in(spec, SUMS)
                yield Offer([spec], [spec], accuracy=accuracy)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        window = self._window(region)
        assert window is not None
        device = self.opencl(target)
        lanes = _vector(window.channels, device.lanes)
        defines: dict[str, object] = {**storage(offer.outputs[0]), **({"MAXIMUM": ""} if self.is_maximum else {})}
        if region.exit.attrs.get("count_include_pad"):
            defines["COUNT_PAD"] = ""
        arguments = (In(0), Out(0), *_geometry(window), *window.pads[2:])
        return OpenCLKernel(device, (_launch("pooled", window, lanes, 1, defines, arguments, device),))

    def _window(self, region: Region) -> Window | None:
        layer = region.exit
        if len(layer.results) != 1 or not is_f32(*layer.operands, *layer.results):
            return None
        (x,), (y,) = layer.operands, layer.results
        if layer.type.startswith("Global"):
            return _whole(x.static_shape)
        if text(layer.attrs.get("auto_pad") or "NOTSET") == "VALID" and layer.attrs.get("ceil_mode"):
            return None  # rare, and the operator's versions differ
        return window_of(layer, x.static_shape, y.static_shape, layer.attrs["kernel_shape"])


def _whole(shape: tuple[int, ...]) -> Window | None:
    """A window over all of every image."""
    if len(shape) not in (3, 4):
        return None
    size = (1, shape[2]) if len(shape) == 3 else (shape[2], shape[3])
    return Window(shape[0], shape[1], size, (1, 1), size, (1, 1), (1, 1), (0, 0, 0, 0))
