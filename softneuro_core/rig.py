"""Runs one kernel on real buffers with red zones around them: shared by the profiler and the conformance kit.

Owns binding and packing (memory and red zones: ``profiling.zones``); must not know routines, regions, references or
clocks. Touches device memory through ``upload`` and ``download`` only, so a device whose memory the host cannot address
works like any other.
"""

from __future__ import annotations

import copy as copying
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from softneuro_core.device import Buffer, Device, ObjectBuffer, Target
from softneuro_core.encoding import encode
from softneuro_core.errors import InputError
from softneuro_core.graph import Value
from softneuro_core.profiling.zones import POISON_BYTE, ZONE_BYTES, Arena, Slot, bordered, poison, widened
from softneuro_core.routine import AnyBuffer, Call, Kernel
from softneuro_core.spec import OBJECT, TensorSpec

Operand = tuple[Value, TensorSpec]
Link = Callable[[Target, Sequence[Call]], Callable[[], None] | None]

PIECE_BYTES = 1 << 18
"""Bytes compared at once: what is made on the way stays in the cache."""


class Rig:
    """A kernel bound to buffers of its own, ``copies`` complete sets of them.

    ``inputs`` and ``outputs`` pair each operand's value with the spec it is held in, parallel to
    ``Kernel.bind``. Every buffer but host objects has at least :data:`ZONE_BYTES` patterned bytes on both sides, save
    on a device without views that refuses a longer allocation (``zoned`` is False then). ``alias=i`` puts
    output 0 into the memory of input i. ``offset`` bytes (a multiple of every device's alignment) shift all buffers.
    ``strided`` numbers operands, inputs first, to be held in a larger buffer with a border around the spatial axes,
    ``pitched`` those whose last stored axis is a piece of a longer one; ``parts`` places inputs inside output 0, as
    :class:`~softneuro_core.routine.Offer` says.
    Raises :class:`InputError` for operands that do not fit together; whatever ``bind`` raises passes through.
    """

    def __init__(
        self,
        kernel: Kernel,
        inputs: Sequence[Operand],
        outputs: Sequence[Operand],
        devices: Mapping[str, Device],
        *,
        routine_device: str,
        copies: int = 1,
        alias: int | None = None,
        offset: int = 0,
        strided: Collection[int] = (),
        pitched: Collection[int] = (),
        parts: Mapping[int, tuple[int, int]] = MappingProxyType({}),
    ) -> None:
        self.kernel, self.input_operands, self.output_operands = kernel, tuple(inputs), tuple(outputs)
        self.devices, self.alias, self.offset = devices, alias, offset
        self.strided, self.pitched, self.parts = frozenset(strided), frozenset(pitched), dict(parts)
        self.routine_device = routine_device
        self.zoned = True
        self._packed: list[Any] = []
        names = {spec.device for _, spec in (*inputs, *outputs)} | {routine_device}
        if missing := sorted(names - set(devices)):
            raise InputError(f"devices {missing} are not available")
        self._used = [devices[name] for name in sorted(names)]
        self._allocate(copies)
        self.calls: tuple[Call, ...] = tuple(
            kernel.bind(ins, outs, None if self._scratch is None else self._scratch.buffer)
            for ins, outs in zip(self._inputs, self._outputs, strict=True)
        )

    # -- memory ----------------------------------------------------------------------------------------------

    def _allocate(self, copies: int) -> None:
        plan = Arena(self.devices, self.offset)
        ins, outs = [], []
        for copy in range(copies):
            plan.watched = copy == 0
            ins.append([self._place(plan, i) for i in range(len(self.input_operands))])
            outs.append([self._place(plan, len(ins[0]) + i) for i in range(len(self.output_operands))])
        plan.watched = True
        scratch_bytes = int(self.kernel.scratch)
        scratch = None
        if scratch_bytes:
            flat = (scratch_bytes,)
            scratch = plan.add(self.routine_device, "scratch", flat, flat, (slice(None),), np.dtype(np.uint8))
        made = plan.allocate()
        self.zoned = plan.zoned
        self._slots = made
        self._scratch = None if scratch is None else made[scratch]
        self._inputs = [[_held(made, where) for where in row] for row in ins]
        self._outputs = [[_held(made, where) for where in row] for row in outs]
        if self.alias is not None:
            for copy in range(copies):
                self._outputs[copy][0] = self._aliased(self._inputs[copy][self.alias])
        for copy in range(copies):
            for number, place in self.parts.items():
                self._inputs[copy][number] = self._part(number, *place, self._outputs[copy][0])
        first = {where for where in (*ins[0], *outs[0], scratch) if isinstance(where, int)}
        self._checked = [made[where] for where in sorted(first)]
        for slot in self._checked:
            if self.zoned:
                slot.fill_zones()
        self._poison(range(copies), POISON_BYTE)

    def _place(self, plan: Arena, number: int) -> int | ObjectBuffer:
        """Asks for one operand's memory: its slot number, or the slot of a host object."""
        is_output = number >= len(self.input_operands)
        at = number - len(self.input_operands) if is_output else number
        value, spec = (self.output_operands if is_output else self.input_operands)[at]
        lies_elsewhere = at in self.parts if not is_output else at == 0 and self.alias is not None
        if spec.dtype is OBJECT or lies_elsewhere:
            return ObjectBuffer()
        shape = spec.layout.storage_shape(value.static_shape)
        container, inner = shape, tuple(slice(0, dim) for dim in shape)
        if number in self.strided and self.devices[spec.device].supports_views:
            container, inner = bordered(shape, spec, len(value.static_shape))
        elif number in self.pitched and self.devices[spec.device].supports_views:
            container, inner = widened(shape)
        label = f"{'output' if is_output else 'input'} {at} ({value.name!r})"
        return plan.add(spec.device, label, shape, container, inner, spec.dtype.numpy)

    def _aliased(self, source: AnyBuffer) -> Buffer:
        """Output 0 in the memory of the input it may alias."""
        value, spec = self.output_operands[0]
        shape, device = spec.layout.storage_shape(value.static_shape), self.devices[spec.device]
        same = isinstance(source, Buffer) and source.device.home == device.home
        if not same or source.nbytes != spec.nbytes(value.static_shape):  # type: ignore[union-attr]
            raise InputError(f"output {value.name!r} cannot lie in the memory of input {self.alias}")
        assert isinstance(source, Buffer)
        if source.device is not device:
            memory = device.share(source.array.reshape(-1).view(np.uint8))
            return device.buffer(memory, 0, shape, spec.dtype.numpy)
        dense = source.shape == shape and source.dtype == spec.dtype.numpy
        strides = source.strides if dense else None
        return source.device.buffer(source.memory, source.offset, shape, spec.dtype.numpy, strides)

    def _part(self, number: int, axis: int, first: int, whole: AnyBuffer) -> Buffer:
        """Input ``number`` inside output 0, from index ``first`` of ``axis`` on."""
        value, spec = self.input_operands[number]
        rank = len(value.static_shape)
        if not isinstance(whole, Buffer) or spec != self.output_operands[0][1] or spec.layout.blocks(rank):
            raise InputError(f"input {value.name!r} cannot lie in output 0")
        shape = spec.layout.storage_shape(value.static_shape)
        offset = whole.offset + first * whole.strides[spec.layout.permutation(rank).index(axis)]
        return whole.device.buffer(whole.memory, offset, shape, spec.dtype.numpy, whole.strides)

    # -- contents --------------------------------------------------------------------------------------------

    def poison(self, copy: int = 0, byte: int = POISON_BYTE) -> None:
        """Overwrites outputs and scratch with NaN or ``byte``, so that whatever is not written shows."""
        self._poison([copy], byte)

    def _poison(self, copies: Iterable[int], byte: int) -> None:
        first = self._outputs[0]
        spoilt = [slot if isinstance(slot, ObjectBuffer) else poison(slot.shape, slot.dtype, byte) for slot in first]
        for copy in copies:
            for number, slot in enumerate(self._outputs[copy]):
                if number == 0 and (self.alias is not None or self.parts):
                    continue
                if isinstance(slot, ObjectBuffer):
                    slot.value = None
                else:
                    slot.device.upload(slot, spoilt[number])  # type: ignore[arg-type]
        if self._scratch is not None:
            buffer = self._scratch.buffer
            buffer.device.upload(buffer, np.full(buffer.shape, byte, np.uint8))

    def load(self, arrays: Sequence[Any], copies: Collection[int] | None = None) -> None:
        """Uploads the inputs, given in ONNX order and the values' dtypes, to every copy (or those named).

        Raises :class:`InputError` if the number or a shape is wrong.
        """
        if len(arrays) != len(self.input_operands):
            raise InputError(f"{len(arrays)} inputs given, the kernel reads {len(self.input_operands)}")
        self._packed = [_packed(array, *operand) for array, operand in zip(arrays, self.input_operands, strict=True)]
        for copy in range(len(self.calls)) if copies is None else copies:
            for slot, packed in zip(self._inputs[copy], self._packed, strict=True):
                if isinstance(slot, ObjectBuffer):
                    slot.value = copying.deepcopy(packed)
                else:
                    slot.device.upload(slot, packed)

    def outputs(self, copy: int = 0) -> list[Any]:
        """The results in ONNX order, in the element types of the outputs' specs; host objects as they are."""
        self.synchronize()
        found: list[Any] = []
        for slot, (value, spec) in zip(self._outputs[copy], self.output_operands, strict=True):
            if isinstance(slot, ObjectBuffer):
                found.append(slot.value)
            else:
                found.append(spec.layout.unpack(_read(slot), value.static_shape))
        return found

    # -- running ---------------------------------------------------------------------------------------------

    def run(self, copy: int = 0) -> None:
        """Runs the kernel once on one set of buffers and waits until it is done."""
        self.calls[copy].run()
        self.synchronize()

    def linked(self, link: Link, target: Target, copies: Sequence[int]) -> Callable[[], None]:
        """One function that runs the calls of ``copies`` in turn, as a session would; it does not wait."""
        calls = [self.calls[copy] for copy in copies]
        found = link(target, calls)
        if found is not None:
            return found
        runs = [call.run for call in calls]
        if len(runs) == 1:
            return runs[0]

        def loop() -> None:
            for run in runs:
                run()

        return loop

    def synchronize(self) -> None:
        """Waits for every device involved."""
        for device in self._used:
            device.synchronize()

    # -- checks (first copy only) ----------------------------------------------------------------------------

    def zones_intact(self) -> str | None:
        """None, or which buffer of the first copy was written outside its bounds."""
        self.synchronize()
        return next((found for slot in self._checked if self.zoned and (found := slot.damage())), None)

    def inputs_intact(self) -> str | None:
        """None, or which input of the first copy changed (an aliased one may)."""
        self.synchronize()
        for number, (slot, packed) in enumerate(zip(self._inputs[0], self._packed, strict=True)):
            if number != self.alias and not _unchanged(slot, packed):
                return f"input {number} ({self.input_operands[number][0].name!r}) was changed"
        return None

    def host_inputs(self, copy: int) -> list[Buffer]:
        """The tensors among the inputs of one copy."""
        return [slot for slot in self._inputs[copy] if isinstance(slot, Buffer)]

    @property
    def set_bytes(self) -> int:
        """Bytes of one set of inputs and outputs, without zones."""
        buffers = [slot for slot in (*self._inputs[0], *self._outputs[0]) if isinstance(slot, Buffer)]
        return sum(buffer.nbytes for buffer in buffers)


def copies_past_cache(operands: Sequence[Operand], cache_bytes: int, limit_bytes: int, most: int) -> int:
    """How many sets of these operands exceed ``cache_bytes`` by a quarter, within ``limit_bytes`` and ``most``."""
    tensors = [(value, spec) for value, spec in operands if spec.dtype is not OBJECT]
    size = sum(spec.nbytes(value.static_shape) for value, spec in tensors)
    if not size:
        return 1
    return max(1, min(-(-cache_bytes * 5 // 4 // size), limit_bytes // (size + 2 * ZONE_BYTES * len(tensors)), most))


def _held(slots: Sequence[Slot], where: int | ObjectBuffer) -> AnyBuffer:
    return slots[where].buffer if isinstance(where, int) else where


def _packed(array: Any, value: Value, spec: TensorSpec) -> Any:
    if spec.dtype is OBJECT:
        return array
    array = np.asarray(array)
    if array.shape != value.static_shape:
        raise InputError(f"{value.name!r} has shape {array.shape}, wanted {value.static_shape}")
    return spec.layout.pack(encode(array, value, spec))


def _read(buffer: Buffer) -> np.ndarray:
    stored = np.empty(buffer.shape, buffer.dtype)
    buffer.device.download(buffer, stored)
    return stored


def _unchanged(slot: AnyBuffer, packed: Any) -> bool:
    if isinstance(slot, ObjectBuffer):
        return _same_object(slot.value, packed)
    seen, known = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (_read(slot), packed))
    pieces = range(0, len(known), PIECE_BYTES)
    return all(np.array_equal(seen[at : at + PIECE_BYTES], known[at : at + PIECE_BYTES]) for at in pieces)


def _same_object(one: Any, other: Any) -> bool:
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same_object, one, other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        return bool(np.array_equal(one, other)) if one.dtype.kind == "O" else one.tobytes() == other.tobytes()
    return type(one) is type(other) and bool(one == other)
