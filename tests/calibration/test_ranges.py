"""Histograms that merge exactly, ranges that are what their names say, and the file they are kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softneuro_core.calibration.histogram import BINS, Histogram
from softneuro_core.calibration.methods import METHODS, range_of
from softneuro_core.calibration.ranges import Ranges
from softneuro_core.errors import InputError

FLOATS = st.floats(-1e6, 1e6, width=32)


def seen(*arrays: np.ndarray) -> Histogram:
    made = Histogram()
    for array in arrays:
        made.observe(np.asarray(array, np.float32))
    return made


@given(st.lists(st.lists(FLOATS, min_size=1, max_size=30), min_size=1, max_size=5))
def test_neither_order_nor_grouping_matters(batches: list[list[float]]) -> None:
    arrays = [np.array(batch, np.float32) for batch in batches]
    one, other, merged = seen(*arrays), seen(*arrays[::-1]), Histogram()
    for array in arrays:
        merged.merge(seen(array))
    for histogram in (other, merged):
        assert (one.low, one.high, one.width, one.first) == (
            histogram.low,
            histogram.high,
            histogram.width,
            histogram.first,
        )
        assert (one.counts == histogram.counts).all()
    flat = np.concatenate(arrays)
    assert (one.low, one.high) == (flat.min(), flat.max()) and one.counts.sum() == flat.size
    assert len(one.counts) <= BINS
    edges = (one.first + np.arange(len(one.counts) + 1)) * one.width
    assert (np.histogram(flat.astype(np.float64), edges)[0][:-1] == one.counts[:-1]).all()


def test_what_is_not_finite_is_counted_apart() -> None:
    histogram = seen(np.array([1, np.nan, np.inf, -2], np.float32))
    assert (histogram.low, histogram.high, histogram.total, histogram.strange) == (-2, 1, 2, 2)


def stored(values: np.ndarray, range_: tuple[float, float]) -> np.ndarray:
    step = (range_[1] - range_[0]) / 255
    zero = np.rint(-range_[0] / step)
    return (np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("values", ["normal", "rectified", "outlier", "constant", "zero", "negative"])
def test_every_range_holds_zero_and_no_more_than_was_seen(method: str, values: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(50_000).astype(np.float32)
    data = {
        "normal": x,
        "rectified": np.maximum(x, 0),
        "outlier": np.append(x, 100),
        "constant": np.full(100, 3.5),
        "zero": np.zeros(10),
        "negative": -np.abs(x),
    }[values].astype(np.float32)
    low, high = range_of(seen(data), method)
    assert min(data.min(), 0) <= low <= 0 <= high <= max(data.max(), 0)
    if method == "minmax":
        assert (low, high) == (min(data.min(), 0), max(data.max(), 0))


def test_clipping_pays_where_there_are_outliers_only() -> None:
    x = np.random.default_rng(1).standard_normal(100_000).astype(np.float32)
    spiky = np.append(x, [60, -45]).astype(np.float32)
    errors = {m: float(np.square(stored(spiky, range_of(seen(spiky), m)) - spiky).mean()) for m in METHODS}
    assert errors["mse"] == min(errors.values()) and errors["mse"] < errors["minmax"] / 1.2
    assert range_of(seen(spiky), "percentile")[1] < 6 and range_of(seen(spiky), "entropy")[1] < 40
    even = np.random.default_rng(2).uniform(-1, 1, 100_000).astype(np.float32)
    for method in ("mse", "entropy"):
        low, high = range_of(seen(even), method)
        assert low < -0.97 and high > 0.97, method


def test_the_percentile_clips_what_it_says() -> None:
    x = np.random.default_rng(3).standard_normal(1_000_000).astype(np.float32)
    low, high = range_of(seen(x), "percentile")
    assert 0.4e-4 < (x < low).mean() < 0.6e-4 and 0.4e-4 < (x > high).mean() < 0.6e-4
    low, high = range_of(seen(np.abs(x)), "percentile")
    assert low == 0 and 0.8e-4 < (np.abs(x) > high).mean() < 1.2e-4


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="minmax, percentile, mse, entropy"):
        range_of(Histogram(), "best")


def test_the_file_comes_back(tmp_path: Path) -> None:
    made = Ranges({"graph": "a", "constants": "b"}, "mse", 7, {'odd "name"': (-1.25, 0.1), "y": (0.0, 3.0000001)})
    made.save(tmp_path / "r.json")
    assert Ranges.load(tmp_path / "r.json") == made
    assert (tmp_path / "r.json").read_text().count("\n") == 5


@pytest.mark.parametrize(
    "text, what",
    [
        ("", "no ranges"),
        ("[1]", "no ranges"),
        ('{"format": "other"}', "its format is 'other'"),
        ('{"format": "softneuro ranges 1", "model": {}}', "no ranges"),
        (
            '{"format": "softneuro ranges 1", "model": {}, "method": "mse", "samples": 1, "values": {"x": [1, 2]}}',
            "does not hold 0",
        ),
    ],
)
def test_a_file_that_is_none_says_so(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(InputError, match=what):
        Ranges.load(path)
    with pytest.raises(InputError, match="no ranges"):
        Ranges.load(tmp_path / "absent.json")
