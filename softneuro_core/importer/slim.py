"""A serialised model without its large tensors: each left where it is, named by its place, as external data is.

Parsing then neither copies nor reads the weights. Knows protobuf's wire format and which ONNX messages hold tensors.
Source: protobuf.dev/programming-guides/encoding; field numbers from onnx.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import onnx

Buffer: TypeAlias = bytes | memoryview
LARGE_BYTES = 1 << 16
"""Tensors (and messages holding them) below this are parsed as ever."""
OWN_FILE = "\0own"
"""Location of a tensor left in the model's own bytes."""
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR = "model", "graph", "node", "attribute", "tensor"
INSIDE: dict[str, dict[int, str]] = {
    MODEL: {7: GRAPH},
    GRAPH: {1: NODE, 5: TENSOR},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH},
}
"""Field -> message, for the messages a large tensor can be in."""
TENSOR_TYPE, FLOAT_DATA, RAW_DATA = 2, 4, 9


class _Malformed(Exception):
    """The bytes are no protobuf message of the kind expected: let the parser say so."""


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    wire: int
    start: int
    value: int
    """First byte of the field, and of its payload."""
    end: int


def slim(data: Buffer) -> bytes:
    """The model with every tensor of ``LARGE_BYTES`` or more replaced by its offset and length in ``data``; the bytes
    as they are where that cannot be done."""
    view = memoryview(data)
    try:
        made = _without_tensors(view, 0, len(view), MODEL)
    except (_Malformed, IndexError):
        made = None
    return bytes(view) if made is None else made


def _without_tensors(data: memoryview, start: int, end: int, kind: str) -> bytes | None:
    """The message at ``start`` to ``end``; None if nothing in it is large."""
    if kind == TENSOR:
        return _tensor_elsewhere(data, start, end)
    parts: list[Buffer] = []
    kept = start
    for field in _fields(data, start, end):
        inner = INSIDE[kind].get(field.number) if field.wire == LENGTH else None
        if inner is None or field.end - field.value < LARGE_BYTES:
            continue
        made = _without_tensors(data, field.value, field.end, inner)
        if made is not None:
            parts += [data[kept : field.start], _tag(field.number, LENGTH), _varint(len(made)), made]
            kept = field.end
    return b"".join([*parts, data[kept:end]]) if parts else None


def _tensor_elsewhere(data: memoryview, start: int, end: int) -> bytes | None:
    """The tensor as external data in this file, where its numbers are one run of bytes."""
    fields = list(_fields(data, start, end))
    large = [f for f in fields if f.wire == LENGTH and f.end - f.value >= LARGE_BYTES]
    if len(large) != 1 or sum(f.number == large[0].number for f in fields) != 1:
        return None
    numbers = large[0]
    kinds = [_read_varint(data, f.value)[0] for f in fields if f.number == TENSOR_TYPE]
    is_float = numbers.number == FLOAT_DATA and kinds == [onnx.TensorProto.FLOAT]
    if numbers.number != RAW_DATA and not is_float:
        return None
    place = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    entries = {"location": OWN_FILE, "offset": numbers.value, "length": numbers.end - numbers.value}
    for key, value in entries.items():
        place.external_data.add(key=key, value=str(value))
    return b"".join([data[start : numbers.start], data[numbers.end : end], place.SerializeToString()])


def _fields(data: memoryview, start: int, end: int) -> list[_Field]:
    found = []
    while start < end:
        tag, at = _read_varint(data, start)
        wire = tag & 7
        if wire == VARINT:
            stop = _read_varint(data, at)[1]
        elif wire == LENGTH:
            length, at = _read_varint(data, at)
            stop = at + length
        elif wire in (EIGHT_BYTES, FOUR_BYTES):
            stop = at + (8 if wire == EIGHT_BYTES else 4)
        else:
            raise _Malformed
        if stop > end or tag >> 3 == 0:
            raise _Malformed
        found.append(_Field(tag >> 3, wire, start, at, stop))
        start = stop
    return found


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at ``at``, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise _Malformed


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)
