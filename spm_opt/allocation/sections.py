"""Time cut into sections, and instances cut into parts that share no time.

Between two moments at which a buffer starts or ends, nothing changes: such a stretch is a section.
A section whose live buffers all live in its neighbour too says nothing new and is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spm_opt.allocation.rectangles import Rectangle


@dataclass(frozen=True, slots=True)
class Sections:
    """Rectangles over sections instead of time.

    Attributes
    ----------
    members : tuple of tuple of int
        Rectangles alive in each section.
    first, last : tuple of int
        First and last section of each rectangle, both inclusive.
    """

    members: tuple[tuple[int, ...], ...]
    first: tuple[int, ...]
    last: tuple[int, ...]


def cut_time(rectangles: Sequence[Rectangle]) -> Sections:
    """Cut time into the sections that matter."""
    members: list[tuple[int, ...]] = []
    first, last = [0] * len(rectangles), [0] * len(rectangles)
    for alive in _maximal_sets(rectangles):
        for i in alive:
            last[i] = len(members)
        members.append(alive)
    for k in range(len(members) - 1, -1, -1):
        for i in members[k]:
            first[i] = k
    return Sections(tuple(members), tuple(first), tuple(last))


def _maximal_sets(rectangles: Sequence[Rectangle]) -> list[tuple[int, ...]]:
    """Live sets in order of time, without those inside a neighbour's.

    A live set is maximal where an end follows a start: only there it is taken.
    """
    events = sorted(
        [(r.begin, 1, i) for i, r in enumerate(rectangles)]
        + [(r.end, 0, i) for i, r in enumerate(rectangles)]
    )
    alive: dict[int, None] = {}
    sets: list[tuple[int, ...]] = []
    grown = False
    for _, starts, i in events:
        if starts:
            alive[i] = None
            grown = True
            continue
        if grown:
            sets.append(tuple(alive))
            grown = False
        del alive[i]
    return sets


def split_in_time(rectangles: Sequence[Rectangle]) -> list[list[int]]:
    """Indices of rectangles in parts such that no two parts share any time."""
    parts: list[list[int]] = []
    reach = None
    for i in sorted(range(len(rectangles)), key=lambda i: (rectangles[i].begin, i)):
        if reach is None or rectangles[i].begin >= reach:
            parts.append([])
            reach = rectangles[i].end
        parts[-1].append(i)
        reach = max(reach, rectangles[i].end)
    return parts
