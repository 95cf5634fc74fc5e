"""``softneuro calibrate``: from data to a file of ranges."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from softneuro_core.calibration.ranges import Ranges
from tests.cli.conftest import Run, the_line


def test_ranges_are_written_beside_the_model(run: Run, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32))
    result = run("calibrate", model, "--data", tmp_path / "x.npy", "--samples", 4, "--method", "minmax")
    assert result.exit_code == 0, result.stderr
    found = Ranges.load(model.with_suffix(".ranges.json"))
    assert found.samples == 4 and found.method == "minmax" and "x" in found.values
    assert f"{len(found.values)} ranges of 4 samples" in result.stdout and "calibrating" in result.stderr
    told = json.loads(run("calibrate", model, "--data", tmp_path / "x.npy", "--json", "-o", tmp_path / "r.json").stdout)
    assert told["samples"] == 6 and set(told["values"]) == set(found.values)


def test_what_is_wrong_is_told_before_anything_runs(run: Run, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 8, 8), np.float32))
    data = ("calibrate", model, "--data", tmp_path / "x.npy")
    assert "the folder does not exist" in the_line(run(*data, "-o", tmp_path / "absent" / "r.json"))
    assert "no data" in the_line(run("calibrate", model, "--data", "what"))
