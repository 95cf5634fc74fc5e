"""``make bench``: the networks of ``benchmarks.nets`` against every engine that can be had, each in its own process.

``python -m benchmarks.peers [NETS ...] --threads 1,2 --engines softneuro,onnxruntime,openvino --rounds 9``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from benchmarks.chart import write_chart
from benchmarks.joint import told
from benchmarks.match import Match, play
from benchmarks.nets import NETS, build, macs, sample
from benchmarks.precision import FLOAT32, PRECISIONS, Precision, is_ours
from benchmarks.processes import EngineError, has_own_venv, make_venv
from benchmarks.run import LOG_WIDTH, ROOT, one_at_a_time

COLUMNS = ("ms", "min ms", "GFLOP/s", "its/ours", "95 %", "CPU/wall", "error", "peak MB", "load s", "tuned s",
           "predicted ms")  # fmt: skip


def table_of(rows: Sequence[dict[str, Any]]) -> Table:
    """One line a match and engine; * marks the best peer; its/ours above 1: we are faster."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("threads", justify="right")
    table.add_column("engine", no_wrap=True)
    for title in COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        for name, found in row["engines"].items():
            mark = "*" if name == row["best"] else ""
            head = (row["model"], str(row["threads"]), name + mark)
            cells = ["[red]failed"] if "failed" in found else _cells(found, row["ratios"].get(name))
            table.add_row(*head, *cells)
    return table


def _cells(found: dict[str, Any], against: Sequence[float] | None) -> list[str]:
    void = "[red]void[/] " if found["void"] else ""
    peak, tuned, predicted = found["peak_bytes"], found.get("tune_first_s"), found.get("predicted_us")
    return [
        f"{found['median_us'] / 1000:,.3f}",
        f"{found['min_us'] / 1000:,.3f}",
        f"{found['gflops']:,.1f}",
        f"{against[0]:.2f}" if against else "",
        f"{against[1]:.2f}-{against[2]:.2f}" if against else "",
        f"{void}{found['cpu_per_wall']:.2f}",
        _agreement(found),
        "?" if peak is None else f"{peak / 2**20:,.0f}",
        f"{found['load_s']:.2f}",
        f"{tuned:.0f}" if tuned is not None else "",
        f"{predicted / 1000:,.3f}" if predicted is not None else "",
    ]


def _agreement(found: dict[str, Any]) -> str:
    """The largest deviation, or the cosine where the class goes by that."""
    wrong = "[red]WRONG[/] " if found["correct"] is False else ""
    if "cosine" in found:
        return f"{wrong}cos {found['cosine']:.5f}"
    return "?" if found["error"] is None else f"{wrong}{found['error']:.1e}"


def install(engines: Sequence[str], console: Console) -> None:
    """Makes the venvs the engines need and that are absent; a failure is printed and shows again in the table."""
    for name in filter(has_own_venv, engines):
        with console.status(f"venv for {name}"):
            try:
                make_venv(name)
            except EngineError as error:
                console.print(f"[yellow]{name}[/]: {error}")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("nets", nargs="*", choices=[*NETS, []], help="networks (default: all)", metavar="NET")
    options.add_argument("--threads", default="1,2", help="thread counts, comma-separated")
    options.add_argument("--precision", choices=PRECISIONS, default=FLOAT32.name, help="class compared (README)")
    options.add_argument("--engines", help="comma-separated; ours is added if absent (default: the class's)")
    options.add_argument("--opencl-threads", type=int, help="of an OpenCL device on the CPU (default: as --threads)")
    options.add_argument("--batch", type=int, default=1, help="images a run, for networks that allow it")
    options.add_argument("--rounds", type=int, default=9, help="turns each engine gets")
    options.add_argument("--cache", help="cost database folder of ours (default: an empty one, a cold tune)")
    options.add_argument("--models", type=Path, default=ROOT / "out" / "bench-models", help="where networks are kept")
    options.add_argument("--out", type=Path, help="JSON lines, one a match (default: out/peers[-PRECISION].jsonl)")
    asked = options.parse_args(given)
    asked.precision = PRECISIONS[asked.precision]
    asked.engines = engines_of(asked.engines, asked.precision)
    asked.out = asked.out or default_out(asked.precision)
    return asked


def engines_of(named: str | None, precision: Precision) -> list[str]:
    """Those named, else the class's; ours first where none of ours is among them."""
    engines = named.split(",") if named else list(precision.engines)
    return engines if any(map(is_ours, engines)) else [precision.ours, *engines]


def default_out(precision: Precision) -> Path:
    return ROOT / "out" / ("peers.jsonl" if precision is FLOAT32 else f"peers-{precision.name}.jsonl")


def main() -> int:
    asked = arguments()
    console = Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH)
    install(asked.engines, console)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(open(asked.out, "w", encoding="utf-8"))
        for name in asked.nets or NETS:
            console.print(f"{name}: writing the network" if not (asked.models / f"{name}.onnx").exists() else name)
            try:
                model, count = build(name, asked.models, asked.batch), macs(name, asked.batch)
            except ValueError as reason:
                console.print(f"[yellow]{name}[/]: {reason}")
                continue
            for threads in map(int, asked.threads.split(",")):
                match = Match(
                    *(model, sample(model), count, threads, asked.engines, asked.rounds, asked.cache),
                    *(asked.precision, asked.opencl_threads),
                )
                with one_at_a_time(console), console.status(f"{name}, {threads} threads") as status:
                    rows.append(play(match, status.update))
                out.write(json.dumps(rows[-1]) + "\n")
                out.flush()
                console.print(table_of(rows[-1:]))
    report(rows, console)
    chart = write_chart(rows, asked.out.with_suffix(".svg"))
    console.print(f"written to {asked.out} and {chart}")
    return 0


def report(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """All ratios once more, the machine, and why engines are missing."""
    console.print("\nbest peer over ours (above 1: we are faster)")
    for row in rows:
        if row["best"] in row["ratios"]:
            middle, low, high = row["ratios"][row["best"]]
            console.print(
                f"  {row['model']:20} {row['threads']} threads  {middle:.2f} ({low:.2f}-{high:.2f})  {row['best']}"
            )
        if row["joint"]:
            console.print(told(row))
        for name, found in row["engines"].items():
            if why := found.get("failed") or found.get("void"):
                console.print(f"  {row['model']}, {row['threads']} threads, {name}: {why}")
    if rows:
        about = rows[0]["machine"]
        console.print(f"{about['cpu']}, {about['cores']} cores, {about['system']}, {rows[0]['date']}")


if __name__ == "__main__":
    sys.exit(main())
