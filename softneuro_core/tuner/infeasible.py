"""The error for a problem without an answer, with the numbers a caller needs to put names into its message."""

from __future__ import annotations

from collections.abc import Sequence

from softneuro_core.errors import SelectionError


class Infeasible(SelectionError):
    """No plan exists. ``layer_number`` is the layer that cannot be reached or made; ``value``, ``made`` and
    ``wanted`` (specs) say which conversion is missing; ``limits`` are the numbers of bounds that cannot hold, ``least``
    what is used at least where it is one."""

    def __init__(
        self,
        cause: str,
        *,
        layer_number: int | None = None,
        value: int | None = None,
        made: Sequence[int] = (),
        wanted: Sequence[int] = (),
        limits: Sequence[int] = (),
        least: int | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(cause, layer=None if layer_number is None else str(layer_number), remedy=remedy)
        self.layer_number, self.value, self.limits, self.least = layer_number, value, tuple(limits), least
        self.made, self.wanted = tuple(made), tuple(wanted)

    @staticmethod
    def no_option(layer: int) -> Infeasible:
        """No routine covers the layer at all."""
        return Infeasible("no candidate covers this layer", layer_number=layer, remedy="install or allow a routine")

    @staticmethod
    def no_conversion(layer: int | None, value: int, made: Sequence[int], wanted: Sequence[int]) -> Infeasible:
        """A value can be made, but not in (or converted to) what its readers can take."""
        specs = f"in specs {list(made)}" if made else "by no candidate that stands alone"
        return Infeasible(
            f"value {value} is made {specs} and wanted in {list(wanted)}, with no conversion between them",
            layer_number=layer,
            value=value,
            made=made,
            wanted=wanted,
            remedy="install an adapter, or allow more routines",
        )

    @staticmethod
    def beyond_limits(limits: Sequence[int], detail: str, least: int | None = None) -> Infeasible:
        """Plans exist, none within the bounds."""
        return Infeasible(detail, limits=limits, least=least, remedy="raise the limit, or allow more routines")
