"""The core's own plugin: the host device, control flow, plain adapters and (through the catalog) the reference."""

from __future__ import annotations

from collections.abc import Iterable

from softneuro_core.device import Device, HostDevice
from softneuro_core.hookspecs import hookimpl
from softneuro_core.routine import Adapter, Routine


@hookimpl
def softneuro_devices() -> Iterable[Device]:
    return [HostDevice()]


@hookimpl
def softneuro_routines() -> Iterable[Routine]:
    from softneuro_core.builtin.control import ControlRoutine

    return [ControlRoutine()]  # the catalog adds the reference routine, which needs every plugin's operators


@hookimpl
def softneuro_adapters() -> Iterable[Adapter]:
    from softneuro_core.builtin.adapters import ADAPTERS

    return [cls() for cls in ADAPTERS]
