"""Problems that fit on a hand, written short.

Parts, maps and groups are given as in `spm_opt.problem`, with the prices that matter; everything
else is 0.
"""

from __future__ import annotations

from dataclasses import replace

from spm_opt.problem import Candidate, FeatureMap, Overlap, Problem, WeightLoad


def fmap(
    size: int, writers: tuple[int, ...] = (), readers: tuple[int, ...] = (),
    must_store: bool = False, reload: int = 1,
) -> FeatureMap:  # fmt: skip
    """A map; without writers it is a network input. Loading it whole moves its size."""
    return FeatureMap(size, writers, readers, not writers, must_store, reload, size)


def joined(
    size: int, writers: tuple[int, ...], readers: tuple[int, ...], must_store: bool = False,
    reload: int = 1,
) -> FeatureMap:  # fmt: skip
    """A map of pieces that its writers write themselves, or leave alone."""
    return replace(fmap(size, writers, readers, must_store, reload), joined=True)


def group(
    first: int, end: int, cycles: int, *, dma: int = 0, work: int = 0, moved: int = 0,
    reads: tuple[int, ...] = (), streams: tuple[int, ...] = (), keeps: tuple[int, ...] = (),
    stores: tuple[int, ...] = (), streams_weights: bool = False,
) -> Candidate:  # fmt: skip
    """A candidate; its recipe is filled in by `problem`."""
    return Candidate(
        first, end, reads, streams, keeps, stores, streams_weights, cycles, dma, cycles, work,
        moved, -1, dma, Overlap(cycles, dma),
    )  # fmt: skip


def problem(
    capacity: int,
    maps: tuple[FeatureMap, ...],
    weights: dict[int, tuple[int, int]],
    *groups: Candidate,
    prefetch: bool = True,
    reload: bool = True,
    cuts: bool = True,
) -> Problem:
    """`weights` gives space and cycles of the constants of a part; recipes number the groups."""
    parts = max(c.end for c in groups)
    loads = [weights.get(p, (0, 0)) for p in range(parts)]
    numbered = tuple(replace(c, recipe=n) for n, c in enumerate(groups))
    return Problem(
        parts, capacity, maps, tuple(WeightLoad(s, cycles, s) for s, cycles in loads), numbered,
        prefetch, reload, cuts,
    )  # fmt: skip
