"""What rounding a layer's weights and input adds to the mean of each channel, on data; a plan takes it off again.

Bias correction of M. Nagel et al., arXiv 1906.04721, section 4.2, from data, each layer by itself: its input is the
float model's, since which other layers a plan rounds is not known yet. The mean of a sum of products needs the mean of
what meets each weight only, so no layer is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import numpy as np

from softneuro_core.catalog import Catalog
from softneuro_core.encoding import decode, encode
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.grids import is_laid
from softneuro_core.passes.equalised import can_shift, weights_of
from softneuro_core.progress import Progress, Silent
from softneuro_core.session import Session
from softneuro_core.spec import NCHW, DType, TensorSpec


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
    return _means(layer, _rounded(x, _input(layer)), _rounded(weights_of(layer), weights)) - exact


def _rounded(array: np.ndarray, value: Value) -> np.ndarray:
    assert value.qparams is not None
    spec = TensorSpec("cpu", DType.parse(np.asarray(value.qparams.zero_point).dtype.name), NCHW)
    return decode(encode(array, value, spec), value, spec)


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
    rank = len(kernel)
    strides, dilations = (layer.attrs.get(key) or [1] * rank for key in ("strides", "dilations"))
    places = layer.results[0].static_shape[2:]
    begins, ends = _pads(layer, x.shape[2:], kernel, strides, dilations, places)
    padded = np.pad(x, ((0, 0), (0, 0), *zip(begins, ends, strict=True)))
    patch = np.empty((x.shape[1], int(np.prod(kernel))))
    for tap in product(*map(range, kernel)):
        starts = [at * step for at, step in zip(tap, dilations, strict=True)]
        cut = [slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(starts, places, strides, strict=True)]
        met = padded[(slice(None), slice(None), *cut)]
        patch.reshape(x.shape[1], -1)[:, np.ravel_multi_index(tap, kernel)] = met.mean(
            axis=(0, *range(2, rank + 2)), dtype=np.float64
        )
    return patch


def _pads(
    layer: Layer,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: list[int],
    dilations: list[int],
    places: tuple[int, ...],
) -> tuple[list[int], list[int]]:
    """Zeros before and after each axis, ``auto_pad`` resolved."""
    rank, auto = len(kernel), layer.attrs.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = list(layer.attrs.get("pads") or [0] * 2 * rank) if auto == "NOTSET" else [0] * 2 * rank
        return pads[:rank], pads[rank:]
    needed = [
        max(0, (n - 1) * s + (k - 1) * d + 1 - size)
        for n, s, k, d, size in zip(places, strides, kernel, dilations, sizes, strict=True)
    ]
    begins = [(total + (auto == "SAME_LOWER")) // 2 for total in needed]
    return begins, [total - begin for total, begin in zip(needed, begins, strict=True)]
