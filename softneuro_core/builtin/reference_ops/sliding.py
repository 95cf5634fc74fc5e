"""A window over the spatial axes of an array, as Conv and the pools have it: pads, output sizes, what it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """A window that slides over the spatial axes: padding before and after each (enough for the last window), and
    output sizes."""

    strides: Sequence[int]
    dilations: Sequence[int]
    pads: Sequence[tuple[int, int]]
    out: Sequence[int]

    @staticmethod
    def of(sizes: Sequence[int], kernel: Sequence[int], attributes: Mapping[str, Any]) -> SlidingWindow:
        """Of a window of ``kernel`` taps over ``sizes``, ``auto_pad`` and ``ceil_mode`` resolved."""
        rank, ceil_mode = len(sizes), attributes.get("ceil_mode")
        strides = attributes.get("strides") or [1] * rank
        dilations = attributes.get("dilations") or [1] * rank
        auto = attributes.get("auto_pad") or "NOTSET"
        given = (attributes.get("pads") if auto == "NOTSET" else None) or [0] * (2 * rank)
        pads, out = [], []
        for i, (size, k, stride, dilation) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
            reach = (k - 1) * dilation + 1
            before, after = given[i], given[i + rank]
            if auto in ("SAME_UPPER", "SAME_LOWER"):
                total = max(0, (-(-size // stride) - 1) * stride + reach - size)
                before = total // 2 if auto == "SAME_UPPER" else total - total // 2
                after = total - before
            span = size + before + after - reach
            count = (-(-span // stride) if ceil_mode else span // stride) + 1
            if ceil_mode and (count - 1) * stride >= size + before:
                count -= 1  # a window that would start in the padding after the data
            pads.append((before, max(after, (count - 1) * stride + reach - size - before)))
            out.append(count)
        return SlidingWindow(strides, dilations, pads, out)

    def under(self, place: Sequence[int]) -> tuple[Any, ...]:
        """The index, in the padded array, of what one kernel position sees of every window."""
        starts = [p * d for p, d in zip(place, self.dilations, strict=True)]
        spans = zip(starts, self.out, self.strides, strict=True)
        return (..., *(slice(start, start + (n - 1) * stride + 1, stride) for start, n, stride in spans))
