"""SoftNeuro: measures every way to run each layer of a model here, and proves which combination is fastest.

``load`` a model, ``tune`` it to a ``Plan``, run it in a ``Session``; the other names are for plugin authors.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softneuro_core.candidates import Candidate, Request
    from softneuro_core.catalog import Catalog, load_plugins
    from softneuro_core.device import Buffer, Device, ObjectBuffer, Target
    from softneuro_core.errors import SoftneuroError, Unavailable
    from softneuro_core.graph import Graph, Layer, Region, Value
    from softneuro_core.hookspecs import API_VERSION, hookimpl
    from softneuro_core.importer import load
    from softneuro_core.operators import Operator
    from softneuro_core.passes import Pass
    from softneuro_core.plan import Plan
    from softneuro_core.routine import Adapter, Call, FunctionKernel, Kernel, NativeCall, Offer, Routine
    from softneuro_core.session import Session, SoftneuroNotice
    from softneuro_core.spec import DType, Layout, QParams, TensorSpec
    from softneuro_core.tuner import Tuner
    from softneuro_core.tuning import tune

_HOMES = {
    "load": "importer",
    "tune": "tuning",
    "Session": "session",
    "SoftneuroNotice": "session",
    "Plan": "plan",
    "Candidate": "candidates",
    "Request": "candidates",
    "Catalog": "catalog",
    "load_plugins": "catalog",
    "Buffer": "device",
    "Device": "device",
    "ObjectBuffer": "device",
    "Target": "device",
    "SoftneuroError": "errors",
    "Unavailable": "errors",
    "Graph": "graph",
    "Layer": "graph",
    "Region": "graph",
    "Value": "graph",
    "API_VERSION": "hookspecs",
    "hookimpl": "hookspecs",
    "Operator": "operators",
    "Pass": "passes",
    "Adapter": "routine",
    "Call": "routine",
    "FunctionKernel": "routine",
    "Kernel": "routine",
    "NativeCall": "routine",
    "Offer": "routine",
    "Routine": "routine",
    "DType": "spec",
    "Layout": "spec",
    "QParams": "spec",
    "TensorSpec": "spec",
    "Tuner": "tuner",
}
"""Where each public name lives; imported on first use, so that a plugin's top module stays light."""

__all__ = ["__version__", *_HOMES]

try:
    __version__ = version("softneuro-core")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
