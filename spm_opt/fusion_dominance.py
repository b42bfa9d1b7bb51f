"""Candidates that the joint problem does not need: whatever a plan does with them, others do too.

Three rules beyond the Pareto sets of `spm_opt.fusion_prices`. Each says: take any plan that uses
candidate B; put what is named in its place; every map lies where it lay before and after, no step
needs more space, no cycle and no byte is added. So an optimum survives. The rules hold where a map
may be kept, dropped and loaded again at will, that is in the joint problem; baselines that forbid
some of this need the candidates. Each replaces a run by shorter ones, or streams less, or keeps
more: what replaces B is never replaced by B.

With ``d`` cycles of duration, ``m`` to the end of its own transfers and ``c`` of prefetches carried
after those, a step lasts ``max(d, m + c)``. A step is *busy* where it has transfers of its own or
loads a map: no prefetch may be under way when it begins.

- **split**: B is a run of layers; A1, A2 are its two halves, what flows between them is kept in
  SPM, all else is as in B. A1 needs no more space than B, nor A2 with all that A1 keeps (constants
  of both lie beside A1 as they lie beside B), and they move no more. Where A2 is never busy, c may
  be shared out at will: together they last ``max(d1 + d2, m1 + m2 + c)``, so ``d1 + d2 <= d`` and
  ``m1 + m2 <= m`` suffice. Where it may be, A2 carries all: ``d1 + m2 <= m`` is needed.
- **reload**: B streams a map; A reads it in SPM, where it is loaded whole at the front of the step,
  in r cycles (or lies already): ``r + d1 <= d`` and ``r + m1 <= m``, the map and A's working set in
  no more space than B's. Both are busy.
- **both**: B stores a map; A stores it and keeps it as well, at no higher price; it may be dropped
  the moment the step ends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.problem import Candidate, Problem

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
#: the largest price of each sort in a family
Limits = tuple[int, ...]
#: prices of a candidate that are compared
_ROWS: Final = 5


@dataclass(frozen=True, slots=True)
class _Key:
    """Parts and residency pattern of a family; maps in ascending order."""

    first: int
    end: int
    reads: tuple[int, ...]
    streams: tuple[int, ...]
    keeps: tuple[int, ...]
    stores: tuple[int, ...]
    streams_weights: bool


@dataclass(frozen=True, slots=True)
class _Prices:
    """Alternatives of one family: rows duration, dma, work, dram, energy; the least of each row."""

    rows: Ints
    least: tuple[int, ...]

    def beats(self, others: Ints) -> Flags:
        """Which of the others (columns) some column here is no worse than in any price."""
        found: Flags = np.any(np.all(self.rows[:, None, :] <= others[:, :, None], axis=0), axis=1)
        return found


@dataclass(frozen=True)
class _Table:
    """Families of a problem, and where its maps are written and read."""

    problem: Problem
    members: Mapping[_Key, Ints]
    prices: Mapping[_Key, _Prices]
    #: maps by the part that writes them first
    born: Mapping[int, list[int]]

    def reads_in(self, t: int, first: int, end: int) -> bool:
        """Whether a part of ``[first, end)`` reads map t."""
        readers = self.problem.maps[t].readers
        n = bisect_left(readers, first)
        return n < len(readers) and readers[n] < end

    def writes_in(self, t: int, first: int, end: int) -> bool:
        """Whether a part of ``[first, end)`` writes map t."""
        return any(first <= writer < end for writer in self.problem.maps[t].writers)

    def is_held(self, t: int, end: int) -> bool:
        """Whether map t, once in SPM, has to stay there beyond part ``end - 1``."""
        return self.problem.maps[t].held_until >= end


def essential(problem: Problem) -> Problem:
    """The joint problem without candidates that others make superfluous; its optimum is the same.

    Unchanged where maps may not be loaded again (see `Problem.reload`).
    """
    if not problem.reload:
        return problem
    table = _tabled(problem)
    kept = sorted(k for key in table.members for k in _unbeaten(table, key).tolist())
    return replace(problem, candidates=tuple(problem.candidates[k] for k in kept))


def _unbeaten(table: _Table, key: _Key) -> Ints:
    """Members of a family that no rule makes superfluous."""
    members, theirs = table.members[key], table.prices[key].rows
    most = tuple(theirs.max(axis=1).tolist())
    for rule in _RULES:
        for mine in rule(table, key, most):
            left = ~mine.beats(theirs)
            members, theirs = members[left], theirs[:, left]
            if not len(members):
                return members
    return members


def _tabled(problem: Problem) -> _Table:
    members: dict[_Key, list[int]] = defaultdict(list)
    for k, c in enumerate(problem.candidates):
        members[_key(c)].append(k)
    columns = np.array(
        [
            (c.duration_cycles, c.dma_cycles, c.work_bytes, c.dram_bytes, c.energy_fj)
            for c in problem.candidates
        ],
        dtype=np.int64,
    ).reshape(-1, _ROWS)
    prices = {key: _priced(columns[found].T) for key, found in members.items()}
    arrays = {key: np.array(found, dtype=np.int64) for key, found in members.items()}
    born: dict[int, list[int]] = defaultdict(list)
    for t, m in enumerate(problem.maps):
        if m.writers:
            born[m.birth].append(t)
    return _Table(problem, arrays, prices, born)


def _priced(rows: Ints) -> _Prices:
    return _Prices(rows, tuple(rows.min(axis=1).tolist()))


def _key(c: Candidate) -> _Key:
    return _Key(
        c.first, c.end, tuple(sorted(c.reads)), tuple(sorted(c.streams)), tuple(sorted(c.keeps)),
        tuple(sorted(c.stores)), c.streams_weights,
    )  # fmt: skip


def _keeping_too(table: _Table, key: _Key, most: Limits) -> Iterator[_Prices]:
    """Families that also keep a map that this one only stores."""
    for t in key.stores:
        whole = all(key.first <= w < key.end for w in table.problem.maps[t].writers)
        # slices of one map share one choice: only all of them together may keep it
        if t not in key.keeps and whole and not table.is_held(t, key.end):
            other = table.prices.get(replace(key, keeps=_with(key.keeps, t)))
            if other is not None:
                yield other


def _reloading(table: _Table, key: _Key, most: Limits) -> Iterator[_Prices]:
    """Families that read a map which this one streams, with the price of loading it whole."""
    for t in key.streams:
        if max(table.problem.maps[t].writers, default=-1) >= key.first:
            continue  # not all of it is there yet
        if table.is_held(t, key.end):
            continue  # it could not leave again
        other = table.prices.get(
            replace(key, reads=_with(key.reads, t), streams=_without(key.streams, t))
        )
        if other is not None:
            m = table.problem.maps[t]
            extra = (
                m.reload_cycles, m.reload_cycles, m.size_bytes, m.reload_bytes, m.reload_fj,
            )  # fmt: skip
            yield _priced(other.rows + np.array(extra, dtype=np.int64)[:, None])


def _splitting(table: _Table, key: _Key, most: Limits) -> Iterator[_Prices]:
    """Pairs of families that together do what this one does."""
    if key.streams_weights:
        return
    for middle in range(key.first + 1, key.end):
        halves = _halves(table, key, middle)
        if halves is None:
            continue
        one, two = (table.prices.get(half) for half in halves)
        if one is None or two is None:
            continue
        kept = sum(table.problem.maps[t].size_bytes for t in halves[0].keeps)
        space = max(one.least[2], two.least[2] + kept)
        if one.least[0] + two.least[0] <= most[0] and space <= most[2]:
            # a map that only the second half reads may have to be loaded there
            late = any(t in key.reads and t not in halves[0].reads for t in halves[1].reads)
            yield _joined(one, two, kept, late)


def _halves(table: _Table, key: _Key, middle: int) -> tuple[_Key, _Key] | None:
    first, end = key.first, key.end

    def read(maps: tuple[int, ...], begin: int, stop: int) -> tuple[int, ...]:
        return tuple(t for t in maps if table.reads_in(t, begin, stop))

    def written(maps: tuple[int, ...], begin: int, stop: int) -> tuple[int, ...]:
        return tuple(t for t in maps if table.writes_in(t, begin, stop))

    streams = read(key.streams, first, middle), read(key.streams, middle, end)
    if set(streams[0]) & set(streams[1]):
        return None  # it would be streamed twice
    between = [
        t
        for part in range(first, middle)
        for t in table.born.get(part, ())
        if table.reads_in(t, middle, end)
    ]
    if any(table.is_held(t, end) and t not in key.keeps for t in between):
        return None
    kept = tuple(sorted({*written(key.keeps, first, middle), *between}))
    reads = tuple(sorted({*read(key.reads, middle, end), *between}))
    return (
        _Key(first, middle, read(key.reads, first, middle), streams[0], kept,
             written(key.stores, first, middle), False),
        _Key(middle, end, reads, streams[1], written(key.keeps, middle, end),
             written(key.stores, middle, end), False),
    )  # fmt: skip


def _joined(one: _Prices, two: _Prices, kept_bytes: int, late: bool) -> _Prices:
    """Prices of every pair of candidates of two families, which run one after the other."""
    a, b = one.rows[:, :, None], two.rows[:, None, :]
    pairs = a + b
    pairs[1] = np.where((b[1] > 0) | late, a[0] + b[1], pairs[1])
    pairs[2] = np.maximum(a[2], b[2] + kept_bytes)
    return _Prices(pairs.reshape(_ROWS, -1), one.least)


def _with(maps: tuple[int, ...], t: int) -> tuple[int, ...]:
    return tuple(sorted((*maps, t)))


def _without(maps: tuple[int, ...], t: int) -> tuple[int, ...]:
    return tuple(other for other in maps if other != t)


_RULES: Final[tuple[Callable[[_Table, _Key, Limits], Iterator[_Prices]], ...]] = (
    _keeping_too,
    _reloading,
    _splitting,
)
