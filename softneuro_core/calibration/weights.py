"""What rounding the weights alone costs: on one grid a tensor, or one a channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from softneuro_core.catalog import Catalog
from softneuro_core.graph import Graph, Layer
from softneuro_core.grids import is_laid, on_its_grid, weight_grid
from softneuro_core.session import Session

Samples = Sequence[Mapping[str, np.ndarray]]


def noise_of_weights(
    graph: Graph, samples: Samples, threads: int | None = None, catalog: Catalog | None = None
) -> tuple[float, float]:
    """Noise over signal power at the outputs with the weights rounded by tensor, and by channel; all else is float."""
    from softneuro_core.accuracy.metrics import noise_of

    exact, by_tensor, by_channel = (_outputs(graph, samples, kind, threads, catalog) for kind in (None, True, False))
    return noise_of(by_tensor, exact), noise_of(by_channel, exact)


def _outputs(
    graph: Graph, samples: Samples, per_tensor: bool | None, threads: int | None, catalog: Catalog | None
) -> list[Mapping[str, np.ndarray]]:
    """What the model makes of the samples with its weights rounded so (None: not at all)."""
    layers = graph.layers if per_tensor is None else [_with_rounded_weights(x, per_tensor) for x in graph.layers]
    with Session(graph.replace(layers), threads=threads, catalog=catalog) as session:
        return [session.run(sample) for sample in samples]


def _with_rounded_weights(layer: Layer, per_tensor: bool) -> Layer:
    grid = weight_grid(layer, per_tensor)
    if grid is None:
        return layer
    weights = layer.inputs[1]
    assert weights is not None and weights.data is not None and (weights.qparams is None or is_laid(weights))
    data = on_its_grid(weights.data, replace(weights, qparams=grid))
    rounded = replace(weights, data=data, qparams=None)
    return replace(layer, inputs=(layer.inputs[0], rounded, *layer.inputs[2:]))
