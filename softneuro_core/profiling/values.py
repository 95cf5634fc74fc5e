"""Inputs and reference results of layers: computed once by the reference, kept as files a worker can map.

Owns evaluation order, generated inputs and the files; must not know routines, costs or processes. A result is
*checked* if the reference computed it from the stored inputs of its layer; where the reference fails, a stand-in is
generated from the shape and said to be unchecked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from softneuro_core.builtin.reference import LayerEvaluator
from softneuro_core.errors import InputError, SoftneuroError
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.operators import Operator
from softneuro_core.progress import Progress, Silent
from softneuro_core.spec import BOOL, DTYPES, OBJECT

RANDOM_OPERATORS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
"""Two correct runs of these differ: their results are inputs for others, never a yardstick."""
_KEEPS_NUMBERS = frozenset(
    {"Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Expand", "Slice", "Split"}
    | {"Concat", "Tile", "Gather"}
)
"""Operators through which an integer input is followed to the Gather that uses it as an index."""
SEED = 20261121


@dataclass(frozen=True, slots=True)
class Stored:
    """One value on disk: ``.npy`` (``dtype`` is the element type's ONNX name), or ``.json`` for host objects."""

    file: str
    dtype: str

    def load(self, folder: Path) -> Any:
        """The array (mapped, read-only) or host object."""
        path = folder / self.file
        if path.suffix == ".json":
            return _from_json(json.loads(path.read_text(encoding="utf-8")))
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped.view(DTYPES[self.dtype].numpy) if mapped.dtype.kind in "Vu" else mapped


class ValueStore:
    """Every value computed so far. ``operators`` are those plugins added; ``sample`` holds the user's inputs."""

    def __init__(
        self,
        graph: Graph,
        sample: Mapping[str, Any] | None,
        folder: Path,
        operators: Mapping[str, Operator] | None = None,
    ) -> None:
        self.graph, self.folder = graph, folder
        self._operators = operators or {}
        self._stored: dict[Value, Stored] = {}
        self._unchecked: dict[Layer, str] = {}
        self._done: set[Layer] = set()
        self._inputs(sample or {})

    # -- what callers ask ----------------------------------------------------------------------------------------

    def ensure(self, layers: Iterable[Layer], progress: Progress | None = None) -> None:
        """Computes these layers and all they depend on, each once."""
        todo = self._missing(layers)
        progress = progress or Silent()
        if todo:
            progress.start(len(todo), "reference values")
        for layer in todo:
            self._compute(layer)
            progress.advance(1, layer.name)

    def ensure_values(self, values: Iterable[Value]) -> None:
        """Computes the layers these values come from."""
        producers = self.graph.producers
        self.ensure(producers[value] for value in values if value in producers)

    def unchecked(self, layers: Iterable[Layer]) -> str | None:
        """Why results of these layers cannot serve as a reference, None if they can."""
        return next((self._unchecked[layer] for layer in layers if layer in self._unchecked), None)

    def stored(self, value: Value) -> Stored | None:
        """Where a value lies; None if it could not be made at all."""
        return self._stored.get(value)

    def array(self, value: Value) -> Any:
        """The array (mapped, read-only) or host object; constants are what they are. Raises :class:`InputError`."""
        if value.data is not None:
            return value.data
        if (stored := self._stored.get(value)) is None:
            raise InputError(f"no input could be made for value {value.name!r} of type {value.dtype} {value.shape}")
        return stored.load(self.folder)

    # -- evaluation ----------------------------------------------------------------------------------------------

    def _missing(self, layers: Iterable[Layer]) -> list[Layer]:
        """Layers not yet computed that these need, in topological order."""
        producers, found = self.graph.producers, set[Layer]()
        stack = [layer for layer in layers if layer not in self._done]
        while stack:
            layer = stack.pop()
            if layer not in found:
                found.add(layer)
                needed = (producers.get(value) for value in layer.operands)
                stack += [maker for maker in needed if maker is not None and maker not in self._done]
        return sorted(found, key=self.graph.index.__getitem__)

    def _compute(self, layer: Layer) -> None:
        self._done.add(layer)
        try:
            evaluator = LayerEvaluator(self.graph, layer, self._operators)
            made = evaluator([self.array(value) for value in evaluator.inputs])
            for value, result in zip(layer.results, made, strict=True):
                _check_shape(value, result)
            for value, result in zip(layer.results, made, strict=True):
                self._save(value, result)
        except SoftneuroError as error:
            self._unchecked[layer] = error.cause
            for value in layer.results:
                self._generate(value)
        if layer.type in RANDOM_OPERATORS:
            self._unchecked[layer] = f"{layer.op} is random"

    def _save(self, value: Value, content: Any) -> None:
        number = len(self._stored)
        if isinstance(content, np.ndarray) and content.dtype.kind not in "OUS":
            stored = Stored(f"{number}.npy", _dtype_name(content.dtype))
            plain = np.asarray(content, order="C")  # ascontiguousarray would make a vector of a scalar
            if plain.dtype.kind == "V" or stored.dtype not in _NPY_KNOWS:  # types npy has no name for, as bytes
                plain = plain.view(np.dtype(f"u{plain.dtype.itemsize}"))
            np.save(self.folder / stored.file, plain, allow_pickle=False)
        else:
            stored = Stored(f"{number}.json", OBJECT.name)
            (self.folder / stored.file).write_text(json.dumps(_to_json(content)), encoding="utf-8")
        self._stored[value] = stored

    # -- inputs --------------------------------------------------------------------------------------------------

    def _inputs(self, sample: Mapping[str, Any]) -> None:
        for value in self.graph.inputs:
            if value.name in sample:
                self._save(value, _given(value, sample[value.name]))
            else:
                self._generate(value, _index_bound(self.graph, value))

    def _generate(self, value: Value, bound: int | None = None) -> None:
        """A stand-in of the value's type and shape, the same in every run; nothing if the type is no tensor."""
        rng = np.random.default_rng((SEED, len(self._stored)))
        if value.is_static and value.dtype is not OBJECT:
            self._save(value, generated(value, rng, bound))
        elif value.dtype is OBJECT and value.is_static and _is_text(value):
            letters = np.array(list("abcd"), dtype=object)
            self._save(value, np.asarray(rng.choice(letters, value.static_shape), dtype=object))


def reference_values(
    graph: Graph,
    sample: Mapping[str, Any] | None,
    folder: Path,
    progress: Progress | None = None,
    *,
    wanted: Iterable[Layer] = (),
    operators: Mapping[str, Operator] | None = None,
) -> ValueStore:
    """A store over ``folder`` with the layers ``wanted`` (and what they depend on) already computed.

    ``sample`` maps graph inputs to arrays; inputs it lacks are generated: N(0, 1) for real types, valid indices
    where a Gather reads them, else 0 and 1. Raises :class:`InputError` for a sample that does not fit.
    """
    store = ValueStore(graph, sample, folder, operators)
    store.ensure(wanted, progress)
    return store


def generated(value: Value, rng: np.random.Generator, bound: int | None = None) -> np.ndarray:
    """An array valid for the value: reals N(0, 1), 8-bit integers over their range, others below ``bound`` or 2."""
    shape, dtype = value.static_shape, value.dtype
    if dtype is BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.is_float or dtype.name.startswith("complex"):
        return rng.standard_normal(shape, np.float32).astype(dtype.numpy)
    if bound is None and dtype.numpy.kind in "iu" and dtype.itemsize == 1 and dtype.name in ("int8", "uint8"):
        limits = np.iinfo(dtype.numpy)
        return rng.integers(limits.min, limits.max + 1, shape).astype(dtype.numpy)
    return rng.integers(0, max(1, 2 if bound is None else bound), shape).astype(dtype.numpy)


def _index_bound(graph: Graph, value: Value) -> int | None:
    """The smallest dimension this integer input, passed on unchanged, is an index into; None if it is no index."""
    if value.dtype.is_float or value.dtype is OBJECT:
        return None
    bounds, stack, seen = list[int](), [value], {value}
    while stack:
        current = stack.pop()
        for layer in graph.consumers.get(current, ()):
            if (
                layer.type in ("Gather", "GatherElements")
                and layer.inputs[1] is current
                and layer.inputs[0] is not None
            ):
                shape = layer.inputs[0].shape or ()
                axis = int(layer.attrs.get("axis", 0))
                if -len(shape) <= axis < len(shape) and isinstance(dim := shape[axis], int):
                    bounds.append(dim)
            elif layer.type in _KEEPS_NUMBERS and layer.inputs[0] is current:
                stack += [result for result in layer.results if result not in seen]
                seen.update(layer.results)
    return min(bounds, default=None)


def _given(value: Value, content: Any) -> Any:
    """The user's input in the value's dtype; raises :class:`InputError` if it does not fit."""
    if value.dtype is OBJECT:
        return content
    array = np.asarray(content)
    fits = value.shape is None or (
        array.ndim == len(value.shape)
        and all(not isinstance(dim, int) or dim == got for dim, got in zip(value.shape, array.shape, strict=True))
    )
    if not fits:
        raise InputError(f"sample input {value.name!r} has shape {list(array.shape)}, wanted {list(value.shape or ())}")
    return array.astype(value.dtype.numpy, copy=False)


def _check_shape(value: Value, result: Any) -> None:
    if not value.is_static or value.dtype is OBJECT:
        return
    if not isinstance(result, np.ndarray) or result.shape != value.static_shape or result.dtype != value.dtype.numpy:
        seen = f"{result.dtype} {list(result.shape)}" if isinstance(result, np.ndarray) else type(result).__name__
        raise InputError(f"the reference made {seen} of {value.name!r}, the graph says {value.dtype} {value.shape}")


def _is_text(value: Value) -> bool:
    kind = value.type
    if kind is None or kind.WhichOneof("value") != "tensor_type":
        return kind is None
    return bool(kind.tensor_type.elem_type == onnx.TensorProto.STRING)


_NPY_KNOWS = frozenset(
    f"{kind}{bits}"
    for kind, sizes in (("int", (8, 16, 32, 64)), ("uint", (8, 16, 32, 64)), ("float", (16, 32, 64)))
    for bits in sizes
) | {"bool", "complex64", "complex128"}


def _dtype_name(dtype: np.dtype) -> str:
    for name, known in DTYPES.items():
        if known.numpy == dtype:
            return name
    raise InputError(f"arrays of {dtype} cannot be stored")


def _to_json(content: Any) -> Any:
    """Host objects as JSON: strings, sequences, mappings, optionals, arrays inside them."""
    if isinstance(content, (np.ndarray, np.generic)):
        array = np.asarray(content)
        text = array.dtype.kind in "OUS"
        flat = (
            [str(x) for x in array.reshape(-1)] if text else array.astype(_json_type(array.dtype)).reshape(-1).tolist()
        )
        return {"array": flat, "shape": list(array.shape), "dtype": "object" if text else _dtype_name(array.dtype)}
    if isinstance(content, (list, tuple)):
        return {"list": [_to_json(item) for item in content]}
    if isinstance(content, dict):
        return {"keys": [_to_json(k) for k in content], "values": [_to_json(v) for v in content.values()]}
    if content is None or isinstance(content, (str, int, float, bool)):
        return {"plain": content}
    raise InputError(f"a host object of type {type(content).__name__} cannot be stored")


def _json_type(dtype: np.dtype) -> Any:
    return np.float64 if dtype.kind == "V" and "float" in dtype.name else np.int64 if dtype.kind == "V" else dtype


def _from_json(parts: Mapping[str, Any]) -> Any:
    if "array" in parts:
        dtype: Any = object if parts["dtype"] == "object" else DTYPES[parts["dtype"]].numpy
        return _reshaped(parts["array"], parts["shape"], dtype)
    if "list" in parts:
        return [_from_json(item) for item in parts["list"]]
    if "keys" in parts:
        return dict(zip(map(_from_json, parts["keys"]), map(_from_json, parts["values"]), strict=True))
    return parts["plain"]


def _reshaped(flat: Sequence[Any], shape: Sequence[int], dtype: Any) -> np.ndarray:
    array = np.empty(len(flat), dtype)
    array[:] = flat
    return array.reshape(shape)
