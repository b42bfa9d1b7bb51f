"""Start cycles: run the two engines anew and compare every cycle exactly.

A tile is one unit: all its computes wait for the loads of the whole step (``tile`` None), for the
loads of the tile and, where the step stores from a rolling buffer, for the stores of tile
``t - depth``; a load of tile ``t`` waits for all computes of tile ``t - depth``; a store waits for
all computes of its tile (of the step, where it names no tile and its buffer is written there).
Whether these waits suffice is not asked here: see `spm_opt.verify.races` and `.data`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from spm_opt.schedule import Compute, Transfer
from spm_opt.verify.engines import compute_durations, transfer_durations
from spm_opt.verify.facts import (
    ROLLING_OUTPUTS,
    Facts,
    compute_label,
    is_prefetch,
    transfer_label,
)

#: what a command may wait for: (what, step, tile or None, buffer or -1)
Key = tuple[str, int, int | None]


@dataclass(slots=True)
class _Awaited:
    """Commands of one key: how many have not run yet, and when the last one ended."""

    outstanding: int = 0
    end_cycle: int = 0


@dataclass(slots=True)
class Replay:
    """Start and end cycles as the machine would have them; None where a command never starts."""

    computes: list[tuple[int, int] | None]
    transfers: list[tuple[int, int] | None]
    step_starts: list[int]
    _awaited: dict[Key, _Awaited] = field(default_factory=lambda: defaultdict(_Awaited))


def replay(facts: Facts) -> Replay:
    """Execute the schedule: every command as soon as its engine, barrier and waits allow."""
    schedule = facts.schedule
    result = Replay([None] * len(schedule.computes), [None] * len(schedule.transfers), [0])
    for compute in schedule.computes:
        _count(result, _compute_keys(compute))
    for transfer in schedule.transfers:
        _count(result, _transfer_keys(facts, transfer))
    compute_costs, transfer_costs = compute_durations(facts), transfer_durations(facts)
    compute_at = transfer_at = compute_free = transfer_free = 0
    progress = True
    while progress:
        progress = _open_steps(facts, result)
        while compute_at < len(schedule.computes):
            compute = schedule.computes[compute_at]
            start = _ready(result, compute.step, _compute_waits(facts, compute), compute_free)
            if start is None:
                break
            compute_free = start + compute_costs[compute_at]
            result.computes[compute_at] = start, compute_free
            _done(result, _compute_keys(compute), compute_free)
            compute_at, progress = compute_at + 1, True
        while transfer_at < len(schedule.transfers):
            transfer = schedule.transfers[transfer_at]
            start = _ready(result, transfer.step, _transfer_waits(facts, transfer), transfer_free)
            if start is None:
                break
            transfer_free = start + transfer_costs[transfer_at]
            result.transfers[transfer_at] = start, transfer_free
            _done(result, _transfer_keys(facts, transfer), transfer_free)
            transfer_at, progress = transfer_at + 1, True
    return result


def _compute_keys(compute: Compute) -> tuple[Key, ...]:
    return (
        ("computes", compute.step, compute.tile),
        (f"writers of {compute.output}", compute.step, None),
        ("end", compute.step, None),
    )


def _transfer_keys(facts: Facts, transfer: Transfer) -> tuple[Key, ...]:
    if is_prefetch(transfer):
        return (("end", transfer.need_step - 1, None),)
    end: Key = ("end", transfer.step, None)
    if transfer.kind == "load":
        return (("loads", transfer.step, transfer.tile), end)
    if facts.schedule.buffers[transfer.buffer].kind in ROLLING_OUTPUTS:
        return (("stores", transfer.step, transfer.tile), end)
    return (end,)


def _compute_waits(facts: Facts, compute: Compute) -> tuple[Key, ...]:
    step, tile = compute.step, compute.tile
    depth = facts.schedule.steps[step].depth
    return ("loads", step, None), ("loads", step, tile), ("stores", step, tile - depth)


def _transfer_waits(facts: Facts, transfer: Transfer) -> tuple[Key, ...]:
    step, tile = transfer.step, transfer.tile
    if transfer.kind == "store":
        if tile is None:
            return ((f"writers of {transfer.buffer}", step, None),)
        return (("computes", step, tile),)
    if tile is None:
        return ()
    return (("computes", step, tile - facts.schedule.steps[step].depth),)


def _count(result: Replay, keys: tuple[Key, ...]) -> None:
    for key in keys:
        result._awaited[key].outstanding += 1


def _done(result: Replay, keys: tuple[Key, ...], end_cycle: int) -> None:
    for key in keys:
        awaited = result._awaited[key]
        awaited.outstanding -= 1
        awaited.end_cycle = max(awaited.end_cycle, end_cycle)


def _ready(result: Replay, step: int, waits: tuple[Key, ...], free: int) -> int | None:
    """Cycle at which a command of `step` starts; None while it must wait for an unknown one."""
    if step >= len(result.step_starts):
        return None
    start = max(free, result.step_starts[step])
    for key in waits:
        awaited = result._awaited.get(key)
        if awaited is None:
            continue
        if awaited.outstanding:
            return None
        start = max(start, awaited.end_cycle)
    return start


def _open_steps(facts: Facts, result: Replay) -> bool:
    """Start every step whose predecessor has ended; one entry more than steps is the end."""
    opened = False
    while len(result.step_starts) <= len(facts.schedule.steps):
        last = len(result.step_starts) - 1
        awaited = result._awaited[("end", last, None)]
        if awaited.outstanding:
            break
        result.step_starts.append(max(result.step_starts[last], awaited.end_cycle))
        opened = True
    return opened


def start_cycles(facts: Facts) -> Iterator[str]:
    """Every command and step starts and ends at exactly the cycle that the machine gives."""
    result, schedule = replay(facts), facts.schedule
    for index, compute in enumerate(schedule.computes):
        found = compute.start_cycle, compute.end_cycle
        yield from _differs(compute_label(facts, index), found, result.computes[index])
    for index, transfer in enumerate(schedule.transfers):
        found = transfer.start_cycle, transfer.end_cycle
        yield from _differs(transfer_label(facts, index), found, result.transfers[index])
    for index, step in enumerate(schedule.steps):
        expected = None
        if index + 1 < len(result.step_starts):
            expected = result.step_starts[index], result.step_starts[index + 1]
        found = step.start_cycle, step.end_cycle
        yield from _differs(f"step {index}", found, expected)


def _differs(label: str, found: tuple[int, int], expected: tuple[int, int] | None) -> Iterator[str]:
    if expected is None:
        yield f"{label} never runs: what it waits for comes after it"
    elif found != expected:
        yield (
            f"{label} takes cycles {found[0]} .. {found[1]}, the machine gives "
            f"{expected[0]} .. {expected[1]}"
        )
