"""The command line: one small file per verb. Shows what the library does; computes nothing itself."""

from __future__ import annotations

from softneuro_core.cli.root import Root, cli, main

__all__ = ["Root", "cli", "main"]
