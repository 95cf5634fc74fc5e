"""Routine descriptors ``DEVICE[:DTYPE][:LAYOUT][/ALGORITHM][@LAYERS]``: what ``-r``, ``force`` and ``forbid`` mean.

The grammar is SoftNeuro's public one: ``cpu``, ``cpu:float32:NHWC``, ``cpu/im2col``, ``opencl:float16/direct@2..23``,
``cpu/reference@conv1,Relu``. LAYERS are layer numbers (``3``, ``2..23``), layer names or operator types; none means
all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from softneuro_core.errors import InputError
from softneuro_core.graph import Graph, Layer
from softneuro_core.routine import Offer
from softneuro_core.spec import TensorSpec


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pattern over (routine, specs, layer); empty parts match everything, ``*`` and ``?`` are wildcards."""

    device: str
    dtype: str
    layout: str
    algorithm: str
    layers: tuple[str, ...]

    def matches_offer(self, routine: str, offer: Offer) -> bool:
        """True if the routine's name fits and every tensor it reads or makes has the dtype and layout."""
        device, _, algorithm = routine.partition("/")
        if not fnmatchcase(device, self.device or "*") or not fnmatchcase(algorithm, self.algorithm or "*"):
            return False
        return all(self._matches_spec(spec) for spec in offer.inputs + offer.outputs)

    def _matches_spec(self, spec: TensorSpec) -> bool:
        return self.dtype in ("", spec.dtype.name) and self.layout in ("", spec.layout.axes)

    def selects(self, graph: Graph) -> frozenset[Layer]:
        """The layers named after ``@``; raises :class:`InputError` for a name the model does not have."""
        if not self.layers:
            return frozenset(graph.layers)
        return frozenset(layer for item in self.layers for layer in _layers_named(graph, item))


_SHAPE = re.compile(r"(?P<head>[^/@]*)(?:/(?P<algorithm>[^@]*))?(?:@(?P<layers>.+))?", re.DOTALL)


def parse(text: str) -> Descriptor:
    """Reads one descriptor; raises :class:`InputError` when it is not of that form."""
    match = _SHAPE.fullmatch(text.strip())
    head = match["head"].split(":") if match else []
    if not match or not 1 <= len(head) <= 3:
        raise InputError(f"{text!r} is not DEVICE[:DTYPE][:LAYOUT][/ALGORITHM][@LAYERS]")
    device, dtype, layout = (*head, "", "")[:3]
    layers = tuple(part.strip() for part in (match["layers"] or "").split(",") if part.strip())
    return Descriptor(device, dtype, layout, match["algorithm"] or "", layers)


def parse_all(texts: str | Iterable[str]) -> tuple[Descriptor, ...]:
    """One descriptor or several."""
    return tuple(parse(text) for text in ([texts] if isinstance(texts, str) else texts))


def _layers_named(graph: Graph, item: str) -> list[Layer]:
    if span := re.fullmatch(r"(\d+)(?:\.\.(\d+))?", item):
        first, last = int(span[1]), int(span[2] or span[1])
        if last >= len(graph.layers) or first > last:
            raise InputError(f"layers {item} are not in 0..{len(graph.layers) - 1}", file=graph.name)
        return list(graph.layers[first : last + 1])
    found = [layer for layer in graph.layers if fnmatchcase(layer.name, item) or layer.op == item]
    if not found:
        raise InputError(
            f"no layer or operator is called {item!r}", file=graph.name, remedy="softneuro view lists the layers"
        )
    return found
