"""All mappings of a fusion set that are worth having: its Pareto front.

Every subset of up to three axes in every order, tile sizes that differ in the number of tiles
(thinned out where there are many), and every choice of what is kept that is not plainly free.
Within a tiling a choice is dropped where another one of it is no worse in scratchpad, DRAM bytes
and recomputed MACs; what is left is compared with everything else in these and in latency. A
mapping's latency is worked out only where a bound on it is not dominated already: nothing is lost
by that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spm_opt.boxes import Ints
from spm_opt.hardware import Hardware
from spm_opt.mapping import Counts, Mapping
from spm_opt.mapping_counts import counts
from spm_opt.mapping_prices import latency
from spm_opt.mapping_set import FusionSet
from spm_opt.mapping_states import States, states, tile_sizes
from spm_opt.mapping_tables import Table, Tiling, least_work, tables

#: tiles of all loops that a search goes to
MOST_TILES = 4096
#: mappings of a step that are tried for their latency
FASTER = 3
#: tile sizes of an axis, by the number of loops
SIZES = {1: 64, 2: 8, 3: 2}
FEWER_SIZES = {1: 64, 2: 6, 3: 2}


@dataclass(frozen=True, slots=True)
class Point:
    """One mapping and what it costs."""

    mapping: Mapping
    counts: Counts


@dataclass(frozen=True, slots=True)
class Found:
    """What a search returns.

    Attributes
    ----------
    points : tuple of Point
        The Pareto front in scratchpad, DRAM bytes, recomputed MACs and latency, by scratchpad.
    kept, dropped : int
        Mappings on the front, and those that were compared and left out.
    complete : bool
        Whether no tile size and no choice was left out for their number.
    """

    points: tuple[Point, ...]
    kept: int
    dropped: int
    complete: bool


def search(
    fused: FusionSet, hardware: Hardware, double_buffer: bool = False, steps_only: bool = False
) -> Found:
    """The Pareto front of a fusion set.

    Parameters
    ----------
    fused : FusionSet
    hardware : Hardware
        For latencies.
    double_buffer : bool
        As in `spm_opt.mapping_counts.evaluate`.
    steps_only : bool
        Only the staircase of scratchpad and DRAM bytes without recomputation, and some faster
        mappings of as many bytes.
    """
    space = Space(fused, FEWER_SIZES if steps_only else SIZES)
    rows, refs, seen = [], [], 0
    least = least_work(fused, hardware)
    for tiling in space.tilings():
        found = list(tables(tiling, hardware, least, double_buffer))
        costs = np.concatenate([table.costs for table in found])
        seen += len(costs)
        chosen = _plain_steps(costs) if steps_only else undominated(costs[:, :3])
        rows.append(costs[chosen])
        each = len(found[0].costs)
        refs += [(found[i // each], i % each) for i in chosen.tolist()]
    costs, depth = np.concatenate(rows), 2 if double_buffer else 1
    steps = [refs[i] for i in _steps(costs)] if steps_only else None
    best = _front(costs, refs, hardware, depth) if steps is None else steps
    evaluations = [table.evaluation(i) for table, i in best]
    points = [Point(e.mapping, counts(e, hardware, double_buffer)) for e in evaluations]
    points.sort(
        key=lambda p: (p.counts.spm_bytes, p.counts.traffic.total, p.counts.recomputed_macs)
    )
    return Found(tuple(points), len(points), seen - len(points), space.complete)


def _plain_steps(costs: Ints) -> Ints:
    """Rows without recomputation that others do not dominate in space, traffic and work."""
    plain = np.flatnonzero(costs[:, 2] == 0)
    found: Ints = plain[undominated(costs[plain][:, [0, 1, 3]])]
    return found


def _steps(costs: Ints) -> list[int]:
    """Rows of the staircase, and those of as many DRAM bytes with the least bounds on latency."""
    steps = undominated(costs[:, :2]).tolist()
    nexts = [costs[i, 0] for i in steps[1:]] + [np.iinfo(np.int64).max]
    found: list[int] = []
    for step, beyond in zip(steps, nexts, strict=True):
        same = np.flatnonzero((costs[:, 1] == costs[step, 1]) & (costs[:, 0] < beyond))
        best = same[np.lexsort((costs[same, 0], costs[same, 3]))][:FASTER]
        found += [step, *(i for i in best.tolist() if i != step)]
    return found


def _front(
    costs: Ints, refs: list[tuple[Table, int]], hardware: Hardware, depth: int
) -> list[tuple[Table, int]]:
    """Rows that nothing dominates once the true latency stands in the place of its bound."""
    order = np.lexsort((costs[:, 0], costs[:, 1], costs[:, 2], costs[:, 3]))
    front: Ints = np.zeros((0, 4), dtype=np.int64)
    chosen: list[tuple[Table, int]] = []
    for i in order.tolist():
        row = costs[i].copy()
        if _dominated(front, row):
            continue
        table, state = refs[i]
        row[3] = latency(table.evaluation(state), hardware, depth)
        if not _dominated(front, row):
            worse = (front >= row).all(axis=1)
            chosen = [ref for ref, bad in zip(chosen, worse, strict=True) if not bad]
            front = np.concatenate((front[~worse], row[None]))
            chosen.append(refs[i])
    return chosen


def _dominated(front: Ints, row: Ints) -> bool:
    return bool((front <= row).all(axis=1).any())


def undominated(rows: Ints) -> Ints:
    """Indices of rows that no other row dominates; of equal rows the first.

    Parameters
    ----------
    rows : int64 array (candidates, objectives)
    """
    order = np.lexsort(rows.T[::-1])
    kept: list[int] = []
    while order.size:
        # the first in this order is dominated by none behind it
        first = rows[order[0]]
        kept.append(int(order[0]))
        order = order[(rows[order] < first).any(axis=1)]
    return np.array(kept, dtype=np.int64)


class Space:
    """The tilings of a fusion set; loops that several tilings share are worked out once."""

    def __init__(self, fused: FusionSet, sizes: dict[int, int]) -> None:
        self.fused, self.sizes = fused, sizes
        self.complete = True
        self._known: dict[tuple[str, int, bool], States | None] = {}

    def tilings(self) -> Iterator[Tiling]:
        """Every subset of axes, every order, every tile size."""
        axes = tuple(self.fused.axes)
        for count in range(min(3, len(axes)) + 1):
            for names in itertools.permutations(axes, count):
                for sizes in itertools.product(*(self._sizes(name, count) for name in names)):
                    tiling = self._tiling(tuple(zip(names, sizes, strict=True)))
                    if tiling is not None:
                        yield tiling

    def _sizes(self, name: str, count: int) -> tuple[int, ...]:
        extent = self.fused.extent(name)
        found = tile_sizes(extent, self.sizes[count])
        self.complete &= len(found) == len(tile_sizes(extent, extent))
        return found

    def _tiling(self, loops: tuple[tuple[str, int], ...]) -> Tiling | None:
        tiles = 1
        for name, size in loops:
            tiles *= -(-self.fused.extent(name) // size)
        if tiles > MOST_TILES:
            self.complete = False
            return None
        last = len(loops) - 1
        own = [self._states(name, size, i == last) for i, (name, size) in enumerate(loops)]
        names = [name for name, _ in loops]
        rest = [
            self._states(name, self.fused.extent(name), True)
            for name in self.fused.axes
            if name not in names
        ]
        found = tuple(s for s in (*own, *rest) if s is not None)
        if len(found) < len(own) + len(rest):
            return None
        self.complete &= all(s.complete for s in found)
        return Tiling(self.fused, found[: len(own)], found[len(own) :])

    def _states(self, name: str, size: int, innermost: bool) -> States | None:
        key = (name, size, innermost)
        if key not in self._known:
            self._known[key] = states(self.fused, name, size, innermost)
        return self._known[key]
