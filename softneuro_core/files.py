"""Files written whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_file(path: str | os.PathLike[str], *content: bytes | memoryview | str) -> None:
    """Writes ``content`` beside ``path`` and renames it; raises ``OSError`` naming ``path``, nothing left behind.

    What is no ordinary file (a pipe, ``/dev/stdout``) is written directly.
    """
    target = Path(path)
    parts = [part.encode() if isinstance(part, str) else part for part in content]
    fresh = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(b"".join(parts))
            return
        with fresh.open("wb") as file:
            file.writelines(parts)
        os.replace(fresh, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise OSError(error.errno, error.strerror, str(target)) from None
