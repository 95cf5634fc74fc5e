"""The ONNX Backend API over load and Session: ``prepare``, ``run_model``, ``run_node``, ``supports_device``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, namedtupledict

from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.errors import InputError
from softneuro_core.importer import load
from softneuro_core.plan import Plan
from softneuro_core.session import Session


class SoftneuroRep(BackendRep):
    """A prepared model; ``session`` is the Session behind it."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Outputs in the model's order for inputs in the model's order (or by name); also reachable by name."""
        names = [v.name for v in self.session.inputs]
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        feeds = inputs if isinstance(inputs, Mapping) else _by_name(names, list(inputs))
        results = self.session.run(feeds)
        made: Sequence[Any] = [results[v.name] for v in self.session.outputs]
        return namedtupledict("Outputs", list(results))(*made)


def _by_name(names: Sequence[str], inputs: Sequence[Any]) -> dict[str, Any]:
    if len(inputs) != len(names):
        raise InputError(f"{len(inputs)} inputs given, the model has {len(names)}", remedy=", ".join(names))
    return dict(zip(names, inputs, strict=True))


class SoftneuroBackend(Backend):
    """Runs models with whatever the installed plugins offer.

    ``prepare`` takes ``catalog`` (default: all installed plugins), ``plan``, ``threads`` and ``budget_s`` as
    :class:`softneuro_core.session.Session` does.
    """

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Host memory is where inputs and outputs lie, whatever devices the plan uses in between."""
        return device.partition(":")[0] == "CPU"

    @classmethod
    def prepare(
        cls,
        model: onnx.ModelProto,
        device: str = "CPU",
        catalog: Catalog | None = None,
        plan: Plan | None = None,
        threads: int | None = None,
        budget_s: float | None = None,
        **kwargs: Any,
    ) -> SoftneuroRep:
        """A model ready to run; raises :class:`ModelError` and the errors of Session."""
        if not cls.supports_device(device):
            raise InputError(f"device {device!r} is not supported here", remedy="use CPU")
        catalog = catalog or load_plugins()
        graph = load(model, catalog=catalog)
        return SoftneuroRep(Session(graph, plan, threads, budget_s, catalog=catalog))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Prepares and runs once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Runs a single node on arrays; ``opset_version`` says by which opset (default: the newest)."""
        arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        names = [name for name in node.input if name]
        graph = onnx.GraphProto(name=node.name or node.op_type, node=[node])
        for name, array in zip(names, arrays, strict=True):
            element = onnx.helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, element, np.shape(array)))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(node.domain, version)])
        return cls.run_model(model, arrays, device, **kwargs)


prepare = SoftneuroBackend.prepare
run_model = SoftneuroBackend.run_model
run_node = SoftneuroBackend.run_node
supports_device = SoftneuroBackend.supports_device
is_compatible = SoftneuroBackend.is_compatible
