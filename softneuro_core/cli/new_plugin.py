"""``softneuro new-plugin``."""

from __future__ import annotations

import click

from softneuro_core.cli import output
from softneuro_core.scaffold import generate_plugin


@click.command("new-plugin")
@click.argument("name")
@click.option("--into", "folder", default=".", metavar="FOLDER", help="Where to put it (default: here).")
def command(name: str, folder: str) -> None:
    """Write the package softneuro-NAME: a routine, an operator of its own, a conformance test; all working."""
    made = generate_plugin(name, folder)
    output.say(f"written: {made}")
    output.say(f"next: pip install -e {made}, softneuro plugins, pytest {made}")
