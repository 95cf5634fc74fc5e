"""Functions of the user's own, named as MODULE:FUNCTION or FILE.py:FUNCTION. Knows nothing of what they do."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from softneuro_core.errors import InputError

FORMS = "FILE.py:FUNCTION (or MODULE:FUNCTION)"


def function_of(text: str) -> Callable[..., Any]:
    """The function ``text`` names; raises :class:`InputError` where there is no such module, or nothing to call."""
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise InputError(f"{text!r} names no function", remedy=f"give {FORMS}")
    function = getattr(_module(place), name, None)
    if not callable(function):
        raise InputError(f"{place} has no function {name!r}", remedy=f"give {FORMS}")
    found: Callable[..., Any] = function
    return found


def _module(place: str) -> Any:
    """A module by name, or the one of a file."""
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(spec.name, module)
        spec.loader.exec_module(module)
        return module
    except Exception as error:  # the user's own code
        raise InputError(f"cannot be imported: {type(error).__name__}: {error}", file=place) from error
