"""Every real model beside the repository loads, is planned, and reproduces its stored outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import softneuro_core as sn
from softneuro_core.costs import CostDatabase
from tests.shared_models import ROOT, SILERO, read_model, shared_models, silero_windows

pytestmark = [pytest.mark.models, pytest.mark.skipif(not ROOT.is_dir(), reason=f"the shared models are not at {ROOT}")]
MODELS = pytest.mark.parametrize("path", shared_models(), ids=lambda p: p.stem)


@pytest.fixture(scope="module")
def catalog() -> sn.Catalog:
    return sn.load_plugins()


@MODELS
def test_untuned(path: Path, catalog: sn.Catalog) -> None:
    """With nothing measured (nor remembered): whatever the estimates choose computes the right thing."""
    model = read_model(path)
    graph = sn.load(path, model.shapes(), catalog=catalog)
    with CostDatabase(":memory:") as nothing:
        plan = sn.tune(graph, threads=1, budget_s=0, database=nothing, catalog=catalog)
    with sn.Session(path, plan, catalog=catalog) as session:
        model.check(session.run(model.feeds))


@pytest.mark.long
@pytest.mark.parametrize("threads", [1, 2])
@MODELS
def test_tuned_and_replayed(path: Path, threads: int, catalog: sn.Catalog, tmp_path: Path) -> None:
    model = read_model(path)
    graph = sn.load(path, model.shapes(), catalog=catalog)
    plan = sn.tune(graph, threads=threads, sample=model.feeds, catalog=catalog)
    assert plan.certificate["exact"] or plan.certificate["gap"] > 0
    plan.save(tmp_path / "plan.json")
    with sn.Session(path, tmp_path / "plan.json") as session:
        model.check(session.run(model.feeds))
        assert session.plan == plan


def _speech(session: sn.Session, count: int) -> float:
    """Largest deviation from the stored probabilities; context and state are fed back."""
    context, state, worst = np.zeros((1, 64), np.float32), np.zeros((2, 1, 128), np.float32), 0.0
    for window, wanted in silero_windows(count):
        x = np.concatenate([context, window[None]], axis=1)
        made: Mapping[str, np.ndarray] = session.run({"input": x, "state": state, "sr": np.array(16000, np.int64)})
        state, context = made["stateN"], x[:, -64:]
        worst = max(worst, abs(float(made["output"].reshape(-1)[0]) - wanted))
    return worst


@pytest.mark.skipif(not SILERO.exists(), reason="silero_vad is not there")
def test_silero_follows_the_recording(catalog: sn.Catalog) -> None:
    with sn.Session(SILERO, threads=1, catalog=catalog) as session:
        assert _speech(session, 100) < 2e-4
