"""Which factors even out the weights of neighbouring layers (arXiv 1906.04721, section 4.1): powers of two, so that the
float results stay as they are to the bit, and a factor is an integer a person can read.

A channel is scaled up no further than to what the largest channel holds on data: a channel of small weights and a large
bias would else take the whole range of the tensor for itself, and leave the others no steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from softneuro_core.catalog import Catalog
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.passes.equalised import Pair, channel_ranges, pairs, scaled_weights, weights_of
from softneuro_core.progress import Progress, Silent
from softneuro_core.session import Session

SWEEPS = 20
"""More than it takes: a layer between two others is in two pairs."""
LARGEST = 20
"""Exponents stay so small that no float32 leaves its range."""


def equalising(
    graph: Graph,
    samples: Iterable[Mapping[str, np.ndarray]],
    *,
    count: int = 0,
    threads: int | None = None,
    catalog: Catalog | None = None,
    progress: Progress | None = None,
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """First layer -> the layer after it and an exponent for each channel; pairs that are even already are left out."""
    known = pairs(graph)
    if not known:
        return {}
    told = progress or Silent()
    told.start(count, f"looking at channels of {graph.name}")
    seen = _channel_maxima(graph, [_between(pair) for pair in known], samples, threads, catalog, told)
    weights = {layer: weights_of(layer).astype(np.float64) for pair in known for layer in (pair.first, pair.second)}
    totals = {pair: np.zeros(len(channel_ranges(pair, weights)[0]), np.int64) for pair in known}
    for _ in range(SWEEPS):
        moved = [_even_out(pair, weights, totals[pair], _room(seen[_between(pair)])) for pair in known]
        if not any(moved):
            break
    return {p.first.name: (p.second.name, tuple(map(int, total))) for p, total in totals.items() if total.any()}


def _between(pair: Pair) -> Value:
    """What the second layer reads."""
    value = pair.second.inputs[0]
    assert value is not None
    return value


def _channel_maxima(
    graph: Graph,
    values: list[Value],
    samples: Iterable[Mapping[str, np.ndarray]],
    threads: int | None,
    catalog: Catalog | None,
    told: Progress,
) -> dict[Value, np.ndarray]:
    """The largest absolute element of each channel (axis 1)."""
    found = {value: np.zeros(value.static_shape[1]) for value in values}
    with Session(graph.replace(outputs=values), threads=threads, catalog=catalog) as session:
        for sample in samples:
            made: dict[str, Any] = session.run(sample)
            for value, largest in found.items():
                others = tuple(axis for axis in range(made[value.name].ndim) if axis != 1)
                np.maximum(largest, np.abs(made[value.name]).max(axis=others), out=largest)
            told.advance()
    return found


def _room(maxima: np.ndarray) -> np.ndarray:
    """Largest exponent of each channel that leaves it below the largest one; of one always 0, it may grow at will."""
    with np.errstate(divide="ignore"):
        return np.where(maxima > 0, np.floor(np.log2(maxima.max(initial=0.0) / maxima)), LARGEST)


def _even_out(pair: Pair, weights: dict[Layer, np.ndarray], total: np.ndarray, room: np.ndarray) -> bool:
    """One step: each channel's largest weights in both layers meet in the middle; False where nothing changed."""
    first, second = channel_ranges(pair, weights)
    usable = (first > 0) & (second > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.where(usable, np.rint(0.5 * np.log2(second / first)), 0.0)
    powers = np.clip(total + powers, -LARGEST, np.minimum(room, LARGEST)) - total
    if not powers.any():
        return False
    total += powers.astype(np.int64)
    weights[pair.first] = scaled_weights(pair.first, weights[pair.first], np.exp2(powers), None)
    weights[pair.second] = scaled_weights(pair.second, weights[pair.second], None, np.exp2(-powers))
    return True
