"""What steps were seen to take in place, carried over to the prices of steps like them (decision 0064)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from softneuro_core.candidates import Candidate, rounds
from softneuro_core.selection import Price, Prices


@dataclass(frozen=True, slots=True)
class Likeness:
    """What steps that are corrected together have in common: whatever computes the same layer on the same device with
    the same result layouts, rounding real values or not."""

    layer: str
    device: str
    layouts: tuple[str, ...]
    rounds: bool

    @staticmethod
    def of(candidate: Candidate) -> tuple[Likeness, ...]:
        """One for each layer the candidate computes: a layer alone and the same one fused with its neighbours are not
        told apart by what was seen of only one of them."""
        layouts = tuple(s.layout.axes for s in candidate.offer.outputs)
        how = candidate.routine.device, layouts, rounds(candidate)
        return tuple(Likeness(layer.name, *how) for layer in candidate.region.layers)


@dataclass(frozen=True, slots=True)
class Seen:
    """A step in place and alone, microseconds; the same where both agree."""

    step: str
    us: float
    alone_us: float


def corrected(prices: Prices, seen: Mapping[Likeness, Seen]) -> Prices:
    """Isolated prices with every candidate like steps seen in place moved by what was seen of them."""
    kernels = {}
    for candidate, price in prices.kernels.items():
        kernels[candidate] = _moved(price, {seen[kind] for kind in Likeness.of(candidate) if kind in seen})
    return Prices(kernels, prices.adapters)


def _moved(price: Price, steps: Iterable[Seen]) -> Price:
    """In the ratio of the steps' times together, but by no more than these differ: a layer of 1 us that took 20 says
    little of a region of 10 ms it belongs to."""
    alone_us, more_us = sum(s.alone_us for s in steps), sum(s.us - s.alone_us for s in steps)
    if not more_us:
        return price
    us = price.time_ns / 1000
    return price.scaled(1 + more_us / max(alone_us, us))
