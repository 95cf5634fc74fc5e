"""Tables as data, and as aligned plain text. Knows nothing of terminals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under ``columns``; a column whose title starts with ``>`` is flush right (the sign is not shown)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""

    @staticmethod
    def of(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
        """A table of anything ``str`` can show; None is an empty cell."""
        return Table(tuple(columns), tuple(tuple("" if c is None else str(c) for c in row) for row in rows), title)

    @property
    def headings(self) -> tuple[str, ...]:
        return tuple(column.removeprefix(">") for column in self.columns)

    @property
    def flush_right(self) -> tuple[bool, ...]:
        return tuple(column.startswith(">") for column in self.columns)

    def text(self) -> str:
        """Aligned columns, two blanks apart, no line drawing: what a pipe or a log gets."""
        lines = [self.headings, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        shown = [
            "  ".join(_pad(c, w, r) for c, w, r in zip(line, widths, self.flush_right, strict=True)) for line in lines
        ]
        return "\n".join([*([self.title] if self.title else []), *(line.rstrip() for line in shown)])


def _pad(cell: str, width: int, flush_right: bool) -> str:
    return cell.rjust(width) if flush_right else cell.ljust(width)
