"""The shared models: written after the passes, they come back the same, layer by layer."""

from __future__ import annotations

from pathlib import Path

import pytest
from shared_models import SILERO, read_model, shared_models

from softneuro_core.export import save
from softneuro_core.graph import Graph
from softneuro_core.importer import load, specialise

pytestmark = pytest.mark.models


def everything(graph: Graph) -> list[object]:
    """All a plan or a cost key depends on."""
    layers: list[object] = []
    for layer in graph.layers:
        attrs = sorted((k, str(v)) for k, v in layer.attrs.items() if k not in layer.bodies)
        operands = [(v.name, v.dtype, v.shape, v.is_constant) for v in (*layer.operands, *layer.results)]
        layers.append((layer.name, layer.op, layer.version, attrs, operands))
        layers += [everything(body) for body in layer.bodies.values()]
    return layers


@pytest.mark.parametrize("path", shared_models() or [None], ids=lambda p: p.stem if p else "absent")
def test_a_saved_graph_comes_back_the_same(path: Path | None, tmp_path: Path) -> None:
    if path is None:
        pytest.skip("the shared models are not here")
    graph = load(path, read_model(path).shapes())
    assert not any(v.is_object for v in graph.values), "a value whose shape is not known"
    save(graph, tmp_path / "m.onnx", external=True)
    assert everything(load(tmp_path / "m.onnx", passes=False)) == everything(graph)


@pytest.mark.skipif(not SILERO.exists(), reason="the shared models are not here")
def test_silero_is_static_inside_its_branches(tmp_path: Path) -> None:
    graph = load(SILERO, {"input": (1, 576), "state": (2, 1, 128)})
    assert [v.shape for v in graph.outputs] == [(1, 1), (2, 1, 128)]
    then = graph.layers[-1].attrs["then_branch"]
    assert not any(v.is_object for layer in then.layers for v in layer.results)
    save(graph, tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx", passes=False)
    assert [la.name for la in again.layers] == [la.name for la in graph.layers]


@pytest.mark.parametrize("path", [p for p in shared_models() if "minilm" in p.stem] or [None], ids=["minilm"])
def test_layer_names_stay_over_shapes(path: Path | None) -> None:
    if path is None:
        pytest.skip("the shared models are not here")
    graph = load(path, {"input_ids": (1, 16)})
    other = specialise(graph, {"input_ids": (2, 48)})
    assert [la.name for la in other.layers] == [la.name for la in graph.layers]
    assert other.outputs[0].shape == (2, 48, 384)
