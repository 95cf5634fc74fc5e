"""``softneuro plugins``."""

from __future__ import annotations

from dataclasses import asdict

import click

from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.cli import output
from softneuro_core.cli.options import json_option
from softneuro_core.report.table import Table


@click.command("plugins")
@json_option
def command(as_json: bool) -> None:
    """Installed plugins: version, distribution, state and why, hooks, and the devices found."""
    catalog = load_plugins()
    if as_json:
        output.show_json({"plugins": [asdict(p) for p in catalog.plugins], "devices": _devices(catalog)})
        return
    rows = [(p.name, p.version, p.distribution, p.status, _hooks(p.hooks), p.reason) for p in catalog.plugins]
    output.show(Table.of(("plugin", "version", "distribution", "status", "hooks", "why"), rows))
    output.say()
    devices = [(d["name"], d["clock"], d["routines"], d["fingerprint"]) for d in _devices(catalog)]
    output.show(Table.of(("device", "clock", ">routines", "what it is"), devices))


def _hooks(names: tuple[str, ...]) -> str:
    return " ".join(name.removeprefix("softneuro_") for name in names)


def _devices(catalog: Catalog) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "clock": device.clock_name,
            "segment_us": device.segment_us,
            "routines": sum(r.device == name for r in catalog.routines.values()),
            "fingerprint": device.fingerprint(),
        }
        for name, device in catalog.devices.items()
    ]
