"""``softneuro knobs``."""

from __future__ import annotations

import os

import click

from softneuro_core.cli import output
from softneuro_core.cli.options import json_option
from softneuro_core.knobs import KNOBS
from softneuro_core.report.table import Table


@click.command("knobs")
@json_option
def command(as_json: bool) -> None:
    """Environment variables that change what softneuro does, and what they are set to."""
    if as_json:
        output.show_json(
            {k.name: {"value": os.environ.get(k.name), "default": k.default, "meaning": k.meaning} for k in KNOBS}
        )
        return
    rows = [(k.name, os.environ.get(k.name, "(not set)"), k.default or "(empty)", k.meaning) for k in KNOBS]
    output.show(Table.of(("knob", "now", "default", "meaning"), rows))
