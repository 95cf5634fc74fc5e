"""compare: each step on reference inputs, on every device, and the numbers it gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

import softneuro_core as sn
from softneuro_core.program import prepare
from softneuro_core.report.comparison import compare_steps, difference, first_divergence
from softneuro_core.task import Tuned
from tests.core.models import image, residual
from tests.report import planted


def test_all_steps_agree_on_two_devices(tuned: Tuned, catalog: sn.Catalog) -> None:
    rows = list(compare_steps(prepare(tuned.form.graph, tuned.plan, catalog), {"x": image()}, catalog))
    assert [r.name for r in rows] == [s.name for s in tuned.plan.steps]
    assert any(r.routine.startswith("fake/") for r in rows)
    assert first_divergence(rows) is None
    assert not any(r.skipped for r in rows)


def test_the_first_wrong_step_is_named_and_the_next_are_not_blamed() -> None:
    catalog = sn.load_plugins(only=(), modules=[planted])
    graph = sn.load(residual(), catalog=catalog)
    plan = sn.tune(
        graph, threads=1, budget_s=0, force="cpu/off_by_a_bit@relu1", forbid="cpu/off_by_a_bit@relu2", catalog=catalog
    )
    rows = list(compare_steps(prepare(graph, plan, catalog), {"x": image()}, catalog))
    first = first_divergence(rows)
    assert first is not None
    assert first.name == "relu1"
    assert first.max_error == pytest.approx(0.01, rel=1e-3)
    assert [r.name for r in rows if r.diverges] == ["relu1"]
    assert 20 < first.snr_db < 120


@pytest.mark.parametrize(
    ("got", "wanted", "error", "relative", "snr"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0, 0.0, math.inf),
        ([1.0, 2.5], [1.0, 2.0], 0.5, 0.25, 10 * math.log10(5 / 0.25)),
        ([np.nan, 2.0], [np.nan, 2.0], 0.0, 0.0, math.inf),
        ([np.inf, 2.0], [np.inf, 2.0], 0.0, 0.0, math.inf),
        ([np.nan, 2.0], [1.0, 2.0], math.inf, math.inf, -math.inf),
        ([1.0, 2.0], [np.nan, 2.0], math.inf, math.inf, -math.inf),
        ([1.0, 0.0], [0.0, 0.0], 1.0, math.inf, -math.inf),
        ([], [], 0.0, 0.0, math.inf),
    ],
)
def test_differences(got: list[float], wanted: list[float], error: float, relative: float, snr: float) -> None:
    made = difference(np.array(got), np.array(wanted))
    assert made == (pytest.approx(error), pytest.approx(relative), pytest.approx(snr))


def test_what_is_no_array_is_equal_or_not() -> None:
    assert difference(["a"], ["a"])[0] == 0
    assert difference(["a"], ["b"])[0] == math.inf
    assert difference(np.zeros(2), np.zeros(3))[0] == math.inf
    assert difference(np.uint8([255]), np.uint8([0]))[0] == 255
