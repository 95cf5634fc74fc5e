"""``softneuro memory``."""

from __future__ import annotations

import click

from softneuro_core.cli import options, output
from softneuro_core.cli.sessions import Job, open_session
from softneuro_core.report.memory_picture import memory_picture, memory_text


@click.command("memory")
@options.model_argument
@options.plan_option
@options.relaxed_option
@options.shape_option
@options.threads_option
@click.option("--html", "html_path", metavar="OUT.html", help="Draw it as a page.")
@options.unrounded_option
@options.json_option
def command(
    model: str,
    plan_path: str | None,
    relaxed: bool,
    shapes: tuple[str, ...],
    threads: int | None,
    html_path: str | None,
    allow_unrounded: bool,
    as_json: bool,
) -> None:
    """Where every value lies in memory and from which step to which; packed weights beside it."""
    ready = open_session(Job(model, plan_path, relaxed, shapes, threads=threads, allow_unrounded=allow_unrounded))
    program = ready.program()
    pictures = memory_picture(program)
    if html_path:
        from softneuro_core.report.html import memory_page

        output.write_file(html_path, memory_page(ready.graph.name, pictures, program.constant_bytes))
    if as_json:
        output.show_json({"constant_bytes": program.constant_bytes, "arenas": [p.to_json() for p in pictures]})
        return
    output.say(memory_text(pictures, program.constant_bytes))
    if html_path:
        output.say(f"written: {html_path}")
