"""One tuning over host and fake device, on estimates: several layouts of cost, transfers, segments, regions."""

from __future__ import annotations

from collections.abc import Iterator

import fake_device
import onnx
import pytest
from onnx import helper

import softneuro_core as sn
from softneuro_core.candidates import Request
from softneuro_core.costs import CostDatabase
from softneuro_core.task import Tuned
from softneuro_core.tuning import tune_fully
from tests.core.models import model, residual


@pytest.fixture(scope="session")
def catalog() -> sn.Catalog:
    return sn.load_plugins(only=(), modules=[fake_device])


@pytest.fixture(scope="session")
def database() -> Iterator[CostDatabase]:
    with CostDatabase(":memory:") as opened:
        yield opened


@pytest.fixture(scope="session")
def tuned(catalog: sn.Catalog, database: CostDatabase) -> Tuned:
    """The residual net with conv1 and conv2 pinned to the fake device: the plan has conversions and segments."""
    graph = sn.load(residual(), catalog=catalog)
    request = Request(force=("fake@conv1", "fake@conv2"))
    return tune_fully(graph, request, threads=1, budget_s=0, catalog=catalog, database=database)


@pytest.fixture(scope="session")
def free(catalog: sn.Catalog, database: CostDatabase) -> Tuned:
    """A deeper net without pins: eighty-four layers with branches, every candidate of both devices."""
    graph = sn.load(branches(28), catalog=catalog)
    return tune_fully(graph, Request(), threads=1, budget_s=0, catalog=catalog, database=database)


def branches(blocks: int) -> onnx.ModelProto:
    """Blocks of Relu, Sigmoid and Add, where each Add reads the block before too."""
    nodes, last = [], "x"
    for i in range(blocks):
        nodes += [
            helper.make_node("Relu", [last], [f"r{i}"], f"relu{i}"),
            helper.make_node("Sigmoid", [f"r{i}"], [f"s{i}"], f"sigmoid{i}"),
            helper.make_node("Add", [f"s{i}", last], [f"a{i}"], f"add{i}"),
        ]
        last = f"a{i}"
    return model(nodes, {"x": [1, 8, 16, 16]}, [last])
