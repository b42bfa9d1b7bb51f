"""The clock of the joint model with barriers: a step begins when the one before has ended.

How far the loads of constants are ahead is one number, since they keep the order of use. Three
facts keep labels few, and lose nothing:

- *Truncation is free.* A prefetch that a later step has no space for is taken back: it was never
  made. So no label decides how much to prefetch; each carries all that time allows.
- *Waiting is a move.* A label can wait until it has loaded what another has ahead; one that is
  cheaper even so makes the other superfluous.
- *A stream finds the queue free.* Where a step has transfers of its own, a prefetch under way is
  either finished first or was not begun: two labels. Where prefetches can be cut (`Problem.cuts`)
  it simply goes on: what a cut costs is not counted, so the value is a bound.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.dynamic_table import (
    CANDIDATE,
    COST,
    MOVE,
    OWN,
    PROGRESS,
    Block,
    Ints,
    Labels,
    Move,
    Prices,
    Step,
    Table,
    reload_prices,
)
from spm_opt.problem import Candidate

#: row of the labels: whether a prefetch under way was finished first
FINISH: Final = OWN


class Barriers:
    """Steps one after another; `PROGRESS` is cycles of constants loaded."""

    def start(self) -> Labels:
        """The label at the beginning."""
        return np.array([[0], [0], [-1], [-1], [-1], [0]], dtype=np.int64)

    def prune(self, found: list[Labels], prices: Prices) -> Labels:
        """Labels that no other one, waiting if it must, makes superfluous."""
        merged = np.concatenate(found, axis=1)
        order = np.lexsort((-merged[PROGRESS], merged[COST]))
        potential = (merged[COST] - prices.per_cycle * merged[PROGRESS])[order]
        best = np.minimum.accumulate(potential)
        kept = order[np.concatenate((np.ones(1, dtype=bool), potential[1:] < best[:-1]))]
        return merged[:, kept]

    def advance(
        self,
        table: Table,
        v: int,
        labels: Labels,
        number: int,
        moves: list[Move | None],
        chosen: Ints,
        room: Ints,
    ) -> Labels:
        """Every label after every chosen candidate, sorted by family; `MOVE` holds the family."""
        prices, ready, block = table.prices, table.ready, table.blocks[v].only(chosen)
        front, moved = reload_prices(table.problem, prices, moves)
        front, moved = front[block.family], moved[block.family] + block.price
        own, slack, limit = (
            ready[block.end],
            block.duration - block.dma,
            _limit(table, v, block, room),
        )
        if not table.problem.prefetch:
            slack, limit = np.zeros_like(slack), own
        # nothing passes constants that are streamed
        before = np.where(block.streamed, ready[v], labels[PROGRESS][:, None])
        wait = np.where(block.streamed, 0, np.maximum(own - before, 0))
        spent = wait + front + block.duration
        cost = labels[COST][:, None] + prices.per_cycle * spent + moved
        at_start = np.maximum(before, own)
        moving = (block.dma + front > 0) & (not table.problem.cuts)
        begun, done, busy = _under_way(ready, at_start, moving)
        parent = number + np.arange(labels.shape[1])[:, None]
        known = np.broadcast_arrays(parent, block.index, block.family, cost)[:3]
        plain = (cost, _truncated(begun + slack, limit), *known, np.zeros_like(cost))
        # a prefetch under way is finished first
        late = (
            cost + prices.per_cycle * (done - at_start),
            _truncated(done + slack, limit),
            *known,
        )
        after = [
            np.stack(plain).reshape(6, -1),
            np.stack((*late, np.ones_like(cost)))[:, busy],
        ]
        joined = np.concatenate(after, axis=1)
        return joined[:, np.argsort(joined[MOVE], kind="stable")]

    def latency(self, table: Table, path: list[Step], cost: int, other: int) -> int:
        """Cycles of a path of this cost; `other` is what of it is no price of cycles."""
        before = [0, *(step.progress for step in path)]
        return sum(_step_cycles(table, step, b) for step, b in zip(path, before, strict=False))

    def step(self, table: Table, label: Ints, move: Move) -> Step:
        """The step that led to a label."""
        return Step(
            int(label[CANDIDATE]), move.reloads, move.pinned_bytes, int(label[PROGRESS]),
            bool(label[FINISH]),
        )  # fmt: skip

    def limit_before(self, table: Table, candidate: Candidate, step: Step, before: int) -> int:
        """Progress beyond which nothing may have been loaded before a step begins."""
        ready = table.ready
        if candidate.streams_weights and ready[candidate.end] > ready[candidate.first]:
            return int(ready[candidate.first])
        room = table.problem.capacity_bytes - step.pinned_bytes - candidate.work_bytes
        reach = int(np.searchsorted(table.space, table.space[candidate.first] + room, "right")) - 1
        limit = int(ready[max(reach, candidate.end)])
        whole = not table.problem.cuts and not step.finishes
        if whole and (candidate.dma_cycles or step.reloads):
            at_start = max(min(before, limit), int(ready[candidate.end]))
            frontier = int(np.searchsorted(ready, at_start))
            if ready[frontier] > at_start:
                limit = int(ready[max(frontier - 1, candidate.end)])
        return limit


def _limit(table: Table, v: int, block: Block, room: Ints) -> Ints:
    """Cycles of the constants that fit beside each candidate, its own included."""
    base = np.where(block.streamed, block.end, v)
    reach = np.searchsorted(table.space, table.space[base] + room, side="right") - 1
    limit: Ints = table.ready[np.maximum(reach, block.end)]
    return limit


def _truncated(progress: Ints, limit: Ints) -> Ints:
    """Progress at the end of a step, less what finds no space beside it: that was never made."""
    return np.minimum(progress, limit)


def _under_way(
    ready: Ints, at_start: Ints, moving: NDArray[np.bool_]
) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """What a step finds of the prefetch that is under way when it begins.

    Returns
    -------
    begun, done : int64 array
        Progress where it was not begun for the sake of a step that is `moving`; once it is done.
    busy : bool array
        Where these are two cases.
    """
    frontier = np.searchsorted(ready, at_start)
    done = ready[frontier]
    busy = (done > at_start) & moving
    return np.where(busy, ready[frontier - 1], at_start), done, busy


def _step_cycles(table: Table, step: Step, before: int) -> int:
    """What `_advance` counts for one step that finds `before` cycles of constants loaded."""
    c, ready = table.problem.candidates[step.candidate], table.ready
    own = int(ready[c.end])
    if c.streams_weights and own > ready[c.first]:
        before = own
    at_start = max(before, own)
    if step.finishes:
        at_start = int(ready[np.searchsorted(ready, at_start)])
    front = sum(table.problem.maps[t].reload_cycles for t in step.reloads)
    return at_start - before + front + c.duration_cycles
