"""Rectangles of space and time, and the load that bounds any placement of them.

This room would make sense in any program with buffers: it knows no DNN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A buffer: `size` units of space during ``[begin, end)``."""

    begin: int
    end: int
    size: int

    def meets(self, other: Rectangle) -> bool:
        """Whether both are alive at some time."""
        return self.begin < other.end and other.begin < self.end


def peak_load(rectangles: Sequence[Rectangle]) -> int:
    """Most space alive at any time: no placement needs less."""
    events: dict[int, int] = {}
    for rectangle in rectangles:
        events[rectangle.begin] = events.get(rectangle.begin, 0) + rectangle.size
        events[rectangle.end] = events.get(rectangle.end, 0) - rectangle.size
    load = peak = 0
    for time in sorted(events):
        load += events[time]
        peak = max(peak, load)
    return peak


def is_placement(rectangles: Sequence[Rectangle], offsets: Sequence[int], capacity: int) -> bool:
    """Whether `offsets` keep all rectangles within `capacity` and apart."""
    items = sorted(zip(rectangles, offsets, strict=True), key=lambda item: item[0].begin)
    alive: list[tuple[Rectangle, int]] = []
    for rectangle, offset in items:
        if offset < 0 or offset + rectangle.size > capacity:
            return False
        alive = [(r, o) for r, o in alive if r.end > rectangle.begin]
        if any(offset < o + r.size and o < offset + rectangle.size for r, o in alive):
            return False
        alive.append((rectangle, offset))
    return True
