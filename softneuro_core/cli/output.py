"""Standard output and standard error: tables for people (drawn on a terminal, plain in a pipe), JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from softneuro_core.errors import InputError
from softneuro_core.files import write_file
from softneuro_core.report.table import Table

__all__ = ["note", "say", "shorten", "show", "show_json", "write_file"]


def show(table: Table) -> None:
    """A table on stdout."""
    if not table.rows:
        click.echo(f"{table.title}: none" if table.title else "none")
    elif sys.stdout.isatty():
        _draw(table)
    else:
        click.echo(table.text())


def _draw(table: Table) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn

    drawn = Drawn(title=table.title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for heading, right in zip(table.headings, table.flush_right, strict=True):
        drawn.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(_escaped(cell) for cell in row))
    Console().print(drawn)


def _escaped(cell: str) -> str:
    from rich.markup import escape

    return escape(cell)


def check_targets(*paths: str | None) -> None:
    """Folders that do not exist are told before minutes of work, not after; raises :class:`InputError`."""
    for path in paths:
        if path is not None and not Path(path).resolve().parent.is_dir():
            raise InputError("the folder does not exist", file=path)


def show_json(data: Any) -> None:
    """One JSON document on stdout; numpy scalars become numbers, infinities and NaN become null."""
    click.echo(json.dumps(_plain(data), indent=2))


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(k): _plain(v) for k, v in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        return [_plain(v) for v in data]
    if hasattr(data, "item"):
        data = data.item()
    if isinstance(data, float) and (data != data or data in (float("inf"), float("-inf"))):
        return None
    return data if isinstance(data, str | int | float | bool | None) else str(data)


def say(text: str = "") -> None:
    """A line for people on stdout."""
    click.echo(text)


def note(text: str) -> None:
    """Something worth knowing, on stderr: it never mixes with results."""
    click.echo(f"softneuro: note: {text}", err=True)


def shorten(items: Sequence[str], most: int = 6) -> str:
    """A list in one line: the first few, then how many more."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")
