"""Names what a cost was measured for: everything that changes code or speed, nothing that does not.

Owns signatures and keys; must not know the database, the worker or clocks. No host names, no paths, and of the
weights only types and shapes, so that identical layers share one key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx

from softneuro_core.catalog import Catalog
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.profiling.caches import constants_are_far
from softneuro_core.routine import Adapter, Offer
from softneuro_core.spec import TensorSpec
from softneuro_core.versions import library_versions

METHOD = 2
"""Number of the way times are measured; another way gives other keys, so the two never mix."""
BY_VALUE_ELEMENTS = 64
"""Integer constants up to this size (axes, shapes, pads) stand in the key by value."""


@dataclass(frozen=True, slots=True)
class CostKey:
    """A measurable thing: canonical JSON, readable, whose SHA-256 is the name it has in the database."""

    text: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def parts(self) -> dict[str, Any]:
        """The readable key as a dictionary."""
        return json.loads(self.text)

    @staticmethod
    def of(parts: Mapping[str, Any]) -> CostKey:
        """The key of these parts; raises ``TypeError`` if they do not survive JSON."""
        return CostKey(canonical(parts))


def canonical(parts: Any) -> str:
    """JSON with sorted keys and no spare blanks: equal things give equal text."""
    return json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=True)


def cost_key(region: Region, routine: str, offer: Offer, catalog: Catalog, threads: int) -> CostKey:
    """Key of one routine's offer for a region, run on ``threads`` threads.

    The specs' devices and the routine's own decide which machines' fingerprints it carries.
    """
    used = {s.device for s in offer.inputs + offer.outputs} | {routine.partition("/")[0]}
    return CostKey.of(
        {
            "kind": "kernel",
            "routine": routine,
            "layers": region_signature(region),
            "specs": [[str(s) for s in offer.inputs], [str(s) for s in offer.outputs]],
            "params": dict(offer.params),
            "strided": sorted(offer.strided),
            "constants": "far" if constants_are_far(constants_nbytes(region.graph)) else "near",
            **circumstances(routine, used, catalog, threads),
        }
    )


@lru_cache(maxsize=8)
def constants_nbytes(graph: Graph) -> int:
    """Bytes of all constants of a graph, without those of bodies."""
    return sum(value.nbytes for value in graph.constants)


def adapter_key(
    value: Value, adapter: Adapter, src: TensorSpec, dst: TensorSpec, catalog: Catalog, threads: int
) -> CostKey:
    """Key of one conversion: shape, dtype and kind of quantisation of the value, the two specs, the adapter."""
    return CostKey.of(
        {
            "kind": "adapter",
            "routine": adapter.name,
            "value": _value_signature(value, "in"),
            "specs": [[str(src)], [str(dst)]],
            **circumstances(adapter.name, {src.device, dst.device}, catalog, threads),
        }
    )


def circumstances(routine: str, devices: Iterable[str], catalog: Catalog, threads: int) -> dict[str, Any]:
    """What a cost holds for besides what is computed: method, the plugin's code, threads, machine, libraries."""
    owner = catalog.owners.get(routine)
    return {
        "method": METHOD,
        "code": "" if owner is None else owner.code_hash,
        "threads": threads,
        "machine": {name: catalog.devices[name].fingerprint() for name in sorted({*devices, "cpu"})},
        "libraries": dict(library_versions()),
    }


def region_signature(region: Region) -> dict[str, Any]:
    """What the layers are, by structure: two regions with equal signatures are measured once."""
    return _signature(region.layers, set(region.outputs), region.graph)


def layer_signature(graph: Graph, layer: Layer) -> str:
    """Canonical text of one layer's signature."""
    return canonical(region_signature(Region(graph, (layer,))))


def _signature(layers: Sequence[Layer], outputs: set[Value], graph: Graph) -> dict[str, Any]:
    made = {v for layer in layers for v in layer.results}
    numbers: dict[Value, int] = {}
    values: list[Any] = []

    def number(value: Value | None) -> int | None:
        if value is None:
            return None
        if value not in numbers:
            numbers[value] = len(values)
            values.append(
                _value_signature(value, "inner" if value in made - outputs else "out" if value in made else "in")
            )
        return numbers[value]

    nodes = [
        {
            "op": layer.op,
            "version": layer.version,
            "attrs": {name: _attribute(value) for name, value in layer.attrs.items()},
            "in": [number(v) for v in layer.inputs],
            "captures": [number(v) for v in layer.captures],
            "out": [number(v) for v in layer.outputs],
            **_function(graph, layer),
        }
        for layer in layers
    ]
    return {"nodes": nodes, "values": values}


def _function(graph: Graph, layer: Layer) -> dict[str, str]:
    body = graph.functions.get((layer.domain, layer.type))
    return {} if body is None else {"function": _hash(body.SerializeToString(deterministic=True))}


def _value_signature(value: Value, role: str) -> list[Any]:
    shape = None if value.shape is None else list(value.shape)
    found: list[Any] = ["constant" if value.is_constant else role, str(value.dtype), shape]
    if value.data is not None:
        found.append(_content(value.data))
    if value.qparams is not None:
        zero = np.asarray(value.qparams.zero_point)
        found.append([list(np.shape(value.qparams.scale)), value.qparams.axis, str(zero.dtype), bool(zero.any())])
    return found


def _content(data: np.ndarray) -> Any:
    """What of a constant may change the code: small integers by value, zero points by being zero, round scalars.

    A scalar like 2.0 or 0.5 stands by value (Pow by 2 is another program than Pow by 2.3); any other weight does not.
    """
    data = np.asarray(data)
    if data.dtype.kind in "iu" and data.dtype.itemsize == 1:
        return "nonzero" if bool(data.any()) else "zero"
    if data.dtype.kind in "iub" and data.size <= BY_VALUE_ELEMENTS:
        return data.tolist()
    if data.dtype.kind == "f" and data.size == 1 and abs(number := float(data.reshape(-1)[0])) <= 8:
        return number if number * 2 == int(number * 2) else None
    return None


def _attribute(value: Any) -> Any:
    """An attribute as JSON: numbers and text by value, tensors by hash, subgraphs by signature."""
    if isinstance(value, Graph):
        body = _signature(value.layers, set(value.outputs), value)
        return {"inputs": [_value_signature(v, "in") for v in value.inputs], "outputs": len(value.outputs), **body}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), _hash(value.tobytes() if value.dtype != object else repr(value))]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_attribute(item) for item in value]
    if isinstance(value, (onnx.TensorProto, onnx.SparseTensorProto, onnx.TypeProto)):
        return _hash(value.SerializeToString(deterministic=True))
    return value if isinstance(value, (int, float, str, bool, type(None))) else repr(value)


def _hash(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]
