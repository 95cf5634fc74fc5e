"""``softneuro demo``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from softneuro_core.errors import InputError

SOURCE_TREE = Path(__file__).resolve().parents[2]


@click.command("demo", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Tune, explain and run a small trained model on real images."""
    raise click.exceptions.Exit(subprocess.call([sys.executable, str(find_demo()), *arguments]))


def find_demo(root: Path = SOURCE_TREE) -> Path:
    """The demo of the source tree; raises :class:`InputError` where only the package is installed."""
    path = root / "examples" / "digits" / "demo.py"
    if not path.is_file():
        raise InputError(
            "the demo is part of the source tree, which is not here",
            file=path,
            remedy="clone the repository and type make demo",
        )
    return path
