"""Start and end of every command: the two engines run a laid-out plan.

Commands start as soon as their engine, the barrier of their step, and their data allow (see
`spm_opt.schedule`). The cycles that come out are the schedule's claim; no price is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from spm_opt.layout import Layout, Program
from spm_opt.schedule import Compute, Step, Transfer


@dataclass(frozen=True, slots=True)
class Timeline:
    """Timed commands, in the order of their engines."""

    steps: tuple[Step, ...]
    transfers: tuple[Transfer, ...]
    computes: tuple[Compute, ...]

    @property
    def latency_cycles(self) -> int:
        """End of the last command."""
        return self.steps[-1].end_cycle if self.steps else 0


def run(layout: Layout) -> Timeline:
    """Time every command of `layout`."""
    machine = _Machine(len(layout.programs))
    for program in layout.programs:
        machine.step(program)
    return Timeline(tuple(machine.steps), tuple(machine.transfers), tuple(machine.computes))


class _Machine:
    """Clocks of the engines, and what has run."""

    def __init__(self, steps: int) -> None:
        self.dma = 0
        self.steps: list[Step] = []
        self.transfers: list[Transfer] = []
        self.computes: list[Compute] = []
        #: ends of the prefetches that each step waits for
        self.awaited = [0] * (steps + 1)

    def step(self, program: Program) -> None:
        """Run one step from the barrier before it to the barrier after it."""
        index = len(self.steps)
        start = max(self.steps[-1].end_cycle if self.steps else 0, self.awaited[index])
        if self.steps:
            # the step before lasts until what this one needs has arrived
            self.steps[-1] = replace(self.steps[-1], end_cycle=start)
        front = start
        for transfer in program.front:
            front = self._transfer(transfer, start)
        end = max(front, self._stream(program, start, front))
        for transfer in program.after:
            done = self._transfer(transfer, start)
            self.awaited[transfer.need_step] = max(self.awaited[transfer.need_step], done)
        self.steps.append(replace(program.step, start_cycle=start, end_cycle=end))

    def _stream(self, program: Program, start: int, front: int) -> int:
        """The tile pipeline; the queue is load 0, load 1, store 0, load 2, store 1, ..."""
        depth, tiles = program.step.depth, len(program.computes)
        ends = [start] * (depth + tiles)
        drained = [start] * (depth + tiles)
        free, last = start, start
        arrived = self._loads(program, 0, start)
        for tile in range(tiles):
            free = max(free, front, arrived, drained[tile])
            for compute in program.computes[tile]:
                end = free + compute.end_cycle
                self.computes.append(replace(compute, start_cycle=free, end_cycle=end))
                free = end
            ends[depth + tile] = free
            if tile + 1 < tiles:
                arrived = self._loads(program, tile + 1, max(start, ends[tile + 1]))
            for store in program.stores[tile]:
                end = self._transfer(store, free)
                last = max(last, end)
                if store.buffer in program.rolling:
                    drained[depth + tile] = end
        return max(free, last, arrived)

    def _loads(self, program: Program, tile: int, earliest: int) -> int:
        arrived = 0
        for transfer in program.loads[tile]:
            arrived = self._transfer(transfer, earliest)
        return arrived

    def _transfer(self, transfer: Transfer, earliest: int) -> int:
        """Run `transfer` when the queue is free and `earliest` is reached; returns its end."""
        begin = max(self.dma, earliest)
        self.dma = begin + transfer.end_cycle
        self.transfers.append(replace(transfer, start_cycle=begin, end_cycle=self.dma))
        return self.dma
