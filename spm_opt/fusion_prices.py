"""Prices of groups under every tiling and residency pattern, and which of them are worth having.

Patterns, cuttings and depths of a group are priced as arrays; pipelines of equal tile counts are
timed together; the Pareto sets of all families are found together. Nothing is chosen here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.fusion_borders import DEPTHS, Use, patterns
from spm_opt.fusion_groups import Group, Recipe
from spm_opt.pipeline import pipeline_spans
from spm_opt.problem import Candidate
from spm_opt.tiling import Ints

#: array elements that wait to be timed before they are
_MOST_PENDING: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class _Family:
    """Parts and residency pattern that options share."""

    first: int
    end: int
    reads: tuple[int, ...]
    streams: tuple[int, ...]
    keeps: tuple[int, ...]
    stores: tuple[int, ...]
    streams_weights: bool


@dataclass(frozen=True, slots=True)
class _Pending:
    """Pipelines of one tile count and depth that wait for their spans."""

    known: Ints  # (options, family work dram variant compute)
    compute: Ints  # (options, tiles), as the next three
    load: Ints
    store: Ints
    written: Ints


class Pricer:
    """Collects groups and gives back their candidates."""

    def __init__(self, capacity_bytes: int, prune: bool) -> None:
        self._capacity, self._prune = capacity_bytes, prune
        self._families: dict[_Family, int] = {}
        self._recipes: list[Recipe] = []
        self._pending: dict[tuple[int, int], list[_Pending]] = {}
        self._waiting = 0
        #: options, one a column: family, duration, dma, work, dram, variant, compute
        self._done: list[Ints] = []

    def add(self, group: Group) -> None:
        """Price every pattern, cutting and depth of `group` that fits the scratchpad."""
        uses = [use for border in group.borders for use in border]
        kinds = tuple(tuple(use.kind for use in border) for border in group.borders)
        table = patterns(kinds)
        work = _combined(table, [use.space_bytes for use in uses])
        work += group.space_bytes
        outside = table @ np.array([use.outside_bytes for use in uses], dtype=np.int64)
        room = self._capacity - group.weight_space - outside
        fits = work <= room[:, None, None]
        if not fits.any():
            return
        moving = np.array([use.cycles is not None for use in uses], dtype=np.int64)
        still = (table @ moving == 0) & (group.load is None)
        # without transfers a second buffer is of no use
        fits[still, 1:] = False
        dram = _combined(table, [use.dram_bytes for use in uses]) + group.weight_bytes
        self._queue(group, table, uses, _Priced(fits, still, work, dram))

    def _queue(self, group: Group, table: Ints, uses: list[Use], priced: _Priced) -> None:
        used: NDArray[np.bool_] = np.any(priced.fits, axis=(1, 2))
        table, priced = table[used], priced.only(used)
        family = np.array([self._family(group, row, uses) for row in table], dtype=np.int64)
        totals = group.cuts.total(group.compute)
        load = _transfers(table, uses, "stream", len(group.compute))
        if group.load is not None:
            load = load + group.load
        store = _transfers(table, uses, "store", len(group.compute))
        written = _transfers(table, uses, "both", len(group.compute))
        for s, (begin, end) in enumerate(group.cuts.spans()):
            for d, depth in enumerate(DEPTHS[: end - begin]):
                chosen = np.flatnonzero(priced.fits[:, d, s])
                if not len(chosen):
                    continue
                variant = len(self._recipes)
                self._recipes.append(
                    replace(group.plain, height=group.cuts.heights[s], depth=depth)
                )
                known = np.empty((len(chosen), 5), dtype=np.int64)
                known[:, 0], known[:, 1] = family[chosen], priced.work[chosen, d, s]
                known[:, 2], known[:, 3] = priced.dram[chosen, s], variant
                known[:, 4] = totals[s]
                still = priced.still[chosen]
                self._settle(known[still])
                moving = chosen[~still]
                if not len(moving):
                    continue
                compute = np.broadcast_to(group.compute[begin:end], (len(moving), end - begin))
                self._wait(depth, _Pending(
                    known[~still], compute, load[moving, begin:end], store[moving, begin:end],
                    written[moving, begin:end],
                ))  # fmt: skip

    def _family(self, group: Group, row: Ints, uses: list[Use]) -> int:
        by_kind: dict[str, list[int]] = {
            kind: [] for kind in ("read", "stream", "keep", "store", "both")
        }
        for n in np.flatnonzero(row).tolist():
            by_kind[uses[n].kind].append(uses[n].map)
        family = _Family(
            group.first, group.end, tuple(by_kind["read"]), tuple(by_kind["stream"]),
            tuple(sorted(by_kind["keep"] + by_kind["both"])),
            tuple(sorted(by_kind["store"] + by_kind["both"])), group.streams_weights,
        )  # fmt: skip
        return self._families.setdefault(family, len(self._families))

    def _settle(self, known: Ints) -> None:
        """Options without transfers: they last as long as they compute."""
        if len(known):
            self._record(known, known[:, 4], np.zeros_like(known[:, 4]))

    def _wait(self, depth: int, pending: _Pending) -> None:
        tiles = pending.load.shape[1]
        self._pending.setdefault((tiles, depth), []).append(pending)
        self._waiting += 4 * pending.load.size
        if self._waiting > _MOST_PENDING:
            self._time()

    def _time(self) -> None:
        for (_, depth), batch in self._pending.items():
            spans = pipeline_spans(
                np.concatenate([pending.compute for pending in batch]),
                np.concatenate([pending.load for pending in batch]),
                np.concatenate([pending.store for pending in batch]),
                np.concatenate([pending.written for pending in batch]),
                depth,
            )
            known = np.concatenate([pending.known for pending in batch])
            self._record(known, spans.duration_cycles, spans.dma_cycles)
        self._pending, self._waiting = {}, 0

    def _record(self, known: Ints, duration: Ints, dma: Ints) -> None:
        family, work, dram, variant, compute = known.T
        self._done.append(np.stack((family, duration, dma, work, dram, variant, compute)))

    def candidates(self) -> tuple[tuple[Candidate, ...], tuple[Recipe, ...]]:
        """Candidates and the recipe of each, in order of their parts."""
        self._time()
        if not self._done:
            return (), ()
        options = np.concatenate(self._done, axis=1)
        # rows of the six keys, the last first: families, then prices, equals by variant
        options = options[:, np.lexsort(options[5::-1])]
        if self._prune:
            options = options[:, undominated(options[0], options[1:5])]
        families = list(self._families)
        return _listed(options, families, self._recipes)


@dataclass(frozen=True, slots=True)
class _Priced:
    """Prices of patterns; cuttings last, depths (where they matter) in the middle."""

    fits: NDArray[np.bool_]
    still: NDArray[np.bool_]
    work: Ints
    dram: Ints

    def only(self, chosen: NDArray[np.bool_]) -> _Priced:
        return _Priced(self.fits[chosen], self.still[chosen], self.work[chosen], self.dram[chosen])


def _combined(table: Ints, prices: list[Ints]) -> Ints:
    """Sums over the uses of each pattern; axes of the prices kept."""
    sums: Ints = np.tensordot(table, np.stack(prices), axes=1)
    return sums


def _transfers(table: Ints, uses: list[Use], kind: str, tiles: int) -> Ints:
    """Cycles (patterns, tiles) of the transfers of uses of one kind."""
    total = np.zeros((len(table), tiles), dtype=np.int64)
    for n, use in enumerate(uses):
        if use.kind == kind and use.cycles is not None:
            total += table[:, n : n + 1] * use.cycles
    return total


def undominated(family: Ints, prices: Ints) -> NDArray[np.bool_]:
    """Which options no other one of their family beats or equals in every price.

    Parameters
    ----------
    family : int64 array (options,)
    prices : int64 array (prices, options)
        Sorted by family, then lexicographically; of equal options the first stays.
    """
    kept: NDArray[np.bool_] = np.zeros(len(family), dtype=np.bool_)
    left = np.arange(len(family))
    while len(left):
        # the first of a family is beaten by none: none that is left precedes it in any price
        heads = np.concatenate((np.ones(1, dtype=np.bool_), np.diff(family[left]) > 0))
        kept[left[heads]] = True
        best = left[heads][np.cumsum(heads) - 1]
        left = left[(prices[:, left] < prices[:, best]).any(axis=0)]
    return kept


def _listed(
    options: Ints, families: list[_Family], recipes: list[Recipe]
) -> tuple[tuple[Candidate, ...], tuple[Recipe, ...]]:
    first = np.array([family.first for family in families])[options[0]]
    end = np.array([family.end for family in families])[options[0]]
    rows = options[:, np.lexsort((options[0], options[5], end, first))].T.tolist()
    found = tuple(_candidates(rows, families))
    return found, tuple(recipes[row[5]] for row in rows)


def _candidates(rows: list[list[int]], families: list[_Family]) -> Iterator[Candidate]:
    for k, (number, duration, dma, work, dram, _, compute) in enumerate(rows):
        family = families[number]
        yield Candidate(
            family.first, family.end, family.reads, family.streams, family.keeps, family.stores,
            family.streams_weights, duration, dma, compute, work, dram, k,
        )  # fmt: skip
