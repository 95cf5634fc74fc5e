"""The conformance kit: what a plugin author's three lines of test use.

``conformance(my_plugin)`` is a parametrised pytest test; see docs/plugin-author.md. Imports nothing heavy:
pytest loads this package in every run through the ``pytest11`` entry point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softneuro_core.testing.kit import conformance as conformance

__all__ = ["conformance"]


def __getattr__(name: str) -> Any:
    if name == "conformance":
        from softneuro_core.testing.kit import conformance

        return conformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
