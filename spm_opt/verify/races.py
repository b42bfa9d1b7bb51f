"""Races: two commands that touch the same cell, one of them writing.

Asked twice: by time (do they overlap?) and by order (does anything but luck keep them apart?).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spm_opt.verify.accesses import (
    Access,
    Command,
    blocks,
    commands_in_time,
    shared_with,
    state_shape,
)
from spm_opt.verify.facts import Facts, compute_label, transfer_label
from spm_opt.verify.timing import replay

Ints = NDArray[np.int64]


class _Latest:
    """Latest end of any command so far that touched each cell of a buffer, and who that was."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.end = np.zeros(shape, dtype=np.int64)
        self.who = np.zeros(shape, dtype=np.int64)

    def running(self, access: Access, cycle: int) -> set[int]:
        """Commands that are still at these cells at `cycle`."""
        found: set[int] = set()
        for block, _ in blocks(access, self.end.shape[1]):
            busy = self.end[block] > cycle
            if busy.any():
                found.update(self.who[block][busy].tolist())
        return found

    def record(self, access: Access, end_cycle: int, who: int) -> None:
        for block, _ in blocks(access, self.end.shape[1]):
            later = self.end[block] < end_cycle
            self.end[block][later] = end_cycle
            self.who[block][later] = who


def races(facts: Facts) -> Iterator[str]:
    """No command writes cells that another one is reading or writing.

    Commands come in the order of their starts, so of those before, the ones that end later than
    this one starts overlap it in time.
    """
    shapes = [state_shape(facts, number) for number in range(len(facts.schedule.buffers))]
    readers, writers = [_Latest(s) for s in shapes], [_Latest(s) for s in shapes]
    commands = [c for c in commands_in_time(facts) if c.end_cycle > c.start_cycle]
    for who, command in enumerate(commands):
        clashes: dict[tuple[int, int], None] = {}
        reads, writes = _merged(facts, command.reads), _merged(facts, command.writes)
        for access in reads:
            for other in writers[access.buffer].running(access, command.start_cycle):
                clashes[other, access.buffer] = None
        for access in writes:
            for latest in (readers[access.buffer], writers[access.buffer]):
                for other in latest.running(access, command.start_cycle):
                    clashes[other, access.buffer] = None
        for other, number in clashes:
            yield _sentence(facts, commands[other], command, number)
        for access in reads:
            readers[access.buffer].record(access, command.end_cycle, who)
        for access in writes:
            writers[access.buffer].record(access, command.end_cycle, who)


def _merged(facts: Facts, accesses: tuple[Access, ...]) -> tuple[Access, ...]:
    """Accesses by the first buffer that has their bytes."""
    return tuple(
        access
        if (first := facts.sharing[access.buffer]) == access.buffer
        else shared_with(facts, access, first)
        for access in accesses
    )


def _sentence(facts: Facts, one: Command, other: Command, number: int) -> str:
    name = facts.schedule.buffers[number].name
    return (
        f"race: {one.label(facts)} and {other.label(facts)} touch the same bytes of buffer "
        f"{name!r} at cycle {other.start_cycle}, one of them writing"
    )


class _Last:
    """Last command of each engine that touched each cell of a buffer, by its place in the queue."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.index = (np.full(shape, -1, dtype=np.int64), np.full(shape, -1, dtype=np.int64))

    def latest(self, access: Access, engine: int) -> int:
        index = self.index[engine]
        return max(int(index[block].max()) for block, _ in blocks(access, index.shape[1]))

    def record(self, access: Access, engine: int, place: int) -> None:
        index = self.index[engine]
        for block, _ in blocks(access, index.shape[1]):
            index[block] = np.maximum(index[block], place)


def ordered(facts: Facts) -> Iterator[str]:
    """A command starts only after those of the other engine that it conflicts with have ended.

    That their cycles happen not to overlap is not enough: a wait, a barrier or a chain of them
    must keep them apart.
    """
    machine = replay(facts)
    runs = machine.computes, machine.transfers
    shapes = [state_shape(facts, number) for number in range(len(facts.schedule.buffers))]
    readers, writers = [_Last(s) for s in shapes], [_Last(s) for s in shapes]
    for command in commands_in_time(facts):
        engine, place = (0 if command.is_compute else 1), command.label_index
        if place >= len(runs[engine]):
            continue
        other = 1 - engine
        done = runs[engine][place].done[other]
        reads, writes = _merged(facts, command.reads), _merged(facts, command.writes)
        awaited = [(writers[access.buffer], access) for access in reads]
        for access in writes:
            awaited += [(readers[access.buffer], access), (writers[access.buffer], access)]
        unordered = {
            (last, access.buffer)
            for touched, access in awaited
            if (last := touched.latest(access, other)) > done
        }
        for last, number in sorted(unordered):
            label = transfer_label if engine == 0 else compute_label
            yield (
                f"nothing makes {command.label(facts)} wait for {label(facts, last)}, which "
                f"touches the same bytes of buffer {facts.schedule.buffers[number].name!r}"
            )
        for access in reads:
            readers[access.buffer].record(access, engine, place)
        for access in writes:
            writers[access.buffer].record(access, engine, place)
