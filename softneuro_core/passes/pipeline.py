"""The order of the passes, and running them: each is checked, each can be shown (``SOFTNEURO_DEBUG``)."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace

from softneuro_core import knobs
from softneuro_core.errors import ModelError, PluginError, SoftneuroError
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.passes import Pass
from softneuro_core.passes.affine import fold_affine
from softneuro_core.passes.cancel import cancel_moves
from softneuro_core.passes.canonical import canonical_activations
from softneuro_core.passes.deadcode import remove_dead
from softneuro_core.passes.fold import fold_constants
from softneuro_core.passes.gemm import matmul_to_gemm
from softneuro_core.passes.identity import remove_identities
from softneuro_core.passes.normalization import spelled_out_layer_norm
from softneuro_core.passes.pad import fold_pad
from softneuro_core.passes.qoperators import spelled_out_quantised

PASSES: tuple[Pass, ...] = (
    Pass("quantised", spelled_out_quantised),
    Pass("fold", fold_constants),
    Pass("dead-code", remove_dead),
    Pass("identity", remove_identities),
    Pass("cancel", cancel_moves),
    Pass("pad", fold_pad),
    Pass("affine", fold_affine),
    Pass("activations", canonical_activations),
    Pass("layer-norm", spelled_out_layer_norm),
    Pass("gemm", matmul_to_gemm),
    Pass("clean-up", remove_dead),
)


def ordered(added: Iterable[Pass]) -> list[Pass]:
    """The core's passes with those of plugins each right after the one it names (else at the end).

    Raises :class:`PluginError` for a name nobody has, or one taken twice.
    """
    order = list(PASSES)
    for one in added:
        names = [p.name for p in order]
        if one.name in names:
            raise PluginError(f"two passes are called {one.name!r}")
        if one.after is not None and one.after not in names:
            raise PluginError(f"pass {one.name!r} wants to run after {one.after!r}, which does not exist")
        order.insert(len(order) if one.after is None else names.index(one.after) + 1, one)
    return order


def run_passes(graph: Graph, added: Sequence[Pass] = ()) -> Graph:
    """The graph after every pass in turn; inputs, and names of outputs, stay.

    Raises :class:`PluginError` naming the pass that left a broken graph.
    """
    for one in ordered(added):
        before = graph
        try:
            graph = _applied(one, before)
            if graph is not before:
                graph.check()
        except PluginError:
            raise
        except SoftneuroError as error:
            raise PluginError(f"pass {one.name!r} left a broken graph: {error}", file=graph.name) from error
        if [v.name for v in graph.outputs] != [v.name for v in before.outputs] or graph.inputs != before.inputs:
            raise PluginError(f"pass {one.name!r} changed inputs or outputs of the graph", file=graph.name)
        if graph is not before:
            _show(one.name, before, graph)
    return graph


def _applied(one: Pass, graph: Graph) -> Graph:
    """The pass run on the bodies of control flow, then on the graph itself."""
    layers = [_with_passed_bodies(one, layer) for layer in graph.layers]
    if any(new is not old for new, old in zip(layers, graph.layers, strict=True)):
        graph = graph.replace(layers)
    return one.run(graph)


def _with_passed_bodies(one: Pass, layer: Layer) -> Layer:
    passed = {name: _applied(one, body) for name, body in layer.bodies.items()}
    changed = {name: body for name, body in passed.items() if body is not layer.attrs[name]}
    for name, body in changed.items():
        if len(body.inputs) != len(layer.attrs[name].inputs):
            raise ModelError(f"the inputs of body {name!r} changed", layer=layer.name)
    return replace(layer, attrs={**layer.attrs, **changed}) if changed else layer


def _show(name: str, before: Graph, after: Graph) -> None:
    level = knobs.DEBUG.get()
    if level in ("", "0"):
        return
    old, new = describe(before), describe(after)
    print(f"pass {name}: {len(before.layers)} -> {len(after.layers)} layers", file=sys.stderr)
    if level == "2":
        lines = difflib.unified_diff(old, new, "before", "after", lineterm="", n=0)
        print("\n".join(list(lines)[2:]), file=sys.stderr)


def describe(graph: Graph) -> list[str]:
    """One line per layer: results = operator(operands) {attributes}, the text that is compared."""
    lines = []
    for layer in graph.layers:
        attrs = ", ".join(f"{k}={_short(v)}" for k, v in sorted(layer.attrs.items()))
        results = ", ".join(_value(v) for v in layer.outputs)
        operands = ", ".join(_value(v) for v in (*layer.inputs, *layer.captures))
        lines.append(f"{layer.name}: {results} = {layer.op}-{layer.version}({operands}) {{{attrs}}}")
        for key, body in layer.bodies.items():
            lines += [f"  {key}| {line}" for line in describe(body)]
    return lines


def _short(value: object) -> str:
    return f"Graph({len(value.layers)})" if isinstance(value, Graph) else str(value)[:60]


def _value(value: Value | None) -> str:
    if value is None:
        return "-"
    shape = "?" if value.shape is None else "x".join("?" if d is None else str(d) for d in value.shape)
    return f"{value.name}{'!' if value.is_constant else ''}[{value.dtype}:{shape}]"
