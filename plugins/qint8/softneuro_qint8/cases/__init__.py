"""Cases for the conformance kit: layers between grids."""

from __future__ import annotations

from collections.abc import Iterator

from softneuro_core.testing.case import Case
from softneuro_qint8.cases import elementwise, laid, products, windows


def cases() -> Iterator[Case]:
    """Of every routine of this plugin, the operators of com.microsoft apart."""
    for part in (windows, products, elementwise, laid):
        yield from part.cases()
