"""The space and time that tied buffers occupy together, cut into pieces that do not overlap.

Buffers that may share bytes cannot each be a rectangle of its own in a no-overlap rule: what they
occupy together can.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

from spm_opt.allocation.domains import merge
from spm_opt.allocation.instance import Instance
from spm_opt.allocation.request import Group


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` units that lie `shift` above the start of rectangle `index`, in ``[begin, end)``."""

    index: int
    begin: int
    end: int
    shift: int
    size: int


def solid_pieces(instance: Instance, without: Set[int]) -> Iterator[Piece]:
    """Pieces of all rectangles but those in `without`."""
    sharing = {i for pair in instance.nested for i in pair}
    for group in instance.groups or tuple(((i, 0),) for i in range(len(instance.rectangles))):
        shared = tuple((i, d) for i, d in group if i in sharing)
        if shared:
            yield from _union(instance, shared)
        for i, _ in group:
            if i not in sharing and i not in without:
                r = instance.rectangles[i]
                yield Piece(i, r.begin, r.end, 0, r.size)


def _union(instance: Instance, group: Group) -> Iterator[Piece]:
    """What rectangles of one group occupy together, section by section."""
    rectangles = [(instance.rectangles[i], d) for i, d in group]
    index, origin = group[0]
    times = sorted({t for r, _ in rectangles for t in (r.begin, r.end)})
    open_: dict[tuple[int, int], int] = {}
    for time in times:
        now = merge((d, d + r.size) for r, d in rectangles if r.begin <= time < r.end)
        for low, high in [span for span in open_ if span not in now]:
            yield Piece(index, open_.pop((low, high)), time, low - origin, high - low)
        for span in now:
            open_.setdefault(span, time)
