"""A plugin with a device that behaves as badly as real ones may: what OpenCL and the DSP will need of the core.

Own address space (host access raises), an asynchronous queue (``run`` only enqueues, work happens in
``synchronize``), no views, a fixed cost per run of steps, its own layout ``NCHW4c``, and either the wall clock
or a simulated one. As a plugin module it offers the device ``fake`` with the wall clock; ``FakePlugin(...)`` is a
plugin object with any name, clock and cost; ``simulated_device`` is the module with the simulated clock.
Imports nothing of pytest, so a worker process can load it by name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softneuro_core.device import Buffer, Device, Target
from softneuro_core.errors import PluginError
from softneuro_core.graph import Layer, Region, Value
from softneuro_core.hookspecs import hookimpl
from softneuro_core.routine import EXACT, SUMS, Adapter, AnyBuffer, Call, Offer, Routine
from softneuro_core.spec import FLOAT32, NCHW, Layout, TensorSpec

BLOCKED = Layout("NCHW4c")
STEP_NS, NS_PER_MAC, NS_PER_BYTE = 500, 0.05, 0.1
"""The simulated clock: declared, not measured."""


class FakeMemory:
    """Bytes no host code can reach: neither the buffer protocol nor an array interface."""

    __slots__ = ("_bytes", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._bytes = np.full(nbytes, 0xA5, np.uint8)


@dataclass(frozen=True, slots=True)
class _Task:
    work: Callable[[], None]
    cost_ns: int
    is_kernel: bool


class FakeDevice(Device):
    """In-order queue over private memory. ``calls`` counts what was asked of it, by method name."""

    supports_views = False

    def __init__(self, name: str = "fake", *, simulated: bool = False, segment_us: float = 50.0) -> None:
        self.name, self.segment_us = name, segment_us
        self.clock_name = name if simulated else "wall"
        self.calls = {"alloc": 0, "upload": 0, "download": 0, "kernel": 0, "segment": 0, "link": 0}
        self._queue: list[_Task] = []
        self._clock_ns = 0
        self._draining = False

    def alloc(self, nbytes: int) -> FakeMemory:
        self.calls["alloc"] += 1
        return FakeMemory(nbytes)

    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        self._check(buffer, array)
        self.calls["upload"] += 1
        copy = array.copy()
        self._queue.append(_Task(lambda: np.copyto(self.view(buffer), copy), int(copy.nbytes * NS_PER_BYTE), False))

    def download(self, buffer: Buffer, array: np.ndarray) -> None:
        self._check(buffer, array)
        self.calls["download"] += 1
        cost = int(array.nbytes * NS_PER_BYTE)
        self._queue.append(_Task(lambda: np.copyto(array, self.view(buffer)), cost, False))
        self.synchronize()

    def enqueue(self, work: Callable[[], None], cost_ns: int) -> None:
        """Adds a kernel to the queue; nothing of it is done before :meth:`synchronize`."""
        self._queue.append(_Task(work, cost_ns, True))

    def synchronize(self) -> None:
        if any(task.is_kernel for task in self._queue):
            self.calls["segment"] += 1
            self._spend(int(self.segment_us * 1000))
        queue, self._queue = self._queue, []
        self._draining = True
        try:
            for task in queue:
                task.work()
                self._clock_ns += task.cost_ns
                self.calls["kernel"] += task.is_kernel
        finally:
            self._draining = False

    @property
    def pending(self) -> int:
        """Tasks enqueued and not yet done."""
        return len(self._queue)

    def view(self, buffer: Buffer) -> np.ndarray:
        """The stored array, for code that runs inside the queue; raises :class:`PluginError` for anyone else."""
        if not self._draining:
            raise PluginError(f"memory of device {self.name!r} was touched outside its queue")
        return np.ndarray(buffer.shape, buffer.dtype, buffer.memory._bytes, 0)

    def now_ns(self) -> int:
        return time.perf_counter_ns() if self.clock_name == "wall" else self._clock_ns

    def fingerprint(self) -> str:
        return f"fake device, {self.clock_name} clock, {self.segment_us} us a segment"

    def _spend(self, cost_ns: int) -> None:
        self._clock_ns += cost_ns
        if self.clock_name == "wall":  # a real driver spends this time, so a real clock must see it pass
            until = time.perf_counter_ns() + cost_ns
            while time.perf_counter_ns() < until:
                pass

    def _check(self, buffer: Buffer, array: np.ndarray) -> None:
        if buffer.device is not self or not isinstance(buffer.memory, FakeMemory):
            raise PluginError(f"a buffer of {buffer.device.name!r} was given to device {self.name!r}")
        if buffer.offset or buffer.nbytes > buffer.memory.nbytes:
            raise PluginError(f"device {self.name!r} has no views: offset {buffer.offset} of {buffer.memory.nbytes}")
        if array.shape != buffer.shape or array.dtype != buffer.dtype or not array.flags.c_contiguous:
            raise PluginError(f"device {self.name!r} wants {buffer.dtype}{buffer.shape}, C-contiguous")


@dataclass(frozen=True, slots=True)
class FakeKernel:
    """``compute`` on arrays in storage shape, enqueued by ``run``; the device does not know what it does."""

    device: FakeDevice
    compute: Callable[..., np.ndarray]
    cost_ns: int
    constant_bytes: int = 0
    scratch: int = 0

    def bind(self, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None) -> Call:
        for buffer in (*inputs, *outputs):
            if not isinstance(buffer, Buffer) or buffer.device is not self.device:
                raise PluginError(f"a step of {self.device.name!r} was bound to foreign memory")
        device, target = self.device, outputs[0]
        assert isinstance(target, Buffer)

        def work() -> None:
            stored = self.compute(*(device.view(b) for b in inputs))  # type: ignore[arg-type]
            np.copyto(device.view(target), stored)

        return Call(lambda: device.enqueue(work, self.cost_ns))


def conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, attrs: Mapping[str, Any]) -> np.ndarray:
    """Plain grouped convolution: x (N, C, H, W), w (M, C/group, KH, KW), y (N, M, OH, OW), float32."""
    (sh, sw), (dh, dw) = attrs.get("strides", (1, 1)), attrs.get("dilations", (1, 1))
    top, left, bottom, right = attrs.get("pads", (0, 0, 0, 0))
    group = attrs.get("group", 1)
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    kh, kw = w.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(x, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), (2, 3))
    windows = windows[:, :, ::sh, ::sw, ::dh, ::dw]
    parts = [
        np.einsum("nchwij,mcij->nmhw", xs, ws, optimize=True)
        for xs, ws in zip(np.split(windows, group, 1), np.split(w, group, 0), strict=True)
    ]
    y = np.concatenate(parts, 1)
    return y if b is None else y + b.reshape(1, -1, 1, 1)


def pool2d(x: np.ndarray, attrs: Mapping[str, Any], reduce: Callable[..., np.ndarray], fill: float) -> np.ndarray:
    """Pooling without ceil mode: x (N, C, H, W), y (N, C, OH, OW)."""
    sh, sw = attrs.get("strides", (1, 1))
    top, left, bottom, right = attrs.get("pads", (0, 0, 0, 0))
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(x, tuple(attrs["kernel_shape"]), (2, 3))[:, :, ::sh, ::sw]
    return reduce(windows, axis=(4, 5))


def _compute(layer: Layer, *operands: np.ndarray) -> np.ndarray:
    """One layer in ONNX order."""
    match layer.type:
        case "Conv":
            return conv2d(operands[0], operands[1], operands[2] if len(operands) > 2 else None, layer.attrs)
        case "Relu":
            return np.maximum(operands[0], 0)
        case "Add":
            return operands[0] + operands[1]
        case "MatMul":
            return np.matmul(*operands)
        case "MaxPool":
            return pool2d(operands[0], layer.attrs, np.max, -np.inf)
        case "AveragePool":
            return pool2d(operands[0], layer.attrs, np.mean, 0.0)
    return operands[0].mean(axis=tuple(range(2, operands[0].ndim)), keepdims=True, dtype=np.float32)


def _conv_is_plain(layer: Layer) -> bool:
    x, w = layer.operands[:2]
    weights = all(v.is_constant for v in layer.operands[1:])
    return not x.is_constant and weights and len(w.static_shape) == 4 and _pads_are_explicit(layer)


def _pads_are_explicit(layer: Layer) -> bool:
    return layer.attrs.get("auto_pad", "NOTSET") in ("NOTSET", b"NOTSET")


def _pool_is_plain(layer: Layer) -> bool:
    attrs = layer.attrs
    padded = layer.type == "AveragePool" and any(attrs.get("pads", ()))
    dilated = any(d != 1 for d in attrs.get("dilations", ()))
    return _pads_are_explicit(layer) and not (attrs.get("ceil_mode") or padded or dilated or len(layer.results) > 1)


def _is_plain(layer: Layer) -> bool:
    """Whether this device's code covers the layer's attributes."""
    if layer.type == "Conv":
        return _conv_is_plain(layer)
    return _pool_is_plain(layer) if layer.type in ("MaxPool", "AveragePool") else True


class FakeRoutine(Routine):
    """One chain of operators, in plain and (where no operand broadcasts) in blocked storage."""

    def __init__(self, device: str, pattern: tuple[str, ...], layouts: Sequence[Layout], accuracy: float) -> None:
        self.name = f"{device}/{'_'.join(pattern).lower()}"
        self.pattern, self.layouts, self.accuracy = pattern, tuple(layouts), accuracy

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        values = region.inputs + region.outputs
        if any(v.is_object or v.dtype != FLOAT32 for v in (*values, *region.constants)) or not region.inputs:
            return
        if not all(_is_plain(layer) for layer in region.layers):
            return
        for layout in self.layouts:
            if layout is NCHW or self._blocks(region):
                spec = TensorSpec(self.device, FLOAT32, layout)
                yield Offer((spec,) * len(region.inputs), (spec,) * len(region.outputs), accuracy=self.accuracy)

    def _blocks(self, region: Region) -> bool:
        values = region.inputs + region.outputs
        same = len({v.static_shape for v in values}) == 1 and not region.constants
        return all(len(v.static_shape) == 4 for v in values) and (same or region.layers[0].type != "Add")

    def prepare(self, region: Region, offer: Offer, target: Target) -> FakeKernel:
        assert isinstance(target.device, FakeDevice)
        shapes = [v.static_shape for v in region.inputs]

        def compute(*stored: np.ndarray) -> np.ndarray:
            pairs = zip(offer.inputs, stored, shapes, strict=True)
            given = iter([spec.layout.unpack(array, shape) for spec, array, shape in pairs])
            known: dict[Value, np.ndarray] = {}
            for layer in region.layers:
                args = [v.data if v.is_constant else known[v] if v in known else next(given) for v in layer.operands]
                known[layer.results[0]] = _compute(layer, *args)
            return offer.outputs[0].layout.pack(known[region.outputs[0]])

        constants = sum(v.nbytes for v in region.constants)
        return FakeKernel(target.device, compute, _cost_ns(region), constants)


def _cost_ns(region: Region) -> int:
    work = sum(v.size for v in region.outputs)
    for layer in region.layers:
        if layer.type == "Conv":
            work += layer.results[0].size * int(np.prod(layer.operands[1].static_shape[1:]))
        elif layer.type == "MatMul":
            work += layer.results[0].size * layer.operands[0].static_shape[-1]
    return STEP_NS + int(work * NS_PER_MAC)


class FakeLayout(Adapter):
    """Between the device's own layouts, on the device."""

    def __init__(self, device: str) -> None:
        self.name = f"{device}/layout"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        device = self.name.partition("/")[0]
        here = src.device == dst.device == device and src.dtype == dst.dtype and src.layout != dst.layout
        return here and value.is_static and {src.layout, dst.layout} <= {NCHW, BLOCKED}

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> FakeKernel:
        assert isinstance(target.device, FakeDevice)
        shape = value.static_shape
        cost = STEP_NS + int(2 * src.nbytes(shape) * NS_PER_BYTE)
        return FakeKernel(target.device, lambda stored: dst.layout.pack(src.layout.unpack(stored, shape)), cost)


_POINTWISE, _SPATIAL = (NCHW, BLOCKED), (BLOCKED,)


def routines(device: str) -> list[Routine]:
    """Every routine of a fake device with this name."""
    table: list[tuple[tuple[str, ...], Sequence[Layout], float]] = [
        (("Conv",), _SPATIAL, SUMS),
        (("Conv", "Relu"), _SPATIAL, SUMS),
        (("Relu",), _POINTWISE, EXACT),
        (("Add",), _POINTWISE, SUMS),
        (("MatMul",), (NCHW,), SUMS),
        (("MaxPool",), _SPATIAL, EXACT),
        (("AveragePool",), _SPATIAL, SUMS),
        (("GlobalAveragePool",), _SPATIAL, SUMS),
    ]
    return [FakeRoutine(device, *row) for row in table]


def link(target: Target, calls: Sequence[Call]) -> Callable[[], None] | None:
    """Enqueues a whole segment; None for other devices."""
    device = target.device
    if not isinstance(device, FakeDevice):
        return None
    device.calls["link"] += 1
    runs = [call.run for call in calls]

    def run() -> None:
        for start in runs:
            start()

    return run


class FakePlugin:
    """A plugin object: ``load_plugins(only=(), modules=[FakePlugin(simulated=True)])``."""

    def __init__(self, name: str = "fake", *, simulated: bool = False, segment_us: float = 50.0) -> None:
        self.__name__ = name
        self.device = FakeDevice(name, simulated=simulated, segment_us=segment_us)

    @hookimpl
    def softneuro_devices(self) -> list[Device]:
        return [self.device]

    @hookimpl
    def softneuro_routines(self) -> list[Routine]:
        return routines(self.device.name)

    @hookimpl
    def softneuro_adapters(self) -> list[Adapter]:
        return [FakeLayout(self.device.name)]

    @hookimpl
    def softneuro_link(self, target: Target, calls: Sequence[Call]) -> Callable[[], None] | None:
        return link(target, calls) if target.device is self.device else None


@hookimpl
def softneuro_devices() -> list[Device]:
    return [FakeDevice()]


@hookimpl
def softneuro_routines() -> list[Routine]:
    return routines("fake")


@hookimpl
def softneuro_adapters() -> list[Adapter]:
    return [FakeLayout("fake")]


@hookimpl
def softneuro_link(target: Target, calls: Sequence[Call]) -> Callable[[], None] | None:
    return link(target, calls) if target.device.name == "fake" else None
