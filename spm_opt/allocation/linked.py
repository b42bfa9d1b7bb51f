"""Greedy placement of what the plain greedy cannot: domains, groups, reuse in place, banks apart.

Groups of tied buffers are placed one after the other, each at the lowest start that keeps every
rule against those placed before; an output is first tried where its input lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from spm_opt.allocation.domains import NEVER, common_steps
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


class _State:
    """What is placed where, and what must be asked before placing more."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        rectangles = instance.rectangles
        self.offsets = [-1] * len(rectangles)
        self.nested = instance.nested | {(b, a) for a, b in instance.nested}
        self.reuse: dict[int, list[int]] = {}
        for output, input_ in instance.reuses:
            self.reuse.setdefault(output, []).append(input_)
            self.reuse.setdefault(input_, []).append(output)
        self.apart: dict[int, list[int]] = {}
        for a, b in instance.apart:
            self.apart.setdefault(a, []).append(b)
            self.apart.setdefault(b, []).append(a)
        self.placed: list[int] = []

    def start_of(self, group: Group) -> int:
        """Lowest start of a group that breaks no rule; `NEVER` where there is none."""
        steps = congruence(self.instance, group)
        if steps is None:
            return NEVER
        near = {
            i: [j for j in self.placed if self._meet(i, j)] + self._placed_apart(i)
            for i, _ in group
        }
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

    def _placed_apart(self, i: int) -> list[int]:
        return [j for j in self.apart.get(i, ()) if self.offsets[j] >= 0 and not self._meet(i, j)]

    def put(self, group: Group, start: int) -> None:
        """Place a group."""
        for i, distance in group:
            self.offsets[i] = start + distance
            self.placed.append(i)


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
    for rank in _ORDERS:
        offsets = _greedy(instance, _ranked(instance, groups, rank))
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


def _greedy(instance: Instance, groups: Iterable[Group]) -> tuple[int, ...] | None:
    state = _State(instance)
    for group in groups:
        start = state.start_of(group)
        if start == NEVER:
            return None
        state.put(group, start)
    return tuple(state.offsets)
