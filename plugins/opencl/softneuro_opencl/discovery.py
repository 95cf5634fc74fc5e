"""All OpenCL devices of this machine, in the implementations' order, and why some are not offered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from softneuro_core.errors import InputError, Unavailable
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.probe import Verdict, verdict_of
from softneuro_opencl.vendors import register

DEVICES = "SOFTNEURO_OPENCL_DEVICES"
"""Environment variable: which devices to offer, by number or a part of the name (``0,nvidia``); all if not set."""
INTERPRETERS = ("oclgrind",)
"""Offered only where named: they check kernels, a thousand times slower than anything."""


@dataclass(frozen=True, slots=True)
class Found:
    """One device: its number, who drives it, and whether it computes."""

    number: int
    platform: str
    driver: str
    handle: Any
    verdict: Verdict

    @property
    def name(self) -> str:
        return " ".join(self.handle.name.split())

    def is_named(self, word: str) -> bool:
        """Whether a word of the user's means this device."""
        return word == str(self.number) or (
            not word.isdigit() and word.lower() in f"{self.platform} {self.name}".lower()
        )


def find() -> list[Found]:
    """Every device there is; raises :class:`Unavailable` where there is no OpenCL at all."""
    register()
    try:
        import pyopencl as cl
    except ImportError as error:
        raise Unavailable(f"pyopencl cannot be imported: {error}") from None
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        raise Unavailable(
            f"no OpenCL implementation is installed ({error}); pip install 'softneuro-opencl[cpu]'"
        ) from None
    found: list[Found] = []
    for p, platform in enumerate(platforms):
        for d, handle in enumerate(_devices(platform)):
            about = platform.name, platform.version, handle.name, handle.driver_version, handle.max_compute_units
            identity = "\n".join(map(str, about))
            verdict = verdict_of(p, d, identity)
            found.append(Found(len(found), platform.name, handle.driver_version, handle, verdict))
    return found


def _devices(platform: Any) -> Sequence[Any]:
    import pyopencl as cl

    try:
        return list(platform.get_devices())
    except cl.Error:
        return ()  # a platform without a device says so by an error


def offered() -> list[OpenCLDevice]:
    """The devices that compute and that the user wants: ``opencl``, then ``opencl1``, ``opencl2`` ...

    Raises :class:`Unavailable` with every reason if there is none.
    """
    found = find()
    wanted = _wanted(found)
    working = [one for one in wanted if not one.verdict.reason]
    if not working:
        reasons = "; ".join(f"{one.name}: {one.verdict.reason}" for one in wanted) or "there is no device"
        raise Unavailable(reasons)
    return [OpenCLDevice(f"opencl{i or ''}", one.handle, one.verdict) for i, one in enumerate(working)]


def _wanted(found: Sequence[Found]) -> list[Found]:
    """Those named, in the order named; raises :class:`InputError` for a word that names none."""
    words = [word.strip() for word in os.environ.get(DEVICES, "").split(",") if word.strip()]
    if not words:
        return [one for one in found if not any(map(one.is_named, INTERPRETERS))]
    chosen: dict[int, Found] = {}
    for word in words:
        named = [one for one in found if one.is_named(word)]
        if not named:
            there = ", ".join(f"{one.number}: {one.name}" for one in found) or "none"
            raise InputError(f"{DEVICES} names {word!r}, which no OpenCL device is called", remedy=f"there are {there}")
        chosen.update((one.number, one) for one in named)
    return list(chosen.values())
