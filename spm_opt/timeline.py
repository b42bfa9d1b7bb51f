"""Start and end of every command: the two engines run a laid-out plan.

Commands start as soon as their engine, the barrier of their step, and their data allow (see
`spm_opt.schedule`). The cycles that come out are the schedule's claim; no price is decided here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from spm_opt.cost.dram import moved_bytes, transfer_cycles
from spm_opt.hardware import Dram
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
        ends = [step.end_cycle for step in self.steps[-1:]]
        return max([*ends, *(transfer.end_cycle for transfer in self.transfers[-1:])], default=0)


def run(layout: Layout, dram: Dram) -> Timeline:
    """Time every command of `layout`, prefetches cut where streams need the queue.

    Where they may not be cut, they stand behind the streams of the step in which they start.
    """
    machine = _Machine(dram, len(layout.programs), layout.cuts)
    for program in layout.programs:
        machine.step(program)
    return Timeline(tuple(machine.steps), tuple(machine.transfers), tuple(machine.computes))


class _Machine:
    """Clocks of the engines, and what has run."""

    def __init__(self, dram: Dram, steps: int, cuts: bool) -> None:
        self.dram, self.cuts = dram, cuts
        self.dma = self.began = 0
        self.steps: list[Step] = []
        self.transfers: list[Transfer] = []
        self.computes: list[Compute] = []
        #: prefetches that may run, in order of use; of the first perhaps only what is left
        self.pending: deque[Transfer] = deque()
        #: ends of the prefetches that each step waits for
        self.awaited = [0] * (steps + 1)

    def step(self, program: Program) -> None:
        """Run one step from the barrier before it to the barrier after it."""
        index = len(self.steps)
        self._complete(index)
        start = max(self.steps[-1].end_cycle if self.steps else 0, self.awaited[index])
        if self.steps:
            # the step before lasts until what this one needs has arrived
            self.steps[-1] = replace(self.steps[-1], end_cycle=start)
        self.began = front = start
        for transfer in program.front:
            front = self._own(transfer, start)
        if self.cuts:
            self.pending.extend(program.after)
        end = max(front, self._stream(program, start, front))
        if self.cuts:
            self._fill(end, overrun=True)
        else:
            for load in program.after:
                self._prefetch(load)
        self.steps.append(replace(program.step, start_cycle=start, end_cycle=end))

    def _complete(self, step: int) -> None:
        """Run what is left of the prefetches that `step` reads, and of those before them."""
        while any(load.need_step <= step for load in self.pending):
            # the step before lasts until then
            self._prefetch(replace(self.pending.popleft(), step=step - 1))

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
                end = self._own(store, free)
                last = max(last, end)
                if store.buffer in program.rolling:
                    drained[depth + tile] = end
        return max(free, last, arrived)

    def _loads(self, program: Program, tile: int, earliest: int) -> int:
        arrived = 0
        for transfer in program.loads[tile]:
            arrived = self._own(transfer, earliest)
        return arrived

    def _own(self, transfer: Transfer, earliest: int) -> int:
        """Run a transfer of the step itself as soon as it may; prefetches fill the time before."""
        if self.cuts:
            self._interrupt(earliest)
            self._fill(earliest)
        # with barriers a step's own transfers stay within it
        return self._transfer(transfer, earliest, (len(self.steps), len(self.steps)))

    def _fill(self, until: int, overrun: bool = False) -> None:
        """Run prefetches while the queue is idle; the last is cut at `until`, or may overrun it."""
        while self.pending and max(self.dma, self.began) < until:
            load = replace(self.pending[0], step=len(self.steps))
            room = until - max(self.dma, self.began)
            if overrun or load.end_cycle <= room:
                self.pending.popleft()
                self._prefetch(load)
                continue
            first, rest = cut_load(self.dram, load, room)
            if first is None:
                return
            self.pending[0] = rest
            self._prefetch(first)

    def _interrupt(self, cycle: int) -> None:
        """Cut the prefetch that overruns `cycle`: from there on the queue is wanted.

        Where not one burst of it fits before, it is taken back.
        """
        if self.dma <= cycle or self.transfers[-1].step == self.transfers[-1].need_step:
            return
        last = self.transfers.pop()
        self.dma = last.start_cycle
        load = replace(last, start_cycle=0, end_cycle=last.end_cycle - last.start_cycle)
        first, rest = cut_load(self.dram, load, cycle - last.start_cycle)
        if first is not None:
            self._transfer(first, last.start_cycle)
        self.pending.appendleft(rest)

    def _prefetch(self, load: Transfer) -> None:
        end = self._transfer(load, self.began)
        self.awaited[load.need_step] = max(self.awaited[load.need_step], end)

    def _transfer(
        self, transfer: Transfer, earliest: int, steps: tuple[int, int] | None = None
    ) -> int:
        """Run `transfer` when the queue is free and `earliest` is reached; returns its end.

        `steps` are its own and the one that needs it, where they are others than it says.
        """
        begin = max(self.dma, earliest)
        self.dma = begin + transfer.end_cycle
        step, need = steps or (transfer.step, transfer.need_step)
        self.transfers.append(
            replace(transfer, step=step, need_step=need, start_cycle=begin, end_cycle=self.dma)
        )
        return self.dma


def cut_load(dram: Dram, load: Transfer, cycles: int) -> tuple[Transfer | None, Transfer]:
    """The piece of a load of constants that fits `cycles`, in whole bursts, and the rest of it.

    ``end_cycle`` is the duration of each. None where not one burst fits.
    """
    rate, burst = dram.bytes_per_cycle, dram.burst_bytes
    size = int((cycles - dram.latency_cycles) * rate) // burst * burst
    if size <= 0 or size >= load.run_bytes:
        return None, load
    begin, end = load.piece or (0, load.run_bytes)
    return (
        _piece(dram, load, (begin, begin + size), 0),
        _piece(dram, load, (begin + size, end), size),
    )


def _piece(dram: Dram, load: Transfer, piece: tuple[int, int], skipped: int) -> Transfer:
    size = piece[1] - piece[0]
    moved = moved_bytes(dram, size)
    return replace(
        load, piece=piece, dram_address=load.dram_address + skipped, run_bytes=size,
        moved_bytes=moved, end_cycle=transfer_cycles(dram, moved),
    )  # fmt: skip
