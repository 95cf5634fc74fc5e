"""What an operator of com.microsoft takes: its inputs by name and kind, its attributes with their defaults.

ONNX checks nodes against its own schemas; for this domain it has none, so they stand here. Knows nothing of shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from softneuro_core.errors import ModelError, UnsupportedOperatorError
from softneuro_core.graph import Layer
from softneuro_core.spec import OBJECT, DType

DOMAIN = "com.microsoft"
WRONG_FILE = "onnxruntime's ContribOperators.md says what the operator takes; export the model anew"
BYTES = ("int8", "uint8")
WINDOW: Mapping[str, Any] = {
    "auto_pad": "NOTSET",
    "group": 1,
    "dilations": (),
    "kernel_shape": (),
    "pads": (),
    "strides": (),
}
"""Attributes of a Conv and what they are by default."""
KINDS: Mapping[str, tuple[str, ...]] = {
    "byte": BYTES,
    "grid": (*BYTES, "int16", "uint16", "int4", "uint4", "int32"),
    "real": ("float32", "float16", "bfloat16", "float64"),
    "float32": ("float32",),
    "int32": ("int32",),
    "index": ("int32", "int64"),
    "bool": ("bool",),
    "any": (),
}
"""Element types an operand may have, by the word that stands in a signature."""


@dataclass(frozen=True, slots=True)
class Absent:
    """An attribute of this type that may be absent and has no default then."""

    type: type


@dataclass(frozen=True, slots=True)
class Operand:
    """One input by name; the last one may stand for any number of them."""

    name: str
    kind: str
    is_optional: bool
    repeats: bool

    @staticmethod
    def parse(text: str) -> Operand:
        """From ``NAME:KIND``, ``NAME:KIND?`` (optional) or ``NAME:KIND*`` (any number)."""
        name, _, kind = text.partition(":")
        return Operand(name, kind.rstrip("?*"), kind.endswith("?"), kind.endswith("*"))


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs as text (``"X:byte X_scale:float32 X_zero_point:byte?"``); attributes by name: a default, a type (the
    attribute is required) or :class:`Absent`; the most outputs there are."""

    text: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1

    @property
    def operands(self) -> tuple[Operand, ...]:
        return tuple(Operand.parse(word) for word in self.text.split())

    def check(self, layer: Layer) -> None:
        """Raises :class:`ModelError` for inputs, outputs or attributes the operator does not have."""
        _check_counts(layer, self)
        for position, (operand, value) in enumerate(zip(self.spread(layer), layer.inputs, strict=False)):
            if value is None and not operand.is_optional:
                refuse(layer, f"input {position} ({operand.name}) is absent")
            allowed = KINDS[operand.kind]
            if value is not None and allowed and value.dtype is not OBJECT and value.dtype.name not in allowed:
                refuse(layer, f"input {operand.name} is {value.dtype}, it must be {' or '.join(allowed)}")
        for name, given in layer.attrs.items():
            if name not in self.attributes:
                refuse(layer, f"there is no attribute {name!r}")
            _check_type(layer, name, given, self.attributes[name])
        for name, default in self.attributes.items():
            if isinstance(default, type) and name not in layer.attrs:
                refuse(layer, f"needs the attribute {name!r}")

    def spread(self, layer: Layer) -> list[Operand]:
        """The operand at each input's position."""
        known = self.operands
        return [*known, *[known[-1]] * (len(layer.inputs) - len(known))]

    def values(self, layer: Layer) -> dict[str, Any]:
        """Every attribute: as given, its default, or None."""
        absent = {n: None if isinstance(d, (Absent, type)) else d for n, d in self.attributes.items()}
        return {**absent, **layer.attrs}


def _check_counts(layer: Layer, signature: Signature) -> None:
    operands = signature.operands
    least = max((i + 1 for i, o in enumerate(operands) if not o.is_optional), default=0)
    if len(layer.inputs) < least or (len(layer.inputs) > len(operands) and not operands[-1].repeats):
        most = "any number of" if operands[-1].repeats else str(len(operands))
        refuse(layer, f"takes {least} to {most} inputs, not {len(layer.inputs)}")
    if not 1 <= len(layer.outputs) <= signature.outputs:
        refuse(layer, f"has 1 to {signature.outputs} outputs, not {len(layer.outputs)}")


def _check_type(layer: Layer, name: str, given: object, default: object) -> None:
    wanted = default.type if isinstance(default, Absent) else default if isinstance(default, type) else type(default)
    if not isinstance(given, wanted):
        refuse(layer, f"attribute {name!r} is {given!r}, it must be {_WORDS.get(wanted, wanted.__name__)}")


_WORDS = {int: "an integer", float: "a number (float)", str: "a text", tuple: "a list"}


def refuse(layer: Layer, cause: str, remedy: str = WRONG_FILE) -> NoReturn:
    """Raises :class:`ModelError`: the file breaks the operator's own rules."""
    raise ModelError(f"{layer.op}: {cause}", layer=layer.name, remedy=remedy)


def refuse_unsupported(layer: Layer, what: str, remedy: str) -> NoReturn:
    """Raises :class:`UnsupportedOperatorError`: the file may be right, but this is not supported here."""
    raise UnsupportedOperatorError(f"{layer.op}: {what} is not supported", layer=layer.name, remedy=remedy)


def same_type(layer: Layer, found: DType, wanted: DType, name: str) -> None:
    """Raises :class:`ModelError` unless ``found`` is the type an operand must share with another."""
    if OBJECT not in (found, wanted) and found is not wanted:
        refuse(layer, f"input {name} is {found}, it must be {wanted} as what it belongs to")
