"""Side by side with other engines: every model and thread count, a table for people and JSON lines for machines.

``python -m benchmarks.run [WORDS IN MODEL NAMES ...]``. Every row runs in a process of its own
(``benchmarks/row.py``), so a crash costs one row; a lock lets one benchmark run at a time on a machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from benchmarks.engines import IN_ONE_PROCESS, open_engine
from benchmarks.models import models_folder, named_models

ROOT = Path(__file__).resolve().parents[1]
LOG_WIDTH = 180
GOAL_PEER, GOAL_FACTOR, GOAL_OFFSET_US = "onnxruntime", 2.5, 100.0
"""What we ask of ourselves at one thread: our median within 2.5 times the peer's plus 100 us."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextlib.contextmanager
def one_at_a_time(console: Console) -> Iterator[None]:
    """Waits until no other benchmark runs here; does nothing where the system has no flock."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(Path(tempfile.gettempdir(), "bench.lock"), "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            console.print("another benchmark is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_row(model: Path, threads: int, engines: Sequence[str], asked: argparse.Namespace) -> dict[str, Any]:
    """One row, or why there is none (``failed``)."""
    command = [sys.executable, "-m", "benchmarks.row", str(model), "--threads", str(threads)]
    command += ["--engines", ",".join(engines), "--rounds", str(asked.rounds)]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    with tempfile.TemporaryDirectory(prefix="softneuro-bench-") as cache:
        if not asked.known_costs:
            environment["SOFTNEURO_CACHE_DIR"] = cache
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=asked.timeout
            )
        except subprocess.TimeoutExpired:
            return _failed(model, threads, f"no result within {asked.timeout:.0f} s")
    if done.returncode:
        complaint = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return _failed(model, threads, complaint[-1])
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row | {"costs": "known" if asked.known_costs else "fresh"}


def _failed(model: Path, threads: int, reason: str) -> dict[str, Any]:
    return {"model": model.stem, "threads": threads, "failed": reason}


def table_of(rows: Sequence[dict[str, Any]]) -> Table:
    """One line a row and engine; the ratio is ours over theirs, below 1 we are faster."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("threads", justify="right")
    table.add_column("engine", no_wrap=True)
    for title in ("median us", "min us", "ours/its", "95 %", "CPU/wall", "error", "predicted us", "tuned s", "again s"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        if "failed" in row:
            table.add_row(row["model"], str(row["threads"]), f"[red]failed: {row['failed']}")
            continue
        for name, found in row["engines"].items():
            table.add_row(row["model"], str(row["threads"]), name, *_cells(found, row["ratios"].get(name)))
    return table


def _cells(found: dict[str, Any], against: Sequence[float] | None) -> list[str]:
    void = "[red]void[/] " if found["void"] else ""
    return [
        f"{found['median_us']:,.1f}",
        f"{found['min_us']:,.1f}",
        f"{against[0]:.2f}" if against else "",
        f"{against[1]:.2f}-{against[2]:.2f}" if against else "",
        f"{void}{found['cpu_per_wall']:.2f}",
        f"{found['error']:.1e}" if found["correct"] else f"[red]WRONG {found['error']:.1e}",
        *(f"{found[key]:,.1f}" if key in found else "" for key in ("predicted_us", "tune_first_s", "tune_again_s")),
    ]


def available_engines(names: Sequence[str], console: Console) -> list[str]:
    """Those that can be imported; the others are named with the reason."""
    found = []
    for name in names:
        try:
            open_engine(name)
            found.append(name)
        except ImportError as error:
            console.print(f"[yellow]without {name}[/]: {error}  (pip install 'softneuro-core\\[peers]')")
    return found


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("words", nargs="*", help="only models whose name holds one of these")
    options.add_argument("--models", help="folder of models (default: SOFTNEURO_MODELS, else ../shared/models)")
    options.add_argument("--threads", default="1,2", help="thread counts, comma-separated")
    options.add_argument("--engines", default=",".join(IN_ONE_PROCESS), help="engines, ours first")
    options.add_argument("--rounds", type=int, default=15, help="turns each engine gets")
    options.add_argument("--timeout", type=float, default=1800, help="seconds a row may take, tuning included")
    options.add_argument("--known-costs", action="store_true", help="use your own cost database, not an empty one")
    options.add_argument("--out", type=Path, default=ROOT / "out" / "bench.jsonl", help="JSON lines, one a row")
    return options.parse_args()


def main() -> int:
    asked = arguments()
    console = Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH)
    folder = models_folder(asked.models)
    models = named_models(folder, asked.words)
    if not models:
        console.print(f"skipped: no ONNX model in {folder} fits (--models or SOFTNEURO_MODELS names another folder)")
        return 0
    engines = available_engines(asked.engines.split(","), console)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with one_at_a_time(console), open(asked.out, "w", encoding="utf-8") as out:
        for model in models:
            for threads in map(int, asked.threads.split(",")):
                with console.status(f"{model.stem}, {threads} threads"):
                    rows.append(run_row(model, threads, engines, asked))
                out.write(json.dumps(rows[-1]) + "\n")
                out.flush()
                console.print(_line(rows[-1]))
    console.print(table_of(rows))
    _closing(rows, console)
    console.print(f"written to {asked.out}")
    return 1 if any("failed" in row for row in rows) else 0


def _line(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"{row['model']}, {row['threads']} threads: [red]failed: {row['failed']}"
    times = ", ".join(f"{name} {found['median_us']:,.1f} us" for name, found in row["engines"].items())
    return f"{row['model']}, {row['threads']} threads: {times}"


def goal_met(row: dict[str, Any]) -> bool:
    """Whether our median of this row is within the goal."""
    ours = next(iter(row["engines"].values()))["median_us"]
    return bool(ours <= GOAL_FACTOR * row["engines"][GOAL_PEER]["median_us"] + GOAL_OFFSET_US)


def _closing(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """The machine, and whatever makes a row doubtful."""
    complete = [row for row in rows if "failed" not in row]
    for row in complete:
        for name, found in row["engines"].items():
            if found["void"]:
                console.print(f"[red]void[/]: {row['model']}, {row['threads']} threads, {name} {found['void']}")
    if judged := [row for row in complete if row["threads"] == 1 and GOAL_PEER in row["engines"]]:
        missed = [row["model"] for row in judged if not goal_met(row)]
        console.print(
            f"one thread, median within {GOAL_FACTOR} x {GOAL_PEER} + {GOAL_OFFSET_US:.0f} us: "
            f"{len(judged) - len(missed)} of {len(judged)} models" + (f"; not {', '.join(missed)}" if missed else "")
        )
    if complete:
        about, versions = complete[0]["machine"], complete[0]["engines"]
        console.print(f"{about['cpu']}, {about['cores']} cores, {about['system']}, Python {about['python']}; "
                      + ", ".join(f"{name} {found['version']}" for name, found in versions.items()))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
