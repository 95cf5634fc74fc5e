"""ONNX's node cases as one routine after the other claims them: each forced where it offers to compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from softneuro_core.candidates import Request, enumerate_candidates
from softneuro_core.catalog import Catalog
from softneuro_core.errors import SoftneuroError
from softneuro_core.graph import Graph
from softneuro_core.importer import load
from softneuro_core.session import Session
from softneuro_core.tuning import tune
from tests.node_cases import arrays, assert_similar, exceptions, node_cases

CORE = ("cpu/reference", "cpu/control")


@dataclass(frozen=True)
class Case:
    """One case as a static graph: inputs and outputs by name for every data set."""

    name: str
    graph: Graph
    data: list[tuple[dict[str, Any], list[Any]]]
    rtol: float
    atol: float


def with_constants(case: Any) -> onnx.ModelProto | None:
    """The model with every input but the first as a constant: what routines that pack weights need."""
    inputs, _ = case.data_sets[0]
    rest = arrays(inputs)[1:]
    if len(case.data_sets) > 1 or not rest or not all(isinstance(a, np.ndarray) and a.dtype != object for a in rest):
        return None
    made = onnx.ModelProto()
    made.CopyFrom(case.model)
    for info, array in zip(list(made.graph.input)[1:], rest, strict=True):
        made.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
    return made


def cases(catalog: Catalog) -> list[Case]:
    """Every case with a static graph, as it is and with constant weights (about 20 s); models that cannot be loaded are
    no routine's business."""
    protos = ((case, proto) for case in node_cases() for proto in (case.model, with_constants(case)))
    return [made for case, proto in protos for made in loaded(catalog, case, proto)]


def loaded(catalog: Catalog, case: Any, proto: onnx.ModelProto | None) -> list[Case]:
    if proto is None:
        return []
    try:
        graph = load(proto, catalog=catalog)
    except SoftneuroError:
        return []
    if graph.free_dims:
        return []
    names = [i.name for i in case.model.graph.input]
    inputs = {v.name for v in graph.inputs}
    data = [
        ({n: a for n, a in zip(names, arrays(given), strict=True) if n in inputs}, arrays(wanted))
        for given, wanted in case.data_sets
    ]
    name = case.name if len(inputs) == len(names) else f"{case.name} with constants"
    return [Case(name, graph, data, case.rtol, case.atol)]


def alone(catalog: Catalog, routine: str) -> Catalog:
    """The catalog with this routine beside the core's own."""
    return catalog.without(routines=[n for n in catalog.routines if n not in (*CORE, routine)])


def claimed_layers(graph: Graph, only: Catalog, routine: str) -> list[int]:
    """Numbers of the layers the routine offers to compute by itself."""
    found = enumerate_candidates(graph, only, 1, Request(accuracy="fast"))
    exits = [c.region.exit for c in found if c.routine.name == routine and len(c.region.layers) == 1]
    return [graph.index[layer] for layer in dict.fromkeys(exits)]


def failure(case: Case, only: Catalog, layers: list[int]) -> str | None:
    """Why the case fails when the routine computes every layer it claims; None if it passes."""
    try:
        forbid = [f"cpu/reference@{number}" for number in layers]
        plan = tune(case.graph, threads=1, budget_s=0, forbid=forbid, accuracy="fast", catalog=only)
        with Session(case.graph, plan, threads=1, catalog=only) as session:
            for feeds, wanted in case.data:
                assert_similar(list(session.run(feeds).values()), wanted, case.rtol, case.atol)
    except Exception as error:
        return f"{case.name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


def wrong_of(catalog: Catalog, routine: str, known: Sequence[Case], every: int = 1) -> tuple[int, list[str]]:
    """How many of the known cases that a routine claims were run, every so many, and why it fails those it fails."""
    only, excepted = alone(catalog, routine), exceptions("reference") | exceptions(routine)
    claims = ((case, claimed_layers(case.graph, only, routine)) for case in known if case.name not in excepted)
    run = [(case, layers) for case, layers in claims if layers][::every]
    failures = (failure(case, only, layers) for case, layers in run)
    return len(run), [why for why in failures if why is not None]
