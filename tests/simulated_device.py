"""The fake device with a simulated clock, as a plugin module of its own: device ``sim``, clock ``sim``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fake_device import FakeDevice, FakeLayout, link, routines

from softneuro_core.device import Device, Target
from softneuro_core.hookspecs import hookimpl
from softneuro_core.routine import Adapter, Call, Routine


@hookimpl
def softneuro_devices() -> list[Device]:
    return [FakeDevice("sim", simulated=True)]


@hookimpl
def softneuro_routines() -> list[Routine]:
    return routines("sim")


@hookimpl
def softneuro_adapters() -> list[Adapter]:
    return [FakeLayout("sim")]


@hookimpl
def softneuro_link(target: Target, calls: Sequence[Call]) -> Callable[[], None] | None:
    return link(target, calls) if target.device.name == "sim" else None
