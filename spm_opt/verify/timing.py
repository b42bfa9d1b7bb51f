"""Start cycles: run the two engines anew and compare every cycle exactly.

A tile is one unit: all its computes wait for the loads of the tile and, where the step stores from
a rolling buffer, for the stores of tile ``t - depth``; a load of tile ``t`` waits for all computes
of tile ``t - depth``; a store waits for all computes of its tile (of the step, where it names no
tile and its buffer is written there). A compute waits for whole loads into the buffers it touches,
and for the transfers that must have ended before its step; a load waits for all computes of the
steps before the first of its buffer. Whether these waits suffice is not asked here: see
`spm_opt.verify.races` and `.data`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from spm_opt.schedule import Compute, Transfer
from spm_opt.verify.engines import compute_durations, transfer_durations
from spm_opt.verify.facts import (
    ROLLING_OUTPUTS,
    Facts,
    compute_label,
    transfer_label,
)

#: what a command may wait for: what, step, tile or None
Key = tuple[str, int, int | None]
#: last compute and last transfer that have surely ended
Clock = tuple[int, int]

_NOTHING_DONE: Final[Clock] = (-1, -1)


@dataclass(slots=True)
class _Awaited:
    """Commands of one key: how many have not run yet, when the last ended, what was then done."""

    outstanding: int = 0
    end_cycle: int = 0
    done: Clock = _NOTHING_DONE


@dataclass(frozen=True, slots=True)
class _Task:
    """One command as its engine sees it."""

    cycles: int
    waits: tuple[Key, ...]
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One command as the machine runs it.

    ``done`` says what has surely ended when it starts, however fast or slow other commands are.
    """

    start_cycle: int
    end_cycle: int
    done: Clock


class _Machine:
    """Two engines, their queues, and what every wait is about."""

    def __init__(self, queues: tuple[list[_Task], list[_Task]]) -> None:
        self.queues = queues
        self.runs: tuple[list[Run], list[Run]] = ([], [])
        self._awaited: dict[Key, _Awaited] = defaultdict(_Awaited)
        for queue in queues:
            for task in queue:
                for key in task.keys:
                    self._awaited[key].outstanding += 1

    def execute(self) -> None:
        """Run every command as soon as its engine and waits allow."""
        progress = True
        while progress:
            ran = [self._run_engine(engine) for engine in (0, 1)]
            progress = any(ran)

    def _run_engine(self, engine: int) -> bool:
        queue, runs = self.queues[engine], self.runs[engine]
        before = len(runs)
        while len(runs) < len(queue) and self._can_start(queue[len(runs)]):
            self._start(engine, queue[len(runs)])
        return len(runs) > before

    def _can_start(self, task: _Task) -> bool:
        return not any(
            key in self._awaited and self._awaited[key].outstanding for key in task.waits
        )

    def _start(self, engine: int, task: _Task) -> None:
        runs = self.runs[engine]
        start, done = 0, _NOTHING_DONE
        if runs:
            start, done = runs[-1].end_cycle, runs[-1].done
        for key in task.waits:
            if key in self._awaited:
                start = max(start, self._awaited[key].end_cycle)
                done = _join(done, self._awaited[key].done)
        # in order: all commands before it on its own engine have ended
        done = (len(runs) - 1, done[1]) if engine == 0 else (done[0], len(runs) - 1)
        end = start + task.cycles
        ended = (len(runs), done[1]) if engine == 0 else (done[0], len(runs))
        runs.append(Run(start, end, done))
        for key in task.keys:
            awaited = self._awaited[key]
            awaited.outstanding -= 1
            awaited.end_cycle = max(awaited.end_cycle, end)
            awaited.done = _join(awaited.done, ended)


@dataclass(frozen=True, slots=True)
class Replay:
    """The schedule as the machine runs it; commands that never start are missing at the ends."""

    computes: list[Run]
    transfers: list[Run]


def replay(facts: Facts) -> Replay:
    """Execute the schedule anew, from its commands' order, prices and waits alone."""
    schedule = facts.schedule
    computed = sorted({command.step for command in schedule.computes})
    released = sorted({_released(facts, t) for t in schedule.transfers})
    before = (None, *(command.step for command in schedule.computes))
    computes = [
        # the engine is in order: one compute of a step waits for all stores
        _Task(
            cycles,
            _compute_waits(facts, command, released if command.step != last else []),
            _compute_keys(command),
        )
        for command, last, cycles in zip(
            schedule.computes, before, compute_durations(facts), strict=False
        )
    ]
    transfers = [
        _Task(cycles, _transfer_waits(facts, command, computed), _transfer_keys(facts, command))
        for command, cycles in zip(schedule.transfers, transfer_durations(facts), strict=True)
    ]
    machine = _Machine((computes, transfers))
    machine.execute()
    return Replay(machine.runs[0], machine.runs[1])


def _join(a: Clock, b: Clock) -> Clock:
    return max(a[0], b[0]), max(a[1], b[1])


def _compute_keys(compute: Compute) -> tuple[Key, ...]:
    return (
        ("computes", compute.step, compute.tile),
        (f"writers of {compute.output}", compute.step, None),
        ("lane", compute.step, None),
    )


def _transfer_keys(facts: Facts, transfer: Transfer) -> tuple[Key, ...]:
    if transfer.kind == "load":
        if transfer.tile is None:
            last = _released(facts, transfer)
            return ("into", transfer.buffer, None), ("released", last, None)
        return (("loads", transfer.step, transfer.tile),)
    released = ("released", _released(facts, transfer), None)
    if facts.schedule.buffers[transfer.buffer].kind in ROLLING_OUTPUTS:
        return (("stores", transfer.step, transfer.tile), released)
    return (released,)


def _released(facts: Facts, transfer: Transfer) -> int:
    """Last step in which a transfer may still move: its own, or that of the buffer it fills."""
    if transfer.kind == "store":
        return transfer.need_step
    return facts.schedule.buffers[transfer.buffer].end_step - 1


def _compute_waits(facts: Facts, compute: Compute, released: list[int]) -> tuple[Key, ...]:
    """What a compute waits for; `released` are the steps that some transfer must not outlast."""
    step, tile = compute.step, compute.tile
    depth = facts.schedule.steps[step].depth
    return (
        ("loads", step, tile), ("stores", step, tile - depth),
        *(("into", buffer, None) for buffer in compute.touched),
        *(("released", other, None) for other in released[: bisect_left(released, step)]),
    )  # fmt: skip


def _transfer_waits(facts: Facts, transfer: Transfer, computed: list[int]) -> tuple[Key, ...]:
    """What a transfer waits for; `computed` are the steps that compute anything."""
    step, tile = transfer.step, transfer.tile
    if transfer.kind == "store":
        if tile is None:
            return ((f"writers of {transfer.buffer}", step, None),)
        return (("computes", step, tile),)
    # the engine is in order: the last step before the claim stands for all
    claim = bisect_left(computed, facts.schedule.buffers[transfer.buffer].first_step)
    waits: tuple[Key, ...] = (("lane", computed[claim - 1], None),) if claim else ()
    if tile is None:
        return waits
    return (*waits, ("computes", step, tile - facts.schedule.steps[step].depth))


def start_cycles(facts: Facts) -> Iterator[str]:
    """Every command and step starts and ends at exactly the cycle that the machine gives."""
    machine, schedule = replay(facts), facts.schedule
    for index, compute in enumerate(schedule.computes):
        found = compute.start_cycle, compute.end_cycle
        yield from _differs(compute_label(facts, index), found, _span(machine.computes, index))
    for index, transfer in enumerate(schedule.transfers):
        found = transfer.start_cycle, transfer.end_cycle
        yield from _differs(transfer_label(facts, index), found, _span(machine.transfers, index))
    ends = {
        c.step: run.end_cycle for c, run in zip(schedule.computes, machine.computes, strict=False)
    }
    start = 0
    for index, step in enumerate(schedule.steps):
        end = ends.get(index, start)
        yield from _differs(f"step {index}", (step.start_cycle, step.end_cycle), (start, end))
        start = end


def _span(runs: list[Run], index: int) -> tuple[int, int] | None:
    return (runs[index].start_cycle, runs[index].end_cycle) if index < len(runs) else None


def _differs(label: str, found: tuple[int, int], expected: tuple[int, int] | None) -> Iterator[str]:
    if expected is None:
        yield f"{label} never runs: what it waits for comes after it"
    elif found != expected:
        yield (
            f"{label} takes cycles {found[0]} .. {found[1]}, the machine gives "
            f"{expected[0]} .. {expected[1]}"
        )
