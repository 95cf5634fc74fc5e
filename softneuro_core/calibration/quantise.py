"""Ranges with whatever else the user asks for: even weights, corrected biases, weights by tensor and its price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from softneuro_core.calibration.apply import lay_grids
from softneuro_core.calibration.collect import calibrate
from softneuro_core.calibration.correct import bias_shifts
from softneuro_core.calibration.equalise import equalising
from softneuro_core.calibration.ranges import Ranges
from softneuro_core.calibration.weights import noise_of_weights
from softneuro_core.changes import Changes
from softneuro_core.graph import Graph
from softneuro_core.passes.changed import changed

FEW = 8
"""Samples the price of weights by tensor is seen on."""


def quantise(
    graph: Graph,
    samples: Iterable[Mapping[str, np.ndarray]],
    method: str = "mse",
    *,
    equalise: bool = False,
    bias_correction: bool = False,
    per_tensor: bool = False,
    **told: Any,
) -> Ranges:
    """As :func:`softneuro_core.calibration.collect.calibrate` (``told`` are its keywords), of a graph as loaded.

    ``equalise`` evens out weights of neighbouring layers (the float results stay), ``bias_correction`` finds what
    rounded layers are off in the mean; for each of them the samples are gone through once more.
    ``per_tensor`` lays one grid over each weight tensor: the ranges then carry a note of what that costs against one
    grid a channel.
    """
    wanted = Changes(equalised=equalising(graph, samples, **told) if equalise else {}, per_tensor=per_tensor)
    graph = changed(graph, wanted)
    found = calibrate(graph, samples, method, **told)
    if per_tensor:
        kept = {key: value for key, value in told.items() if key in ("threads", "catalog")}
        seen = noise_of_weights(graph, list(islice(iter(samples), FEW)), **kept)
        found = replace(found, notes=(*found.notes, price_of_tensors(*seen)))
    if bias_correction:
        shifts = bias_shifts(lay_grids(graph, found), samples, **told)
        found = replace(found, changes=replace(found.changes, shifts=shifts))
    return found


def price_of_tensors(by_tensor: float, by_channel: float) -> str:
    """What a user who forces one grid a tensor is told; noise over signal power."""
    decibels = [f"{10 * np.log10(noise):.1f} dB" if noise else "none" for noise in (by_tensor, by_channel)]
    return (
        f"weights rounded by tensor alone make noise of {decibels[0]} at the outputs, by channel {decibels[1]}, "
        "which is as fast"
    )
