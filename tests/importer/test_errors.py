"""Bad model files: each gives one clear error of the right class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from evaluate import model
from onnx import helper, numpy_helper

from softneuro_core.errors import InputError, ModelError, SoftneuroError, UnsupportedOperatorError
from softneuro_core.importer import load

CONV = model("g (float[1,3,8,8] x) => (float[1,4,8,8] y) <float[4,3,1,1] w> { y = Conv(x, w) }")


def with_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto.FromString(proto.SerializeToString())
    del made.graph.initializer[:]
    made.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w"))
    return made


@pytest.mark.parametrize(
    "content", [b"", b"this is no model at all, but text", b"\x89PNG\r\n\x1a\n" * 20, b"PK\x03\x04"]
)
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.onnx: is not an ONNX model"):
        load(path)


def test_every_truncation_of_a_model_is_one_error(tmp_path: Path) -> None:
    whole = with_weights(CONV).SerializeToString()
    refused = 0
    for end in range(len(whole)):
        try:
            load(whole[:end])
        except ModelError:
            refused += 1
    assert refused >= len(whole) - 12  # only the opset import stands after the graph


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        load(tmp_path / "absent.onnx")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path)


def test_all_unknown_operators_are_named_at_once() -> None:
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["a"]),
        helper.make_node("QGemm", ["a"], ["b"], domain="com.microsoft"),
        helper.make_node("ImageScaler", ["b"], ["c"]),
        helper.make_node("Gelu", ["c"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, [1])]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", 1, [1])])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    with pytest.raises(UnsupportedOperatorError) as caught:
        load(helper.make_model(graph, opset_imports=opsets))
    text = str(caught.value)
    for part in ("Frobnicate", "com.microsoft::QGemm", "softneuro-qint8", "ImageScaler (experimental, removed"):
        assert part in text
    assert "Gelu (not in opset 17" in text


@pytest.mark.parametrize(
    "name", ["ImageScaler", "Crop", "Affine", "Scale", "ParametricSoftplus", "ScaledTanh", "GRUUnit"]
)
def test_removed_experimental_operators_are_named(name: str) -> None:
    graph = helper.make_graph(
        [helper.make_node(name, ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [1])],
        [helper.make_tensor_value_info("y", 1, [1])],
    )
    with pytest.raises(UnsupportedOperatorError, match=rf"{name} \(experimental, removed from ONNX\)"):
        load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)]))


@pytest.mark.parametrize("version", [0, 999])
def test_an_opset_nobody_knows(version: int) -> None:
    made = with_weights(CONV)
    made.opset_import[0].version = version
    with pytest.raises(ModelError, match=f"uses opset {version}"):
        load(made)


def test_a_cycle_names_its_nodes() -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, [1])]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", 1, [1])])
    with pytest.raises(ModelError, match="cycle through first, second"):
        load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def test_a_value_nothing_makes() -> None:
    with pytest.raises(ModelError, match="layer Add_0 reads 'nowhere', which nothing makes"):
        load(model("g (float[1] x) => (float[1] y) { y = Add(x, nowhere) }"))
    with pytest.raises(ModelError, match="graph output reads 'y'"):
        load(model("g (float[1] x) => (float[1] y) { z = Relu(x) }"))


def test_a_value_made_twice() -> None:
    with pytest.raises(ModelError, match="'y' is made twice"):
        load(model("g (float[1] x) => (float[1] y) { y = Relu(x) y = Abs(x) }"))


def test_operands_that_do_not_fit_name_the_layer() -> None:
    made = with_weights(CONV)
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
    made.graph.node[0].name = "the_conv"
    with pytest.raises(ModelError, match="layer the_conv: Conv:"):
        load(made)


def test_operands_and_attributes_an_operator_does_not_take() -> None:
    for node, problem in (
        ("y = Relu(x, x)", "Relu takes 1 to 1 inputs, not 2"),
        ("y = Concat(x, x)", "Concat needs the attribute 'axis'"),
        ("y = Softmax <axis = 1.5> (x)", "attribute 'axis' of Softmax has the wrong type"),
    ):
        with pytest.raises(ModelError, match=problem):
            load(model(f"g (float[1] x) => (float[1] y) {{ {node} }}"))


def test_damaged_initialisers() -> None:
    made = with_weights(CONV)
    made.graph.initializer[0].raw_data = made.graph.initializer[0].raw_data[:-2]
    with pytest.raises(ModelError, match="tensor 'w' is damaged"):
        load(made)
    made.graph.initializer[0].data_type = 77
    with pytest.raises(ModelError, match="tensor 'w' is damaged"):
        load(made)


@pytest.fixture
def external(tmp_path: Path) -> tuple[Path, onnx.ModelProto]:
    made = with_weights(CONV)
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(made, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    return folder / "m.onnx", onnx.load(folder / "m.onnx", load_external_data=False)


def changed(path: Path, proto: onnx.ModelProto, **entries: str) -> Path:
    tensor = proto.graph.initializer[0]
    for entry in tensor.external_data:
        entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_is_read(external: tuple[Path, onnx.ModelProto]) -> None:
    (weights,) = load(external[0]).constants
    assert weights.data is not None and (weights.data == 1).all() and not weights.data.flags.writeable


def test_external_data_that_is_missing(external: tuple[Path, onnx.ModelProto]) -> None:
    external[0].with_name("m.data").unlink()
    with pytest.raises(ModelError, match=r"tensor 'w' needs the file 'm\.data', which is missing"):
        load(external[0])


@pytest.mark.parametrize("where", ["../outside.data", "/etc/hostname", "sub/../../outside.data", ""])
def test_external_data_that_escapes(external: tuple[Path, onnx.ModelProto], where: str) -> None:
    (external[0].parent.parent / "outside.data").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="points outside the model's folder"):
        load(changed(*external, location=where))


def test_external_data_that_escapes_by_a_link(external: tuple[Path, onnx.ModelProto]) -> None:
    outside = external[0].parent.parent / "outside.data"
    outside.write_bytes(b"\0" * 100)
    data = external[0].with_name("m.data")
    data.unlink()
    try:
        data.symlink_to(outside)
    except OSError:
        pytest.skip("links cannot be made here")
    with pytest.raises(ModelError, match="points outside the model's folder"):
        load(external[0])


@pytest.mark.parametrize("entries", [{"offset": "4000"}, {"length": "7"}, {"offset": "-4"}, {"length": "many"}])
def test_external_data_of_the_wrong_size(external: tuple[Path, onnx.ModelProto], entries: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"tensor 'w' (needs 48 bytes|has an offset or length)"):
        load(changed(*external, **entries))


def test_external_data_without_a_path(external: tuple[Path, onnx.ModelProto]) -> None:
    with pytest.raises(ModelError, match="came without a path"):
        load(external[0].read_bytes())


def test_shapes_that_do_not_fit() -> None:
    free = model("g (float[N,3] x, float[N,M] z) => (float[N,3] y) { a = Relu(z) y = Relu(x) }")
    with pytest.raises(InputError, match="input 'x' is Nx3, not 2x4"):
        load(free, {"x": (2, 4)})
    with pytest.raises(InputError, match="input 'z' is NxM, not 5x5"):
        load(free, {"x": (2, 3), "z": (5, 5)})
    with pytest.raises(InputError, match="there is no input 'w'"):
        load(free, {"w": (2, 3)})
    with pytest.raises(InputError, match="not 2"):
        load(free, {"x": (2,)})


def test_a_sparse_bomb_is_refused() -> None:
    values = helper.make_tensor("s", onnx.TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", onnx.TensorProto.INT64, [1], [0])
    made = with_weights(CONV)
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [60000, 60000]))
    with pytest.raises(ModelError, match="'s' is sparse and unfolds to"):
        load(made)


def test_every_error_is_one_line_and_ours() -> None:
    with pytest.raises(SoftneuroError) as caught:
        load(b"nonsense")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "g (float[1,8] x, float[4,6] w) => (float[1,4] y) { y = Gemm <transB=1> (x, w) }",
            "depth 8, the second 6|between 6 and 8",
        ),
        ("g (float[8,1] x, float[8,4] w, float[3] c) => (float[1,4] y) { y = Gemm <transA=1> (x, w, c) }", "C is"),
        (
            "g (float[1,1,8,8] x) => (float[1,1,1,4] y) { y = MaxPool <kernel_shape=[9,2], strides=[2,2]> (x) }",
            "axis 0",
        ),
        (
            "g (float[1,1,8,8] x) => (float[1,1,4,1] y) { y = MaxPool <kernel_shape=[1,3], dilations=[1,4]> (x) }",
            "window of 9 does not fit",
        ),
        ("g (float[1,1,4,4] x, float[1,1,5,1] w) => (float[1,1,1,1] y) { y = Conv (x, w) }", "window of 5"),
        ("g (float[1,8] x) => (float[3,3] y) <int64[2] s = {3, 3}> { y = Reshape (x, s) }", "8 elements"),
    ],
)
def test_operands_that_do_not_fit_the_operator_are_refused(text: str, says: str) -> None:
    """Kernels read as many elements as the operator's formula asks for, so none may get fewer."""
    with pytest.raises(ModelError, match=says):
        load(model(text))
