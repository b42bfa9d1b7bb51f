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
from dataclasses import dataclass
from typing import Final

from spm_opt.schedule import Compute, Transfer
from spm_opt.verify.engines import compute_durations, transfer_durations
from spm_opt.verify.facts import (
    ROLLING_OUTPUTS,
    Facts,
    compute_label,
    is_prefetch,
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

    step: int
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

    def __init__(self, queues: tuple[list[_Task], list[_Task]], steps: int) -> None:
        self.queues, self.steps = queues, steps
        self.runs: tuple[list[Run], list[Run]] = ([], [])
        #: start of every step that can begin; one entry more than steps is the end
        self.step_starts = [0]
        self._step_done = [_NOTHING_DONE]
        self._awaited: dict[Key, _Awaited] = defaultdict(_Awaited)
        for queue in queues:
            for task in queue:
                for key in task.keys:
                    self._awaited[key].outstanding += 1

    def execute(self) -> None:
        """Run every command as soon as its engine, barrier and waits allow."""
        progress = True
        while progress:
            opened = self._open_steps()
            ran = [self._run_engine(engine) for engine in (0, 1)]
            progress = opened or any(ran)

    def _open_steps(self) -> bool:
        opened = False
        while len(self.step_starts) <= self.steps:
            last = len(self.step_starts) - 1
            ended = self._awaited[_end_of(last)]
            if ended.outstanding:
                break
            self.step_starts.append(max(self.step_starts[last], ended.end_cycle))
            self._step_done.append(_join(self._step_done[last], ended.done))
            opened = True
        return opened

    def _run_engine(self, engine: int) -> bool:
        queue, runs = self.queues[engine], self.runs[engine]
        before = len(runs)
        while len(runs) < len(queue) and self._can_start(queue[len(runs)]):
            self._start(engine, queue[len(runs)])
        return len(runs) > before

    def _can_start(self, task: _Task) -> bool:
        return task.step < len(self.step_starts) and not any(
            key in self._awaited and self._awaited[key].outstanding for key in task.waits
        )

    def _start(self, engine: int, task: _Task) -> None:
        runs = self.runs[engine]
        start, done = self.step_starts[task.step], self._step_done[task.step]
        if runs:
            start, done = max(start, runs[-1].end_cycle), _join(done, runs[-1].done)
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
    step_starts: list[int]


def replay(facts: Facts) -> Replay:
    """Execute the schedule anew, from its commands' order, prices and waits alone."""
    schedule = facts.schedule
    computes = [
        _Task(command.step, cycles, _compute_waits(facts, command), _compute_keys(command))
        for command, cycles in zip(schedule.computes, compute_durations(facts), strict=True)
    ]
    transfers = [
        _Task(command.step, cycles, _transfer_waits(facts, command), _transfer_keys(facts, command))
        for command, cycles in zip(schedule.transfers, transfer_durations(facts), strict=True)
    ]
    machine = _Machine((computes, transfers), len(schedule.steps))
    machine.execute()
    return Replay(machine.runs[0], machine.runs[1], machine.step_starts)


def _join(a: Clock, b: Clock) -> Clock:
    return max(a[0], b[0]), max(a[1], b[1])


def _end_of(step: int) -> Key:
    return "end", step, None


def _compute_keys(compute: Compute) -> tuple[Key, ...]:
    return (
        ("computes", compute.step, compute.tile),
        (f"writers of {compute.output}", compute.step, None),
        _end_of(compute.step),
    )


def _transfer_keys(facts: Facts, transfer: Transfer) -> tuple[Key, ...]:
    if is_prefetch(transfer):
        return (_end_of(transfer.need_step - 1),)
    end = _end_of(transfer.step)
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


def start_cycles(facts: Facts) -> Iterator[str]:
    """Every command and step starts and ends at exactly the cycle that the machine gives."""
    machine, schedule = replay(facts), facts.schedule
    for index, compute in enumerate(schedule.computes):
        found = compute.start_cycle, compute.end_cycle
        yield from _differs(compute_label(facts, index), found, _span(machine.computes, index))
    for index, transfer in enumerate(schedule.transfers):
        found = transfer.start_cycle, transfer.end_cycle
        yield from _differs(transfer_label(facts, index), found, _span(machine.transfers, index))
    for index, step in enumerate(schedule.steps):
        expected = None
        if index + 1 < len(machine.step_starts):
            expected = machine.step_starts[index], machine.step_starts[index + 1]
        yield from _differs(f"step {index}", (step.start_cycle, step.end_cycle), expected)


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
