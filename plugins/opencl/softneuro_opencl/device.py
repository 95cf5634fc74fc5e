"""An OpenCL device: its memory, its one in-order queue, what it is called in cost keys. Knows nothing of layers."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from softneuro_core.device import Buffer, Device
from softneuro_core.pages import fresh
from softneuro_opencl.probe import Verdict


class OpenCLDevice(Device):
    """Everything is enqueued in order; a download, or :meth:`synchronize`, waits for all of it.

    Context and queue are made when first needed: listing plugins makes none. Tensors lie in one allocation, each at an
    offset kernels are given beside it.
    """

    def __init__(self, name: str, handle: Any, verdict: Verdict) -> None:
        self.name, self.handle, self.segment_us = name, handle, verdict.segment_us
        self.alignment = max(64, handle.mem_base_addr_align // 8)
        self.isa = "fp16" if verdict.half else ""
        self.shares_host_memory = verdict.shares

    @cached_property
    def context(self) -> Any:
        import pyopencl as cl

        return cl.Context([self.handle])

    @cached_property
    def queue(self) -> Any:
        import pyopencl as cl

        return cl.CommandQueue(self.context)

    @property
    def lanes(self) -> int:
        """float32 elements of a vector the device likes: 16, 8 or 4 on CPUs, 4 where it has none of its own."""
        return max(4, min(16, int(self.handle.native_vector_width_float)))

    @property
    def prefetches(self) -> bool:
        """Whether kernels may ask for data ahead: CPUs may, but Oclgrind interprets no such instruction."""
        import pyopencl as cl

        return bool(self.handle.type & cl.device_type.CPU) and "oclgrind" not in self.handle.platform.name.lower()

    @property
    def units(self) -> int:
        """Cores, or what the device has of the kind."""
        return max(1, int(self.handle.max_compute_units))

    @property
    def most_items(self) -> int:
        """Of a work group."""
        return int(self.handle.max_work_group_size)

    def alloc(self, nbytes: int) -> Any:
        import pyopencl as cl

        if self.shares_host_memory:
            return self.share(fresh(max(1, nbytes)))
        unified = cl.mem_flags.ALLOC_HOST_PTR if self.handle.host_unified_memory else 0
        return cl.Buffer(self.context, cl.mem_flags.READ_WRITE | unified, max(1, nbytes))

    def share(self, memory: np.ndarray) -> Any:
        import pyopencl as cl

        if not self.shares_host_memory:
            return super().share(memory)
        return cl.Buffer(self.context, cl.mem_flags.READ_WRITE | cl.mem_flags.USE_HOST_PTR, hostbuf=memory)

    def host_array(self, buffer: Buffer) -> np.ndarray:
        if not self.shares_host_memory:
            return super().host_array(buffer)
        return np.ndarray(buffer.shape, buffer.dtype, buffer.memory.hostbuf, buffer.offset, buffer.strides)

    def constant(self, array: np.ndarray) -> Any:
        """Device memory holding a copy of an array."""
        import pyopencl as cl

        array = np.ascontiguousarray(array)
        if not array.nbytes:
            return self.alloc(1)
        if self.shares_host_memory:
            held = fresh(array.nbytes)
            held[: array.nbytes] = _bytes(array)
            return self.share(held)
        return cl.Buffer(self.context, cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR, hostbuf=array)

    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        import pyopencl as cl

        if array.nbytes:
            cl.enqueue_copy(self.queue, buffer.memory, _bytes(array), dst_offset=buffer.offset, is_blocking=True)

    def download(self, buffer: Buffer, array: np.ndarray) -> None:
        import pyopencl as cl

        if array.nbytes:
            cl.enqueue_copy(self.queue, _bytes(array), buffer.memory, src_offset=buffer.offset, is_blocking=True)

    def synchronize(self) -> None:
        if "queue" in self.__dict__:
            self.queue.finish()

    def launch(self) -> None:
        """Hands what is enqueued to the device."""
        self.queue.flush()

    def fingerprint(self) -> str:
        about = (self.handle.platform.name, self.handle.platform.version, self.handle.name, self.handle.driver_version)
        return " | ".join(" ".join(text.split()) for text in about) + f" | {self.handle.max_compute_units} units"


def _bytes(array: np.ndarray) -> np.ndarray:
    """A C-contiguous array as bytes: not every element type has a buffer of its own (bfloat16)."""
    return array.reshape(-1).view(np.uint8)
