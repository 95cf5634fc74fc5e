"""Names every operator nobody here defines, at once, with what would help. Knows nothing of values or shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import onnx

from softneuro_core.errors import UnsupportedOperatorError
from softneuro_core.export import FUNCTION_DOMAIN, schema_of
from softneuro_core.operators import Operator

REMOVED = frozenset(
    """
    ATen Affine ConstantFill Crop DynamicSlice GRUUnit GivenTensorFill ImageScaler ParametricSoftplus Scale
    ScaledTanh
    """.split()  # noqa: SIM905
)
"""Experimental operators ONNX once had and removed in 1.4 to 1.5."""

HELPFUL_PLUGINS = {"com.microsoft": "softneuro-qint8"}
"""Domain -> the distribution that defines operators of it."""
OWN_LAYOUT = "com.microsoft.nchwc"
"""Of operators onnxruntime makes for itself when it saves a file at its highest optimisation level."""


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those in their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from all_nodes(attribute.g.node)


def check_operators(
    proto: onnx.ModelProto,
    opsets: Mapping[str, int],
    functions: Mapping[tuple[str, str], Any],
    operators: Mapping[str, Operator],
    file: str,
) -> None:
    """Raises :class:`UnsupportedOperatorError` listing all operators that are neither ONNX's, a function, nor a
    plugin's."""
    missing: dict[str, str] = {}
    remedies: set[str] = set()
    for node in all_nodes(proto.graph.node):
        domain = "" if node.domain == "ai.onnx" else node.domain
        name = f"{domain}::{node.op_type}" if domain else node.op_type
        if name in missing or name in operators or (domain, node.op_type) in functions or domain == FUNCTION_DOMAIN:
            continue
        if schema_of(node.op_type, opsets.get(domain, 1), domain) is None:
            missing[name] = _why(node.op_type, domain, opsets.get(domain, 1))
            remedies.update(_remedies(domain, operators))
    if missing:
        found = ", ".join(name + why for name, why in sorted(missing.items()))
        raise UnsupportedOperatorError(
            f"unknown operator{'s' if len(missing) > 1 else ''}: {found}",
            file=file,
            remedy="; ".join(sorted(remedies)) or "install a plugin that defines them, or export the model anew",
        )


def _remedies(domain: str, operators: Mapping[str, Operator]) -> Iterator[str]:
    if domain == OWN_LAYOUT:
        yield "save the file at onnxruntime's level ORT_ENABLE_EXTENDED, or take the one it was made from"
    elif domain in HELPFUL_PLUGINS and any(o.domain == domain for o in operators.values()):
        yield f"{HELPFUL_PLUGINS[domain]} is loaded and does not define these: export the model without them"
    elif domain in HELPFUL_PLUGINS:
        yield f"the plugin {HELPFUL_PLUGINS[domain]} may help: install it, or enable it again"


def _why(name: str, domain: str, version: int) -> str:
    if domain:
        return ""
    if name in REMOVED:
        return " (experimental, removed from ONNX)"
    newest = schema_of(name, onnx.defs.onnx_opset_version())
    if newest is not None:
        return f" (not in opset {version}, which the model declares)"
    return ""
