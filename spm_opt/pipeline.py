"""The recurrence of one step's tile pipeline: two engines, in order, with buffers of some depth.

The DMA engine runs ``load 0, load 1, store 0, load 2, store 1, ...``. Tile ``t`` computes after
its load, after tile ``t-1`` and, where its output goes through a rolling buffer, after store
``t-depth``; load ``t`` waits for tile ``t-depth``, whose rows it overwrites; a store waits for its
tile. Arrays over candidates, a loop over tiles: this is the inner loop of candidate generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


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
    compute, load, store, written = (
        np.ascontiguousarray(a.T) for a in (compute, load, store, written)
    )
    stores, writes = store.any(), written.any()
    zero = np.zeros(count, dtype=np.int64)
    ends, drained, loaded = [zero, zero], [zero, zero], load[0]
    queue = _Queue(load[0], zero, zero, cut or NO_CUT)
    for t in range(tiles):
        end = np.maximum(ends[-1], loaded)
        if stores:
            end = np.maximum(end, drained[-depth])
        end = end + compute[t]
        ends = [ends[-1], end]
        if t + 1 < tiles:
            loaded = queue.run(load[t + 1], ends[-depth])
        if stores:
            drained = [drained[-1], queue.run(store[t], end)]
        if writes:
            queue.run(written[t], end)
    duration, free = np.maximum(ends[-1], queue.free), queue.free
    if cut is None:
        return Spans(duration, free, free, window)
    return Spans(duration, free - queue.filled, free - queue.idle, window)


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
    zero = np.zeros(len(compute), dtype=np.int64)
    ends, loaded = [zero] * depth, zero
    for t in range(compute.shape[1]):
        if t >= depth:
            loaded = np.maximum(loaded, ends[-depth]) + load[:, t]
        ends = [*ends[-1:], np.maximum(ends[-1], loaded) + compute[:, t]]
    return ends[-1]


def _held_by_stores(compute: Ints, store: Ints, depth: int) -> Ints:
    """End of the last computation where stores alone move."""
    zero = np.zeros(len(compute), dtype=np.int64)
    end, free, drained = zero, zero, [zero] * depth
    for t in range(compute.shape[1]):
        end = np.maximum(end, drained[0]) + compute[:, t]
        free = np.where(store[:, t] > 0, np.maximum(free, end) + store[:, t], free)
        drained = [*drained[1:], free]
    return end


@dataclass(slots=True)
class _Queue:
    """When the DMA engines are free, how long they stood idle, and what of it can be filled."""

    free: Ints
    idle: Ints
    filled: Ints
    cut: Cut

    def run(self, cycles: Ints, earliest: Ints) -> Ints:
        """Transfers that may not start before `earliest`; their ends, 0 where there is none."""
        there = cycles > 0
        gap = np.where(there, np.maximum(earliest - self.free, 0), 0)
        self.idle = self.idle + np.where(gap > self.cut.latency_cycles, gap, 0)
        self.filled = self.filled + np.maximum(gap - self.cut.cycles, 0)
        ends: Ints = np.where(there, np.maximum(self.free, earliest) + cycles, 0)
        self.free = np.maximum(self.free, ends)
        return ends
