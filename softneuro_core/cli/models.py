"""Loading a model for a verb: which shapes to assume, and saying so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from softneuro_core.catalog import Catalog
from softneuro_core.cli import output
from softneuro_core.cli.options import parse_shapes
from softneuro_core.errors import InputError
from softneuro_core.graph import Dim, Graph, Value
from softneuro_core.importer import load, specialise
from softneuro_core.report.units import show_shape

Shapes = Mapping[str, tuple[int, ...]]


def load_static(model: str, catalog: Catalog, shape_texts: Sequence[str] = (), known: Shapes | None = None) -> Graph:
    """The model with every input shape fixed: by ``--shape``, else by ``known`` (a plan's, or the arrays given), else
    a free first dimension becomes 1 with a note. Raises :class:`InputError` for any other free dimension."""
    graph = load(model, catalog=catalog)
    return fixed(graph, catalog, shape_texts, known or {})


def fixed(graph: Graph, catalog: Catalog, shape_texts: Sequence[str], known: Shapes) -> Graph:
    """As :func:`load_static`, of a loaded graph."""
    shapes = {**known, **parse_shapes(shape_texts, [v.name for v in graph.inputs])}
    if not graph.free_dims and not shape_texts:
        return graph
    return specialise(graph, complete(graph, shapes), catalog=catalog)


def complete(graph: Graph, given: Shapes) -> dict[str, tuple[int, ...]]:
    """Shapes of all inputs that need one. A named dimension given for one input holds for all; see above."""
    origin = graph.origin or graph
    names = _named_sizes(origin, given)
    shapes, assumed = dict(given), list[str]()
    for value in origin.inputs:
        if value.name in given or (value.is_object and value.shape is None and value.name not in graph.free_dims):
            continue
        if value.name in graph.free_dims:
            shapes[value.name], guessed = _assume(graph, value, names)
            assumed += [f"{value.name}={show_shape(shapes[value.name])}"] if guessed else []
    if assumed:
        output.note(f"free batch dimension taken as 1: {', '.join(assumed)} (--shape gives another)")
    return shapes


def _named_sizes(graph: Graph, given: Shapes) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for value in graph.inputs:
        dims = value.shape or ()
        if value.name in given and len(dims) == len(given[value.name]):
            sizes.update({d: n for d, n in zip(dims, given[value.name], strict=True) if isinstance(d, str)})
    return sizes


def _assume(graph: Graph, value: Value, names: Mapping[str, int]) -> tuple[tuple[int, ...], bool]:
    """The shape, and whether its batch size was a guess."""
    shape, guessed = list[int](), False
    for axis, dim in enumerate(value.shape or ()):
        if isinstance(dim, int):
            shape.append(dim)
        elif isinstance(dim, str) and dim in names:
            shape.append(names[dim])
        elif axis == 0:
            shape.append(1)
            guessed = True
        else:
            raise _needs_shape(graph, value)
    if value.shape is None:
        raise _needs_shape(graph, value)
    return tuple(shape), guessed


def _needs_shape(graph: Graph, value: Value) -> InputError:
    def example(dim: Dim, axis: int) -> str:
        return str(dim) if isinstance(dim, int) else "1" if axis == 0 else f"<{dim or 'size'}>"

    dims = "x".join(example(d, i) for i, d in enumerate(value.shape or (None,)))
    what = f"input {value.name!r} has free dimensions {show_shape(value.shape)}"
    return InputError(what, file=graph.name, remedy=f"give them: --shape {value.name}={dims}")
