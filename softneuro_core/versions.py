"""Versions of the libraries that generate or run code, read without importing them."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import cache

LIBRARIES = ("numpy", "onnx", "numba", "llvmlite")


@cache
def library_versions() -> tuple[tuple[str, str], ...]:
    """Versions of what generates or runs code, read without importing it."""
    found = {"python": platform.python_version(), "core": version_of("softneuro-core")}
    found.update({name: version_of(name) for name in LIBRARIES})
    return tuple((name, version) for name, version in found.items() if version)


def version_of(distribution: str) -> str:
    """Its installed version; empty if it is not installed (or run from a source tree)."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
