"""Small graphs, catalogs and jobs for the profiler tests. Imports nothing of pytest: scripts under test use it too."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
from onnx import helper

from softneuro_core.candidates import Request, enumerate_candidates
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.costs import Cost, CostDatabase, CostKey, cost_key
from softneuro_core.graph import Graph
from softneuro_core.profiling.jobs import KernelJob
from softneuro_core.profiling.measure import Effort
from softneuro_core.testing.build import build_graph

HERE = Path(__file__).parent
QUICK = Effort(samples=5, cap_ns=50_000_000, memory_bytes=1 << 20, sets=4, heats=1)


def plugin(name: str) -> ModuleType:
    """The module of this name beside this file, loaded once."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def catalog(*modules: str) -> Catalog:
    return load_plugins(only=(), modules=[plugin(name) for name in modules])


def relus(*shapes: tuple[int, ...]) -> Graph:
    """One Relu for each shape, side by side."""
    inputs = {f"x{i}": np.zeros(shape, np.float32) for i, shape in enumerate(shapes)}
    nodes = [helper.make_node("Relu", [f"x{i}"], [f"y{i}"]) for i in range(len(shapes))]
    return build_graph(nodes, inputs, {}, [f"y{i}" for i in range(len(shapes))])


def jobs(
    graph: Graph, found: Catalog, only: Iterable[str] = (), allow: frozenset[str] = frozenset()
) -> list[KernelJob]:
    """Every candidate's job, or those of the routines named."""
    wanted = set(only)
    return [
        KernelJob(
            cost_key(c.region, c.routine.name, c.offer, found, 1),
            tuple(layer.name for layer in c.region.layers),
            c.routine.name,
            c.offer,
            group=c.region.exit.name,
        )
        for layer in graph.layers
        for c in enumerate_candidates(graph, found, 1, Request(allow, "fast", clocks={"sim": 1.0})).by_exit[layer]
        if not wanted or c.routine.name in wanted
    ]


class CountingDatabase(CostDatabase):
    """Counts what is put."""

    def __init__(self, path: str | Path = ":memory:") -> None:
        super().__init__(path)
        self.put_keys: list[CostKey] = []

    def put(self, key: CostKey, cost: Cost) -> None:
        self.put_keys.append(key)
        super().put(key, cost)


class Notes:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.phases: list[tuple[int, str]] = []
        self.done = 0

    def start(self, total: int, what: str) -> None:
        self.phases.append((total, what))

    def advance(self, count: int = 1, text: str = "") -> None:
        self.done += count

    def note(self, text: str) -> None:
        self.notes.append(text)
