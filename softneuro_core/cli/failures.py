"""What the user sees when something goes wrong: one line on stderr, never a traceback, and an exit code."""

from __future__ import annotations

import errno
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from softneuro_core import knobs
from softneuro_core.errors import SoftneuroError

USAGE, INTERRUPTED, INTERNAL, SYSTEM, MEMORY = 2, 130, 70, 1, 8
"""Exit codes besides those of :class:`SoftneuroError`: bad options, Ctrl-C, our own bug, files, memory."""


def report(error: BaseException) -> int:
    """Tells one failure on stderr and returns the exit code."""
    if isinstance(error, click.exceptions.Exit | SystemExit):
        return _exit_code(error)
    text, code = describe(error)
    click.echo(f"softneuro: {text}", err=True)
    if knobs.DEBUG.get() != "0" and not isinstance(error, click.ClickException):
        traceback.print_exception(error, file=sys.stderr)
    return code


def describe(error: BaseException) -> tuple[str, int]:
    """The line (without the program's name) and the exit code of a failure."""
    if isinstance(error, SoftneuroError):
        return f"error: {one_line(error)}", error.exit_code
    if isinstance(error, click.exceptions.Abort | KeyboardInterrupt):
        return "interrupted; costs measured so far are kept, the same command goes on from there", INTERRUPTED
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "softneuro"
        return f"error: {one_line(error.format_message())} (see {path} --help)", USAGE
    if isinstance(error, click.ClickException):
        return f"error: {one_line(error.format_message())}", error.exit_code
    if isinstance(error, MemoryError):
        return "error: out of memory (give a smaller shape or batch, or bound it with --max-mem)", MEMORY
    if isinstance(error, OSError):
        return f"error: {_of_system(error)}", SYSTEM
    hint = "this is a bug: please report it with the command and model"
    if knobs.DEBUG.get() == "0":
        hint += "; SOFTNEURO_DEBUG=1 shows the traceback"
    return f"error: {type(error).__name__}: {one_line(error)} ({hint})", INTERNAL


def one_line(text: object) -> str:
    """Text without line breaks: an error is one line, so that logs and scripts can hold on to it."""
    return " ".join(str(text).split())


def _of_system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    remedy = " (free some space; what is written already is kept)" if error.errno == errno.ENOSPC else ""
    return where + one_line(error.strerror or error) + remedy


def _exit_code(error: click.exceptions.Exit | SystemExit) -> int:
    code = error.exit_code if isinstance(error, click.exceptions.Exit) else error.code
    if isinstance(code, str):
        click.echo(code, err=True)
        return 1
    return code or 0


@contextmanager
def notices_on_stderr() -> Iterator[None]:
    """Notices of the library (:class:`SoftneuroNotice`) as plain lines; other warnings as Python has them."""
    shown = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if category is _notice_class():
            click.echo(f"softneuro: note: {one_line(message)}", err=True)
        else:
            shown(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def _notice_class() -> Any:
    """The class, if the session was imported at all: verbs that need none start faster without."""
    return getattr(sys.modules.get("softneuro_core.session"), "SoftneuroNotice", None)
