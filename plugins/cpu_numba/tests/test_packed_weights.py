"""A tuned model opened again packs nothing: its weights are mapped from the cache, and the results are the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import softneuro_cpu_numba.native as native
from harness import node, random
from onnx import helper, numpy_helper

import softneuro_core as sn
from softneuro_core.executable import Executable
from softneuro_core.packing import LEAST_BYTES
from softneuro_core.program import Program

CHANNELS = 176
FORCED = ("cpu/winograd@c3", "cpu/conv_direct@c1", "cpu/gemm@g")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of packed weights; compiled code stays where it is."""
    native.cache_folder()
    monkeypatch.setenv("SOFTNEURO_CACHE_DIR", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "packed"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """3x3 and 5x5 convolution and a Gemm of transposed weights, each of more than LEAST_BYTES, none aligned."""
    c = CHANNELS
    shapes = {"w3": (c, c, 3, 3), "w1": (c, c, 5, 5), "wg": (300, c * 36), "b": (c,), "bg": (300,)}
    constants = {name: random(*shape) * np.float32(0.05) for name, shape in shapes.items()}
    nodes = [
        node("Conv", ["x", "w3", "b"], ["a"], name="c3", pads=[1, 1, 1, 1]),
        node("Conv", ["a", "w1"], ["d"], name="c1", pads=[2, 2, 2, 2]),
        node("Flatten", ["d"], ["f"], name="f"),
        node("Gemm", ["f", "wg", "bg"], ["y"], name="g", transB=1),
    ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, c, 6, 6))
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    assert sum(t.ByteSize() > LEAST_BYTES for t in tensors) == 3
    onnx.save(made, tmp_path / "m.onnx")
    os.utime(tmp_path / "m.onnx", (1, 1))
    return tmp_path / "m.onnx"


def filled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every large array packed from now on."""
    made: list[int] = []
    honest = native.aligned_empty

    def counted(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        array = honest(shape, dtype)
        if array.nbytes >= LEAST_BYTES:
            made.append(array.nbytes)
        return array

    monkeypatch.setattr(native, "aligned_empty", counted)
    return made


def opened(file: Path) -> tuple[np.ndarray, int]:
    """The result of one run, and the bytes of packed weights."""
    session = sn.Session(file, sn.Plan.load(file.with_suffix(".json")))
    x = random(1, CHANNELS, 6, 6, seed=1)
    return session.run({"x": x})["y"], session.memory_bytes["constants"]


def tuned(file: Path) -> None:
    sn.tune(sn.load(file), threads=1, budget_s=0, force=FORCED).save(file.with_suffix(".json"))


def test_weights_are_packed_once(cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned(file)
    packed = filled(monkeypatch)
    first, nbytes = opened(file)
    assert len(packed) == 3 and len(list(cache.glob("*.packed"))) == 3
    packed.clear()
    again, again_bytes = opened(file)
    assert packed == []
    assert again_bytes == nbytes
    np.testing.assert_array_equal(again, first)


def test_a_damaged_entry_costs_packing_and_nothing_else(
    cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned(file)
    first, _ = opened(file)
    damaged = max(cache.glob("*.packed"), key=lambda f: f.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[1 << 20] ^= 255
    damaged.write_bytes(bytes(content))
    packed = filled(monkeypatch)
    again, _ = opened(file)
    assert packed == [len(content) - 8]
    np.testing.assert_array_equal(again, first)


def test_other_weights_are_never_taken_for_these(cache: Path, file: Path) -> None:
    tuned(file)
    first, _ = opened(file)
    made = onnx.load(file)
    weights = made.graph.initializer[2]
    changed = numpy_helper.to_array(weights).copy()
    changed[299, -1] += 1  # where the plan's hash does not look
    weights.CopyFrom(numpy_helper.from_array(changed, weights.name))
    onnx.save(made, file.with_name("fresh"))
    os.utime(file.with_name("fresh"), (1, 1))
    os.replace(file.with_name("fresh"), file)
    tuned(file)
    again, _ = opened(file)
    np.testing.assert_array_equal(again[:, :299], first[:, :299])
    assert again[0, 299] != first[0, 299]


def test_a_run_does_not_need_the_models_file(cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once packed, the weights in the file are read no more, so their pages may go."""
    released: list[int] = []
    monkeypatch.setattr("softneuro_core.program.release", lambda array: released.append(array.nbytes))
    tuned(file)
    session = sn.Session(file, sn.Plan.load(file.with_suffix(".json")))
    large = [v.data.nbytes for v in session.graph.constants if v.data is not None and v.data.nbytes > LEAST_BYTES]
    assert set(large) <= set(released)


def test_candidates_are_not_kept(cache: Path, file: Path) -> None:
    graph = sn.load(file)
    program: Program = sn.Session(graph, sn.tune(graph, threads=1, budget_s=0, force=FORCED))._programs.popitem()[1]
    before = set(cache.glob("*.packed"))
    target = program.catalog.target("cpu", 1)
    for routine in program.catalog.routines.values():
        for layers in routine.regions(graph, graph.layers[-1]):
            region = sn.Region(graph, tuple(layers))
            for offer in routine.offers(region, target):
                routine.prepare(region, offer, target)
    assert set(cache.glob("*.packed")) == before
    assert Executable(program) is not None
