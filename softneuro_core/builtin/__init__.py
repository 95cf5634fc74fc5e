"""The core's own plugin: the host device, reference routines for every operator, control flow, plain adapters."""

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
    from softneuro_core.builtin.reference import ReferenceRoutine

    return [ReferenceRoutine(), ControlRoutine()]


@hookimpl
def softneuro_adapters() -> Iterable[Adapter]:
    from softneuro_core.builtin.adapters import ADAPTERS

    return [cls() for cls in ADAPTERS]
