"""Progress on stderr: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

LINE_EVERY_S = 5.0
"""Without a terminal, at most one line in this time."""


class Bars:
    """:class:`softneuro_core.progress.Progress` drawn with rich; use it as a context manager."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            TextColumn("[dim]{task.fields[text]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        )
        self._bars = Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
        self._task: TaskID | None = None

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def start(self, total: int, what: str) -> None:
        """A new phase; the bar of the one before goes."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(what, total=total, text="")

    def advance(self, count: int = 1, text: str = "") -> None:
        """``count`` units more; ``text`` names the last of them."""
        if self._task is not None:
            self._bars.update(self._task, advance=count, text=escape(text))

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._bars.console.print(text, markup=False, highlight=False)


class Lines:
    """The same without a terminal: the start of each phase, and how far it is every few seconds."""

    def __init__(self) -> None:
        self._what, self._total, self._done = "", 0, 0
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def start(self, total: int, what: str) -> None:
        self._what, self._total, self._done = what, total, 0
        self._began = self._told = time.monotonic()
        click.echo(f"{what}: {total}", err=True)

    def advance(self, count: int = 1, text: str = "") -> None:
        self._done += count
        now = time.monotonic()
        if now - self._told >= LINE_EVERY_S and self._done:
            self._told = now
            left = (now - self._began) / self._done * max(0, self._total - self._done)
            click.echo(f"{self._what}: {self._done} of {self._total}, about {left:.0f} s left", err=True)

    def note(self, text: str) -> None:
        click.echo(text, err=True)


def make_progress() -> Bars | Lines:
    """Bars where stderr is a terminal, lines elsewhere."""
    return Bars() if sys.stderr.isatty() else Lines()
