"""Options that several verbs share, and how their texts are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from softneuro_core.errors import InputError

Function = TypeVar("Function", bound=Callable[..., Any])


def model_argument(function: Function) -> Function:
    return click.argument("model", metavar="MODEL")(function)


def json_option(function: Function) -> Function:
    return click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")(function)


def shape_option(function: Function) -> Function:
    text = "Input shape, like data=1x3x224x224; the name may be left out if there is one input."
    return click.option("--shape", "shapes", multiple=True, metavar="NAME=DIMS", help=text)(function)


def threads_option(function: Function) -> Function:
    text = "Threads (default: the plan's, or the cores this process may use)."
    return click.option("--threads", type=click.IntRange(1, 4096), metavar="N", help=text)(function)


def plan_option(function: Function) -> Function:
    return click.option("--plan", "plan_path", metavar="PLAN", help="A plan made by softneuro tune.")(function)


def input_option(function: Function) -> Function:
    text = (
        "Input as NAME=FILE.npy, NAME=PICTURE, NAME=random or FILE.npz (every input); the name may be left out "
        "if there is one input. May be repeated."
    )
    return click.option("--input", "-i", "inputs", multiple=True, metavar="NAME=SOURCE", help=text)(function)


def image_option(function: Function) -> Function:
    text = "How a picture becomes a tensor: size=224x224,mean=0,scale=1,order=rgb[,layout=nchw]; (pixel-mean)*scale."
    return click.option("--image", "image", metavar="SPEC", help=text)(function)


def max_mem_option(function: Function) -> Function:
    text = "Packed weights and activations may take this much (64M, 1.5G): tuning keeps within it, running refuses."
    return click.option("--max-mem", "max_mem", metavar="SIZE", help=text)(function)


def request_options(function: Function) -> Function:
    """What the user allows: see :class:`softneuro_core.candidates.Request`."""
    for option in (
        click.option("--allow", metavar="DTYPES", help="Element types besides the model's own, comma-separated."),
        click.option("--accuracy", metavar="CLASS", help="strict, default or fast, or the largest error of one step."),
        click.option("-r", "--force", multiple=True, metavar="DESC@IDS", help="Use only these routines there."),
        click.option("--forbid", multiple=True, metavar="DESC@IDS", help="Never use these routines there."),
        click.option("--limit", "limits", multiple=True, metavar="NAME=N", help="Bound constant_bytes or error."),
        click.option(
            "--clock",
            "clocks",
            multiple=True,
            metavar="NAME=SCALE",
            help="Use a device with a simulated clock: nanoseconds here for one of its own.",
        ),
    ):
        function = option(function)
    return function


def parse_size(text: str | None) -> int | None:
    """Bytes from ``64M``, ``1.5G``, ``512k``, ``100``; raises :class:`InputError`."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(?:i?[bB])?\s*", text)
    if not match:
        raise InputError(f"{text!r} is not a size", remedy="like 64M or 1.5G")
    return int(float(match[1]) * 1024 ** " kmgt".index((match[2] or " ").lower()))


def parse_dims(text: str) -> tuple[int, ...]:
    """A shape from ``1x3x224x224``; ``scalar`` is rank 0. Raises :class:`InputError`."""
    if text.strip() in ("scalar", ""):
        return ()
    parts = re.split(r"[x,]", text.strip())
    if not all(re.fullmatch(r"\d+", part.strip()) for part in parts):
        raise InputError(f"{text!r} is not a shape", remedy="like 1x3x224x224")
    return tuple(int(part) for part in parts)


def parse_shapes(texts: Iterable[str], names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """``NAME=DIMS`` by input name; raises :class:`InputError` for a name the model does not have."""
    known, shapes = list(names), {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        shapes[chosen_name(name, known)] = parse_dims(dims)
    return shapes


def chosen_name(name: str, known: list[str]) -> str:
    """The input meant; an empty name means the only one. Raises :class:`InputError`."""
    if not name and len(known) == 1:
        return known[0]
    if name not in known:
        cause = f"the model has no input {name!r}" if name else "the model has several inputs, so name each"
        raise InputError(cause, remedy="inputs are " + ", ".join(map(repr, known)))
    return name


def parse_limits(texts: Iterable[str]) -> dict[str, float]:
    """``NAME=NUMBER``, sizes allowed; raises :class:`InputError`."""
    limits = {}
    for text in texts:
        name, equals, amount = text.partition("=")
        try:
            limits[name.strip()] = float(amount)
        except ValueError:
            size = parse_size(amount) if equals else None
            if size is None:
                raise InputError(f"{text!r} is not NAME=NUMBER", remedy="like constant_bytes=64M") from None
            limits[name.strip()] = float(size)
    return limits


def parse_clocks(texts: Iterable[str]) -> dict[str, float]:
    """``NAME=SCALE`` of simulated clocks; raises :class:`InputError`."""
    clocks = {}
    for text in texts:
        name, _, scale = text.partition("=")
        try:
            clocks[name.strip()] = float(scale)
        except ValueError:
            raise InputError(f"{text!r} is not CLOCK=SCALE", remedy="like cycles=1.0") from None
    return clocks


def parse_accuracy(text: str | None) -> str | float | None:
    """A class by name, or a number; an unknown name is told by :class:`Request`."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def split_names(text: str | None) -> frozenset[str]:
    return frozenset(part.strip() for part in (text or "").split(",") if part.strip())


def relaxed_option(function: Function) -> Function:
    text = "Where a step of the plan cannot be had here, choose another instead of failing."
    return click.option("--relaxed", is_flag=True, help=text)(function)


def unrounded_option(function: Function) -> Function:
    text = "Rounding that a quantised file does between layers may be left out."
    return click.option("--allow-unrounded", is_flag=True, help=text)(function)


def pins_option(function: Function) -> Function:
    text = "Use only these routines there: DEVICE[:DTYPE][:LAYOUT][/ALGORITHM][@LAYERS]."
    return click.option("-r", "--force", multiple=True, metavar="DESC@IDS", help=text)(function)
