"""The clock where steps are no barriers: a bound on every plan of that space, and good plans.

It follows the compute engine: a label's cost is the cycle at which the last computation of a step
ends. ``PROGRESS`` is how many cycles of transfers the queue can have done by then beyond all that
the steps so far ask of it, their stores included. It is negative while stores are to come, and
positive where loads of later steps are there. Relations that every plan keeps (see
`spm_opt.schedule` for the rules):

- Computations of a step take no less than its window, and begin no sooner than the constants of
  its first part and the loads of its first tile are there, and all stores but those of the step
  before: the queue cannot have done more than time allows.
- When its last computation ends, no more may be missing than the stores that it and the step
  before may leave for later.
- What is there of later steps is constants, in order of use, that fit beside the step; and of the
  next step what its own buffers hold, as far as the queue had time for more than the constants:
  the label's *surplus*.

Left out are the space of buffers that are claimed early or released late, the order of transfers
in the queue, and latencies of cuts: the optimum is a bound. Labels are compared in cost, and in
cost less progress, with and without surplus and stores to come: waiting adds to both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

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

#: rows of the labels: what the queue had time for beyond what had space; stores that may be to
#: come; space that the last step left for claims, and space that those stores need
SURPLUS, TO_COME, ROOM, OUT = range(OWN, OWN + 4)
_ROWS: Final = OWN + 4
_NO_SPACE: Final = 2**62


class Overlapping:
    """Transfers beside the steps around theirs.

    Parameters
    ----------
    shelf_bytes : int
        Room for early claims is rounded up to a multiple of it, and space of late releases down,
        so that fewer labels differ.
    """

    def __init__(self, shelf_bytes: int) -> None:
        self.shelf_bytes = shelf_bytes

    def start(self) -> Labels:
        """The label at the beginning."""
        return np.array([[0], [0], [-1], [-1], [-1], *([0] for _ in range(4))], dtype=np.int64)

    def prune(self, found: list[Labels], prices: Prices) -> Labels:
        """Labels that no other one, waiting if it must, makes superfluous."""
        merged = np.concatenate(found, axis=1)
        progress = merged[PROGRESS]
        ahead = np.stack((
            np.zeros_like(progress), progress, progress + merged[TO_COME],
            progress + merged[SURPLUS], progress + merged[SURPLUS] + merged[TO_COME],
        ))  # fmt: skip
        keys = merged[COST] - prices.per_cycle * ahead
        return merged[:, _undominated(np.concatenate((keys, -merged[ROOM:OUT], merged[OUT:])))]

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
        block, prices = table.blocks[v].only(chosen), table.prices
        front, moved = reload_prices(table.problem, prices, moves)
        front, moved = front[block.family], moved[block.family] + block.price
        queue, left = block.queue + front, room - block.own_space
        constants = np.where(block.streamed, 0, table.ready[block.end] - table.ready[v])
        # stores go on beside a step that has room for their buffer
        to_come = np.where(labels[OUT][:, None] <= left, labels[TO_COME][:, None], 0)
        there = _There.of(table, v, labels, block, moves)
        ahead = labels[PROGRESS][:, None] + labels[SURPLUS][:, None] + to_come
        first = np.where(block.streamed, 0, table.ready[v + 1] - table.ready[v])
        wait = np.maximum(0, there.missing(first, ahead))
        # all constants are there when the last layer that has some begins
        loaded = np.maximum(0, there.missing(constants, ahead))
        wait = np.maximum(wait, loaded + block.compute - block.enter - block.window)
        before = there.before
        after = before + wait + block.window - queue - constants
        held = np.maximum(0, -(block.behind + to_come) - after)
        # behind the last step nothing is left for later
        held = np.where(block.end == table.problem.parts, np.maximum(held, -after), held)
        after = after + held
        limit = self._limit(table, v, block, room)
        cost = labels[COST][:, None] + moved
        cost = cost + prices.per_cycle * (wait + block.window + held)
        parent = number + np.arange(labels.shape[1])[:, None]
        most_early = table.most_early[block.end]
        columns = np.broadcast_arrays(
            cost, np.minimum(after, limit), parent, block.index, block.family,
            np.clip(after - limit, 0, table.most_ahead[block.end]), block.behind,
            np.minimum(-(-left // self.shelf_bytes) * self.shelf_bytes, most_early),
            block.late // self.shelf_bytes * self.shelf_bytes,
        )  # fmt: skip
        joined = np.stack(columns).reshape(_ROWS, -1)
        return joined[:, np.argsort(joined[MOVE], kind="stable")]

    def latency(self, table: Table, path: list[Step], cost: int, other: int) -> int:
        """Cycles of a path of this cost; `other` is what of it is no price of cycles."""
        prices = table.prices
        return (cost - other) // prices.per_cycle if prices.per_cycle else 0

    def step(self, table: Table, label: Ints, move: Move) -> Step:
        """The step that led to a label."""
        end = table.problem.candidates[int(label[CANDIDATE])].end
        loaded = int(table.ready[end]) + max(0, int(label[PROGRESS]))
        return Step(int(label[CANDIDATE]), move.reloads, move.pinned_bytes, loaded)

    def limit_before(self, table: Table, candidate: Candidate, step: Step, before: int) -> int:
        """Progress beyond which nothing may have been loaded before a step begins."""
        ready = table.ready
        if candidate.streams_weights and ready[candidate.end] > ready[candidate.first]:
            return int(ready[candidate.first])
        room = table.problem.capacity_bytes - step.pinned_bytes - candidate.work_bytes
        reach = int(np.searchsorted(table.space, table.space[candidate.first] + room, "right")) - 1
        return int(ready[max(reach, candidate.end)])

    def _limit(self, table: Table, v: int, block: Block, room: Ints) -> Ints:
        """Cycles of later constants that fit beside each candidate."""
        if not table.problem.prefetch:
            return np.zeros_like(room)
        base = np.where(block.streamed, block.end, v)
        reach = np.searchsorted(table.space, table.space[base] + room, side="right") - 1
        limit: Ints = table.ready[np.maximum(reach, block.end)] - table.ready[block.end]
        return limit


@dataclass(frozen=True, slots=True)
class _There:
    """What may be there of each candidate's loads when the step before it ends.

    Its streams if their buffer finds room beside that step, its whole maps if they do; constants in
    the room that is left. What constants then have no space is taken back.

    Attributes
    ----------
    before : int64 array (labels, candidates)
        What the queue can have done for the step.
    waited : int64 array (candidates,)
        Cycles of the loads that its first tile waits for, constants left out.
    early : int64 array (labels, candidates)
        How many of them can be done.
    constants : int64 array (labels, candidates)
        How many cycles of constants.
    """

    before: Ints
    waited: Ints
    early: Ints
    constants: Ints

    def missing(self, constants: Ints, ahead: Ints) -> Ints:
        """Cycles of the first tile's loads, and of these constants, that cannot be there.

        ``ahead`` is what the queue can have done in all.
        """
        done = np.minimum(ahead, np.minimum(self.constants, constants) + self.early)
        return self.waited + constants - done

    @staticmethod
    def of(
        table: Table,
        v: int,
        labels: Labels,
        block: Block,
        moves: list[Move | None],
    ) -> _There:
        """For candidates of a block, after labels."""
        room = labels[ROOM][:, None]
        whole, ahead, awaited = (row[block.family] for row in _whole_maps(table, v, moves))
        parts = (
            # space, cycles that may be done before, cycles of these that the first tile waits for
            (block.early, block.ahead - block.tile_ahead, block.first - block.tile_first),
            (block.tile_space, block.tile_ahead, block.tile_first),
            (whole, ahead, awaited),
        )
        space = np.full((room.shape[0], len(block.early)), _NO_SPACE)
        early, first = np.zeros_like(space), np.zeros_like(space)
        for size, cycles, soon in parts:
            fits = (room >= size) & (cycles > 0)
            space = np.where(fits, np.minimum(space, size), space)
            early = early + np.where(fits, cycles, 0)
            first = first + np.where(fits, soon, 0)
        space = np.where(space == _NO_SPACE, 0, space)
        reach = np.searchsorted(table.space, table.space[v] + room - space, side="right") - 1
        constants = table.ready[np.maximum(reach, v)] - table.ready[v]
        progress, surplus = labels[PROGRESS][:, None], labels[SURPLUS][:, None]
        # nothing passes constants that are streamed
        alone = np.where(block.streamed, np.minimum(progress, 0), progress)
        kept = np.where(block.streamed, np.minimum(progress, 0), np.minimum(progress, constants))
        before = np.maximum(alone, kept + np.minimum(progress + surplus - kept, early))
        alone_reach = np.searchsorted(table.space, table.space[v] + room, side="right") - 1
        most = table.ready[np.maximum(alone_reach, v)] - table.ready[v]
        all_awaited = block.first + _awaited(table, v, moves)[block.family]
        return _There(before, all_awaited, first, np.broadcast_to(most, before.shape))


def _whole_maps(table: Table, v: int, moves: list[Move | None]) -> tuple[Ints, Ints, Ints]:
    """Least size of the whole maps of each family that may be loaded ahead, and cycles of these.

    Also the cycles of those that its first part reads. One that the part before wrote is stored
    when that has ended.
    """
    maps = table.problem.maps
    rows: list[tuple[int, int, int]] = []
    for move in moves:
        found = [maps[t] for t in (move.reloads if move else ())]
        found = [m for m in found if max(m.writers, default=-1) < v - 1]
        rows.append((
            min((m.size_bytes for m in found), default=0), sum(m.reload_cycles for m in found),
            sum(m.reload_cycles for m in found if v in m.readers),
        ))  # fmt: skip
    size, ahead, awaited = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return size, ahead, awaited


def _awaited(table: Table, v: int, moves: list[Move | None]) -> Ints:
    """Cycles of whole loads that the first part of each family reads."""
    maps = table.problem.maps
    return np.array(
        [
            sum(maps[t].reload_cycles for t in move.reloads if v in maps[t].readers) if move else 0
            for move in moves
        ],
        dtype=np.int64,
    )


def _undominated(keys: Ints) -> Ints:
    """Columns that no other one is at most as large as in every row; of equal ones the first."""
    total = keys.sum(axis=0, dtype=np.float64)
    left = np.argsort(total, kind="stable")
    kept: list[int] = []
    while len(left):
        best = left[0]
        kept.append(int(best))
        left = left[(keys[:, left] < keys[:, best : best + 1]).any(axis=0)]
    return np.array(kept, dtype=np.int64)
