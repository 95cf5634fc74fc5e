"""How the demo looks on a terminal. Owns wording and drawing; computes nothing but shares and ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import softneuro_core as sn
from benchmarks.interleaved import Timing, ratio
from examples.digits.mixed import Mixed
from softneuro_core.device import cpu_model
from softneuro_core.plan import AdapterStep
from softneuro_core.report.explanation import Alternative, Explanation, Row
from softneuro_core.report.text import certificate_line, distinct
from softneuro_core.report.units import show_us
from softneuro_core.task import Tuned

LOG_WIDTH = 110
"""Where there is no terminal."""
BAR = 24
SHORT_BAR = 12
PICTURES = 8
ALTERNATIVES = 3


def step(console: Console, number: int, text: str) -> None:
    """The heading of one part."""
    console.print()
    console.rule(f"[bold cyan]{number}[/]  [bold]{text}", align="left", style="dim")


def model(console: Console, graph: sn.Graph, catalog: sn.Catalog, path: Path) -> None:
    """What is about to be tuned, where, and with what."""
    plugins = ", ".join(f"{p.name} {p.version}".strip() for p in catalog.plugins if p.status == "loaded")
    lines = [
        "[bold]SoftNeuro[/]: measures every way to run your model, and proves which combination is fastest",
        "",
        f"model     {path.name}: handwritten digits, {path.stat().st_size / 1024:,.0f} KiB, "
        f"{len(graph.layers)} layers after import",
        f"machine   {cpu_model()}",
        f"plugins   {plugins}: {len(catalog.routines)} routines, {len(catalog.adapters)} adapters",
    ]
    console.print(Panel("\n".join(lines), box=box.ROUNDED, border_style="cyan", expand=False))


def plan(console: Console, tuned: Tuned, seconds: float) -> None:
    """The plan step by step, conversions included."""
    table = _table("step", "computes", "routine", "from", "to", "time", "")
    table.columns[5].justify = "right"
    steps = tuned.plan.steps
    dearest = max(s.us for s in steps)
    for number, one in enumerate(steps):
        bar = Text("█" * max(1, round(BAR * one.us / dearest)), style="cyan")
        if isinstance(one, AdapterStep):
            cells = (f"[dim]convert {one.value}", f"[dim]{one.adapter}", _storage([one.src]), _storage([one.dst]))
        else:
            ops = "+".join(tuned.form.graph.layer_by_name[name].op for name in one.layers)
            colour = "yellow" if one.routine.endswith("/reference") else "green"
            cells = (ops, f"[{colour}]{one.routine}", _storage(one.inputs), _storage(one.outputs))
        table.add_row(str(number), *cells, show_us(one.us), bar)
    console.print(table)
    count = len(tuned.form.candidates)
    console.print(
        f"{count} candidates and their conversions known after {seconds:.1f} s (measured once, kept for later)"
    )
    console.print(f"[bold green]{certificate_line(dict(tuned.plan.certificate))}")


def _storage(specs: Sequence[str]) -> str:
    """Specs without what is the same everywhere in this model."""
    return " ".join(dict.fromkeys(spec.removeprefix("cpu:float32:") for spec in specs))


def explanation(console: Console, found: Explanation) -> None:
    """Per step the best alternatives, and how much slower the best whole plan with each of them would be."""
    table = _table("computes", "chosen", "best alternatives, and what the whole plan would lose with them")
    for row in found.rows:
        others = [a for a in distinct(row.alternatives) if not a.chosen and a.forced_us is not None]
        texts = [_alternative(a, row, found.best_us) for a in others[:ALTERNATIVES]]
        table.add_row("+".join(row.ops), row.routine, "\n".join(texts) or "[dim]none installed")
    console.print(table)
    console.print("Exact for the measured costs: choosing again with an alternative pinned gives the same number.")


def _alternative(found: Alternative, row: Row, base_us: float) -> str:
    assert found.forced_us is not None
    loss = f"{found.forced_us / base_us - 1:.1%}" if base_us else "0 %"
    ops = dict(zip(row.layers, row.ops, strict=True))
    if len(found.layers) < len(row.layers):
        over = f" for {'+'.join(ops.get(name, name) for name in found.layers)} alone"
    else:
        over = "" if found.layers == row.layers else " fused"
    storage = f"{_storage(found.inputs)} to {_storage(found.outputs)}"
    return f"[yellow]{'+' + loss:>9}[/]  {found.routine} [dim]{storage}[/]{over}"


def accuracy(console: Console, images: np.ndarray, labels: np.ndarray, ours: np.ndarray, reference: np.ndarray) -> None:
    """A few images with their answers, the accuracy on all, and the distance to the reference."""
    answers = ours.argmax(1)
    wrong = np.flatnonzero(answers != labels)
    picked = [*wrong[:2], *(i for i in range(len(images)) if i not in wrong)][:PICTURES]
    draw = _pictures if console.color_system else _pictures_without_colour
    console.print(draw([images[i, 0] for i in picked]))
    captions = [_caption(int(answers[i]), int(labels[i]), float(ours[i].max())) for i in picked]
    console.print(Text("  ").join(captions))
    right = int((answers == labels).sum())
    console.print(f"[bold green]{right} of {len(labels)} right ({right / len(labels):.2%})", end="")
    largest = float(np.abs(ours - reference).max())
    console.print(f"; largest difference of a probability to the reference: {largest:.1e}")


def _pictures(pixels: Sequence[np.ndarray]) -> Text:
    """Pictures 8 x 8 side by side, two rows of pixels a line."""
    drawn = Text()
    for top in range(0, 8, 2):
        for picture in pixels:
            for column in range(8):
                upper, lower = (round(float(picture[row, column]) * 255) for row in (top, top + 1))
                drawn.append("▀", f"rgb({upper},{upper},{upper}) on rgb({lower},{lower},{lower})")
            drawn.append("  ")
        drawn.append("\n" if top < 6 else "")
    return drawn


def _pictures_without_colour(pixels: Sequence[np.ndarray]) -> Text:
    """The same for logs: one character a pixel."""
    shades = " .:-=+*#%@"
    lines = ("  ".join("".join(shades[int(p * 9)] for p in picture[row]) for picture in pixels) for row in range(8))
    return Text("\n".join(lines))


def _caption(answer: int, label: int, sure: float) -> Text:
    if answer == label:
        return Text(f"{answer} {sure:>4.0%}".center(8), style="green")
    return Text(f"{answer} not {label}".center(8), style="red")


def comparison(
    console: Console, timings: Mapping[str, Timing], tuned: str, reference: str, predicted_us: float
) -> None:
    """Times side by side, fastest first, each against the tuned plan."""
    table = _table("plan or engine", "median", "fastest", "time / tuned", "95 %", "CPU/wall", "")
    for column in table.columns[:6]:
        column.no_wrap, column.justify = True, "left" if column is table.columns[0] else "right"
    longest = max(t.median_us for name, t in timings.items() if name != reference)
    for name, timing in sorted(timings.items(), key=lambda item: item[1].median_us):
        middle, low, high = ratio(timing, timings[tuned])
        style = "bold green" if name == tuned else ""
        against = ("", "") if name == tuned else (_ratio(middle), f"{_ratio(low)}-{_ratio(high)}")
        bar = "█" * min(SHORT_BAR, max(1, round(SHORT_BAR * timing.median_us / longest))) + (
            "…" if name == reference else ""
        )
        table.add_row(
            name, show_us(timing.median_us), show_us(timing.min_us), *against,
            f"{timing.cpu_per_wall:.2f}", Text(bar, style="cyan"), style=style,
        )  # fmt: skip
    console.print(table)
    console.print(
        f"The plan predicted {show_us(predicted_us)} a run; measured here: {show_us(timings[tuned].median_us)}."
    )
    single = {n: t for n, t in timings.items() if n.startswith("all ") and n != reference}
    if single:
        best = min(single, key=lambda name: single[name].median_us)
        console.print(f"Against the reference: {_times(timings[reference], timings[tuned])}. "
                      f"Against the best single choice ({best}): {_times(single[best], timings[tuned])}.")  # fmt: skip


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _times(other: Timing, ours: Timing) -> str:
    middle, low, high = ratio(other, ours)
    if low <= 1 <= high:
        return "no difference that this many runs can show"
    return f"{_ratio(middle)} times as fast" if middle > 1 else f"[red]{1 / middle:.2f} times slower[/]"


def mixed(console: Console, made: Mixed) -> None:
    """One line on the plan within an accuracy bound."""
    found, chosen = made.found, made.found.chosen
    console.print(
        f"Mixed precision, at most {found.max_drop:.0%} of the answers lost: {len(chosen.rounded_layers)} of "
        f"{len(chosen.tuned.form.graph.layers)} layers in 8-bit integers, {show_us(chosen.us)} a run (float32 "
        f"{show_us(found.points[-1].us)}); {made.kept:.1%} of {made.images} images right that neither calibration nor "
        f"choice saw (float32 {made.exact:.1%})."
    )


def closing(console: Console, plan_path: Path, report_path: Path) -> None:
    """Where things are, and what to type next."""
    base = Path.cwd()
    shown = [p.relative_to(base) if p.is_relative_to(base) else p for p in (plan_path, report_path)]
    model_path = "examples/digits/digits.onnx"
    lines = [
        f"report    [bold]{shown[1]}[/]   (open it in a browser)",
        f"plan      {shown[0]}   (JSON; runs again without measuring)",
        "",
        f"next      softneuro tune {model_path} --shape image=1x1x8x8 -o plan.json",
        f"          softneuro explain {model_path} --plan {shown[0]} Conv",
        f"          softneuro bench {model_path} --plan {shown[0]} --threads 1",
        "          softneuro --help            (after: . .venv/bin/activate)",
    ]
    console.print()
    console.print(Panel("\n".join(lines), box=box.ROUNDED, border_style="cyan", expand=False))


def _table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title)
    return table
