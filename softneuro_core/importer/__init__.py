"""ONNX files to Graphs: read, build, infer shapes and fold, run the passes. Knows nothing of routines or plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import onnx

from softneuro_core.errors import ModelError
from softneuro_core.graph import Graph
from softneuro_core.importer.build import build_graph
from softneuro_core.importer.infer import infer
from softneuro_core.importer.read import read_model
from softneuro_core.passes.pipeline import run_passes

if TYPE_CHECKING:
    from softneuro_core.catalog import Catalog

ModelSource: TypeAlias = str | Path | bytes | onnx.ModelProto
Shapes: TypeAlias = Mapping[str, Sequence[int]]

__all__ = ["load", "specialise"]


def load(
    source: ModelSource, shapes: Shapes | None = None, *, catalog: Catalog | None = None, passes: bool = True
) -> Graph:
    """The graph of an ONNX file (or its bytes, or a ModelProto), every shape worked out from the inputs'.

    ``shapes`` fixes free dimensions, by input name; those left free keep their names, and what depends on them
    is a host object. With ``passes=False`` no layer is folded or rewritten: what was saved after the passes comes
    back with the same layers and values. Raises :class:`ModelError` for a file that is no valid model,
    :class:`UnsupportedOperatorError` naming every unknown operator, :class:`InputError` for shapes that do not fit.
    """
    read = read_model(source)
    operators = {} if catalog is None else catalog.operators
    try:
        graph = build_graph(read, operators)
    except UnicodeDecodeError as error:  # protobuf decodes some names only when they are read
        raise ModelError(f"is damaged: a name is not UTF-8 text ({error.reason})", file=read.name) from error
    return specialise(graph, shapes or {}, catalog=catalog, passes=passes)


def specialise(graph: Graph, shapes: Shapes, *, catalog: Catalog | None = None, passes: bool = True) -> Graph:
    """The graph as imported (``graph.origin``) with other input shapes; constants are shared with it.

    Layers that both graphs have keep their names. Raises as :func:`load`.
    """
    origin = graph.origin or graph
    operators = {} if catalog is None else catalog.operators
    inferred = infer(origin, shapes, operators, fold=passes)
    if passes:
        inferred = run_passes(inferred, () if catalog is None else catalog.passes)
    return inferred.check().replace(origin=origin)
