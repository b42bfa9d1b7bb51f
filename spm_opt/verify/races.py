"""Races: two commands that overlap in time and touch the same cell, one of them writing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spm_opt.verify.accesses import Access, Command, blocks, commands_in_time, state_shape
from spm_opt.verify.facts import Facts

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
        for access in command.reads:
            for other in writers[access.buffer].running(access, command.start_cycle):
                clashes[other, access.buffer] = None
        for access in command.writes:
            for latest in (readers[access.buffer], writers[access.buffer]):
                for other in latest.running(access, command.start_cycle):
                    clashes[other, access.buffer] = None
        for other, number in clashes:
            yield _sentence(facts, commands[other], command, number)
        for access in command.reads:
            readers[access.buffer].record(access, command.end_cycle, who)
        for access in command.writes:
            writers[access.buffer].record(access, command.end_cycle, who)


def _sentence(facts: Facts, one: Command, other: Command, number: int) -> str:
    name = facts.schedule.buffers[number].name
    return (
        f"race: {one.label(facts)} and {other.label(facts)} touch the same bytes of buffer "
        f"{name!r} at cycle {other.start_cycle}, one of them writing"
    )
