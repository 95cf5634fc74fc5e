"""Ranges of a model's values, found on data, kept in a file a person can read and edit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softneuro_core.changes import NOTHING, Changes
from softneuro_core.errors import InputError
from softneuro_core.files import write_file

FORMATS = "softneuro ranges 1", "softneuro ranges 2"
"""The second has changes: one that cannot read them must not use the ranges."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """``values`` maps a value's name to (low, high), low <= 0 <= high; ``model`` is the fingerprint they belong to.

    ``samples`` inputs were seen; ``method`` chose what of it is kept.
    """

    model: Mapping[str, str]
    method: str
    samples: int
    values: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    changes: Changes = NOTHING
    """What the ranges were found with: equalised weights, weights by tensor; and shifts of rounded layers' biases."""
    notes: tuple[str, ...] = ()
    """What whoever tunes with them should know."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """As JSON, a line for each value."""
        head: dict[str, Any] = {"format": FORMATS[bool(self.changes)], "model": dict(self.model)}
        head |= {"method": self.method, "samples": self.samples, "notes": list(self.notes)}
        lines = ",\n".join(f"  {json.dumps(name)}: [{low!r}, {high!r}]" for name, (low, high) in self.values.items())
        text = json.dumps(head)[:-1] + "".join(_changes_text(self.changes)) + ',\n "values": {\n' + lines + "\n }}\n"
        write_file(path, text)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Ranges:
        """Raises :class:`InputError` for a file that is none."""
        remedy = "make it with: softneuro calibrate MODEL --data DATA"
        try:
            parts: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            if parts["format"] not in FORMATS:
                cause = f"its format is {parts['format']!r}, wanted {FORMATS[-1]!r}"
                raise InputError(cause, file=str(path), remedy=remedy)
            values = {str(name): (float(low), float(high)) for name, (low, high) in parts["values"].items()}
            changes, notes = Changes.from_json(parts.get("changes", {})), tuple(map(str, parts.get("notes", ())))
            found = Ranges(dict(parts["model"]), str(parts["method"]), int(parts["samples"]), values, changes, notes)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"no ranges: {type(error).__name__}: {error}", file=str(path), remedy=remedy) from None
        wrong = next((name for name, (low, high) in values.items() if not low <= 0.0 <= high), None)
        if wrong is not None:
            raise InputError(f"the range of {wrong!r} does not hold 0", file=str(path), remedy="widen it to 0")
        return found


def _changes_text(changes: Changes) -> Iterator[str]:
    """As JSON, a line for each layer."""
    if not changes:
        return
    parts = []
    for key, held in changes.to_json().items():
        rows = held.items() if isinstance(held, dict) else ()
        inner = ",\n".join(f"   {json.dumps(name)}: {json.dumps(row)}" for name, row in rows)
        parts.append(f"  {json.dumps(key)}: " + (f"{{\n{inner}\n  }}" if rows else json.dumps(held)))
    yield ',\n "changes": {\n' + ",\n".join(parts) + "\n }"
