"""Grids laid over values the model does not round: restored from plans, refused where they differ."""

from __future__ import annotations

import numpy as np
import pytest

import softneuro_core as sn
from softneuro_core.errors import PlanError
from softneuro_core.graph import Graph, Region
from softneuro_core.grids import grids_of, is_laid, lay_weights, restore_grids, rounded_constants
from tests.core.models import residual

CATALOG = sn.load_plugins(only=())


def graph() -> Graph:
    return sn.load(residual(), catalog=CATALOG)


def test_what_is_restored_is_what_was_laid() -> None:
    first, second = graph(), graph()
    restore_grids(first, {"x": (0.02, 128, "uint8"), "r1": (0.5, 0, "uint8")})
    assert grids_of(first) == {"x": (pytest.approx(0.02), 128, "uint8"), "r1": (0.5, 0, "uint8")}
    restore_grids(second, grids_of(first))
    assert grids_of(second) == grids_of(first)
    restore_grids(second, grids_of(first))  # the same again changes nothing


def test_other_grids_and_strange_values_are_refused() -> None:
    made = graph()
    restore_grids(made, {"x": (0.02, 128, "uint8")})
    with pytest.raises(PlanError, match="'x' already lies on another grid"):
        restore_grids(made, {"x": (0.03, 128, "uint8")})
    with pytest.raises(PlanError, match="'absent', which the model does not have"):
        restore_grids(made, {"absent": (0.03, 128, "uint8")})


def test_weights_are_rounded_by_channel_only_while_asked() -> None:
    made = graph()
    lay_weights(made)
    layer = next(layer for layer in made.layers if layer.op == "Conv")
    weights = layer.inputs[1]
    assert weights is not None and weights.data is not None and is_laid(weights)
    before = weights.data
    with rounded_constants(Region(made, (layer,))):
        rounded = weights.data
        assert rounded is not before
        steps = np.abs(before).max(axis=(1, 2, 3), keepdims=True) / 127
        assert (rounded != before).any() and (np.abs(rounded - before) <= 0.5001 * steps).all()
        largest = [np.abs(array).max(axis=(1, 2, 3)) for array in (rounded, before)]
        np.testing.assert_allclose(*largest, rtol=1e-6)
    assert weights.data is before
