"""The problem that a decider sees: integers and indices only.

No networkx, no floats, no file names. Parts are numbered in execution order, ``0 .. parts-1``; a
*step* is led by the first part of the candidate that is used there. All times are cycles, all sizes
are bytes, rounded up to the alignment of the scratchpad where they take space in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final, NamedTuple

from spm_opt.errors import InputError


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """A feature map that more than one group may touch.

    Attributes
    ----------
    size_bytes : int
        Space of the whole map.
    writers : tuple of int
        Parts that write it, in order; empty for a network input. They share one choice: slices of
        one layer, or layers whose outputs are the pieces of one map (all of them write it so, or
        none does).
    readers : tuple of int
        Parts that read it, in order.
    in_dram : bool
        Whether it lies in DRAM from the start (a network input).
    must_store : bool
        Whether it must lie in DRAM at the end (a network output).
    reload_cycles, reload_bytes : int
        Price of loading the whole map in one transfer.
    joined : bool
        Whether its writers may leave it alone, and write its pieces by themselves.
    held_until : int
        Part up to which it stays in SPM once it is there; -1 where it may leave at any step.
    reload_fj : int
        Energy of that transfer; 0 where energy is not counted.
    """

    size_bytes: int
    writers: tuple[int, ...]
    readers: tuple[int, ...]
    in_dram: bool
    must_store: bool
    reload_cycles: int
    reload_bytes: int
    joined: bool = False
    held_until: int = -1
    reload_fj: int = 0

    @property
    def birth(self) -> int:
        """Part that writes it first; -1 for a network input."""
        return self.writers[0] if self.writers else -1

    @property
    def last_use(self) -> int:
        """Last part that writes or reads it; -1 for a network input that nothing reads."""
        return max((*self.writers, *self.readers), default=-1)


@dataclass(frozen=True, slots=True)
class WeightLoad:
    """The constants of one part, loaded as a whole.

    Attributes
    ----------
    size_bytes : int
        Space; 0 where the part has no constants.
    cycles, moved_bytes : int
        Price of the transfer.
    """

    size_bytes: int
    cycles: int
    moved_bytes: int


class Overlap(NamedTuple):
    """Prices of a candidate where its transfers may run beside the steps around it.

    Attributes
    ----------
    window_cycles : int
        From the start of its first computation to the end of its last, no fewer.
    queue_cycles : int
        Of all its streams.
    first_cycles : int
        Of the loads that its first tile waits for.
    ahead_cycles : int
        Of the loads that may run before it: those of the first tiles, as many as it is deep.
    behind_cycles : int
        Of the stores that may run behind it: those of the last tiles, and out of whole maps.
    early_bytes, late_bytes : int
        Space of the smallest buffer of a map that must be claimed before it for the former, and
        held behind it for the latter.
    enter_cycles : int
        Of its first tile, before the last layer that has constants: these are there by then.
    constants_bytes, first_constants, ahead_constants : int
        Space of streamed constants, and their share of `first_cycles` and `ahead_cycles`.
    """

    window_cycles: int = 0
    queue_cycles: int = 0
    first_cycles: int = 0
    ahead_cycles: int = 0
    behind_cycles: int = 0
    early_bytes: int = 0
    late_bytes: int = 0
    enter_cycles: int = 0
    constants_bytes: int = 0
    first_constants: int = 0
    ahead_constants: int = 0


NO_OVERLAP: Final = Overlap()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A group under one tiling and one residency pattern; all its prices are constants.

    Attributes
    ----------
    first, end : int
        Parts ``[first, end)``.
    reads : tuple of int
        Maps read in SPM (pinned, or loaded whole before the step).
    streams : tuple of int
        Maps streamed from DRAM.
    keeps : tuple of int
        Maps written whole into SPM for later groups.
    stores : tuple of int
        Maps written to DRAM.
    streams_weights : bool
        The constants are streamed tile by tile and take no space beforehand.
    duration_cycles : int
        From the start of the step (after whole-tensor loads) to the end of its last command.
    dma_cycles : int
        Cycles of the step in which its streams keep the queue from prefetches, what is lost by
        cutting these included; 0 without streams.
    compute_cycles : int
    work_bytes : int
        Space besides maps kept by earlier groups and besides weights: stripes, stream buffers,
        and kept maps that this group begins.
    dram_bytes : int
        Bytes streamed, weights included.
    recipe : int
        How to run it: index into the planner's table of tilings.
    least_dma_cycles : int
        `dma_cycles` if cutting cost nothing: no schedule does better.
    overlap : Overlap
        What it costs where steps are no barriers.
    energy_fj : int
        Of its tiles and of the bytes that it moves, leakage left out; 0 where energy is not
        counted.
    """

    first: int
    end: int
    reads: tuple[int, ...]
    streams: tuple[int, ...]
    keeps: tuple[int, ...]
    stores: tuple[int, ...]
    streams_weights: bool
    duration_cycles: int
    dma_cycles: int
    compute_cycles: int
    work_bytes: int
    dram_bytes: int
    recipe: int
    least_dma_cycles: int
    overlap: Overlap = NO_OVERLAP
    energy_fj: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything that may be decided, and its prices.

    Attributes
    ----------
    parts : int
    capacity_bytes : int
    maps : tuple of FeatureMap
    weights : tuple of WeightLoad
        One a part.
    candidates : tuple of Candidate
    prefetch : bool
        Whether weights may be loaded before the step that reads them.
    reload : bool
        Whether a map that lies in DRAM may be loaded whole and kept.
    cuts : bool
        Whether prefetches may be cut, to fill the gaps between streams.
    overlap : bool
        Whether transfers may run beside the steps around theirs; otherwise steps are barriers.
    leakage_fj : int
        Energy of every cycle; 0 where energy is not counted.
    """

    parts: int
    capacity_bytes: int
    maps: tuple[FeatureMap, ...]
    weights: tuple[WeightLoad, ...]
    candidates: tuple[Candidate, ...]
    prefetch: bool = True
    reload: bool = True
    cuts: bool = True
    overlap: bool = False
    leakage_fj: int = 0

    def __post_init__(self) -> None:
        if self.capacity_bytes <= 0:
            raise InputError("must be positive", field="capacity", found=self.capacity_bytes)

    def hopeful(self) -> Problem:
        """The problem with prefetches that can be cut at no cost: its optimum is a bound."""
        if all(c.dma_cycles == c.least_dma_cycles for c in self.candidates):
            return self
        return replace(
            self,
            candidates=tuple(replace(c, dma_cycles=c.least_dma_cycles) for c in self.candidates),
        )

    def without(self, maps: Collection[int]) -> Problem:
        """The problem in which some maps need no space and are wherever they are wanted.

        Every plan is a plan of it, at no higher price: its optimum is a bound.
        """
        gone = frozenset(maps)
        nobody = {t: replace(self.maps[t], readers=(), writers=()) for t in gone}
        return replace(
            self,
            maps=tuple(nobody.get(t, m) for t, m in enumerate(self.maps)),
            candidates=tuple(self._without(c, gone) for c in self.candidates),
        )

    def _without(self, candidate: Candidate, gone: frozenset[int]) -> Candidate:
        uses = candidate.reads, candidate.streams, candidate.keeps, candidate.stores
        if gone.isdisjoint(chain.from_iterable(uses)):
            return candidate
        begun = sum(
            self.maps[t].size_bytes
            for t in gone.intersection(candidate.keeps)
            if self.maps[t].birth >= candidate.first
        )
        reads, streams, keeps, stores = (tuple(t for t in use if t not in gone) for use in uses)
        # a kept map may have taken the space of another one: then it added none
        work = max(0, candidate.work_bytes - begun)
        return replace(
            candidate, reads=reads, streams=streams, keeps=keeps, stores=stores, work_bytes=work
        )

    def only(self, keep: Callable[[Candidate], bool], **changes: Any) -> Problem:
        """The problem with the candidates that pass `keep`."""
        return replace(self, candidates=tuple(c for c in self.candidates if keep(c)), **changes)


def written(problem: Problem) -> list[list[int]]:
    """Maps that each part writes, or may write."""
    found: list[list[int]] = [[] for _ in range(problem.parts)]
    for t, feature_map in enumerate(problem.maps):
        for part in feature_map.writers:
            found[part].append(t)
    return found


def covering(problem: Problem) -> list[list[int]]:
    """Candidates that cover each part."""
    found: list[list[int]] = [[] for _ in range(problem.parts)]
    for k, candidate in enumerate(problem.candidates):
        for part in range(candidate.first, candidate.end):
            found[part].append(k)
    return found


def led(problem: Problem) -> list[list[int]]:
    """Candidates that are led by each part."""
    found: list[list[int]] = [[] for _ in range(problem.parts)]
    for k, candidate in enumerate(problem.candidates):
        found[candidate.first].append(k)
    return found
