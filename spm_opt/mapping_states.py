"""All choices along one loop at once: the lines of one axis and tile size, as arrays over choices.

What is kept along a loop changes needs along that loop only, so the choices of a mapping are a
product over its loops: one state of each. What keeping costs nothing is always kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np

from spm_opt.boxes import Ints, Span
from spm_opt.mapping_counts import incomplete
from spm_opt.mapping_evaluation import weights_span
from spm_opt.mapping_lines import Choices, Line, Profile, fresh, lines, profile
from spm_opt.mapping_live import Level
from spm_opt.mapping_set import FusionSet

#: states of one loop that are enumerated in full
MOST_STATES = 64
_FIELDS = ("need", "before", "after", "both", "gap", "gone", "ahead")


@dataclass(frozen=True)
class Stream:
    """One tensor along one loop, in every state of the loop.

    Attributes
    ----------
    profiles : tuple of Profile
        By state.
    grid : int64 array (kept tiles,)
        Tiles between which all counts run straight: the peak of a product is at one of these.
    """

    profiles: tuple[Profile, ...]
    grid: Ints

    @cached_property
    def arrays(self) -> dict[str, Ints]:
        """Each field of the profiles: int64 arrays (states, kept tiles)."""
        return {f: np.array([getattr(p, f)[self.grid] for p in self.profiles]) for f in _FIELDS}

    @cached_property
    def union(self) -> Ints:
        """Indices that any tile needs: int64 array (states,)."""
        return np.array([p.union for p in self.profiles])

    @cached_property
    def all_needed(self) -> Ints:
        """Indices that the tiles need, each as often as it is needed: int64 array (states,)."""
        return np.array([int(p.need.sum()) for p in self.profiles])

    @cached_property
    def constant(self) -> bool:
        """Whether every tile needs what any tile needs."""
        return all(bool((p.need == p.union).all()) for p in self.profiles)

    @cached_property
    def gaps(self) -> bool:
        """Whether something is needed before and after a tile and not there."""
        return any(bool(p.gap.any()) for p in self.profiles)

    @cached_property
    def overlaps(self) -> bool:
        """Whether something is needed at more than one tile."""
        return any(bool(p.before.any()) for p in self.profiles)

    def moved(self, kept: int) -> Ints:
        """Indices moved or computed in all, where they are kept or not: int64 array (states,)."""
        return self.union if kept else self.all_needed

    @cached_property
    def _busy(self) -> tuple[Ints, Ints]:
        whole = [int(np.count_nonzero(p.need)) for p in self.profiles]
        return np.array(whole), np.array([int(np.count_nonzero(p.fresh)) for p in self.profiles])

    @cached_property
    def _largest(self) -> tuple[Ints, Ints]:
        whole = [int(p.need.max()) for p in self.profiles]
        return np.array(whole), np.array([int(p.fresh.max()) for p in self.profiles])

    def busy(self, kept: int) -> Ints:
        """Tiles that move something: int64 array (states,)."""
        return self._busy[kept]

    def largest(self, kept: int) -> Ints:
        """Most indices that one tile moves: int64 array (states,)."""
        return self._largest[kept]

    def level(self, reuse: Ints, at: int, of: int) -> Level:
        """The level of loop `at` of `of`, where choices of all loops are the first axes."""
        states = len(self.profiles)

        def placed(values: Ints) -> Ints:
            shape = [1] * (2 * of)
            shape[at], shape[of + at] = states, values.size // states
            return values.reshape(shape)

        fields = {f: placed(self.arrays[f]) for f in _FIELDS}
        return Level(**fields, union=placed(self.union), reuse=placed(reuse.astype(np.int64)))


@dataclass(frozen=True)
class States:
    """The states of one loop: an axis, a tile size, and every choice worth a look.

    Attributes
    ----------
    fused : FusionSet
    lines : tuple of Line
        By state.
    complete : bool
        Whether no choice was left out for their number.
    """

    fused: FusionSet
    lines: tuple[Line, ...]
    complete: bool

    @property
    def name(self) -> str:
        """The tiled axis."""
        return self.lines[0].name

    @property
    def size(self) -> int:
        """Indices of a tile."""
        return self.lines[0].size

    @property
    def tiles(self) -> int:
        """Tiles of the loop."""
        return self.lines[0].tiles

    @cached_property
    def _profiles(self) -> dict[tuple[str, str], tuple[Profile, ...]]:
        fused, known = self.fused, dict[tuple[bytes, bytes], Profile]()

        def of(need: Span) -> Profile:
            # states and tensors share what they have in common
            key = (need.begin.tobytes(), need.end.tobytes())
            if key not in known:
                known[key] = profile(need)
            return known[key]

        maps = (*fused.inputs, *fused.produced)
        found = {("map", n): tuple(of(at.needs[n]) for at in self.lines) for n in maps}
        for layer in fused.layers:
            spans = (weights_span(fused, layer, at) for at in self.lines)
            found["weights", layer.name] = tuple(map(of, spans))
            found["new", layer.output] = tuple(of(at.new[layer.output]) for at in self.lines)
        return found

    @cached_property
    def _grid(self) -> Ints:
        """Tiles at which some count of some tensor does not run on straight."""
        rows = [
            getattr(p, f)
            for (what, _), found in self._profiles.items()
            if what != "new"
            for p in {id(p): p for p in found}.values()
            for f in _FIELDS
        ]
        table = np.array(rows)
        keep = np.ones(self.tiles, dtype=np.bool_)
        if self.tiles > 2:
            keep[1:-1] = (np.diff(table, n=2, axis=1) != 0).any(axis=0)
        return np.flatnonzero(keep)

    @cached_property
    def streams(self) -> dict[tuple[str, str], Stream]:
        """By ("map" or "new", tensor), and ("weights", layer)."""
        known: dict[tuple[int, ...], Stream] = {}
        return {
            key: known.setdefault(tuple(map(id, found)), Stream(found, self._grid))
            for key, found in self._profiles.items()
        }

    def reuse(self, name: str) -> Ints:
        """By state: 1 where an intermediate is kept, else 0."""
        return np.array([int(at.reuse.get(name, True)) for at in self.lines])


def states(fused: FusionSet, name: str, size: int, innermost: bool) -> States | None:
    """The states of a loop; None where no tiles of this size leave what is read outside whole.

    Parameters
    ----------
    innermost : bool
        Whether no loop runs inside: keeping what the next tile needs then costs nothing.
    """
    limit = _most_dropped(len(fused.intermediates))
    found = lines(fused, name, size, _choices(limit, innermost))
    kept = tuple(at for at in found if incomplete(fused, at) is None)
    complete = innermost or limit >= len(fused.intermediates)
    return States(fused, kept, complete) if kept else None


def _most_dropped(intermediates: int) -> int:
    """How many intermediates may be computed again at once, so that states stay few."""
    total, dropped = 1, 0
    while dropped < intermediates:
        total += comb(intermediates, dropped + 1)
        if total > MOST_STATES:
            break
        dropped += 1
    return dropped


def _choices(limit: int, innermost: bool) -> Choices:
    def choose(name: str, need: Span, before: dict[str, bool]) -> tuple[bool, ...]:
        if np.array_equal(fresh(need).length, need.length):
            return (True,)
        if innermost and not profile(need).gap.any():
            return (True,)
        return (True, False) if sum(not kept for kept in before.values()) < limit else (True,)

    return choose


def tile_sizes(extent: int, most: int) -> tuple[int, ...]:
    """Sizes below `extent`: the least for each number of tiles, thinned out to `most`."""
    sizes = sorted({-(-extent // tiles) for tiles in range(2, extent + 1)})
    if len(sizes) <= most:
        return tuple(sizes)
    places = np.unique(np.linspace(0, len(sizes) - 1, most).round().astype(int))
    return tuple(sizes[i] for i in places.tolist())


def flags(count: int, open_: Sequence[bool]) -> list[tuple[int, ...]]:
    """All choices of 0 and 1 for `count` loops; 1 where a loop is not open."""
    found: list[tuple[int, ...]] = [()]
    for i in range(count):
        found = [(*f, kept) for f in found for kept in ((1, 0) if open_[i] else (1,))]
    return found
