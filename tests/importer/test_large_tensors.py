"""Large tensors stay in the file: views of it, wherever they stand in the model, and nothing copied on the way."""

from __future__ import annotations

import os
import random
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from evaluate import model, run_graph
from onnx import numpy_helper

from softneuro_core.errors import ModelError
from softneuro_core.graph import Graph
from softneuro_core.importer import load
from softneuro_core.importer.slim import LARGE_BYTES, slim
from softneuro_core.mapped import is_mapped, map_file, release, span_of

SIDE = 600
TEXT = f"g (float[1,{SIDE}] x) => (float[1,{SIDE}] y) {{ a = MatMul(x, w) y = Add(a, small) }}"


def square(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((SIDE, SIDE)).astype(np.float32)


def small() -> np.ndarray:
    return np.random.default_rng(9).standard_normal(SIDE).astype(np.float32)


def proto(weights: onnx.TensorProto | None = None) -> onnx.ModelProto:
    made = model(TEXT)
    made.graph.initializer.append(numpy_helper.from_array(square(), "w") if weights is None else weights)
    made.graph.initializer.append(numpy_helper.from_array(small(), "small"))
    return made


def weights_of(graph: Graph, name: str = "w") -> np.ndarray:
    (found,) = (v.data for v in graph.constants if v.name == name)
    assert found is not None
    return found


@pytest.mark.parametrize("shift", range(4))
def test_weights_are_a_view_of_the_file_wherever_it_begins(shift: int, tmp_path: Path) -> None:
    made = proto()
    made.doc_string = "x" * shift  # moves what follows by a byte each
    onnx.save(made, tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    found = weights_of(graph)
    assert is_mapped(found) and not found.flags.writeable and not is_mapped(weights_of(graph, "small"))
    np.testing.assert_array_equal(found, square())
    feeds = {"x": small()[None]}
    np.testing.assert_array_equal(run_graph(graph, feeds)["y"], run_graph(load(made), feeds)["y"])


def test_loading_takes_no_memory_for_the_weights(tmp_path: Path) -> None:
    onnx.save(proto(), tmp_path / "m.onnx")
    load(tmp_path / "m.onnx")
    tracemalloc.start()
    graph = load(tmp_path / "m.onnx")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert weights_of(graph).nbytes == 4 * SIDE**2
    assert peak < SIDE**2, "a quarter of the weights"


def test_bytes_are_not_copied_either() -> None:
    content = proto().SerializeToString()
    found = weights_of(load(content))
    assert not is_mapped(found) and np.shares_memory(found, np.frombuffer(content, np.uint8))
    np.testing.assert_array_equal(found, square())


def test_float_data_is_left_in_the_file_too(tmp_path: Path) -> None:
    weights = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=(SIDE, SIDE))
    weights.float_data.extend(square().reshape(-1))
    onnx.save(proto(weights), tmp_path / "m.onnx")
    found = weights_of(load(tmp_path / "m.onnx"))
    assert is_mapped(found)
    np.testing.assert_array_equal(found, square())


def test_numbers_that_are_not_stored_as_they_are_held_are_parsed(tmp_path: Path) -> None:
    numbers = np.arange(SIDE**2, dtype=np.int64).reshape(SIDE, SIDE) % 1000
    weights = onnx.TensorProto(name="w", data_type=onnx.TensorProto.INT64, dims=(SIDE, SIDE))
    weights.int64_data.extend(numbers.reshape(-1).tolist())
    made = model(f"g (int64[1,{SIDE}] x) => (int64[1,{SIDE}] y) {{ y = MatMul(x, w) }}")
    made.graph.initializer.append(weights)
    onnx.save(made, tmp_path / "m.onnx")
    np.testing.assert_array_equal(weights_of(load(tmp_path / "m.onnx")), numbers)


def test_constants_of_nodes_and_bodies_are_views_as_well(tmp_path: Path) -> None:
    text = f"""g (bool c, float[{SIDE},{SIDE}] x) => (float[{SIDE},{SIDE}] y) {{
        a = Mul(x, outer)
        y = If (c) <then_branch = t () => (float[{SIDE},{SIDE}] p) {{ p = Add(a, inner) }},
                    else_branch = e () => (float[{SIDE},{SIDE}] q) {{ q = Abs(a) }}> }}"""
    made = model(text)
    node = onnx.helper.make_node("Constant", [], ["outer"], value=numpy_helper.from_array(square(1)))
    made.graph.node.insert(0, node)
    (branch,) = (a.g for n in made.graph.node for a in n.attribute if a.name == "then_branch")
    branch.initializer.append(numpy_helper.from_array(square(2), "inner"))
    onnx.save(made, tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    assert is_mapped(weights_of(graph, "outer"))
    np.testing.assert_array_equal(weights_of(graph, "outer"), square(1))
    inner = weights_of(graph.layers[-1].attrs["then_branch"], "inner")
    assert is_mapped(inner)
    np.testing.assert_array_equal(inner, square(2))


def test_a_tensor_of_the_wrong_size_is_told(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(square(), "w")
    weights.raw_data = weights.raw_data[:-4]
    onnx.save(proto(weights), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=f"tensor 'w' needs {4 * SIDE**2} bytes"):
        load(tmp_path / "m.onnx")


def test_a_file_cut_short_is_told(tmp_path: Path) -> None:
    onnx.save(proto(), tmp_path / "m.onnx")
    content = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(content[: len(content) - 2000])
    with pytest.raises(ModelError, match="is not an ONNX model, or is truncated"):
        load(tmp_path / "m.onnx")


def test_a_slim_model_is_the_model_but_for_its_large_tensors() -> None:
    made = proto()
    slimmed = onnx.ModelProto.FromString(slim(made.SerializeToString()))
    assert len(slimmed.SerializeToString()) < LARGE_BYTES
    assert not slimmed.graph.initializer[0].raw_data
    for one in (made, slimmed):
        one.graph.initializer.pop(0)
    assert slimmed == made


def test_damaged_bytes_never_stop_the_slimming() -> None:
    content, rng = proto().SerializeToString(), random.Random(0)
    front = list(range(300)) + [len(content) - i for i in range(1, 3000)]
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.choice(front)] = rng.randrange(256)
        slim(bytes(damaged[: rng.choice((len(damaged), rng.randrange(len(damaged))))]))


def test_a_span_tells_files_and_places_apart(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(bytes(range(100)))
    os.utime(file, (1, 1))
    array = map_file(file).array
    assert span_of(array[4:8]) == span_of(map_file(file).array[4:8])
    assert span_of(array[4:8]) != span_of(array[8:12])
    assert span_of(array[4:8]) != span_of(array[4:8].view(np.float32))
    copy = tmp_path / "g"
    copy.write_bytes(file.read_bytes())
    os.utime(copy, (1, 1))
    assert span_of(map_file(copy).array[4:8]) != span_of(array[4:8])
    assert span_of(np.zeros(4)) is None


def test_a_file_written_just_now_has_no_span(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345678")
    assert span_of(map_file(tmp_path / "f").array) is None


def test_what_was_released_is_read_again(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 256, 3 << 20, np.uint8)
    (tmp_path / "f").write_bytes(numbers.tobytes())
    array = map_file(tmp_path / "f").array
    for part in (array, array[5000:9000], array[::-3], array[:0], numbers):
        release(part)
    np.testing.assert_array_equal(array, numbers)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell resident memory")
def test_releasing_lowers_resident_memory(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    nbytes = 64 << 20
    (tmp_path / "f").write_bytes(b"x" * nbytes)
    array = map_file(tmp_path / "f").array
    int(array.sum())
    before = resident()
    release(array)
    assert before - resident() > nbytes // 2
