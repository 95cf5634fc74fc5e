"""What rounding a layer's weights and input adds to the mean of each channel, on data; a plan takes it off again.

Bias correction of M. Nagel et al., arXiv 1906.04721, section 4.2, from data, each layer by itself: its input is the
float model's, since which other layers a plan rounds is not known yet. The mean of a sum of products needs the mean of
what meets each weight only, so no layer is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from softneuro_core.builtin.reference_ops.sliding import SlidingWindow
from softneuro_core.catalog import Catalog
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.grids import is_laid, on_its_grid
from softneuro_core.passes.equalised import can_shift, weights_of
from softneuro_core.progress import Progress, Silent
from softneuro_core.session import Session


def bias_shifts(
    graph: Graph,
    samples: Iterable[Mapping[str, np.ndarray]],
    *,
    count: int = 0,
    threads: int | None = None,
    catalog: Catalog | None = None,
    progress: Progress | None = None,
) -> dict[str, tuple[float, ...]]:
    """Layer -> what to add to each channel where the layer is rounded. ``graph`` has its grids laid."""
    told = progress or Silent()
    layers = [layer for layer in graph.layers if _is_corrected(layer)]
    values = list(dict.fromkeys(_input(layer) for layer in layers))
    made = [value for value in values if value not in graph.inputs]
    sums = {layer: np.zeros(1) for layer in layers}
    number = 0
    with Session(graph.replace(outputs=made or graph.outputs), threads=threads, catalog=catalog) as session:
        told.start(count, f"correcting biases of {graph.name}")
        for sample in samples:
            held: dict[str, Any] = {**sample, **session.run(sample)}
            sums = {layer: total + _error(layer, held[_input(layer).name]) for layer, total in sums.items()}
            number += 1
            told.advance()
    return {x.name: tuple(float(np.float32(-n)) for n in np.atleast_1d(sums[x] / max(number, 1))) for x in layers}


def _input(layer: Layer) -> Value:
    value = layer.inputs[0]
    assert value is not None
    return value


def _is_corrected(layer: Layer) -> bool:
    if layer.op not in ("Conv", "Gemm") or len(layer.inputs) < 2 or layer.inputs[0] is None:
        return False
    x, w = layer.inputs[:2]
    if x is None or w is None or w.data is None or not is_laid(w) or not is_laid(x):
        return False
    return can_shift(layer, layer.results[0].static_shape[1])


def _error(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Mean of each output channel with input and weights rounded, less the mean without."""
    weights = layer.inputs[1]
    assert weights is not None
    exact = _means(layer, x, weights_of(layer))
    return _means(layer, on_its_grid(x, _input(layer)), on_its_grid(weights_of(layer), weights)) - exact


def _means(layer: Layer, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over batch and places of each channel of the layer's result, without its bias."""
    if layer.op == "Gemm":
        wide = weights.astype(np.float64)
        mean: np.ndarray = x.mean(axis=0, dtype=np.float64) @ (wide.T if layer.attrs.get("transB") else wide)
        return mean * layer.attrs.get("alpha", 1.0)
    groups = layer.attrs.get("group", 1)
    patch = _mean_patch(layer, x, weights.shape[2:]).reshape(groups, -1)
    flat = weights.astype(np.float64).reshape(groups, len(weights) // groups, -1)
    return np.einsum("gok,gk->go", flat, patch).reshape(-1)


def _mean_patch(layer: Layer, x: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
    """What meets each tap of the window in the mean: [channels, taps]."""
    window = SlidingWindow.of(x.shape[2:], kernel, layer.attrs)
    padded = np.pad(x, ((0, 0), (0, 0), *window.pads))
    everywhere = (0, *range(2, x.ndim))
    taps = [padded[window.under(tap)].mean(axis=everywhere, dtype=np.float64) for tap in np.ndindex(kernel)]
    return np.stack(taps, axis=1)
