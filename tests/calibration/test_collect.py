"""Every float value is observed on every sample; data comes from arrays, pictures and generators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import softneuro_core as sn
from softneuro_core.builtin.reference import RegionEvaluator
from softneuro_core.calibration.collect import calibrate, observed
from softneuro_core.calibration.data import read_samples
from softneuro_core.errors import InputError
from softneuro_core.graph import Graph, Region
from tests.core.models import residual

CATALOG = sn.load_plugins(only=())


@pytest.fixture
def graph() -> Graph:
    return sn.load(residual(), catalog=CATALOG)


def stack(graph: Graph, count: int, seed: int = 0) -> np.ndarray:
    shape = graph.inputs[0].static_shape
    return np.random.default_rng(seed).standard_normal((count, *shape[1:])).astype(np.float32)


def test_ranges_are_those_of_every_value_over_all_samples(graph: Graph) -> None:
    arrays = stack(graph, 5)
    ranges = calibrate(graph, [{"x": a[None]} for a in arrays], "minmax", catalog=CATALOG)
    assert ranges.samples == 5 and ranges.model["graph"]
    low = dict.fromkeys(observed(graph), np.inf)
    high = dict.fromkeys(observed(graph), -np.inf)
    for array in arrays:
        known = {graph.inputs[0]: array[None]}
        for layer in graph.layers:
            region = Region(graph, (layer,))
            known.update(zip(region.outputs, RegionEvaluator(region)([known[v] for v in region.inputs]), strict=True))
        for value in low:
            low[value] = min(low[value], float(known[value].min()))
            high[value] = max(high[value], float(known[value].max()))
    assert set(ranges.values) == {value.name for value in low} and len(low) == len(graph.layers) + 1
    for value in low:
        assert ranges.values[value.name] == pytest.approx((min(low[value], 0), max(high[value], 0)), rel=1e-6)


def test_what_is_not_finite_is_named(graph: Graph) -> None:
    bad = stack(graph, 1)
    bad[0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="value 'x' held 1 elements that are not finite"):
        calibrate(graph, [{"x": bad}], catalog=CATALOG)
    with pytest.raises(InputError, match="no sample"):
        calibrate(graph, [], catalog=CATALOG)


def test_stacked_arrays(graph: Graph, tmp_path: Path) -> None:
    arrays = stack(graph, 7)
    np.save(tmp_path / "x.npy", arrays)
    np.savez(tmp_path / "labelled.npz", pixels=arrays, labels=np.arange(7))
    np.savez(tmp_path / "named.npz", x=arrays, other=arrays)
    np.save(tmp_path / "batches.npy", arrays[:, None])
    for name in ("x.npy", "labelled.npz", "named.npz", "batches.npy"):
        samples = read_samples(graph, str(tmp_path / name))
        assert len(samples) == 7
        for _ in range(2):  # it can be gone through again
            assert all((s["x"] == a[None]).all() for s, a in zip(samples, arrays, strict=True))
    assert len(list(read_samples(graph, str(tmp_path / "x.npy"), most=3))) == 3


@pytest.mark.parametrize(
    "arrays, what",
    [
        ({"x": np.zeros((2, 3, 8, 8), np.uint8)}, "'x' is uint8, the model wants float32"),
        ({"x": np.zeros((2, 3, 9, 8), np.float32)}, "the model wants"),
        ({"a": np.zeros((2, 3, 8, 8), np.float32), "b": np.zeros((2, 3, 8, 8), np.float32)}, "no array for input 'x'"),
    ],
)
def test_arrays_that_do_not_fit_say_why(graph: Graph, tmp_path: Path, arrays: dict[str, np.ndarray], what: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=what):
        read_samples(graph, str(tmp_path / "data.npz"))


def test_a_generator_of_a_file(graph: Graph, tmp_path: Path) -> None:
    source = (
        "import numpy as np\ndef some():\n    for i in range(4):\n        yield np.full((1, 3, 8, 8), i, np.float32)\n"
    )
    (tmp_path / "mine.py").write_text(source)
    made = list(read_samples(graph, f"{tmp_path / 'mine.py'}:some"))
    assert [float(s["x"].max()) for s in made] == [0, 1, 2, 3]
    with pytest.raises(InputError, match="no function 'other'"):
        read_samples(graph, f"{tmp_path / 'mine.py'}:other")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        read_samples(graph, f"{tmp_path / 'broken.py'}:some")


@pytest.mark.parametrize("text", ["nothing", "absent.npz", "no.such.module:f"])
def test_data_that_is_not_there(graph: Graph, text: str) -> None:
    with pytest.raises(InputError):
        read_samples(graph, text)


def test_a_folder_of_pictures(graph: Graph, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    folder = tmp_path / "pictures"
    folder.mkdir()
    with pytest.raises(InputError, match="no pictures"):
        read_samples(graph, str(folder))
    for number in range(3):
        pillow.new("RGB", (20, 20), (10 * number, 0, 0)).save(folder / f"{number}.png")
    samples = read_samples(graph, str(folder), "scale=1/255")
    assert len(samples) == 3 and len(list(samples)) == 3
