"""The ``softneuro`` command: finds verbs, and turns whatever goes wrong into one line and an exit code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from softneuro_core.cli import failures

VERBS = {
    "view": "layers of a model, with shapes, parameters and work",
    "tune": "measure every routine, choose the fastest plan, save it",
    "calibrate": "find the range of every value on data, for quantised plans",
    "run": "run a model on arrays, pictures or random inputs",
    "bench": "time whole runs",
    "explain": "why each layer runs as it does, and what the alternatives cost",
    "compare": "run each step against the reference, name the first that differs",
    "memory": "where every value lies in memory, and when",
    "profile": "measure every routine without choosing",
    "plugins": "installed plugins, their state and why",
    "routines": "routines by operator and device, or by layer and spec of a model",
    "layers": "operators that can be run, and who runs them",
    "costs": "the cost database: show, export, merge, clear",
    "knobs": "environment variables",
    "new-plugin": "write a new plugin package that works",
    "demo": "tune, explain and run a small trained model",
}
"""Verb -> one line of help. Each lives in the module of its name and is imported only when it is used."""


class Root(click.Group):
    """Built-in verbs, imported on use; then the commands of plugins, asked for only when they may be needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS, *(name for name in self._plugin_commands() if name not in VERBS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in VERBS:
            module = importlib.import_module(f"softneuro_core.cli.{cmd_name.replace('-', '_')}")
            return module.command
        return self._plugin_commands().get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))
        added = {n: c for n, c in self._plugin_commands().items() if n not in VERBS}
        if added:
            with formatter.section("From plugins"):
                formatter.write_dl([(name, found.get_short_help_str()) for name, found in added.items()])

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Runs and exits: 0, or the code of the error, which is told in one line on stderr."""
        extra["standalone_mode"] = False
        with failures.notices_on_stderr():
            try:
                result = super().main(args, prog_name or "softneuro", **extra)
            except BaseException as error:  # every failure ends here, so that nobody ever sees a raw traceback
                sys.exit(failures.report(error))
        sys.exit(result if isinstance(result, int) else 0)

    @staticmethod
    def _plugin_commands() -> dict[str, click.Command]:
        from softneuro_core.catalog import load_plugins

        return {c.name: c for c in load_plugins().commands if isinstance(c, click.Command) and c.name}


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import softneuro_core

        click.echo(f"softneuro {softneuro_core.__version__}")
        ctx.exit()


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """Measures every way to run your model on this machine, and proves which combination is fastest.

    softneuro tune model.onnx -o plan.json, then softneuro run model.onnx --plan plan.json --input random
    """


def main() -> None:
    """Entry point of the ``softneuro`` script."""
    cli.main()
