"""Memory with red zones: what surrounds every buffer of the rig, and how writes into it are found.

Owns placement, poison and patterns; must not know kernels or values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softneuro_core.device import Buffer, Device, dense_strides
from softneuro_core.errors import PluginError
from softneuro_core.spec import TensorSpec

ZONE_BYTES = 128
"""Patterned bytes before and behind every buffer; two cache lines, so that a whole stray vector store is seen."""
ZONE_BYTE, POISON_BYTE = 0x5C, 0xA5
BORDER = 1
"""Elements of border on each side of every spatial axis of an operand placed as ``strided``."""


@dataclass(slots=True, eq=False)
class Slot:
    """One operand of one copy: its buffer inside a container that lies in ``memory`` with zones around."""

    label: str
    buffer: Buffer
    container: tuple[int, ...]
    inner: tuple[slice, ...]
    start: int
    """First byte of the container in ``memory``."""
    front: int
    """Patterned bytes before the container."""
    back: int
    """Patterned bytes behind the container."""

    @property
    def container_bytes(self) -> int:
        return math.prod(self.container) * self.buffer.dtype.itemsize

    @property
    def _whole(self) -> bool:
        """Whether contents, maybe large, are read and written with their zones: for their border, or because the
        device has no view of a zone alone."""
        has_border = math.prod(self.container) != math.prod(self.buffer.shape)
        return has_border or not self.buffer.device.supports_views

    def _bytes(self, start: int, count: int) -> Buffer:
        return self.buffer.device.buffer(self.buffer.memory, start, (count,), np.dtype(np.uint8))

    def fill_zones(self) -> None:
        """Writes the pattern over zones and border, maybe over the contents too: they are written after it."""
        first, end = self.start - self.front, self.start + self.container_bytes
        parts = [(first, end + self.back)] if self._whole else [(first, self.start), (end, end + self.back)]
        for start, stop in parts:
            if stop > start:
                pattern = np.full(stop - start, ZONE_BYTE, np.uint8)
                self.buffer.device.upload(self._bytes(start, stop - start), pattern)

    def damage(self) -> str | None:
        """What was written outside the tensor, or None."""
        first, end = self.start - self.front, self.start + self.container_bytes
        if self._whole:
            seen = self._read(first, end + self.back)
            before, body, behind = np.split(seen, [self.front, self.front + self.container_bytes])
        else:
            before, body, behind = self._read(first, self.start), None, self._read(end, end + self.back)
        for part, where in ((before, "before its start"), (behind, "behind its end")):
            if written := int(np.count_nonzero(part != ZONE_BYTE)):
                return f"{self.label}: {written} bytes {where} were overwritten"
        if body is None:
            return None
        body = body.reshape((*self.container, self.buffer.dtype.itemsize))
        body[self.inner] = ZONE_BYTE
        if written := int(np.count_nonzero(body != ZONE_BYTE)):
            return f"{self.label}: {written} bytes of the border around it were overwritten"
        return None

    def _read(self, start: int, stop: int) -> np.ndarray:
        seen = np.empty(stop - start, np.uint8)
        if stop > start:
            self.buffer.device.download(self._bytes(start, stop - start), seen)
        return seen


def poison(shape: Sequence[int], dtype: np.dtype, byte: int = POISON_BYTE) -> np.ndarray:
    """An array nobody computes by accident: NaN where the type has one, else ``byte`` repeated."""
    if dtype.kind == "f" or (dtype.kind == "V" and "float" in dtype.name):
        with np.errstate(all="ignore"):
            lost = np.full(1, np.nan, np.float32).astype(dtype)
        if np.isnan(lost.astype(np.float32)).all():
            return np.full(shape, lost[0], dtype)
    return np.full((*shape, dtype.itemsize), byte, np.uint8).view(dtype).reshape(shape)


@dataclass(slots=True)
class Wish:
    device: str
    label: str
    shape: tuple[int, ...]
    container: tuple[int, ...]
    inner: tuple[slice, ...]
    dtype: np.dtype
    watched: bool
    start: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.container) * self.dtype.itemsize


class Arena:
    """Collects what is wanted, then makes one allocation per device, or one per buffer where views are unsupported."""

    def __init__(self, devices: Mapping[str, Device], offset: int) -> None:
        self.devices, self.offset = devices, offset
        self.wishes: list[Wish] = []
        self.zoned = True
        self.watched = True
        """Whether what is added now will have its zones looked at: the first copy's buffers."""

    def add(
        self,
        device: str,
        label: str,
        shape: tuple[int, ...],
        container: tuple[int, ...],
        inner: tuple[slice, ...],
        dtype: np.dtype,
    ) -> int:
        """Number of the slot :meth:`allocate` will return for this."""
        self.wishes.append(Wish(device, label, shape, container, inner, dtype, self.watched))
        return len(self.wishes) - 1

    def allocate(self) -> list[Slot]:
        """Every slot, in the order asked for."""
        memories, ends = {}, {}
        for name in dict.fromkeys(wish.device for wish in self.wishes):
            device = self.devices[name]
            if device.supports_views:
                ends[name] = self._arrange([wish for wish in self.wishes if wish.device == name], device.alignment)
                memories[name] = device.alloc(ends[name])
        return [
            place(wish, self.devices[wish.device], memories[wish.device], ZONE_BYTES, ZONE_BYTES)
            if wish.device in memories
            else self._alone(wish)
            for wish in self.wishes
        ]

    def _arrange(self, wishes: Sequence[Wish], alignment: int) -> int:
        """Gives every wish its aligned start with zones between; returns the end of the memory."""
        at = self.offset
        for wish in wishes:
            wish.start = _round_up(at + ZONE_BYTES, alignment)
            at = wish.start + wish.nbytes + ZONE_BYTES
        return at

    def _alone(self, wish: Wish) -> Slot:
        """A whole allocation for one buffer, with a zone behind it where the device takes that."""
        device = self.devices[wish.device]
        if not wish.watched:
            return place(wish, device, device.alloc(max(1, wish.nbytes)), 0, 0)
        try:
            slot = place(wish, device, device.alloc(wish.nbytes + ZONE_BYTES), 0, ZONE_BYTES)
            slot.fill_zones()
            if slot.damage() is None:
                device.upload(slot.buffer, poison(wish.shape, wish.dtype))
                return slot
        except (PluginError, ValueError, TypeError, NotImplementedError):
            pass
        self.zoned = False
        return place(wish, device, device.alloc(max(1, wish.nbytes)), 0, 0)


def place(wish: Wish, device: Device, memory: Any, front: int, back: int) -> Slot:
    strides = dense_strides(wish.container, wish.dtype)
    skipped = sum(part.start * step for part, step in zip(wish.inner, strides, strict=True) if part.start)
    dense = wish.container == wish.shape
    buffer = device.buffer(memory, wish.start + skipped, wish.shape, wish.dtype, None if dense else strides)
    return Slot(wish.label, buffer, wish.container, wish.inner, wish.start, front, back)


def bordered(shape: tuple[int, ...], spec: TensorSpec, rank: int) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """A larger container with a border around every spatial axis, and where the tensor lies in it."""
    order = spec.layout.permutation(rank)
    margins = [BORDER if place < len(order) and order[place] >= 2 else 0 for place in range(len(shape))]
    container = tuple(dim + 2 * margin for dim, margin in zip(shape, margins, strict=True))
    return container, tuple(slice(m, m + dim) for dim, m in zip(shape, margins, strict=True))


def widened(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """A container whose last axis is longer by an odd number of elements, and where the tensor lies in it."""
    if not shape:
        return shape, ()
    *outer, last = shape
    return (*outer, last + 3 * BORDER), (*(slice(0, n) for n in outer), slice(BORDER, BORDER + last))


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
