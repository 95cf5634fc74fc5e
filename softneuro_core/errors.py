"""Every error a user can meet: one sentence of cause, where it happened, and what to do about it."""

from __future__ import annotations


class SoftneuroError(Exception):
    """Base of all errors of SoftNeuro.

    The message reads ``file: layer: cause (remedy)``; the parts stay available as attributes,
    so a program can show them apart.
    """

    exit_code = 1

    def __init__(self, cause: str, *, file: object = None, layer: str | None = None, remedy: str | None = None) -> None:
        self.cause, self.layer, self.remedy = cause, layer, remedy
        self.file = None if file is None else str(file)
        super().__init__(cause)

    def __str__(self) -> str:
        where = "".join(f"{part}: " for part in (self.file, self.layer and f"layer {self.layer}") if part)
        return where + self.cause + (f" ({self.remedy})" if self.remedy else "")


class ModelError(SoftneuroError):
    """The model file cannot be read, or it is not a valid ONNX graph."""

    exit_code = 3


class UnsupportedOperatorError(ModelError):
    """The model uses operators nobody here defines; all of them are named at once."""


class InputError(SoftneuroError):
    """A name, shape, dtype or option given by the caller does not fit the model."""

    exit_code = 4


class PlanError(SoftneuroError):
    """The plan file is damaged, or belongs to another model, version or set of plugins."""

    exit_code = 5


class PluginError(SoftneuroError):
    """A plugin broke its contract."""

    exit_code = 6


class Unavailable(PluginError):
    """Raised by a plugin's hook when its hardware or library is missing: listed, never fatal."""


class SelectionError(SoftneuroError):
    """No plan satisfies the request (an incomplete adapter set, or limits that cannot hold)."""

    exit_code = 7


class ResourceError(SoftneuroError):
    """The run would need more memory or time than allowed; raised before it starts."""

    exit_code = 8


class CostDatabaseError(SoftneuroError):
    """The cost database cannot be used as asked (export, merge, clear)."""

    exit_code = 9


class RunError(SoftneuroError):
    """A step failed while running; names layer and routine."""

    exit_code = 10
