"""Greedy placements: each rectangle at its lowest free offset, in several orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from spm_opt.allocation.rectangles import Rectangle

#: orders of placement worth trying, most promising first
_ORDERS: Final[tuple[Callable[[Rectangle], tuple[int, ...]], ...]] = (
    lambda r: (-r.size * (r.end - r.begin), r.begin),
    lambda r: (r.begin - r.end, -r.size),
    lambda r: (-r.size, r.begin),
    lambda r: (r.begin, -r.size),
    lambda r: (r.begin, r.begin - r.end),
    lambda r: (-r.end, -r.size),
)


def greedy_offsets(rectangles: Sequence[Rectangle]) -> list[int]:
    """Offsets of the best greedy placement (least peak)."""
    best: list[int] = []
    best_peak = -1
    for offsets in (*(first_fit(rectangles, rank) for rank in _ORDERS), lowest_first(rectangles)):
        peak = max((o + r.size for o, r in zip(offsets, rectangles, strict=True)), default=0)
        if best_peak < 0 or peak < best_peak:
            best, best_peak = offsets, peak
    return best


def first_fit(
    rectangles: Sequence[Rectangle], rank: Callable[[Rectangle], tuple[int, ...]]
) -> list[int]:
    """Place in the order of `rank`, each at its lowest free offset."""
    offsets = [0] * len(rectangles)
    placed: list[int] = []
    for i in sorted(range(len(rectangles)), key=lambda i: (*rank(rectangles[i]), i)):
        offsets[i] = lowest_gap(rectangles, offsets, placed, i)
        placed.append(i)
    return offsets


def lowest_first(rectangles: Sequence[Rectangle]) -> list[int]:
    """Place, again and again, the rectangle whose lowest free offset is lowest."""
    offsets = [0] * len(rectangles)
    floor = dict.fromkeys(range(len(rectangles)), 0)
    placed: list[int] = []
    while floor:
        i = min(floor, key=lambda i: (floor[i], rectangles[i].begin, -rectangles[i].size, i))
        offsets[i] = floor.pop(i)
        placed.append(i)
        for j in floor:
            if rectangles[i].meets(rectangles[j]) and floor[j] < offsets[i] + rectangles[i].size:
                floor[j] = lowest_gap(rectangles, offsets, placed, j)
    return offsets


def lowest_gap(
    rectangles: Sequence[Rectangle], offsets: Sequence[int], placed: Sequence[int], i: int
) -> int:
    """Lowest offset at which rectangle i meets none of the placed ones."""
    taken = sorted(
        (offsets[j], offsets[j] + rectangles[j].size)
        for j in placed
        if rectangles[i].meets(rectangles[j])
    )
    low = 0
    for begin, end in taken:
        if begin - low >= rectangles[i].size:
            break
        low = max(low, end)
    return low
