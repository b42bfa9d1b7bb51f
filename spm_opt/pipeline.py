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
        return Spans(duration, free, free)
    return Spans(duration, free - queue.filled, free - queue.idle)


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
