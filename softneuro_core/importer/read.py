"""From a file to a ModelProto and its tensors: protobuf, external data. Knows nothing of layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from softneuro_core.errors import ModelError
from softneuro_core.export import PACKED_BITS
from softneuro_core.spec import OBJECT, DType

MAX_SPARSE_BYTES = 64 << 20
"""A sparse initialiser may not unfold to more than this."""


@dataclass(frozen=True)
class ReadModel:
    """A parsed model, the folder its external data must lie in (None: it came without a file), and its name."""

    proto: onnx.ModelProto
    folder: Path | None
    name: str

    def tensor(self, tensor: onnx.TensorProto) -> np.ndarray:
        """The contents of a tensor, read-only; external ones are mapped, not copied.

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
        path = self._external_path(tensor, info.get("location", ""))
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
        size = path.stat().st_size
        if offset < 0 or length != needed or offset + length > size:
            raise self._bad(tensor, f"needs {needed} bytes, but {path.name} gives {length} at {offset} of {size}")
        if count == 0:
            return np.empty(tuple(tensor.dims), dtype.numpy)
        raw = np.memmap(path, np.uint8, "r", offset, (length,))
        if packed:
            whole = onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=raw.tobytes())
            return numpy_helper.to_array(whole)
        if offset % dtype.itemsize:
            raw = raw.copy()
        return np.asarray(raw).view(dtype.numpy).reshape(tuple(tensor.dims))

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
        return _checked(ReadModel(_parse(source, "model"), None, "model"))
    path = Path(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", file=path) from error
    return _checked(ReadModel(_parse(data, path.name), path.parent, path.name))


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
