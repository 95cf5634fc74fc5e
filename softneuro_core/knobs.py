"""Environment variables, declared in one place; only for what no argument can reach."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Knob:
    """One environment variable: ``get`` reads it now, so tests and notebooks may change it."""

    name: str
    default: str
    meaning: str

    def get(self) -> str:
        return os.environ.get(self.name, self.default)

    def names(self) -> frozenset[str] | None:
        """The value as a comma-separated set; None if the variable is not set at all."""
        if self.name not in os.environ:
            return None
        return frozenset(part.strip() for part in os.environ[self.name].split(",") if part.strip())


PLUGINS = Knob("SOFTNEURO_PLUGINS", "", "load only these plugins, comma-separated (set but empty: none)")
DISABLE = Knob("SOFTNEURO_DISABLE_PLUGINS", "", "never load these plugins, comma-separated")
TRACE = Knob("SOFTNEURO_TRACE_PLUGINS", "", "1: print every hook call with its result to stderr")
DEBUG = Knob("SOFTNEURO_DEBUG", "0", "1: name each pass that changed the graph; 2: print what it changed")
CACHE_DIR = Knob("SOFTNEURO_CACHE_DIR", "", "folder of costs, compiled code, packed weights (default: user cache)")
PIN_THREADS = Knob("SOFTNEURO_PIN_THREADS", "0", "1: worker threads stay on the core they were woken on")

KNOBS = (PLUGINS, DISABLE, TRACE, DEBUG, CACHE_DIR, PIN_THREADS)


def cache_folder() -> Path:
    """Where costs, compiled code and packed weights are kept: ``SOFTNEURO_CACHE_DIR``, or the platform's own folder."""
    if chosen := CACHE_DIR.get():
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "softneuro"
