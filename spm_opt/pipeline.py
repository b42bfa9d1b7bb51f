"""The recurrence of one step's tile pipeline: two engines, in order, with buffers of some depth.

The DMA engine runs ``load 0, load 1, store 0, load 2, store 1, ...``. Tile ``t`` computes after
its load, after tile ``t-1`` and, where its output goes through a rolling buffer, after store
``t-depth``; load ``t`` waits for tile ``t-depth``, whose rows it overwrites; a store waits for its
tile. Arrays over candidates, a loop over tiles: this is the inner loop of candidate generation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Spans:
    """Ends of pipelines, from the start of their steps.

    Attributes
    ----------
    duration_cycles : int64 array (candidates,)
        End of the last command.
    dma_cycles : int64 array (candidates,)
        End of the last transfer; 0 where there is none.
    """

    duration_cycles: Ints
    dma_cycles: Ints


def pipeline_spans(compute: Ints, load: Ints, store: Ints, written: Ints, depth: int) -> Spans:
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
    """
    count, tiles = compute.shape
    compute, load, store, written = (
        np.ascontiguousarray(a.T) for a in (compute, load, store, written)
    )
    stores, writes = store.any(), written.any()
    zero = np.zeros(count, dtype=np.int64)
    dma, ends, drained, loaded = load[0], [zero, zero], [zero, zero], load[0]
    for t in range(tiles):
        end = np.maximum(ends[-1], loaded)
        if stores:
            end = np.maximum(end, drained[-depth])
        end = end + compute[t]
        ends = [ends[-1], end]
        if t + 1 < tiles:
            step = load[t + 1]
            loaded = np.where(step > 0, np.maximum(dma, ends[-depth]) + step, 0)
            dma = np.maximum(dma, loaded)
        if stores:
            out = np.where(store[t] > 0, np.maximum(dma, end) + store[t], 0)
            dma, drained = np.maximum(dma, out), [drained[-1], out]
        if writes:
            late = np.where(written[t] > 0, np.maximum(dma, end) + written[t], 0)
            dma = np.maximum(dma, late)
    return Spans(np.maximum(ends[-1], dma), dma)
