"""What the tuner predicted, against the medians of fresh processes that open the plan and run it.

``python -m benchmarks.predictions [NETS ...] --threads 1 --processes 5``. Goal: of the median over all processes, the
sum of isolated costs within 15 % and the final prediction within 5 %.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.match import LOAD_TIMEOUT_S, TURN_TIMEOUT_S
from benchmarks.nets import NETS, build, sample
from benchmarks.processes import Process
from benchmarks.run import LOG_WIDTH, ROOT, one_at_a_time

HEADLINE = ("vgg16", "resnet50", "mobilenet_v2", "mobilenet_v3_large")
GOALS = {"isolated_us": 0.15, "whole_us": 0.05}
RUNNING_S = 2.0


def fresh_medians_us(model: Path, threads: int, processes: int, folder: Path) -> tuple[dict[str, Any], list[float]]:
    """What tuning from nothing predicted, and the median of about two seconds of runs in each fresh process."""
    arrays: dict[str, Any] = dict(sample(model))
    np.savez(folder / "feeds.npz", **arrays)
    common = {"model": str(model), "feeds": str(folder / "feeds.npz"), "threads": threads, "folder": str(folder)}

    def ask(do: str, *more: dict[str, Any]) -> dict[str, Any]:
        process = Process("softneuro", threads, folder / "log", SOFTNEURO_CACHE_DIR=str(folder / "cache"))
        try:
            answer = process.ask(LOAD_TIMEOUT_S, do=do, **common)
            for request in more:
                answer = process.ask(TURN_TIMEOUT_S, **request)
        finally:
            process.close()
        return answer

    facts = ask("prepare")["facts"]
    once = {"do": "round", "seconds": RUNNING_S}
    return facts, [statistics.median(ask("load", once)["samples_us"]) for _ in range(processes)]


def table_of(rows: Sequence[tuple[str, int, dict[str, Any], list[float]]]) -> Table:
    """One line a network; predictions with their distance from the median of the processes, red beyond the goal."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", no_wrap=True)
    for title in ("threads", "processes, ms", "median", "isolated", "final", "tuned s"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, threads, facts, medians in rows:
        middle = statistics.median(medians)
        cells = []
        for key, goal in GOALS.items():
            off = facts[key] / middle - 1
            mark = "[red]" if abs(off) > goal else ""
            cells.append(f"{mark}{facts[key] / 1000:,.2f} ({off:+.1%})")
        each = " ".join(f"{us / 1000:,.2f}" for us in medians)
        table.add_row(name, str(threads), each, f"{middle / 1000:,.2f}", *cells, f"{facts['tune_first_s']:.0f}")
    return table


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("nets", nargs="*", choices=[*NETS, []], metavar="NET")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--processes", type=int, default=5)
    asked = options.parse_args()
    console = Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH)
    rows = []
    for name in asked.nets or HEADLINE:
        model = build(name, ROOT / "out" / "bench-models")
        with tempfile.TemporaryDirectory(prefix="softneuro-bench-") as folder, one_at_a_time(console):
            rows.append((name, asked.threads, *fresh_medians_us(model, asked.threads, asked.processes, Path(folder))))
        console.print(table_of(rows[-1:]))
    console.print(table_of(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
