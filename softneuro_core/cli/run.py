"""``softneuro run``."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
import numpy as np

from softneuro_core.cli import options, output
from softneuro_core.cli.sessions import Job, open_session
from softneuro_core.plan import KernelStep
from softneuro_core.report.table import Table
from softneuro_core.report.trace import chrome_trace
from softneuro_core.report.units import show_shape, show_us
from softneuro_core.session import StepTime

TOP = 5


@click.command("run")
@options.model_argument
@options.plan_option
@options.relaxed_option
@options.input_option
@options.image_option
@options.shape_option
@click.option("-o", "--output", "out", metavar="OUT.npz", help="Write every output there, by name.")
@options.threads_option
@options.pins_option
@click.option("--bylayer", is_flag=True, help="Time every step (median of 20 runs).")
@click.option("--trace", metavar="TRACE.json", help="Write a Chrome trace of the steps.")
@options.max_mem_option
@options.unrounded_option
@options.json_option
def command(
    model: str,
    plan_path: str | None,
    relaxed: bool,
    inputs: tuple[str, ...],
    image: str | None,
    shapes: tuple[str, ...],
    out: str | None,
    threads: int | None,
    force: tuple[str, ...],
    bylayer: bool,
    trace: str | None,
    max_mem: str | None,
    allow_unrounded: bool,
    as_json: bool,
) -> None:
    """Run a model once and show its outputs.

    Without --plan known costs decide what runs, and estimates where nothing is known; without --input the inputs are
    random, from a fixed seed.
    """
    ready = open_session(
        Job(model, plan_path, relaxed, shapes, inputs, image, threads, force, max_mem, allow_unrounded)
    )
    with ready.session as session:
        results = session.run(ready.feeds)
        times = session.profile(ready.feeds) if bylayer or trace else []
        plan = session.plan
    if out:
        output.write_file(out, archive(results))
    if trace:
        output.write_file(trace, json.dumps(chrome_trace(ready.graph.name, times)))
    if as_json:
        steps = [{"step": t.name, "routine": t.routine, "us": t.us, "predicted_us": t.predicted_us} for t in times]
        output.show_json({"model": ready.graph.name, "outputs": summaries(results), "steps": steps})
        return
    for row in summaries(results):
        _show_output(row)
    if bylayer:
        output.show(step_table(times))
    unplanned = sum(isinstance(s, KernelStep) and s.routine == "cpu/reference" for s in plan.steps)
    if unplanned and not plan_path:
        output.note(
            f"{unplanned} of {len(plan.kernel_steps)} steps used the reference; softneuro tune finds a fast plan"
        )
    for path in (p for p in (out, trace) if p):
        output.say(f"written: {path}")


def archive(results: Mapping[str, Any]) -> bytes:
    """An .npz of all outputs by name; a value that is no array is left out with a note."""
    arrays = {}
    for name, result in results.items():
        array = np.asarray(result) if not isinstance(result, list | dict | type(None)) else None
        if array is None or array.dtype == object:
            output.note(f"output {name!r} is no array of numbers: left out of the file")
        else:
            arrays[name] = array
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def summaries(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name, dtype, shape and range of each output, and of vectors the largest entries as (index, value)."""
    return [_summary(name, result) for name, result in results.items()]


def _summary(name: str, result: Any) -> dict[str, Any]:
    if not isinstance(result, np.ndarray) or result.dtype == object:
        return {"name": name, "dtype": "object", "text": str(result)[:200]}
    row: dict[str, Any] = {"name": name, "dtype": result.dtype.name, "shape": result.shape}
    numbers = result.astype(np.float64) if result.dtype.kind not in "c" else np.abs(result)
    if numbers.size:
        row |= {"min": numbers.min(), "max": numbers.max(), "mean": numbers.mean()}
    if numbers.size == max(result.shape, default=1) and numbers.size > 1:
        flat = numbers.reshape(-1)
        row["top"] = [(int(i), float(flat[i])) for i in np.argsort(-flat, kind="stable")[:TOP]]
    elif 1 <= numbers.size <= TOP:
        row["values"] = numbers.reshape(-1).tolist()
    return row


def _show_output(row: Mapping[str, Any]) -> None:
    if "text" in row:
        output.say(f"{row['name']}: {row['text']}")
        return
    output.say(f"{row['name']}: {row['dtype']} {show_shape(row['shape'])}" + _range(row))
    if "top" in row:
        output.say("  top: " + ", ".join(f"[{i}] {v:.6g}" for i, v in row["top"]))
    elif "values" in row:
        output.say("  " + ", ".join(f"{v:.6g}" for v in row["values"]))


def _range(row: Mapping[str, Any]) -> str:
    return f", min {row['min']:.6g}, max {row['max']:.6g}, mean {row['mean']:.6g}" if "min" in row else " (empty)"


def step_table(times: Sequence[StepTime]) -> Table:
    """Every step with its measured and predicted time and its share."""
    total = sum(t.us for t in times) or 1.0
    rows = [(t.name, t.routine, show_us(t.us), show_us(t.predicted_us), f"{t.us / total:.1%}") for t in times]
    rows.append(("sum", "", show_us(total), show_us(sum(t.predicted_us for t in times)), "100.0%"))
    return Table.of(("step", "routine", ">time", ">predicted", ">share"), rows)
