"""Writes a new plugin package from the template that ships with the core; knows nothing of what is in it."""

from __future__ import annotations

import re
from pathlib import Path

from softneuro_core.errors import InputError

TEMPLATE = Path(__file__).parent / "templates" / "plugin"
SUFFIX, MODULE_FOLDER = ".tmpl", "MODULE"


def generate_plugin(name: str, parent: Path | str = ".") -> Path:
    """Writes ``parent/softneuro-NAME`` and returns it: a package that installs, passes its tests, and tunes.

    ``name`` is what comes after ``softneuro-``: lower-case letters, digits and hyphens. Raises
    :class:`InputError` for any other name and for a folder that exists and is not empty; then nothing is written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise InputError(f"{name!r} is no plugin name", remedy="lower-case letters, digits and hyphens: my-kernels")
    folder = Path(parent) / f"softneuro-{name}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("exists already and is not an empty folder", file=folder, remedy="choose another name")
    for path, text in plugin_files(name).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode())  # bytes: the same line ends on every system
    return folder


def plugin_files(name: str) -> dict[str, str]:
    """Every file of the package called ``name``, by path with forward slashes."""
    identifier = name.replace("-", "_")
    found = {}
    for template in sorted(TEMPLATE.rglob("*" + SUFFIX)):
        path = template.relative_to(TEMPLATE).as_posix().removesuffix(SUFFIX)
        text = template.read_bytes().decode().replace("\r\n", "\n")
        path = path.replace(MODULE_FOLDER, f"softneuro_{identifier}")
        found[path] = text.replace("@NAME@", name).replace("@IDENT@", identifier)
    return found
