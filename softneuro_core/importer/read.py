"""From a file to a ModelProto and its tensors: protobuf, external data. Knows nothing of layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from softneuro_core.errors import ModelError
from softneuro_core.export import PACKED_BITS
from softneuro_core.importer.slim import OWN_FILE, slim
from softneuro_core.mapped import MappedFile, map_file
from softneuro_core.spec import OBJECT, DType

MAPPED_BYTES = 1 << 20
"""Files from this size on are mapped; smaller ones are read, and may be written to while the model is in use."""
MAX_SPARSE_BYTES = 64 << 20
"""A sparse initialiser may not unfold to more than this."""


@dataclass(frozen=True)
class ReadModel:
    """A parsed model, the folder its external data must lie in (None: it came without a file), and its name.

    ``content`` is what it was parsed from: large tensors are left there (:mod:`slim`).
    """

    proto: onnx.ModelProto
    folder: Path | None
    name: str
    content: np.ndarray | None = None
    mapped: dict[Path, MappedFile] = field(default_factory=dict)
    """Files of external data already mapped."""

    def tensor(self, tensor: onnx.TensorProto) -> np.ndarray:
        """The contents of a tensor, read-only; large ones are views of the file, not copied and perhaps not aligned.

        Strings come as an object array of ``str``. Raises :class:`ModelError`.
        """
        if uses_external_data(tensor):
            array = self._external(tensor)
        else:
            try:
                array = numpy_helper.to_array(tensor)
            except Exception as error:  # onnx raises ValueError, TypeError, KeyError for damaged tensors
                raise self._bad(tensor, f"is damaged: {error}") from error
        array.flags.writeable = False
        return array

    def sparse(self, tensor: onnx.SparseTensorProto) -> np.ndarray:
        """A sparse tensor unfolded; raises :class:`ModelError` if that is too large."""
        values, indices = self.tensor(tensor.values), self.tensor(tensor.indices)
        dims = tuple(tensor.dims)
        if min(dims, default=1) < 0 or math.prod(dims) * values.dtype.itemsize > MAX_SPARSE_BYTES:
            raise self._bad(tensor.values, f"is sparse and unfolds to {list(dims)}, more than {MAX_SPARSE_BYTES} bytes")
        dense = np.zeros(dims, values.dtype)
        try:
            if indices.ndim == 1:
                dense.reshape(-1)[indices] = values
            else:
                dense[tuple(indices.T)] = values
        except (IndexError, ValueError) as error:
            raise self._bad(tensor.values, f"has indices outside {list(dims)}") from error
        dense.flags.writeable = False
        return dense

    def _bad(self, tensor: onnx.TensorProto, what: str) -> ModelError:
        return ModelError(f"tensor {tensor.name!r} {what}", file=self.name)

    def _external(self, tensor: onnx.TensorProto) -> np.ndarray:
        info = {entry.key: entry.value for entry in tensor.external_data}
        whole, where = self._bytes(tensor, info.get("location", ""))
        dtype = DType.from_onnx(tensor.data_type)
        if dtype is OBJECT:
            raise self._bad(tensor, "has no numeric element type but external data")
        count = math.prod(tensor.dims)
        packed = dtype.name in PACKED_BITS
        needed = -(-count * PACKED_BITS.get(dtype.name, 8 * dtype.itemsize) // 8)
        try:
            offset, length = int(info.get("offset", 0)), int(info.get("length", needed))
        except ValueError:
            raise self._bad(tensor, "has an offset or length that is no number") from None
        if offset < 0 or length != needed or offset + length > len(whole):
            raise self._bad(tensor, f"needs {needed} bytes, but {where} gives {length} at {offset} of {len(whole)}")
        raw = whole[offset : offset + length]
        if packed:
            alone = onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=raw.tobytes())
            return numpy_helper.to_array(alone)
        return raw.view(dtype.numpy).reshape(tuple(tensor.dims))

    def _bytes(self, tensor: onnx.TensorProto, location: str) -> tuple[np.ndarray, str]:
        """What a tensor's offset counts in, and its name."""
        if location == OWN_FILE and self.content is not None:
            return self.content, "the file"
        path = self._external_path(tensor, location)
        if path.stat().st_size == 0:
            return np.empty(0, np.uint8), path.name
        if path not in self.mapped:
            self.mapped[path] = map_file(path)
        return self.mapped[path].array, path.name

    def _external_path(self, tensor: onnx.TensorProto, location: str) -> Path:
        if self.folder is None:
            raise ModelError(
                f"tensor {tensor.name!r} lies in another file ({location!r}), but the model came without a path",
                file=self.name,
                remedy="load it by its path",
            )
        folder = self.folder.resolve()
        path = (folder / location).resolve()
        if not location or not path.is_relative_to(folder):
            raise self._bad(tensor, f"points outside the model's folder: {location!r}")
        if not path.is_file():
            raise self._bad(tensor, f"needs the file {location!r}, which is missing beside the model")
        return path


def read_model(source: str | Path | bytes | onnx.ModelProto) -> ReadModel:
    """Parses a model; raises :class:`ModelError` for what cannot be read or is no ONNX model."""
    if isinstance(source, onnx.ModelProto):
        return _checked(ReadModel(source, None, source.graph.name or "model"))
    if isinstance(source, bytes):
        return _checked(_parsed(np.frombuffer(source, np.uint8), None, "model"))
    path = Path(source)
    try:
        return _checked(_parsed(_content(path), path.parent, path.name))
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", file=path) from error


def _content(path: Path) -> np.ndarray:
    """The bytes of a file: a large one is mapped."""
    if path.is_file() and path.stat().st_size >= MAPPED_BYTES:
        return map_file(path).array
    return np.frombuffer(path.read_bytes(), np.uint8)


def _parsed(content: np.ndarray, folder: Path | None, name: str) -> ReadModel:
    return ReadModel(_parse(slim(content.data), name), folder, name, content)


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, RuntimeError, ValueError) as error:
        raise ModelError(
            "is not an ONNX model, or is truncated", file=name, remedy="export or download it again"
        ) from error
    return proto


def _checked(read: ReadModel) -> ReadModel:
    proto = read.proto
    if not proto.HasField("graph") or not (proto.graph.output or proto.graph.node):
        raise ModelError("is not an ONNX model: it holds no graph", file=read.name)
    newest = onnx.defs.onnx_opset_version()
    for opset in proto.opset_import:
        if opset.domain in ("", "ai.onnx") and not 1 <= opset.version <= newest:
            raise ModelError(
                f"uses opset {opset.version}; the installed onnx {onnx.__version__} knows 1 to {newest}",
                file=read.name,
                remedy="upgrade the onnx package, or export with an older opset",
            )
    if not all(isinstance(text, str) for text in _texts(proto)):
        raise ModelError("is damaged: a name is not UTF-8 text", file=read.name)
    return read


def _texts(proto: onnx.ModelProto) -> Iterator[object]:
    """Every name of a model; protobuf gives ``bytes`` for those that are not UTF-8."""
    for opset in proto.opset_import:
        yield opset.domain
    for function in proto.functions:
        yield from (function.domain, function.name, *function.input, *function.output)
        yield from _node_texts(function.node)
    yield from _graph_texts(proto.graph)


def _graph_texts(graph: onnx.GraphProto) -> Iterator[object]:
    yield graph.name
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    for info in (*graph.input, *graph.output, *graph.value_info):
        yield info.name
        yield from (dim.dim_param for dim in info.type.tensor_type.shape.dim)
    yield from _node_texts(graph.node)


def _node_texts(nodes: Iterable[onnx.NodeProto]) -> Iterator[object]:
    for node in nodes:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.ref_attr_name)
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graph_texts(attribute.g)
