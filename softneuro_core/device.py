"""Devices, their memory, and the CPU of this process. Knows nothing of layers."""

from __future__ import annotations

import abc
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from softneuro_core.errors import InputError, PluginError
from softneuro_core.pages import fresh
from softneuro_core.spec import TensorSpec


@dataclass(slots=True, eq=False)
class Buffer:
    """A piece of a device's memory holding one stored tensor.

    ``shape`` is the storage shape (layout applied), ``strides`` are in bytes. ``memory`` is whatever the
    device's ``alloc`` returned, ``offset`` counts bytes from its start. On the host ``array`` is a numpy view
    and ``address`` its first byte; elsewhere both raise :class:`PluginError`, so host code cannot touch foreign
    memory by accident.
    """

    device: Device
    memory: Any
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of a dense tensor of this shape."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def array(self) -> np.ndarray:
        return self.device.host_array(self)

    @property
    def address(self) -> int:
        return int(self.array.ctypes.data)


class ObjectBuffer:
    """The slot of a host object: whatever ``value`` holds between two steps. No arena, no address."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None


class Device(abc.ABC):
    """One place with memory and a clock. Subclass it in a plugin and return it from ``softneuro_devices``.

    ``segment_us`` is the fixed cost of starting a run of consecutive steps here (launch and wait, RPC);
    the tuner charges it once per run. ``supports_views`` False makes the memory plan give every slot a whole
    allocation. ``clock_name`` other than ``wall`` marks costs as simulated.

    ``shares_host_memory`` True (it needs views): the host's memory is this device's too. Its tensors then lie among the
    host's, a transfer between both moves nothing, and an executable calls ``synchronize`` after every stretch of steps
    here. It has ``share`` and ``host_array`` then.
    """

    name: str
    alignment: int = 64
    supports_views: bool = True
    shares_host_memory: bool = False
    segment_us: float = 0.0
    clock_name: str = "wall"
    isa: str = ""

    @abc.abstractmethod
    def alloc(self, nbytes: int) -> Any:
        """Fresh memory of at least ``nbytes``, aligned; freed when the last reference dies."""

    @abc.abstractmethod
    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        """Copies a C-contiguous array in storage shape into the buffer."""

    @abc.abstractmethod
    def download(self, buffer: Buffer, array: np.ndarray) -> None:
        """Copies the buffer into a C-contiguous array in storage shape; waits for pending work first."""

    def share(self, memory: np.ndarray) -> Any:
        """What stands for bytes of the host in this device's buffers; :class:`PluginError` where it shares none."""
        raise PluginError(f"device {self.name!r} has memory of its own")

    @property
    def home(self) -> str:
        """The device in whose memory this one's tensors lie."""
        return HostDevice.name if self.shares_host_memory else self.name

    def synchronize(self) -> None:  # noqa: B027 (a device whose run returns when it is done needs nothing here)
        """Returns when everything started on this device is done: the only fence."""

    def host_array(self, buffer: Buffer) -> np.ndarray:
        """A numpy view, for devices whose memory the host can address; raises :class:`PluginError` otherwise."""
        raise PluginError(f"memory of device {self.name!r} cannot be touched from the host")

    def now_ns(self) -> int:
        """The device's own clock in nanoseconds."""
        return time.perf_counter_ns()

    def fingerprint(self) -> str:
        """Everything of this device that changes code or speed (model, driver, units); no host names."""
        return self.name

    def buffer(
        self, memory: Any, offset: int, shape: Sequence[int], dtype: np.dtype, strides: Sequence[int] | None = None
    ) -> Buffer:
        """A dense (or explicitly strided) tensor at ``offset`` bytes of ``memory``."""
        dtype = np.dtype(dtype)
        return Buffer(self, memory, offset, tuple(shape), dtype, tuple(strides or dense_strides(shape, dtype)))


def is_handed_over(source: TensorSpec, result: TensorSpec, homes: Mapping[str, str]) -> bool:
    """Whether two specs are the same bytes for two devices with one memory."""
    same = (source.dtype, source.layout) == (result.dtype, result.layout)
    return same and source.device != result.device and homes[source.device] == homes[result.device]


def dense_strides(shape: Sequence[int], dtype: np.dtype) -> tuple[int, ...]:
    """Row-major strides in bytes."""
    strides, step = [], np.dtype(dtype).itemsize
    for dim in reversed(shape):
        strides.append(step)
        step *= max(1, dim)
    return tuple(reversed(strides))


class HostDevice(Device):
    """The CPU and memory of this process."""

    name = "cpu"
    shares_host_memory = True

    def __init__(self) -> None:
        self.isa = ",".join(cpu_features())

    def alloc(self, nbytes: int) -> np.ndarray:
        return fresh(nbytes)

    def share(self, memory: np.ndarray) -> np.ndarray:
        return memory

    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        np.copyto(buffer.array, array)

    def download(self, buffer: Buffer, array: np.ndarray) -> None:
        np.copyto(array, buffer.array)

    def host_array(self, buffer: Buffer) -> np.ndarray:
        return np.ndarray(buffer.shape, buffer.dtype, buffer.memory, buffer.offset, buffer.strides)

    def fingerprint(self) -> str:
        return f"{cpu_model()} [{self.isa}] {usable_cores()} cores"


@dataclass(frozen=True, slots=True)
class Target:
    """What code is made for: given to ``offers``, ``prepare`` and ``softneuro_link``, never read from a global."""

    device: Device
    threads: int
    isa: str


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count(wanted: int | None, default: int) -> int:
    """``wanted``, or the default for None; raises :class:`InputError` for less than one."""
    if wanted is not None and wanted < 1:
        raise InputError(f"{wanted} threads cannot run anything", remedy="threads=1 or more, or None for the default")
    return default if wanted is None else wanted


UNKNOWN_TO_NUMPY = frozenset(("AMX_BF16", "AMX_INT8", "AVX_VNNI"))


@cache
def cpu_model() -> str:
    """The processor's name, from the system's own description."""
    if not (name := _described("model name")):
        return platform.processor() or platform.machine()
    return f"{name} " + "-".join(_described(k) or "?" for k in ("cpu family", "model", "stepping"))


@cache
def cpu_features() -> tuple[str, ...]:
    """Instruction sets numpy found on this CPU and those it does not look for, sorted: the part of a machine that
    decides legality."""
    from numpy._core._multiarray_umath import __cpu_features__  # type: ignore[import-not-found]

    found = {name for name, present in __cpu_features__.items() if present}
    return tuple(sorted(found | (UNKNOWN_TO_NUMPY & set(_described("flags").upper().split()))))


@cache
def _described(what: str) -> str:
    """What the system says of the first processor; empty where it says nothing."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            named = (line.partition(":") for line in lines)
            return next((value.strip() for name, _, value in named if name.strip() == what), "")
    except OSError:
        return ""
