"""``--data``: samples from a folder of pictures, stacked arrays, or a Python generator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from softneuro_core.errors import InputError
from softneuro_core.graph import Graph, Value
from softneuro_core.images import ImageSpec, image_tensor, is_picture
from softneuro_core.user_code import FORMS as FUNCTIONS
from softneuro_core.user_code import function_of

Sample = Mapping[str, np.ndarray]
FORMS = f"a folder of pictures, a .npz or .npy of stacked inputs, or {FUNCTIONS}"


class Samples:
    """Inputs of a graph, one run after another; can be gone through again. ``len`` is 0 where nobody knows."""

    def __init__(self, source: Iterable[Sample] | Any, count: int, most: int | None) -> None:
        self._source, self._most = source, most
        self._count = count if most is None else min(count, most)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        source = self._source() if callable(self._source) else self._source
        for number, sample in enumerate(source):
            if number == self._most:
                return
            yield sample


def read_samples(graph: Graph, text: str, image: str | None = None, most: int | None = None) -> Samples:
    """What ``text`` names, at most ``most`` runs of it; raises :class:`InputError` naming what does not fit.

    Stacked arrays hold as many inputs as their first axis is longer than the model's; one named array for each input
    (any name will do for a model of one). A function yields dicts by input name, or arrays for a model of one input.
    """
    path = Path(text)
    if path.is_dir():
        return _pictures(graph, path, ImageSpec.parse(image) if image else None, most)
    if path.suffix in (".npz", ".npy"):
        return _stacked(graph, path, most)
    if ":" in text:
        return _generated(graph, text, most)
    raise InputError(f"{text!r} is no data", remedy=f"give {FORMS}")


def _only_input(graph: Graph, what: str) -> Value:
    if len(graph.inputs) != 1:
        names = ", ".join(repr(v.name) for v in graph.inputs)
        raise InputError(f"{what}, the model has several inputs: {names}", file=graph.name, remedy="give a .npz")
    return graph.inputs[0]


def _pictures(graph: Graph, folder: Path, spec: ImageSpec | None, most: int | None) -> Samples:
    value = _only_input(graph, "a folder of pictures is for one input")
    files = sorted(file for file in folder.iterdir() if is_picture(file))
    if not files:
        raise InputError("holds no pictures", file=str(folder))
    return Samples(lambda: ({value.name: image_tensor(file, value, spec)} for file in files), len(files), most)


def _stacked(graph: Graph, path: Path, most: int | None) -> Samples:
    arrays = _arrays(graph, path)
    runs = {name: _runs(value, arrays[name], path) for name, value in ((v.name, v) for v in graph.inputs)}
    counts = {name: len(found) for name, found in runs.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"holds unequal numbers of inputs: {counts}", file=str(path))
    count = next(iter(counts.values()), 0)
    return Samples(lambda: ({name: found[i] for name, found in runs.items()} for i in range(count)), count, most)


def _arrays(graph: Graph, path: Path) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", file=str(path)) from None
    names = [v.name for v in graph.inputs]
    if len(names) == 1 and names[0] not in arrays:
        fitting = [a for a in arrays.values() if _fits(a, graph.inputs[0].static_shape)]
        if len(fitting) == 1:
            return {names[0]: fitting[0]}
    if missing := [name for name in names if name not in arrays]:
        raise InputError(f"has no array for input {missing[0]!r}; it has {sorted(arrays)}", file=str(path))
    return {name: arrays[name] for name in names}


def _fits(array: np.ndarray, shape: tuple[int, ...]) -> bool:
    return array.shape[1:] == shape or (bool(shape) and array.ndim > 0 and array.shape[1:] == shape[1:])


def _runs(value: Value, array: np.ndarray, path: Path) -> list[np.ndarray]:
    """The array cut along its first axis into inputs of the value's shape; what is left over is left out."""
    shape = value.static_shape
    if array.dtype != value.dtype.numpy:
        remedy = "store the arrays as the model is fed, scaled as it was trained"
        raise InputError(
            f"{value.name!r} is {array.dtype}, the model wants {value.dtype}", file=str(path), remedy=remedy
        )
    if array.shape[1:] == shape:  # without the model's batch axis
        return list(array)
    if not shape or array.shape[1:] != shape[1:]:
        raise InputError(f"{value.name!r} is {array.shape}, the model wants {shape} each", file=str(path))
    return [array[i : i + shape[0]] for i in range(0, len(array) - shape[0] + 1, shape[0])]


def _generated(graph: Graph, text: str, most: int | None) -> Samples:
    function = function_of(text)

    def samples() -> Iterator[Sample]:
        for made in function():
            yield made if isinstance(made, Mapping) else {_only_input(graph, "a plain array").name: np.asarray(made)}

    return Samples(samples, 0, most)
