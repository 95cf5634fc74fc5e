"""Ranges of a model's values, found on data, kept in a file a person can read and edit."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softneuro_core.errors import InputError
from softneuro_core.files import write_file

FORMAT = "softneuro ranges 1"


@dataclass(frozen=True, slots=True)
class Ranges:
    """``values`` maps a value's name to (low, high), low <= 0 <= high; ``model`` is the fingerprint they belong to.

    ``samples`` inputs were seen; ``method`` chose what of it is kept.
    """

    model: Mapping[str, str]
    method: str
    samples: int
    values: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """As JSON, a line for each value."""
        head = {"format": FORMAT, "model": dict(self.model), "method": self.method, "samples": self.samples}
        lines = ",\n".join(f"  {json.dumps(name)}: [{low!r}, {high!r}]" for name, (low, high) in self.values.items())
        write_file(path, json.dumps(head)[:-1] + ',\n "values": {\n' + lines + "\n }}\n")

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Ranges:
        """Raises :class:`InputError` for a file that is none."""
        remedy = "make it with: softneuro calibrate MODEL --data DATA"
        try:
            parts: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            if parts["format"] != FORMAT:
                raise InputError(f"its format is {parts['format']!r}, wanted {FORMAT!r}", file=str(path), remedy=remedy)
            values = {str(name): (float(low), float(high)) for name, (low, high) in parts["values"].items()}
            found = Ranges(dict(parts["model"]), str(parts["method"]), int(parts["samples"]), values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"no ranges: {type(error).__name__}: {error}", file=str(path), remedy=remedy) from None
        wrong = next((name for name, (low, high) in values.items() if not low <= 0.0 <= high), None)
        if wrong is not None:
            raise InputError(f"the range of {wrong!r} does not hold 0", file=str(path), remedy="widen it to 0")
        return found
