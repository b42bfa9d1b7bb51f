"""Where a buffer may start: alignment, forbidden addresses, a fixed offset, several regions.

All of these are sets of legal starts, so that a search has one question to ask: which is the lowest
legal start from here on?
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd
from typing import Final

from spm_opt.units import align_up

#: a start that no capacity reaches
NEVER: Final = 1 << 200


@dataclass(frozen=True, slots=True)
class Domain:
    """Legal starts: multiples of `alignment` up to `last`, outside `holes`.

    Attributes
    ----------
    alignment : int
    last : int
        Highest legal start.
    holes : tuple of (int, int)
        Illegal starts as half-open ranges: ascending, apart from each other.
    """

    alignment: int
    last: int
    holes: tuple[tuple[int, int], ...] = ()

    def first_from(self, start: int) -> int:
        """Lowest legal start not below `start`; `NEVER` where there is none."""
        start = align_up(start, self.alignment)
        while True:
            # the hole that could hold `start` is the last one that begins at or below it
            n = bisect_right(self.holes, (start, NEVER)) - 1
            if n < 0 or start >= self.holes[n][1]:
                return start if start <= self.last else NEVER
            start = align_up(self.holes[n][1], self.alignment)

    def __contains__(self, start: int) -> bool:
        return self.first_from(start) == start

    def cut(self, holes: Iterable[tuple[int, int]]) -> Domain:
        """The domain without the starts in `holes` as well."""
        return Domain(self.alignment, self.last, merge([*self.holes, *holes]))

    def below(self, last: int) -> Domain:
        """The domain without the starts above `last`."""
        return Domain(self.alignment, min(self.last, last), self.holes)


def common_steps(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int] | None:
    """Numbers in both of two progressions (remainder, step), as one; None where there is none."""
    (rest, step), (other, width) = a, b
    shared = gcd(step, width)
    if (other - rest) % shared:
        return None
    turns = (other - rest) // shared * pow(step // shared, -1, width // shared)
    both = step // shared * width
    return (rest + step * (turns % (width // shared))) % both, both


def merge(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Half-open ranges in order, those that touch made one."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(r for r in ranges if r[0] < r[1]):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return tuple(merged)
