"""Files written whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_file(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Writes ``content`` beside ``path`` and renames it; raises ``OSError`` naming ``path``, nothing left behind.

    What is no ordinary file (a pipe, ``/dev/stdout``) is written directly.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    fresh = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        fresh.write_bytes(data)
        os.replace(fresh, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise OSError(error.errno, error.strerror, str(target)) from None
