"""``softneuro calibrate``."""

from __future__ import annotations

from pathlib import Path

import click

from softneuro_core.calibration.data import FORMS, read_samples
from softneuro_core.calibration.methods import METHODS
from softneuro_core.calibration.quantise import quantise
from softneuro_core.catalog import load_plugins
from softneuro_core.cli import options, output
from softneuro_core.cli.models import load_static
from softneuro_core.cli.progress import make_progress
from softneuro_core.report.table import Table


@click.command("calibrate")
@options.model_argument
@click.option("--data", required=True, metavar="DATA", help=f"What to run the model on: {FORMS}.")
@click.option(
    "--method", type=click.Choice(list(METHODS)), default="mse", show_default=True, help="Which range to keep."
)
@click.option("--samples", "most", type=click.IntRange(1), metavar="N", help="Stop after so many.")
@click.option("-o", "--output", "out", metavar="RANGES", help="Where to write them.  [default: MODEL.ranges.json]")
@click.option("--equalise", is_flag=True, help="Even out weights of neighbouring layers; the float results stay.")
@click.option("--bias-correction", is_flag=True, help="Take off what rounding adds to a layer's mean.")
@click.option(
    "--weights", type=click.Choice(["channel", "tensor"]), default="channel", show_default=True, help="A grid for each."
)
@options.threads_option
@options.shape_option
@options.image_option
@options.json_option
def command(
    model: str,
    data: str,
    method: str,
    most: int | None,
    out: str | None,
    equalise: bool,
    bias_correction: bool,
    weights: str,
    threads: int | None,
    shapes: tuple[str, ...],
    image: str | None,
    as_json: bool,
) -> None:
    """Find the range of every value on data, for integers to be laid over; a few hundred samples are enough."""
    catalog = load_plugins()
    graph = load_static(model, catalog, shapes)
    samples = read_samples(graph, data, image, most)
    path = out or str(Path(model).with_suffix(".ranges.json"))
    output.check_targets(path)
    with make_progress() as progress:
        found = quantise(
            graph,
            samples,
            method,
            equalise=equalise,
            bias_correction=bias_correction,
            per_tensor=weights == "tensor",
            count=len(samples),
            threads=threads,
            catalog=catalog,
            progress=progress,
        )
    for note in found.notes:
        output.note(note)
    found.save(path)
    if as_json:
        output.show_json({"path": path, "samples": found.samples, "values": dict(found.values)})
        return
    rows = [(name, f"{low:.4g}", f"{high:.4g}") for name, (low, high) in found.values.items()]
    output.show(Table.of(("value", ">from", ">to"), rows))
    if equalise:
        output.say(f"{len(found.changes.equalised)} pairs of layers are equalised")
    if bias_correction:
        output.say(f"{len(found.changes.shifts)} layers have biases corrected where they are rounded")
    output.say(f"{len(found.values)} ranges of {found.samples} samples by {method}\nwritten: {path}")
