"""``--input``: arrays from files, pictures, or a fixed random generator."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from softneuro_core.cli.options import chosen_name
from softneuro_core.errors import InputError
from softneuro_core.graph import Graph, Value
from softneuro_core.images import ImageSpec, image_tensor, is_picture
from softneuro_core.profiling.values import generated

SEED = 0


def read_inputs(graph: Graph, texts: Sequence[str], image: str | None) -> dict[str, Any]:
    """Arrays by input name, of every ``--input`` that is a file; ``random`` ones are left to :func:`fill`.

    Raises :class:`InputError` for names the model does not have and files that cannot be read.
    """
    spec = ImageSpec.parse(image) if image else None
    by_name = {v.name: v for v in graph.inputs}
    feeds: dict[str, Any] = {}
    for text in texts:
        name, source = _split(text, by_name)
        if source.endswith(".npz"):
            feeds.update(_from_archive(Path(source), by_name, name))
        elif source != "random":
            name = chosen_name(name, list(by_name))
            feeds[name] = _from_file(Path(source), by_name[name], spec)
        elif name:
            chosen_name(name, list(by_name))
    return feeds


def shapes_of_arrays(feeds: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """What the arrays say about input shapes."""
    return {name: array.shape for name, array in feeds.items() if array.dtype != object}


def fill(graph: Graph, given: Mapping[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """All inputs of a graph whose shapes are fixed: the arrays given, and random ones where that was asked for.

    Raises :class:`InputError` naming an input nobody gave, or one that cannot be made up.
    """
    by_name = {v.name: v for v in graph.inputs}
    wanted = {name for name, source in (_split(text, by_name) for text in texts) if source == "random"}
    rng = np.random.default_rng(SEED)
    made = dict(given)
    for value in graph.inputs:
        if value.name in made:
            continue
        if value.name not in wanted and "" not in wanted:
            remedy = f"add --input {value.name}=FILE.npy, or --input random for all that are left"
            raise InputError(f"input {value.name!r} is not given", file=graph.name, remedy=remedy)
        if value.is_object:
            raise InputError(f"input {value.name!r} is no tensor of numbers: it cannot be made up", file=graph.name)
        made[value.name] = generated(value, rng)
    return made


def _split(text: str, by_name: Mapping[str, Value]) -> tuple[str, str]:
    """Name (may be empty) and source; input names may hold ``=`` and ``:`` themselves."""
    for name in sorted(by_name, key=len, reverse=True):
        if text.startswith(name + "="):
            return name, text[len(name) + 1 :]
    if Path(text).exists():
        return "", text
    name, _, source = text.rpartition("=")
    return name, source


def _from_file(path: Path, value: Value, spec: ImageSpec | None) -> np.ndarray:
    if is_picture(path):
        return image_tensor(path, value, spec)
    loaded = _load(path)
    if not isinstance(loaded, np.ndarray):
        raise InputError("is neither an .npy or .npz array nor a picture", file=path)
    return loaded


def _from_archive(path: Path, by_name: Mapping[str, Value], name: str) -> dict[str, np.ndarray]:
    """Arrays of an .npz by input name; keys may start with ``in:`` (as in recorded samples)."""
    loaded = _load(path)
    if isinstance(loaded, np.ndarray):
        raise InputError("is not an .npz archive", file=path)
    with loaded:
        keys = {key.removeprefix("in:"): key for key in loaded.files if not key.startswith("out:")}
        if name or (len(by_name) == 1 and len(keys) == 1 and not set(keys) & set(by_name)):
            target = chosen_name(name, list(by_name))
            key = keys.get(target) or (next(iter(keys.values())) if len(keys) == 1 else None)
            found = {target: key} if key else {}
        else:
            found = {n: keys[n] for n in by_name if n in keys}
        if not found:
            raise InputError(
                f"has no array for {name or ' or '.join(map(repr, by_name))}",
                file=path,
                remedy="it has " + ", ".join(map(repr, loaded.files)),
            )
        return {n: _member(path, loaded, key) for n, key in found.items()}


def _member(path: Path, archive: Any, key: str) -> np.ndarray:
    try:
        return archive[key]
    except Exception as error:  # zip, zlib and numpy raise all kinds for a damaged member
        raise InputError(f"array {key!r} cannot be read: {error}", file=path) from None


def _load(path: Path) -> Any:
    try:
        return np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from None
    except Exception as error:  # numpy raises ValueError, EOFError, zipfile errors, and more for damaged files
        raise InputError(f"is no numpy file: {str(error).splitlines()[0]}", file=path) from None
