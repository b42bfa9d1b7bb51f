"""Prices of groups under every tiling and residency pattern, and which of them are worth having.

Patterns, cuttings and depths of a group are priced as arrays; pipelines of equal tile counts are
timed together; the Pareto sets of all families are found together. Nothing is chosen here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.fusion_band_prices import BandPricer, band_patterns, pattern_maps
from spm_opt.fusion_band_runs import BandedGroup
from spm_opt.fusion_borders import DEPTHS, Use, patterns
from spm_opt.fusion_groups import Group, Recipe
from spm_opt.fusion_sharing import saved_bytes
from spm_opt.pipeline import NO_CUT, Cut, Spans, Window, pipeline_spans
from spm_opt.problem import Candidate, Overlap
from spm_opt.site import Site
from spm_opt.tiling import Ints

#: array elements that wait to be timed before they are
_MOST_PENDING: Final = 4_000_000
#: more space than any buffer has
_NONE: Final = 2**62
#: row of an option's variant, behind its family and prices
_VARIANT: Final = 18


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


@dataclass(slots=True)
class _Pipelines:
    """Pipelines of one cutting and depth, and the options that run as they do.

    Blocks of a network that are alike have the same ones: they are timed once.

    Attributes
    ----------
    known : list of int64 array (9 and constants, options)
        Family, work, dram, variant, compute, energy, early, late, enter and of constants, of those
        that wait.
    ends : int64 array (8, options) or None
        Once they are timed: see `_ends`.
    """

    compute: Ints  # (tiles,)
    load: Ints  # (options, tiles), as the next two
    store: Ints
    written: Ints
    known: list[Ints]
    ends: Ints | None = None

    def key(self, depth: int) -> bytes:
        """The same for pipelines that are alike."""
        found = blake2b(repr((depth, self.load.shape)).encode(), digest_size=32)
        for array in (self.compute, self.load, self.store, self.written):
            found.update(np.ascontiguousarray(array).data)
        return found.digest()

    def settle(self, ends: Ints) -> None:
        """Keep what was found, and nothing else."""
        self.ends = ends
        self.compute = self.load = self.store = self.written = ends[:0]


def _ends(spans: Spans) -> Ints:
    """Rows of an option that are ends of pipelines."""
    window = spans.window
    return np.stack((
        spans.duration_cycles, spans.dma_cycles, spans.least_dma_cycles, window.window_cycles,
        window.queue_cycles, window.first_cycles, window.ahead_cycles, window.behind_cycles,
    ))  # fmt: skip


class Pricer:
    """Collects groups and gives back their candidates.

    A *variant* is a cutting and depth of a group; variants are numbered through all groups.
    """

    def __init__(
        self, capacity_bytes: int, prune: bool, cut: Cut | None = NO_CUT, transfer_fj: int = 0
    ) -> None:
        self._capacity, self._prune, self._cut = capacity_bytes, prune, cut
        self._transfer_fj = transfer_fj
        self._families: dict[_Family, int] = {}
        #: recipe and heights of each group, and its first variant
        self._groups: list[tuple[Recipe, tuple[int, ...]]] = []
        self._bases: list[int] = [0]
        #: all pipelines by what makes them alike; those to be timed by tiles and depth
        self._pipelines: dict[bytes, _Pipelines] = {}
        self._pending: dict[tuple[int, int], list[_Pipelines]] = {}
        self._waiting = 0
        #: options that the Pareto sets left out
        self.dropped = 0
        #: what is known of options, one a column, and the ends of their pipelines
        self._known: list[Ints] = []
        self._ends: list[Ints] = []
        self._bands = BandPricer(capacity_bytes, cut, transfer_fj)

    def add(self, group: Group) -> None:
        """Price every pattern, cutting and depth of `group` that fits the scratchpad."""
        uses = [use for border in group.borders for use in border]
        labels = tuple(tuple(use.label for use in border) for border in group.borders)
        table = _consistent(patterns(labels), uses)
        work = _combined(table, [use.space_bytes for use in uses])
        work += group.space_bytes
        saved = _taken_over(group, table, uses)
        if saved is not None:
            work -= saved[:, None, :]
        outside = _outside_bytes(table, uses)
        room = self._capacity - group.weight_space - outside
        fits = work <= room[:, None, None]
        if not fits.any():
            return
        # one tile has no neighbour to run beside
        single = [end - begin == 1 for begin, end in group.cuts.spans()]
        fits[:, 1:, single] = False
        moving = np.array([use.cycles is not None for use in uses], dtype=np.int64)
        still = (table @ moving == 0) & (group.load is None)
        # nor is a second buffer of use where nothing is transferred
        fits[still, 1:] = False
        dram = _combined(table, [use.dram_bytes for use in uses]) + group.weight_bytes
        early, late = _least(table, uses, "stream"), _least(table, uses, "store")
        used: NDArray[np.bool_] = np.any(fits, axis=(1, 2))
        priced = _Priced(fits, still, work, dram, early, late)
        self._queue(group, table[used], uses, priced.only(used))

    def add_banded(self, site: Site, group: BandedGroup) -> None:
        """Price every pattern and stripe height of a group in bands that fits the scratchpad."""
        patterns = band_patterns(site, group)
        families = [
            self._families.setdefault(
                _Family(*group.parts, *pattern_maps(site, group, pattern), False),
                len(self._families),
            )
            for pattern in patterns
        ]
        base = self._variants(group.recipe, group.heights)
        self._bands.add(site, group, patterns, np.array(families, dtype=np.int64), base)

    def _variants(self, recipe: Recipe, heights: tuple[int, ...]) -> int:
        """Number the variants of a group; the first of them."""
        self._groups.append((recipe, heights))
        self._bases.append(self._bases[-1] + len(heights) * len(DEPTHS))
        return self._bases[-2]

    def _queue(self, group: Group, table: Ints, uses: list[Use], priced: _Priced) -> None:
        family = self._family_numbers(group, table, uses)
        cutting, depth, pattern = np.nonzero(priced.fits.transpose(2, 1, 0))
        base = self._variants(group.plain, group.cuts.heights)
        variant = base + cutting * len(DEPTHS) + depth
        dram = priced.dram[pattern, cutting]
        known = np.stack((
            family[pattern], priced.work[pattern, depth, cutting], dram,
            variant, group.cuts.total(group.compute)[cutting],
            group.cuts.total(group.energy)[cutting] + dram * self._transfer_fj,
            priced.early[pattern, depth, cutting], priced.late[pattern, depth, cutting],
            np.zeros_like(cutting) if group.enter is None else group.enter[cutting],
            *_first_constants(group, cutting, depth),
        ))  # fmt: skip
        still = priced.still[pattern]
        # options without transfers last as long as they compute
        settled = known[:, still]
        none = np.zeros_like(settled[4])
        lasts, window = settled[4], Window(settled[4], none, none, none, none)
        self._record(settled, _ends(Spans(lasts, none, none, window)))
        moving = ~still
        if moving.any():
            self._wait(group, _loads(group, table, uses), pattern[moving], known[:, moving])

    def _wait(
        self, group: Group, transfers: tuple[Ints, Ints, Ints], pattern: Ints, known: Ints
    ) -> None:
        """Have options timed, those of a variant together."""
        variant, spans = known[3], group.cuts.spans()
        edges = [0, *(np.flatnonzero(np.diff(variant)) + 1).tolist(), len(variant)]
        for begin, end in pairwise(edges):
            cutting, depth = divmod(int(variant[begin]) - self._bases[-2], len(DEPTHS))
            first, last = spans[cutting]
            load, store, written = (array[pattern[begin:end], first:last] for array in transfers)
            self._await(
                _Pipelines(group.compute[first:last], load, store, written, [known[:, begin:end]]),
                DEPTHS[depth],
            )
        if self._waiting > _MOST_PENDING:
            self._time()

    def _await(self, pipelines: _Pipelines, depth: int) -> None:
        """Have pipelines timed, unless there are others like them."""
        same = self._pipelines.setdefault(pipelines.key(depth), pipelines)
        if same is pipelines:
            self._pending.setdefault((pipelines.load.shape[1], depth), []).append(pipelines)
            self._waiting += 4 * pipelines.load.size
        elif same.ends is None:
            same.known += pipelines.known
        else:
            self._record(pipelines.known[0], same.ends)

    def _family_numbers(self, group: Group, table: Ints, uses: list[Use]) -> Ints:
        """Family of each pattern; every pattern has one use a map."""
        picked = np.nonzero(table)[1].reshape(len(table), -1).tolist()
        return np.array(
            [self._family(group, [uses[n] for n in numbers]) for numbers in picked],
            dtype=np.int64,
        )

    def _family(self, group: Group, uses: list[Use]) -> int:
        by_kind: dict[str, list[int]] = {
            kind: [] for kind in ("read", "stream", "keep", "store", "both")
        }
        for use in uses:
            by_kind[use.kind].append(use.map)
        also = [use.map if use.stored is None else use.stored for use in uses if use.kind == "both"]
        family = _Family(
            group.first, group.end, _distinct(by_kind["read"]), _distinct(by_kind["stream"]),
            _distinct(by_kind["keep"] + by_kind["both"]), _distinct(by_kind["store"] + also),
            group.streams_weights,
        )  # fmt: skip
        return self._families.setdefault(family, len(self._families))

    def _time(self) -> None:
        for (_, depth), batch in self._pending.items():
            options = [len(one.load) for one in batch]
            spans = pipeline_spans(
                np.repeat(np.stack([one.compute for one in batch]), options, axis=0),
                np.concatenate([one.load for one in batch]),
                np.concatenate([one.store for one in batch]),
                np.concatenate([one.written for one in batch]),
                depth,
                self._cut,
            )
            ends = np.split(_ends(spans), np.cumsum(options)[:-1], axis=1)
            for one, own in zip(batch, ends, strict=True):
                one.settle(own)
                for known in one.known:
                    self._record(known, own)
        self._pending, self._waiting = {}, 0

    def _record(self, known: Ints, ends: Ints) -> None:
        self._known.append(known)
        self._ends.append(ends)

    def _options(self) -> Ints:
        """Options in one piece, one a column: family, prices, variant, compute."""
        self._time()
        banded = self._bands.options()
        if not self._known:
            return banded
        family, work, dram, variant, compute, energy, early, late, *first = np.concatenate(
            self._known, axis=1
        )
        duration, dma, least, window, queue, loads, ahead, behind = np.concatenate(
            self._ends, axis=1
        )
        enter, space, one, some = first
        plain = np.stack((
            family, duration, dma, least, work, dram, window, queue, loads,
            # more of these is better
            -ahead, -behind, early, late, -enter, space, -one, -some, energy, variant, compute,
        ))  # fmt: skip
        return np.concatenate((plain, banded), axis=1)

    def candidates(self) -> tuple[tuple[Candidate, ...], tuple[Recipe, ...]]:
        """Candidates and the recipe of each, in order of their parts."""
        options = self._options()
        if not options.shape[1]:
            return (), ()
        # rows of the keys, the last first: families, then prices, equals by variant
        options = options[:, np.lexsort(options[_VARIANT::-1])]
        if self._prune:
            kept = undominated(options[0], options[1:_VARIANT])
            # all that stripes alone may choose from is here, too, beaten by others or not
            plain = np.flatnonzero(self._are_plain(options[_VARIANT]))
            kept[plain] |= undominated(options[0, plain], options[1:_VARIANT, plain])
            self.dropped = int(np.count_nonzero(~kept))
            options = options[:, kept]
        families = list(self._families)
        options = _in_order(options, families)
        found = tuple(_candidates(options.T.tolist(), families))
        return found, tuple(self._recipes(options[_VARIANT]))

    def _are_plain(self, variants: Ints) -> NDArray[np.bool_]:
        """Whether each variant is one of stripes, or of a layer in channel tiles."""
        plain = np.array([recipe.is_plain for recipe, _ in self._groups], dtype=np.bool_)
        found: NDArray[np.bool_] = plain[self._group_of(variants)]
        return found

    def _group_of(self, variants: Ints) -> Ints:
        found: Ints = np.searchsorted(np.array(self._bases), variants, side="right") - 1
        return found

    def _recipes(self, variants: Ints) -> Iterator[Recipe]:
        known: dict[int, Recipe] = {}
        groups = self._group_of(variants)
        for variant, number in zip(variants.tolist(), groups.tolist(), strict=True):
            if variant not in known:
                plain, heights = self._groups[number]
                cutting, depth = divmod(variant - self._bases[number], len(DEPTHS))
                known[variant] = replace(plain, height=heights[cutting], depth=DEPTHS[depth])
            yield known[variant]


@dataclass(frozen=True, slots=True)
class _Priced:
    """Prices of patterns; cuttings last, depths (where they matter) in the middle."""

    fits: NDArray[np.bool_]
    still: NDArray[np.bool_]
    work: Ints
    dram: Ints
    early: Ints
    late: Ints

    def only(self, chosen: NDArray[np.bool_]) -> _Priced:
        return _Priced(*(getattr(self, name)[chosen] for name in self.__slots__))


def _distinct(maps: list[int]) -> tuple[int, ...]:
    return tuple(sorted(set(maps)))


def _columns(uses: list[Use], wanted: Callable[[Use], bool]) -> dict[int, list[int]]:
    """Uses by their map."""
    found: dict[int, list[int]] = {}
    for n, use in enumerate(uses):
        if wanted(use):
            found.setdefault(use.map, []).append(n)
    return found


def _consistent(table: Ints, uses: list[Use]) -> Ints:
    """Patterns in which no map that holds several operands is both read in SPM and streamed."""
    read = _columns(uses, lambda use: use.kind == "read")
    for t, streamed in _columns(uses, lambda use: use.kind == "stream").items():
        if t in read:
            clash = table[:, read[t]].any(axis=1) & table[:, streamed].any(axis=1)
            table = table[~clash]
    return table


def _outside_bytes(table: Ints, uses: list[Use]) -> Ints:
    """Space of maps kept by earlier groups, each counted once."""
    total = np.zeros(len(table), dtype=np.int64)
    for columns in _columns(uses, lambda use: use.outside_bytes > 0).values():
        total += table[:, columns].max(axis=1) * uses[columns[0]].outside_bytes
    return total


def _taken_over(group: Group, table: Ints, uses: list[Use]) -> Ints | None:
    """Space (patterns, cuttings) of kept maps that take that of dying ones."""
    if not group.takeovers:
        return None
    read = _columns(uses, lambda use: use.kind == "read")
    kept = _columns(uses, lambda use: use.kind in ("keep", "both"))
    chosen = {("read", t): _any_of(table, columns) for t, columns in read.items()}
    chosen |= {("keep", t): _any_of(table, columns) for t, columns in kept.items()}
    sizes = {t: int(uses[columns[0]].space_bytes.flat[0]) for t, columns in kept.items()}
    return saved_bytes(group.takeovers, chosen, sizes, group.stripe_bytes)


def _any_of(table: Ints, columns: list[int]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.any(table[:, columns], axis=1)
    return found


def _combined(table: Ints, prices: list[Ints]) -> Ints:
    """Sums over the uses of each pattern; axes of the prices kept."""
    sums: Ints = np.tensordot(table, np.stack(prices), axes=1)
    return sums


def _least(table: Ints, uses: list[Use], kind: str) -> Ints:
    """Least space (patterns, depths, cuttings) of a buffer that uses of a kind have; 0 for none."""
    least = np.full((len(table), *uses[0].space_bytes.shape), _NONE)
    for n, use in enumerate(uses):
        if use.kind == kind:
            chosen = table[:, n].astype(bool)[:, None, None]
            least = np.where(chosen, np.minimum(least, use.space_bytes), least)
    return np.where(least == _NONE, 0, least)


def _first_constants(group: Group, cutting: Ints, depth: Ints) -> tuple[Ints, Ints, Ints]:
    """Of options: space of streamed constants, cycles of the first tile's, and of those ahead."""
    if group.load is None:
        none = np.zeros_like(cutting)
        return none, none, none
    firsts = np.array([begin for begin, _ in group.cuts.spans()])
    one = group.load[firsts]
    two = one + np.array([
        group.load[begin + 1] if end - begin > 1 else 0 for begin, end in group.cuts.spans()
    ])  # fmt: skip
    streams = group.space_bytes if group.stream_space is None else group.stream_space
    space = np.broadcast_to(streams, (len(DEPTHS), len(firsts)))
    return space[depth, cutting], one[cutting], np.where(depth == 0, one[cutting], two[cutting])


def _loads(group: Group, table: Ints, uses: list[Use]) -> tuple[Ints, Ints, Ints]:
    """Cycles (patterns, tiles) of loads, of stores out of rolling buffers, and out of maps."""
    load, store, written = (
        _transfers(table, uses, kind, len(group.compute)) for kind in ("stream", "store", "both")
    )
    return (load if group.load is None else load + group.load), store, written


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


def _in_order(options: Ints, families: list[_Family]) -> Ints:
    """Options by their parts, then by variant."""
    first = np.array([family.first for family in families])[options[0]]
    end = np.array([family.end for family in families])[options[0]]
    return options[:, np.lexsort((options[0], options[_VARIANT], end, first))]


def _overlap(prices: list[int]) -> Overlap:
    window, queue, first, ahead, behind, early, late, enter, space, one, some = prices
    return Overlap(window, queue, first, -ahead, -behind, early, late, -enter, space, -one, -some)


def _candidates(rows: list[list[int]], families: list[_Family]) -> Iterator[Candidate]:
    for k, row in enumerate(rows):
        number, duration, dma, least, work, dram, *overlap, energy, _, compute = row
        family = families[number]
        yield Candidate(
            family.first, family.end, family.reads, family.streams, family.keeps, family.stores,
            family.streams_weights, duration, dma, compute, work, dram, k, least, _overlap(overlap),
            energy,
        )  # fmt: skip
