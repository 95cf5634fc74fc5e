"""A memory budget is kept by choosing other routines, not only by refusing."""

from __future__ import annotations

from collections.abc import Iterator

import fat_routines
import numpy as np
import onnx.parser
import pytest

import softneuro_core as sn
from softneuro_core.costs import CostDatabase
from softneuro_core.errors import ResourceError

VALUE_BYTES = 64 * 64 * 4
MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[64,64] x) => (float[64,64] y) { a = Relu(x) b = Relu(a) y = Relu(b) }"""


@pytest.fixture(scope="module")
def catalog() -> sn.Catalog:
    return sn.load_plugins(only=(), modules=[fat_routines])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CostDatabase]:
    with CostDatabase(tmp_path_factory.mktemp("costs") / "costs.sqlite") as opened:
        yield opened


def chosen(catalog: sn.Catalog, database: CostDatabase, max_mem_bytes: int | None) -> sn.Plan:
    graph = sn.load(onnx.parser.parse_model(MODEL), catalog=catalog)
    return sn.tune(
        graph, threads=1, forbid="cpu/reference", max_mem_bytes=max_mem_bytes, catalog=catalog, database=database
    )


@pytest.mark.parametrize("fat", [3, 2, 1, 0])
def test_as_many_fat_routines_are_taken_as_fit(catalog: sn.Catalog, database: CostDatabase, fat: int) -> None:
    budget = fat * fat_routines.FAT_BYTES + 8 * VALUE_BYTES
    plan = chosen(catalog, database, budget)
    assert sorted(s.routine for s in plan.kernel_steps) == ["cpu/fat"] * fat + ["cpu/lean"] * (3 - fat)
    assert any("--max-mem" in note for note in plan.notes) == (fat < 3)
    session = sn.Session(sn.load(onnx.parser.parse_model(MODEL)), plan, catalog=catalog, max_mem_bytes=budget)
    x = np.linspace(-1, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    assert (session.run({"x": x})["y"] == np.maximum(x, 0)).all()
    assert sum(session.memory_bytes.values()) <= budget


@pytest.mark.parametrize("budget", [100, VALUE_BYTES])
def test_what_fits_in_no_way_is_told(catalog: sn.Catalog, database: CostDatabase, budget: int) -> None:
    with pytest.raises(ResourceError, match=r"the limit is .* MiB"):
        chosen(catalog, database, budget)


def test_a_session_without_a_plan_keeps_to_it(catalog: sn.Catalog) -> None:
    with pytest.raises(ResourceError, match="--max-mem"):
        sn.Session(onnx.parser.parse_model(MODEL), threads=1, catalog=catalog, max_mem_bytes=VALUE_BYTES)
