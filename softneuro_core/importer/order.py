"""Topological order of the nodes of a GraphProto, and which of them form a cycle. Knows nothing of operators."""

from __future__ import annotations

import heapq

import onnx

from softneuro_core.errors import ModelError


def free_names(graph: onnx.GraphProto) -> set[str]:
    """Names a subgraph reads from around it."""
    known = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    known |= {t.values.name for t in graph.sparse_initializer}
    known |= {name for node in graph.node for name in node.output}
    read = {name for node in graph.node for name in reads(node)} | {o.name for o in graph.output}
    return read - known - {""}


def reads(node: onnx.NodeProto) -> set[str]:
    """Every name a node reads, by itself or in its subgraphs."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            names |= free_names(attribute.g)
    return names


def topological(graph: onnx.GraphProto, file: str) -> list[tuple[int, onnx.NodeProto]]:
    """Nodes with their position in the file, makers before readers, file order wherever that allows.

    Raises :class:`ModelError` naming the nodes of a cycle.
    """
    nodes = list(graph.node)
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    waits = [{maker[name] for name in reads(node) if name in maker} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for i, before in enumerate(waits):
        for j in before:
            readers[j].append(i)
    missing = [len(before) for before in waits]
    ready = [i for i, count in enumerate(missing) if count == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append((i, nodes[i]))
        for j in readers[i]:
            missing[j] -= 1
            if missing[j] == 0:
                heapq.heappush(ready, j)
    if len(order) < len(nodes):
        stuck = [nodes[i].name or f"{nodes[i].op_type}_{i}" for i, count in enumerate(missing) if count > 0]
        raise ModelError("the graph has a cycle through " + ", ".join(stuck[:8]), file=file)
    return order
