"""MatMul of two matrices plus a constant bias is a Gemm: one layer where the meaning is the same."""

from __future__ import annotations

from softneuro_core.graph import Graph, Layer
from softneuro_core.passes.rewrite import Rewrite, sweep, version_of


def matmul_to_gemm(graph: Graph) -> Graph:
    """The graph with Gemm for MatMul + Add where both operands are matrices and the bias is one row."""
    return sweep(graph, _match)


def _match(rewrite: Rewrite, layer: Layer) -> bool:
    if layer.type != "Add" or layer.version < 7 or None in layer.inputs:
        return False
    for value, bias in (layer.inputs, layer.inputs[::-1]):
        assert value is not None and bias is not None
        product = rewrite.producer(value, "MatMul")
        if product is None or bias.data is None or not rewrite.is_private(value, layer):
            continue
        if not all(v is not None and v.is_static and len(v.static_shape) == 2 for v in product.inputs):
            continue
        columns = value.static_shape[1] if value.is_static else -1
        if bias.shape not in ((columns,), (1, columns)) or not value.dtype.is_float:
            continue
        inputs = (*product.inputs, bias)
        version = version_of(rewrite.graph, "Gemm", 7)
        rewrite.replace(layer, Layer(layer.name, "Gemm", inputs, layer.outputs, version=version), also=(product,))
        return True
    return False
