"""How long work reports itself. Rendering is the caller's: the command line draws bars, tests count."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives what long work does. ``start`` opens a phase of ``total`` units, ``advance`` adds to it."""

    def start(self, total: int, what: str) -> None: ...

    def advance(self, count: int = 1, text: str = "") -> None: ...

    def note(self, text: str) -> None: ...


class Silent:
    """Says nothing."""

    def start(self, total: int, what: str) -> None:
        """Ignored."""

    def advance(self, count: int = 1, text: str = "") -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""
