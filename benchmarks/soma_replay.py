"""A schedule under SoMa's timing rule: two lanes, no addresses, space claimed at tile boundaries.

Compute: tiles one after another. DRAM: one queue, in order. A tile starts when its loads have
ended; a store when its tile has; a load when the compute lane has reached the tile position at
which its space is claimed; a tile waits for stores whose space is released at its boundary.
Latency is the later end of the two lanes. spm_opt's own rule (`spm_opt.schedule`) is the same, but
for two things: space is claimed and released at the boundaries of steps, which are some of the tile
boundaries, and a layer of a group waits for its own constants only, not for all of its group's.
"""

from __future__ import annotations

from collections import defaultdict

from spm_opt.schedule import Schedule, Transfer


def replayed_cycles(schedule: Schedule) -> int:
    """Latency of the schedule's own order of transfers and tiles under that rule."""
    tiles = sorted({(c.step, c.tile) for c in schedule.computes})
    length: dict[tuple[int, int], int] = defaultdict(int)
    for compute in schedule.computes:
        length[compute.step, compute.tile] += compute.end_cycle - compute.start_cycle
    ends: dict[tuple[int, int], int] = {}
    loads: dict[tuple[int, int], int] = defaultdict(int)
    drained: dict[tuple[int, int], int] = defaultdict(int)
    released: dict[int, int] = defaultdict(int)
    queue = list(schedule.transfers)
    lane = dma = at = 0

    def run_queue(until: tuple[int, int]) -> None:
        """Transfers that the tile `until` needs, and all before them in the queue."""
        nonlocal dma, at
        needed = [i for i in range(at, len(queue)) if _needed(schedule, queue[i], until)]
        for i in range(at, max(needed, default=at - 1) + 1):
            _run(queue[i])
        at = max(at, max(needed, default=at - 1) + 1)

    def _run(transfer: Transfer) -> None:
        nonlocal dma
        dma = max(dma, _claimed(schedule, transfer, ends)) + (
            transfer.end_cycle - transfer.start_cycle
        )
        key = transfer.need_step, -1 if transfer.tile is None else transfer.tile
        if transfer.kind == "load":
            loads[key] = max(loads[key], dma)
        else:
            drained[transfer.step, key[1]] = max(drained[transfer.step, key[1]], dma)
            released[transfer.need_step] = max(released[transfer.need_step], dma)

    for step, tile in tiles:
        run_queue((step, tile))
        depth = schedule.steps[step].depth
        ready = max(
            loads[step, -1], loads[step, tile], drained[step, tile - depth],
            *(end for last, end in released.items() if last < step), 0,
        )  # fmt: skip
        lane = max(lane, ready) + length[step, tile]
        ends[step, tile] = lane
    for transfer in queue[at:]:
        _run(transfer)
    return max(lane, dma)


def _needed(schedule: Schedule, transfer: Transfer, tile: tuple[int, int]) -> bool:
    """Whether a tile cannot start before a transfer has ended."""
    step, number = tile
    if transfer.kind == "store":
        if transfer.need_step < step:
            return True
        rolling = schedule.buffers[transfer.buffer].kind in ("output", "channel_output")
        if transfer.step == step and rolling and transfer.tile is not None:
            return transfer.tile <= number - schedule.steps[step].depth
        return False
    if transfer.need_step < step:
        return True
    return transfer.need_step == step and (transfer.tile is None or transfer.tile <= number)


def _claimed(schedule: Schedule, transfer: Transfer, ends: dict[tuple[int, int], int]) -> int:
    """When the compute lane reaches the position at which a transfer may start."""
    step = transfer.step
    if transfer.kind == "store":
        last = schedule.steps[step].tiles - 1 if transfer.tile is None else transfer.tile
        return ends.get((step, last), 0)
    first = schedule.buffers[transfer.buffer].first_step
    reached = max((end for (s, _), end in ends.items() if s < first), default=0)
    if transfer.tile is not None:
        reached = max(reached, ends.get((step, transfer.tile - schedule.steps[step].depth), 0))
    return reached
