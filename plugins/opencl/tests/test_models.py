"""ONNX's node cases and the real models beside the repository, every layer the device takes on the device."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import pytest
import softneuro_opencl

import softneuro_core as sn
from softneuro_core.candidates import Request, enumerate_candidates
from softneuro_core.catalog import Catalog
from tests.claims import CORE, cases, wrong_of
from tests.shared_models import ROOT, read_model, shared_models

SOME = ("mnist", "resnet8_f32", "fsdd_dscnn", "ultraface_rfb320", "mobilenetv1_025_f32")
"""Small ones of different kinds; the others in the long run."""


@cache
def catalog() -> Catalog:
    return sn.load_plugins(only=(), modules={"opencl": softneuro_opencl})


def routines() -> list[str]:
    return [name for name in catalog().routines if name not in CORE]


def checked(every: int) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="onnx")
        known = cases(catalog())
        found = {name: wrong_of(catalog(), name, known, every) for name in routines()}
    assert sum(claimed for claimed, _ in found.values()) > len(found) / every
    assert not [why for _, wrong in found.values() for why in wrong]


def test_a_tenth_of_the_node_cases_claimed() -> None:
    checked(10)


@pytest.mark.long
def test_all_node_cases_claimed() -> None:
    checked(1)


def _compared(path: Path) -> None:
    model = read_model(path)
    graph = sn.load(path, model.shapes(), catalog=catalog())
    offered = enumerate_candidates(graph, catalog(), 1, Request())
    taken = {layer for c in offered if c.routine.device == "opencl" for layer in c.region.layers}
    forbid = [f"cpu/reference@{graph.index[layer]}" for layer in taken]
    plan = sn.tune(graph, threads=1, budget_s=0, forbid=forbid, catalog=catalog())
    assert {step.routine.partition("/")[0] for step in plan.kernel_steps} >= ({"opencl"} if taken else set())
    with sn.Session(path, plan, catalog=catalog()) as session:
        model.check(session.run(model.feeds))


@pytest.mark.models
@pytest.mark.skipif(not ROOT.is_dir(), reason=f"the shared models are not at {ROOT}")
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[] if p.stem in SOME else [pytest.mark.long]) for p in shared_models()],
    ids=lambda p: p.stem,
)
def test_a_real_model_gives_its_stored_outputs(path: Path) -> None:
    _compared(path)
