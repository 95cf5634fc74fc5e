"""Runs a model on data and counts what every value holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from softneuro_core.calibration.histogram import Histogram
from softneuro_core.calibration.methods import range_of
from softneuro_core.calibration.ranges import Ranges
from softneuro_core.catalog import Catalog
from softneuro_core.errors import InputError
from softneuro_core.graph import Graph, Value
from softneuro_core.plan import fingerprint
from softneuro_core.progress import Progress, Silent
from softneuro_core.session import Session
from softneuro_core.spec import FLOAT32

Sample = Mapping[str, np.ndarray]


def calibrate(
    graph: Graph,
    samples: Iterable[Sample],
    method: str = "mse",
    *,
    count: int = 0,
    threads: int | None = None,
    catalog: Catalog | None = None,
    progress: Progress | None = None,
) -> Ranges:
    """Ranges of every float32 value of a graph whose shapes are fixed.

    ``samples`` are inputs by name, of the graph's shapes; a few hundred are enough. ``count`` is how many there will
    be, for ``progress``. ``method`` is a key of ``METHODS``. Raises :class:`InputError` where there is nothing to
    observe, a sample does not fit, or a value is not finite.
    """
    seen, number = observe(graph, samples, count=count, threads=threads, catalog=catalog, progress=progress)
    strange = next((name for name, histogram in seen.items() if histogram.strange), None)
    if strange is not None:
        raise InputError(
            f"value {strange!r} held {seen[strange].strange} elements that are not finite",
            file=graph.name,
            remedy="look for what overflows with: softneuro compare",
        )
    values = {name: range_of(histogram, method) for name, histogram in seen.items()}
    return Ranges(fingerprint(graph), method, number, values, graph.changes)


def observe(
    graph: Graph,
    samples: Iterable[Sample],
    *,
    count: int = 0,
    threads: int | None = None,
    catalog: Catalog | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Histogram], int]:
    """Histograms by value name, and how many samples they are of."""
    told = progress or Silent()
    wanted = observed(graph)
    if not wanted:
        raise InputError("no value is float32: there is nothing to calibrate", file=graph.name)
    seen = {value.name: Histogram() for value in wanted}
    results = [value for value in wanted if value not in graph.inputs]
    number = 0
    with Session(graph.replace(outputs=results), threads=threads, catalog=catalog) as session:
        told.start(count, f"calibrating {graph.name}")
        for sample in samples:
            made: dict[str, Any] = session.run(sample)
            for name, histogram in seen.items():
                histogram.observe(sample[name] if name not in made else made[name])
            number += 1
            told.advance()
    if not number:
        raise InputError("there is no sample to calibrate with", file=graph.name)
    return seen, number


def observed(graph: Graph) -> list[Value]:
    """The values that get a range: float32, of a fixed shape, made by the model or given to it."""
    made = (*graph.inputs, *(value for layer in graph.layers for value in layer.results))
    return [value for value in made if value.dtype is FLOAT32 and value.is_static and value.size]
