"""Greedy placements: each rectangle at its lowest free offset, in several orders."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.allocation.rectangles import Rectangle, peak_load

Rank = Callable[[Rectangle], tuple[int, ...]]

#: orders of placement worth trying, most promising first
RANKS: Final[dict[str, Rank]] = {
    "size": lambda r: (-r.size, r.begin),
    "area": lambda r: (-r.size * (r.end - r.begin), r.begin),
    "length": lambda r: (r.begin - r.end, -r.size),
    "start": lambda r: (r.begin, -r.size),
    "start, length": lambda r: (r.begin, r.begin - r.end),
    "end": lambda r: (-r.end, -r.size),
}
#: rectangles above which only the first orders are tried
_MANY: Final = 20_000
_FEW_RANKS: Final = 3
#: pairs alive together above which lists of neighbours would fill the memory
MOST_PAIRS: Final = 8_000_000
#: pairs, and those for each rectangle, above which arrays are faster than such lists
_FEW_PAIRS: Final = 100_000
_CROWDED: Final = 150


def greedy_offsets(rectangles: Sequence[Rectangle], enough: int | None = None) -> list[int]:
    """Offsets of the best greedy placement: the one with the least peak.

    Parameters
    ----------
    rectangles : sequence of Rectangle
    enough : int, optional
        The first placement with no higher peak is taken; the load by default.
    """
    enough = peak_load(rectangles) if enough is None else enough
    best: list[int] = []
    best_peak = -1
    for offsets in _placements(rectangles):
        peak = max((o + r.size for o, r in zip(offsets, rectangles, strict=True)), default=0)
        if best_peak < 0 or peak < best_peak:
            best, best_peak = offsets, peak
        if peak <= enough:
            break
    return best


def _placements(rectangles: Sequence[Rectangle]) -> Iterator[list[int]]:
    ranks = list(RANKS.values())
    few = len(rectangles) > _MANY
    pairs = pairs_alive(rectangles)
    if pairs > MOST_PAIRS or pairs > max(_FEW_PAIRS, _CROWDED * len(rectangles)):
        for rank in ranks[: 1 if few else _FEW_RANKS]:
            yield _first_fit_dense(rectangles, rank)
        return
    near = neighbours(rectangles)
    for rank in ranks[:_FEW_RANKS] if few else ranks:
        yield first_fit(rectangles, rank, near)
    yield lowest_first(rectangles, near)


def pairs_alive(rectangles: Sequence[Rectangle]) -> int:
    """Pairs alive together, about: counted by the one that begins first, ties by both."""
    begins = sorted(r.begin for r in rectangles)
    return sum(bisect_left(begins, r.end) - bisect_left(begins, r.begin) for r in rectangles)


def neighbours(rectangles: Sequence[Rectangle]) -> list[list[int]]:
    """For each rectangle those alive with it."""
    near: list[list[int]] = [[] for _ in rectangles]
    alive: list[int] = []
    for i in sorted(range(len(rectangles)), key=lambda i: (rectangles[i].begin, i)):
        begin = rectangles[i].begin
        alive = [j for j in alive if rectangles[j].end > begin]
        near[i] += alive
        for j in alive:
            near[j].append(i)
        alive.append(i)
    return near


def first_fit(
    rectangles: Sequence[Rectangle], rank: Rank, near: Sequence[Sequence[int]]
) -> list[int]:
    """Place in the order of `rank`, each at its lowest free offset."""
    offsets = [-1] * len(rectangles)
    for i in _order(rectangles, rank):
        offsets[i] = _lowest_gap(rectangles, offsets, near[i], rectangles[i].size)
    return offsets


def best_fit(
    rectangles: Sequence[Rectangle], rank: Rank, near: Sequence[Sequence[int]]
) -> list[int]:
    """Place in the order of `rank`, each in the smallest gap that holds it."""
    offsets = [-1] * len(rectangles)
    for i in _order(rectangles, rank):
        size = rectangles[i].size
        low, best, waste = 0, -1, -1
        for begin, end in _taken(rectangles, offsets, near[i]):
            if begin - low >= size and (waste < 0 or begin - low < waste):
                best, waste = low, begin - low
            low = max(low, end)
        offsets[i] = low if best < 0 else best
    return offsets


def lowest_first(rectangles: Sequence[Rectangle], near: Sequence[Sequence[int]]) -> list[int]:
    """Place, again and again, the rectangle whose lowest free offset is lowest."""
    offsets, floors = [-1] * len(rectangles), [0] * len(rectangles)
    #: whether something was placed where a rectangle was to lie; else its floor still is the lowest
    met = [False] * len(rectangles)
    waiting = [(0, r.begin, -r.size, i) for i, r in enumerate(rectangles)]
    heapify(waiting)
    while waiting:
        floor, begin, size, i = heappop(waiting)
        # floors only rise: what is out of date is put back
        now = _lowest_gap(rectangles, offsets, near[i], -size) if met[i] else floor
        met[i] = False
        if now > floor:
            floors[i] = now
            heappush(waiting, (now, begin, size, i))
            continue
        offsets[i] = now
        for j in near[i]:
            if floors[j] < now - size and now < floors[j] + rectangles[j].size:
                met[j] = True
    return offsets


def _order(rectangles: Sequence[Rectangle], rank: Rank) -> list[int]:
    return sorted(range(len(rectangles)), key=lambda i: (*rank(rectangles[i]), i))


def _taken(
    rectangles: Sequence[Rectangle], offsets: Sequence[int], near: Sequence[int]
) -> list[tuple[int, int]]:
    return sorted([(offsets[j], offsets[j] + rectangles[j].size) for j in near if offsets[j] >= 0])


def _lowest_gap(
    rectangles: Sequence[Rectangle], offsets: Sequence[int], near: Sequence[int], size: int
) -> int:
    low = 0
    for begin, end in _taken(rectangles, offsets, near):
        if begin - low >= size:
            break
        low = max(low, end)
    return low


def _first_fit_dense(rectangles: Sequence[Rectangle], rank: Rank) -> list[int]:
    """First fit over arrays: for thousands of buffers alive at once."""
    number = len(rectangles)
    if max(accumulate((r.size for r in rectangles), initial=0)) >= 1 << 62:
        return list(accumulate((r.size for r in rectangles[:-1]), initial=0))
    offsets = [0] * number
    begin, end, low, high = (np.zeros(number, dtype=np.int64) for _ in range(4))
    for n, i in enumerate(_order(rectangles, rank)):
        r = rectangles[i]
        met = np.flatnonzero((begin[:n] < r.end) & (end[:n] > r.begin))
        offsets[i] = _lowest_gap_dense(low[met], high[met], r.size)
        begin[n], end[n] = r.begin, r.end
        low[n], high[n] = offsets[i], offsets[i] + r.size
    return offsets


def _lowest_gap_dense(low: NDArray[np.int64], high: NDArray[np.int64], size: int) -> int:
    if not low.size:
        return 0
    order = np.argsort(low, kind="stable")
    floors = np.concatenate(([0], np.maximum.accumulate(high[order])))
    gaps = np.append(low[order] - floors[:-1], np.iinfo(np.int64).max)
    return int(floors[int(np.argmax(gaps >= size))])
