"""Greedy placement of what the plain greedy cannot: domains, groups, reuse in place, banks apart.

Groups of tied buffers are placed one after the other, each at the lowest start that keeps every
rule against those placed before; an output is first tried where its input lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from spm_opt.allocation.domains import NEVER, common_steps
from spm_opt.allocation.greedy import MOST_PAIRS, neighbours, pairs_alive
from spm_opt.allocation.instance import Instance
from spm_opt.allocation.request import Group
from spm_opt.units import align_up

#: orders of placement: (begin, end, size, whether a domain binds) -> rank
_ORDERS: Final[tuple[Callable[[int, int, int, bool], tuple[int, ...]], ...]] = (
    lambda begin, end, size, bound: (not bound, (begin - end) * size),
    lambda begin, end, size, bound: (not bound, begin - end, -size),
    lambda begin, end, size, bound: (not bound, begin, -size),
    lambda begin, end, size, bound: (not bound, -size, begin),
    lambda begin, end, size, bound: ((begin - end) * size,),
)


class _Company:
    """Who is alive with whom: as lists, or, where these would be long, looked up when asked."""

    def __init__(self, instance: Instance) -> None:
        rectangles = instance.rectangles
        few = pairs_alive(rectangles) <= MOST_PAIRS
        self._near = neighbours(rectangles) if few else None
        self._begin = np.array([r.begin for r in rectangles], dtype=np.int64)
        self._end = np.array([r.end for r in rectangles], dtype=np.int64)

    def of(self, i: int) -> Sequence[int]:
        """Rectangles that are alive with rectangle i, that one itself perhaps among them."""
        if self._near is not None:
            return self._near[i]
        found: list[int] = np.flatnonzero(
            (self._begin < self._end[i]) & (self._end > self._begin[i])
        ).tolist()
        return found


class _State:
    """What is placed where, and what must be asked before placing more."""

    def __init__(self, instance: Instance, company: _Company) -> None:
        self.instance, self.company = instance, company
        rectangles = instance.rectangles
        self.offsets = [-1] * len(rectangles)
        #: rectangles that others may overlap in space and time
        self.lenient = {i for pair in (*instance.nested, *instance.reuses) for i in pair}
        self.nested = instance.nested | {(b, a) for a, b in instance.nested}
        self.reuse: dict[int, list[int]] = {}
        for output, input_ in instance.reuses:
            self.reuse.setdefault(output, []).append(input_)
            self.reuse.setdefault(input_, []).append(output)
        self.apart: dict[int, list[int]] = {}
        for a, b in instance.apart:
            self.apart.setdefault(a, []).append(b)
            self.apart.setdefault(b, []).append(a)

    def start_of(self, group: Group) -> int:
        """Lowest start of a group that breaks no rule; `NEVER` where there is none."""
        (first, lead), *others = group
        if not (others or lead or first in self.lenient or first in self.apart):
            return self._lowest_gap(first)
        return self._lowest_start(group)

    def _lowest_start(self, group: Group) -> int:
        """The same for a group whose members may share space with others, or lie apart."""
        steps = congruence(self.instance, group)
        if steps is None:
            return NEVER
        near = {i: self._placed_with(i) + self._placed_apart(i) for i, _ in group}
        for i, distance in group:
            for j in self.reuse.get(i, ()):
                start = self.offsets[j] - distance
                if self.offsets[j] >= 0 and start >= 0 and self._next(group, near, start) == start:
                    return start
        start, (rest, step) = 0, steps
        while start < NEVER:
            start = rest + align_up(start - rest, step)
            following = self._next(group, near, start)
            if following == start:
                return start
            start = following
        return NEVER

    def _lowest_gap(self, i: int) -> int:
        """Lowest legal start of a rectangle that nothing may overlap; `NEVER` if there is none."""
        rectangles, offsets = self.instance.rectangles, self.offsets
        domain, size = self.instance.domains[i], rectangles[i].size
        start = 0 if domain is None else domain.first_from(0)
        taken = sorted((offsets[j], offsets[j] + rectangles[j].size) for j in self._placed_with(i))
        for low, high in taken:
            if low >= start + size:
                break
            if high > start:
                start = high if domain is None else domain.first_from(high)
        return start if start + size <= self.instance.capacity else NEVER

    def _next(self, group: Group, near: dict[int, list[int]], start: int) -> int:
        """`start` where it breaks no rule, otherwise a higher one that skips what it breaks."""
        for i, distance in group:
            domain, at = self.instance.domains[i], start + distance
            legal = at if domain is None else domain.first_from(at)
            if legal == NEVER or legal + self.instance.rectangles[i].size > self.instance.capacity:
                return NEVER
            if legal > at:
                return legal - distance
            for j in near[i]:
                beyond = self._beyond(i, at, j)
                if beyond > at:
                    return beyond - distance
        return start

    def _beyond(self, i: int, at: int, j: int) -> int:
        """Lowest start of i from `at` on that j does not forbid."""
        rectangles, low = self.instance.rectangles, self.offsets[j]
        if j in self.apart.get(i, ()):
            for begin, end in self.instance.banks:
                if begin <= at < end and begin <= low < end:
                    return end
        if not rectangles[i].meets(rectangles[j]):
            return at
        high = low + rectangles[j].size
        if at >= high or low >= at + rectangles[i].size:
            return at
        if (i, j) in self.nested or (at == low and self._may_share(i, j)):
            return at
        return high

    def _may_share(self, i: int, j: int) -> bool:
        """Whether one of the two is an output that may take the place of the other."""
        return j in self.reuse.get(i, ())

    def _meet(self, i: int, j: int) -> bool:
        return self.instance.rectangles[i].meets(self.instance.rectangles[j])

    def _placed_with(self, i: int) -> list[int]:
        return [j for j in self.company.of(i) if self.offsets[j] >= 0]

    def _placed_apart(self, i: int) -> list[int]:
        return [j for j in self.apart.get(i, ()) if self.offsets[j] >= 0 and not self._meet(i, j)]

    def put(self, group: Group, start: int) -> None:
        """Place a group."""
        for i, distance in group:
            self.offsets[i] = start + distance


def congruence(instance: Instance, group: Group) -> tuple[int, int] | None:
    """Starts (remainder, step) that align every member of a group; None where there are none."""
    steps: tuple[int, int] | None = (0, 1)
    for i, distance in group:
        domain = instance.domains[i]
        if domain is not None and steps is not None:
            steps = common_steps(steps, (-distance % domain.alignment, domain.alignment))
    return steps


def greedy_linked(instance: Instance) -> tuple[int, ...] | None:
    """The lowest of several greedy placements; None where each got stuck."""
    best: tuple[int, ...] | None = None
    best_peak = NEVER
    groups = instance.groups or tuple(((i, 0),) for i in range(len(instance.rectangles)))
    company = _Company(instance)
    for rank in _ORDERS:
        offsets = _greedy(instance, _ranked(instance, groups, rank), company)
        if offsets is not None:
            peak = peak_of(instance, offsets)
            if peak < best_peak:
                best, best_peak = offsets, peak
    return best


def peak_of(instance: Instance, offsets: Sequence[int]) -> int:
    """Highest end of any rectangle."""
    return max((o + r.size for o, r in zip(offsets, instance.rectangles, strict=True)), default=0)


def _ranked(
    instance: Instance, groups: Sequence[Group], rank: Callable[..., tuple[int, ...]]
) -> list[Group]:
    def key(group: Group) -> tuple[int, ...]:
        members = [instance.rectangles[i] for i, _ in group]
        return (
            *rank(
                min(r.begin for r in members),
                max(r.end for r in members),
                max(d + r.size for (_, d), r in zip(group, members, strict=True)),
                any(instance.domains[i] is not None for i, _ in group),
            ),
            group[0][0],
        )

    return sorted(groups, key=key)


def _greedy(
    instance: Instance, groups: Iterable[Group], company: _Company
) -> tuple[int, ...] | None:
    state = _State(instance, company)
    for group in groups:
        start = state.start_of(group)
        if start == NEVER:
            return None
        state.put(group, start)
    return tuple(state.offsets)
