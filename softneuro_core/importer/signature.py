"""Whether a node has the operands and attributes its operator demands. Knows nothing of shapes."""

from __future__ import annotations

import onnx

from softneuro_core.export import schema_of
from softneuro_core.graph import Layer


def signature_problem(layer: Layer, node: onnx.NodeProto) -> str | None:
    """What is wrong with the operands or attributes of an ONNX node, in one sentence; None if nothing is.

    Attributes the operator does not know are let pass: old exporters leave some behind.
    """
    schema = schema_of(layer.type, layer.version, layer.domain)
    if schema is None:
        return None
    for what, count, least, most in (
        ("inputs", len(layer.inputs), schema.min_input, schema.max_input),
        ("outputs", len(layer.outputs), min(schema.min_output, 1), schema.max_output),
    ):
        if not least <= count <= most:
            return f"{layer.op} takes {least} to {most} {what}, not {count}"
    for attribute in node.attribute:
        known = schema.attributes.get(attribute.name)
        if known is not None and attribute.type != known.type.value:
            return f"attribute {attribute.name!r} of {layer.op} has the wrong type"
    missing = [name for name, a in schema.attributes.items() if a.required and name not in layer.attrs]
    return f"{layer.op} needs the attribute {missing[0]!r}" if missing else None
