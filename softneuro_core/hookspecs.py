"""The hooks a plugin may implement. Hooks return values and never change their arguments.

A plugin is a module named by an entry point of group ``softneuro``; its top level imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from softneuro_core.device import Device, Target
    from softneuro_core.operators import Operator
    from softneuro_core.passes import Pass
    from softneuro_core.routine import Adapter, Call, Routine

PROJECT = "softneuro"
API_VERSION = 1
"""A plugin may set ``SOFTNEURO_API``; another major number is skipped with a reason."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def softneuro_devices() -> Iterable[Device]:  # type: ignore[empty-body]
    """Devices this plugin found and checked. Raise ``Unavailable`` where hardware or a library is missing.

    Called once for every catalog. Example: ``return [OpenCLDevice(d) for d in platform.devices]``.
    """


@hookspec
def softneuro_layers() -> Iterable[Operator]:  # type: ignore[empty-body]
    """Operators of other domains, with shape and reference. Called once for every catalog.

    Example: ``return [Operator("hello", "Swish2", function=swish2_proto())]``.
    """


@hookspec
def softneuro_routines() -> Iterable[Routine]:  # type: ignore[empty-body]
    """Routines for any operator, on any device. Called once for every catalog.

    Example: ``return [Im2colConv(), Relu()]``.
    """


@hookspec
def softneuro_adapters() -> Iterable[Adapter]:  # type: ignore[empty-body]
    """Conversions between specs. Called once for every catalog.

    Plain transfers to and from every device come from the core (``Device.upload`` and ``download``); give
    those that also convert layout or element type on the way.
    """


@hookspec
def softneuro_passes() -> Iterable[Pass]:  # type: ignore[empty-body]
    """Graph rewrites that are never slower, run after the pass each names. Called once for every catalog.

    Example: ``return [Pass("fold-scale", fold_scale, after="fold")]``.
    """


@hookspec(firstresult=True)
def softneuro_link(target: Target, calls: Sequence[Call]) -> Callable[[], None] | None:
    """One function that runs adjacent calls of one device, or None to let Python call them in turn.

    Called once for every run of adjacent steps of one device when a session is built. If the function has an attribute
    ``ready``, that is called before its time is taken: it wakes what earlier steps of a plan leave awake.
    """


@hookspec
def softneuro_commands() -> Iterable[click.Command]:  # type: ignore[empty-body]
    """Verbs added to the ``softneuro`` command line. Called when it starts."""
