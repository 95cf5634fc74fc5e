"""An operator of com.microsoft as the ONNX layers it means: what its shapes, its reference and the pass follow from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from softneuro_core.graph import Dim, Layer, Value
from softneuro_core.passes.rewrite import constant
from softneuro_core.spec import OBJECT, DType
from softneuro_qint8.contrib.signature import BYTES, DOMAIN, Signature, refuse, refuse_unsupported, same_type

FIRST_VERSION = {"Gelu": 20, "LayerNormalization": 17, "ReduceMean": 18, "Shape": 15}
"""The first opsets in which operators are as the spellings have them; 13 for any other."""
Versions = Callable[[str, int], int]
"""Operator and first opset -> the version a layer should have."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """An operator, what it takes, and the function that writes it; that one returns the value of each output."""

    name: str
    signature: Signature
    write: Callable[[Writer], Sequence[Value | None]]

    @property
    def op(self) -> str:
        return f"{DOMAIN}::{self.name}"

    def layers(self, layer: Layer, versions: Versions) -> list[Layer]:
        """ONNX layers with the same results as ``layer``; what is between them has no type yet.

        Raises :class:`ModelError` for operands or attributes the operator does not have, and its subclass
        :class:`UnsupportedOperatorError` for those that are not supported.
        """
        self.signature.check(layer)
        writer = Writer(layer, self.signature, versions)
        return writer.finished(self.write(writer))


class Writer:
    """The operands of a layer by name, and the ONNX layers written in its place."""

    def __init__(self, layer: Layer, signature: Signature, versions: Versions) -> None:
        self.layer = layer
        self.attrs = signature.values(layer)
        names = [operand.name for operand in signature.spread(layer)]
        self._inputs = dict(zip(names, layer.inputs, strict=False))
        self._names = {v: n for n, v in zip(names, layer.inputs, strict=False) if v is not None}
        self._versions = versions
        self._layers: list[Layer] = []

    def __getitem__(self, name: str) -> Value:
        """An input that is surely there."""
        value = self._inputs[name]
        assert value is not None
        return value

    def __contains__(self, name: str) -> bool:
        return name in self._inputs

    def get(self, name: str) -> Value | None:
        return self._inputs.get(name)

    def given(self, *without: str) -> dict[str, Any]:
        """The attributes less these, as ONNX's own operator takes them: an empty list is an absent one."""
        return {k: v for k, v in self.attrs.items() if k not in without and v not in (None, ())}

    def add(self, type: str, *inputs: Value | None, first: int = 13, **attrs: Any) -> Value:
        """What a new layer makes; attributes that are None are left out."""
        number = len(self._layers)
        made = Value(f"{self.layer.results[0].name}/{number}", OBJECT, None)
        given = {k: v for k, v in attrs.items() if v is not None}
        version = self._versions(type, max(first, FIRST_VERSION.get(type, 13)))
        self._layers.append(Layer(f"{self.layer.name}/{number}", type, inputs, (made,), given, version=version))
        return made

    def several(self, type: str, count: int, *inputs: Value | None) -> tuple[Value, ...]:
        """All results of a layer that makes ``count`` of them."""
        first = self.add(type, *inputs)
        made = (first, *(Value(f"{first.name}.{i}", OBJECT, None) for i in range(1, count)))
        self._layers[-1] = replace(self._layers[-1], outputs=made)
        return made

    def constant(self, array: Any, dtype: DType | None = None) -> Value:
        array = np.asarray(array)
        name = f"{self.layer.name}/constant_{array.dtype}_{len(self._layers)}"
        return constant(name, array, dtype or DType.from_numpy(array.dtype))

    def integers(self, numbers: Sequence[int]) -> Value:
        return self.constant(np.array(numbers, np.int64))

    def scalar(self, value: Value) -> Value:
        """An operand of one element as a scalar, however the file shapes it."""
        if value.shape == ():
            return value
        if value.is_static and value.size != 1:
            self.refuse(f"input {self._names.get(value, value.name)} is {list(value.static_shape)}, not one number")
        if value.data is not None:
            return constant(f"{value.name}/scalar", value.data.reshape(()), value.dtype)
        return self.add("Reshape", value, self.integers(()))

    def real(self, x: Value, scale: Value, zero: Value | None, axis: int | None = None) -> Value:
        """The numbers integers mean; one scale for all of them, or one for each place along ``axis``."""
        numbers, axis = self._numbers(x, x.dtype, scale, zero, axis)
        first = 13 if x.dtype.name in (*BYTES, "int32") else 21
        return self.add("DequantizeLinear", x, *numbers, first=first, axis=axis)

    def stored(self, x: Value, scale: Value, zero: Value | None, kind: DType, axis: int | None = None) -> Value:
        """The integers of this type that stand for real numbers: rounded half to even, saturated."""
        (scales, zeros), axis = self._numbers(x, kind, scale, zero, axis)
        if zeros is None:
            shape = () if scales.shape is None or axis is None else scales.static_shape
            zeros = self.constant(np.zeros(shape, kind.numpy), kind)
        return self.add("QuantizeLinear", x, scales, zeros, first=13 if kind.name in BYTES else 21, axis=axis)

    def _numbers(
        self, x: Value, kind: DType, scale: Value, zero: Value | None, axis: int | None
    ) -> tuple[tuple[Value, Value | None], int | None]:
        """Scale, zero point and axis as ONNX wants them."""
        if zero is not None:
            same_type(self.layer, zero.dtype, kind, self._names.get(zero, zero.name))
        sizes = {v.size for v in (scale, zero) if v is not None and v.is_static}
        if axis is None or sizes == {1}:
            return (self.scalar(scale), zero and self.scalar(zero)), None
        rank = self.rank(x)
        if not -rank <= axis < rank:
            self.refuse(f"axis {axis} is none of a tensor of rank {rank}")
        channels = (x.shape or ())[axis]
        if isinstance(channels, int) and not sizes <= {1, channels}:
            name = self._names.get(scale, scale.name)
            self.refuse(f"{name} and its zero point have {sorted(sizes)} elements, not 1 or {channels}")
        return (self._spread(scale, channels), zero and self._spread(zero, channels)), axis

    def _spread(self, numbers: Value, channels: Dim) -> Value:
        """One number for each channel."""
        if numbers.data is not None and isinstance(channels, int):
            wide = np.broadcast_to(numbers.data.reshape(-1), (channels,))
            return constant(f"{numbers.name}/by_channel", wide, numbers.dtype)
        return numbers

    def rank(self, value: Value) -> int:
        """The rank of an input, refused where it is unknown: layers depend on it."""
        if value.shape is None:
            self.unsupported(f"{self._names.get(value, value.name)} of unknown rank", "fix the input shapes (--shape)")
        return len(value.shape)

    def size(self, value: Value, axis: int) -> Value:
        """A dimension of an input as an int64 scalar, worked out when the graph runs if it is not known."""
        dim = (value.shape or ())[axis]
        if isinstance(dim, int):
            return self.constant(np.int64(dim))
        end = None if axis == -1 else axis + 1
        shape = self.add("Shape", value, start=axis, end=end)
        return self.add("Squeeze", shape)

    def transposed(self, value: Value, perm: Sequence[int]) -> Value:
        made = self.add("Transpose", value, perm=tuple(perm))
        made.dtype, made.shape = value.dtype, None if value.shape is None else tuple(value.shape[a] for a in perm)
        return made

    def sliced(self, value: Value, start: int, stop: int, axis: int = 0) -> Value:
        """The places ``start`` to ``stop`` along an axis."""
        return self.add("Slice", value, *(self.integers((n,)) for n in (start, stop, axis)))

    def refuse(self, cause: str) -> Any:
        refuse(self.layer, cause)

    def unsupported(self, what: str, remedy: str) -> Any:
        refuse_unsupported(self.layer, what, remedy)

    def finished(self, made: Sequence[Value | None]) -> list[Layer]:
        """The layers, those that make the outputs under the names of these."""
        results = dict(zip(made, self.layer.outputs, strict=False))
        final = {old: new for old, new in results.items() if old is not None and new is not None}
        layers = []
        for layer in self._layers:
            inputs = tuple(final.get(v, v) if v is not None else None for v in layer.inputs)
            outputs = tuple(final.get(v, v) if v is not None else None for v in layer.outputs)
            name = self.layer.name if made[0] in layer.outputs else layer.name
            layers.append(replace(layer, name=name, inputs=inputs, outputs=outputs))
        return layers
