"""The recurrence of one step's tile pipeline: two engines, in order, with buffers of some depth.

The DMA engine runs ``load 0, load 1, store 0, load 2, store 1, ...``. Tile ``t`` computes after
its load, after tile ``t-1`` and, where its output goes through a rolling buffer, after store
``t-depth``; load ``t`` waits for tile ``t-depth``, whose rows it overwrites; a store waits for its
tile. Arrays over candidates, a loop over tiles: this is the inner loop of candidate generation.

Most tiles do what the tile before them did. Once a run of such tiles has come into step, each adds
the same cycles as the last one, so the rest of the run is one multiplication (`_over_tiles`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: times and sums of all candidates between two tiles, an array each
_State: TypeAlias = tuple[Ints, ...]
#: alike tiles that are worth asking whether the state has come into step
_WORTH_ASKING: Final = 4


@dataclass(frozen=True, slots=True)
class Cut:
    """What it costs to cut a transfer in two, and the latency that any transfer has."""

    latency_cycles: int = 0
    burst_cycles: int = 0

    @property
    def cycles(self) -> int:
        """Cycles that a gap may lose: the second latency, and a burst that does not fit."""
        return self.latency_cycles + self.burst_cycles


NO_CUT: Final = Cut()


@dataclass(frozen=True, slots=True)
class Spans:
    """Ends of pipelines, from the start of their steps.

    Attributes
    ----------
    duration_cycles : int64 array (candidates,)
        End of the last command.
    dma_cycles : int64 array (candidates,)
        Cycles that the transfers keep the queue from others: until the end of the last, less the
        gaps between them, each of which loses what cutting a transfer costs; 0 where there is none.
    least_dma_cycles : int64 array (candidates,)
        The same with nothing lost: no way to fill the gaps leaves the queue freer.
    """

    duration_cycles: Ints
    dma_cycles: Ints
    least_dma_cycles: Ints
    window: Window


@dataclass(frozen=True, slots=True)
class Window:
    """Pipelines whose first loads may run before the step, and last stores behind it.

    Attributes
    ----------
    window_cycles : int64 array (candidates,)
        Between the start of the first computation and the end of the last, no fewer: the first
        `depth` loads there, the last `depth` stores and those out of whole maps left for later.
    queue_cycles : int64 array (candidates,)
        All transfers.
    first_cycles : int64 array (candidates,)
        The loads that the first tile waits for.
    ahead_cycles, behind_cycles : int64 array (candidates,)
        Transfers that may run before the step, and behind it.
    """

    window_cycles: Ints
    queue_cycles: Ints
    first_cycles: Ints
    ahead_cycles: Ints
    behind_cycles: Ints


def pipeline_spans(
    compute: Ints, load: Ints, store: Ints, written: Ints, depth: int, cut: Cut | None = NO_CUT
) -> Spans:
    """Run pipelines of equal tile counts.

    Parameters
    ----------
    compute, load : int64 array (candidates, tiles)
        Cycles of each tile's computation and loads; a load of 0 cycles does not exist.
    store, written : int64 array (candidates, tiles)
        Cycles of each tile's stores out of rolling buffers, and out of whole maps. The former
        come first; only they hold up a later tile.
    depth : int
        1 or 2.
    cut : Cut or None
        What it costs to cut a transfer in two; None where gaps are not filled.
    """
    window = _window(compute, load, store, written, depth)
    count, tiles = compute.shape
    alike = _alike(compute, store, written) & _alike_next(load)
    compute, load, store, written = (
        np.ascontiguousarray(a.T) for a in (compute, load, store, written)
    )
    stores, writes, cutting = store.any(), written.any(), cut or NO_CUT

    def after(t: int, state: _State) -> _State:
        ended, loaded, drained_last, drained_before, free, idle, filled = state
        queue = _Queue(free, idle, filled, cutting)
        end = np.maximum(ended, loaded)
        if stores:
            end = np.maximum(end, drained_last if depth == 1 else drained_before)
        end = end + compute[t]
        if t + 1 < tiles:
            loaded = queue.run(load[t + 1], end if depth == 1 else ended)
        if stores:
            drained_last, drained_before = queue.run(store[t], end), drained_last
        if writes:
            queue.run(written[t], end)
        return end, loaded, drained_last, drained_before, *queue.state

    zero = np.zeros(count, dtype=np.int64)
    start = (zero, load[0], zero, zero, load[0], zero, zero)
    end, *_, free, idle, filled = _over_tiles(start, after, alike, sums=2)
    duration = np.maximum(end, free)
    if cut is None:
        return Spans(duration, free, free, window)
    return Spans(duration, free - filled, free - idle, window)


def _alike(*arrays: Ints) -> Bools:
    """Tiles at which no candidate's cycles differ from those of the tile before."""
    found = np.zeros(arrays[0].shape[1], dtype=np.bool_)
    found[1:] = True
    for array in arrays:
        found[1:] &= (array[:, 1:] == array[:, :-1]).all(axis=0)
    return found


def _alike_next(load: Ints) -> Bools:
    """Tiles behind which the same is loaded as behind the tile before; not the last."""
    found = np.zeros(load.shape[1], dtype=np.bool_)
    found[:-1] = _alike(load)[1:]
    found[:1] = False
    return found


def _over_tiles(
    state: _State, after: Callable[[int, _State], _State], alike: Bools, sums: int = 0
) -> _State:
    """The state after all tiles.

    A run of alike tiles is *in step* where a tile puts every time of a candidate off by the same
    cycles, but for times which stand still and which the clock has passed: nothing waits for
    them. The maximum of times that are all put off by some cycles is put off by them, so every
    tile of the run then adds what the last one added, and sums grow alike.

    Parameters
    ----------
    state : tuple of int64 array (candidates,)
        At the start: the clock, which no time that matters is ahead of for long, other times,
        and `sums` sums that depend on differences of times only.
    after : callable
        State after tile ``t``.
    alike : bool array (tiles,)
        Whether tile ``t`` does to any state what tile ``t-1`` does.
    """
    # alike tiles in a row that begin at each tile, the last first
    left = list(accumulate(reversed([0, *map(int, alike)]), lambda n, one: (n + 1) * one))[::-1]
    left = [*left[1:], 0]
    t, asked = 0, 0
    while t < len(alike):
        before, state = state, after(t, state)
        t += 1
        asked += 1
        if left[t] >= max(_WORTH_ASKING, asked) and _in_step(before, state, len(state) - sums):
            state = tuple(b + left[t] * (b - a) for a, b in zip(before, state, strict=True))
            t, asked = t + left[t], 0
    return state


def _in_step(before: _State, state: _State, times: int) -> bool:
    """Whether every time was put off like the clock, or stands still behind it."""
    clock = state[0] - before[0]
    for old, new in zip(before[1:times], state[1:times], strict=True):
        moved = new - old
        if not ((moved == clock) | ((moved == 0) & (new <= before[0]))).all():
            return False
    return True


def _window(compute: Ints, load: Ints, store: Ints, written: Ints, depth: int) -> Window:
    """What binds the computations of pipelines that overlap with those of other steps.

    Loads alone, in the order of their tiles, hold them up, and stores alone, and all transfers that
    can run neither before nor behind run between the first computation and the last.
    """
    tiles = compute.shape[1]
    inner_load, inner_store = load[:, depth:], store[:, : max(0, tiles - depth)]
    inner = inner_load.sum(axis=1) + inner_store.sum(axis=1)
    outer = np.minimum(compute[:, 0] + compute[:, -1], compute.sum(axis=1))
    between = np.where(inner > 0, outer + inner, 0)
    held = np.maximum(_held_by_loads(compute, load, depth), _held_by_stores(compute, store, depth))
    first, ahead = load[:, 0], load[:, :depth].sum(axis=1)
    behind = store.sum(axis=1) - inner_store.sum(axis=1) + written.sum(axis=1)
    queue = load.sum(axis=1) + store.sum(axis=1) + written.sum(axis=1)
    return Window(np.maximum(held, between), queue, first, ahead, behind)


def _held_by_loads(compute: Ints, load: Ints, depth: int) -> Ints:
    """End of the last computation where the first `depth` loads are there."""
    alike = _alike(compute, load)
    # before this tile no load is waited for
    alike[: depth + 1] = False
    compute, load = np.ascontiguousarray(compute.T), np.ascontiguousarray(load.T)

    def after(t: int, state: _State) -> _State:
        end, end_before, loaded = state
        if t >= depth:
            loaded = np.maximum(loaded, end if depth == 1 else end_before) + load[t]
        return np.maximum(end, loaded) + compute[t], end, loaded

    zero = np.zeros(compute.shape[1], dtype=np.int64)
    return _over_tiles((zero, zero, zero), after, alike)[0]


def _held_by_stores(compute: Ints, store: Ints, depth: int) -> Ints:
    """End of the last computation where stores alone move."""
    if not store.any():
        total: Ints = compute.sum(axis=1)
        return total
    alike = _alike(compute, store)
    compute, store = np.ascontiguousarray(compute.T), np.ascontiguousarray(store.T)

    def after(t: int, state: _State) -> _State:
        end, free, drained_last, drained_before = state
        end = np.maximum(end, drained_last if depth == 1 else drained_before) + compute[t]
        free = np.where(store[t] > 0, np.maximum(free, end) + store[t], free)
        return end, free, free, drained_last

    zero = np.zeros(compute.shape[1], dtype=np.int64)
    return _over_tiles((zero, zero, zero, zero), after, alike)[0]


@dataclass(slots=True)
class _Queue:
    """When the DMA engines are free, how long they stood idle, and what of it can be filled."""

    free: Ints
    idle: Ints
    filled: Ints
    cut: Cut

    @property
    def state(self) -> _State:
        """What changes."""
        return self.free, self.idle, self.filled

    def run(self, cycles: Ints, earliest: Ints) -> Ints:
        """Transfers that may not start before `earliest`; their ends, 0 where there is none."""
        there = cycles > 0
        gap = np.where(there, np.maximum(earliest - self.free, 0), 0)
        self.idle = self.idle + np.where(gap > self.cut.latency_cycles, gap, 0)
        self.filled = self.filled + np.maximum(gap - self.cut.cycles, 0)
        ends: Ints = np.where(there, np.maximum(self.free, earliest) + cycles, 0)
        self.free = np.maximum(self.free, ends)
        return ends
