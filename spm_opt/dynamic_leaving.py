"""Which maps may leave the scratchpad between two steps: the residencies that follow from one.

A map that DRAM holds too can leave at any time. One that lies in SPM alone can leave where all who
are still to read it can find the same elsewhere: a piece in the map that joins it, what a split
takes out of it in a copy. Who never leaves costs space for nothing, and the optimum with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain, product
from typing import TypeAlias

from spm_opt.problem import Problem

#: (map, mode) of every live map, by map; modes are sums of `IN_SPM` and `IN_DRAM`
Residency: TypeAlias = tuple[tuple[int, int], ...]

IN_SPM, IN_DRAM = 1, 2


def bits(maps: Iterable[int]) -> int:
    """Maps as a bit set."""
    found = 0
    for t in maps:
        found |= 1 << t
    return found


class Leaving:
    """Answers for one problem."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._others = _others(problem)
        self._known: dict[tuple[int, int, int], bool] = {}

    def residencies(self, live: list[tuple[int, int]], end: int) -> tuple[Residency, ...]:
        """The residency `live` before part `end`, and those in which some maps have left SPM."""
        present = bits(t for t, _ in live)
        options = [self._options(t, mode, present, end) for t, mode in live]
        return tuple(tuple(chain.from_iterable(picked)) for picked in product(*options))

    def _options(self, t: int, mode: int, present: int, end: int) -> list[Residency]:
        """What may become of one map, which then has one mode or none."""
        stays: list[Residency] = [((t, mode),)]
        feature_map = self._problem.maps[t]
        if max(feature_map.writers, default=-1) >= end:
            return stays
        if mode & IN_SPM and feature_map.held_until >= end:
            return stays
        if mode == IN_SPM | IN_DRAM:
            return [*stays, ((t, IN_DRAM),)]
        if mode == IN_SPM and t in self._others and self._elsewhere(t, present, end):
            return [*stays, ()]
        return stays

    def _elsewhere(self, t: int, present: int, end: int) -> bool:
        """Whether all who are still to read a map can do with those present, or yet to come."""
        key = t, present, end
        if key not in self._known:
            born = bits(u for u, m in enumerate(self._problem.maps) if m.birth < end)
            absent = born & ~present | 1 << t
            self._known[key] = all(
                any(first >= end and not used & absent for first, used in self._without(t, part))
                for part in self._problem.maps[t].readers
                if part >= end
            )
        return self._known[key]

    def _without(self, t: int, part: int) -> Collection[tuple[int, int]]:
        return self._others[t].get(part, ())


def _others(problem: Problem) -> dict[int, dict[int, set[tuple[int, int]]]]:
    """For maps, by reading part: first part and maps of groups that do without them there."""
    read: list[list[int]] = [[] for _ in range(problem.parts)]
    for t, feature_map in enumerate(problem.maps):
        for part in feature_map.readers:
            read[part].append(t)
    found: dict[int, dict[int, set[tuple[int, int]]]] = {}
    for first, end, used in {(c.first, c.end, (*c.reads, *c.streams)) for c in problem.candidates}:
        option = first, bits(used)
        for part in range(first, end):
            for t in read[part]:
                if problem.maps[t].birth < first and t not in used:
                    found.setdefault(t, {}).setdefault(part, set()).add(option)
    return found
