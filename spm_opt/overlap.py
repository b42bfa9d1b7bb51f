"""Exact timing: the two engines run a laid-out plan, in an order of the queue that is chosen here.

What the joint model settles stays: groups, tiles, buffers, claims. Free is the order of transfers,
from the first loads of the next step to the last stores of the one before. It is found by
simulating the engines (`spm_opt.schedule` has the rules): whenever the queue is free, a policy says
which transfer goes next. The shortest of several timelines counts; among them is the order in which
the joint model counts (`spm_opt.timeline`), so that never less than it promised is kept.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from spm_opt.hardware import Dram
from spm_opt.layout import Layout
from spm_opt.schedule import Compute, Step, Transfer
from spm_opt.tiling import Channels
from spm_opt.timeline import Timeline, cut_load, run

#: of a transfer that no compute waits for
_NEVER: Final = 2**60
#: how a policy weighs the lateness of a transfer that comes soon against that of one at hand:
#: never, always, or where the former is the larger
POLICIES: Final = ("eager", "reserved", "weighed")


@dataclass(frozen=True, slots=True)
class _Job:
    """A transfer, and what binds it.

    Attributes
    ----------
    transfer : Transfer
        ``end_cycle`` is its duration.
    after : int
        Compute that must have ended before it starts; -1 for none.
    before : int
        First compute that waits for it; `_NEVER` where none does.
    behind : int
        Job that must stand before it in the queue; -1 for none.
    """

    transfer: Transfer
    after: int
    before: int
    behind: int


@dataclass(frozen=True, slots=True)
class Queue:
    """An order of all transfers, before every command is timed.

    Attributes
    ----------
    latency_cycles : int
        End of the last command.
    barrier_cycles : int
        The same in the order, and under the barriers, of the joint model.
    """

    shop: _Shop
    order: Sequence[Transfer]
    latency_cycles: int
    barrier_cycles: int

    def timeline(self) -> Timeline:
        """Every command with its cycles."""
        return self.shop.timed(self.order)


def order_queue(layout: Layout, dram: Dram, policies: Sequence[str] = POLICIES) -> Queue:
    """The shortest order of the transfers that is found: that of the joint model, or a policy's.

    Transfers of a step run beside the steps around it as far as their buffers are there.
    """
    shop, modelled = _Shop(layout), run(layout, dram)
    orders = [list(modelled.transfers)]
    orders += [_Dispatch(shop, dram, policy).order() for policy in policies]
    timed = [(shop.latency_cycles(order), number) for number, order in enumerate(orders)]
    latency, number = min(timed)
    return Queue(shop, orders[number], latency, modelled.latency_cycles)


class _Shop:
    """The plan as jobs for the two engines."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.computes = [c for p in layout.programs for tile in p.computes for c in tile]
        steps = len(layout.programs)
        #: last compute before each step, and first one behind it
        last, first = [-1] * (steps + 1), [_NEVER] * (steps + 1)
        self.last_of: dict[tuple[int, int], int] = {}
        self.first_of: dict[tuple[int, int], int] = {}
        self.touched: dict[int, int] = {}
        for i, compute in enumerate(self.computes):
            last[compute.step + 1] = i
            self.last_of[compute.step, compute.tile] = i
            self.first_of.setdefault((compute.step, compute.tile), i)
            if compute.step:
                first[compute.step - 1] = min(first[compute.step - 1], i)
            for buffer in compute.touched:
                self.touched.setdefault(buffer, i)
        self.lane = list(accumulate(last, max))
        self.next = list(accumulate(first[::-1], min))[::-1]
        self.jobs = self._jobs()
        self.number = {_name(job.transfer): n for n, job in enumerate(self.jobs)}

    def _jobs(self) -> list[_Job]:
        """Stores come first: in their order, which loads may have to stand behind."""
        programs = self.layout.programs
        jobs: list[_Job] = []
        #: last store that each step's end awaits, and all of each map
        released, stored = [-1] * (len(programs) + 1), defaultdict[str, _Stores](_Stores)
        for program in programs:
            for stores in program.stores:
                for store in stores:
                    released[store.need_step + 1] = len(jobs)
                    stored[store.tensor].add(store, len(jobs))
                    jobs.append(self._store(store, len(jobs) - 1))
        behind = list(accumulate(released, max))
        for program in programs:
            loads = (*program.front, *(t for tile in program.loads for t in tile), *program.after)
            for load in loads:
                last = behind[self.layout.buffers[load.buffer].first_step]
                if load.role == "map":
                    last = max(last, stored[load.tensor].last(load))
                jobs.append(self._load(load, last))
        return jobs

    def _store(self, store: Transfer, behind: int) -> _Job:
        tile = -1 if store.tile is None else store.tile
        before = self.next[store.need_step]
        program = self.layout.programs[store.step]
        if store.buffer in program.rolling:
            refilled = self.first_of.get((store.step, tile + program.step.depth), _NEVER)
            before = min(before, refilled)
        return _Job(store, self.last_of[store.step, tile], before, behind)

    def _load(self, load: Transfer, behind: int) -> _Job:
        after = self.lane[self.layout.buffers[load.buffer].first_step]
        if load.tile is None:
            released = self.next[self.layout.buffers[load.buffer].end_step - 1]
            return _Job(load, after, self.touched.get(load.buffer, released), behind)
        depth = self.layout.programs[load.step].step.depth
        after = max(after, self.last_of.get((load.step, load.tile - depth), -1))
        return _Job(load, after, self.first_of[load.step, load.tile], behind)

    def latency_cycles(self, order: Sequence[Transfer]) -> int:
        """End of the last command where the transfers run in this order."""
        engines, ends = self._run(order)
        return max([*engines.ends[-1:], *ends[-1:]], default=0)

    def _run(self, order: Sequence[Transfer]) -> tuple[_Engines, list[int]]:
        """The engines after all commands, and the end of each transfer."""
        engines = _Engines(self.computes)
        jobs = [self.jobs[self.number[_name(transfer)]] for transfer in order]
        for job in jobs:
            engines.await_(job.before)
        engines.compute()
        return engines, [
            engines.transfer(job.after, job.before, transfer.end_cycle - transfer.start_cycle)
            for job, transfer in zip(jobs, order, strict=True)
        ]

    def timed(self, order: Sequence[Transfer]) -> Timeline:
        """Run the transfers in this order, and the computes in theirs."""
        engines, ends = self._run(order)
        transfers = [
            replace(
                transfer, start_cycle=end - transfer.end_cycle + transfer.start_cycle,
                end_cycle=end, need_step=self._needed(transfer),
            )
            for transfer, end in zip(order, ends, strict=True)
        ]  # fmt: skip
        computes = tuple(
            replace(c, start_cycle=end - c.end_cycle, end_cycle=end)
            for c, end in zip(self.computes, engines.ends, strict=True)
        )
        return Timeline(self._steps(computes), tuple(transfers), computes)

    def _needed(self, moved: Transfer) -> int:
        """First step that touches what a whole load brings."""
        transfer = self.jobs[self.number[_name(moved)]].transfer
        if transfer.kind == "store" or transfer.tile is not None:
            return transfer.need_step
        first = self.touched.get(transfer.buffer)
        return transfer.need_step if first is None else self.computes[first].step

    def _steps(self, computes: Sequence[Compute]) -> tuple[Step, ...]:
        """Steps share out the time of the compute engine."""
        ends = {c.step: c.end_cycle for c in computes}
        found: list[Step] = []
        start = 0
        for index, program in enumerate(self.layout.programs):
            end = ends.get(index, start)
            found.append(replace(program.step, start_cycle=start, end_cycle=end))
            start = end
        return tuple(found)


def _name(transfer: Transfer) -> tuple[object, ...]:
    """What tells transfers apart; pieces of one have the same."""
    where = transfer.tensor, transfer.rows, transfer.channels
    return transfer.kind, transfer.buffer, transfer.tile, *where


class _Stores:
    """The stores of one map, in order; those of equal channels have rising rows."""

    def __init__(self) -> None:
        #: first rows, ends, and numbers
        self.by_channels: dict[Channels, tuple[list[int], list[int], list[int]]] = {}

    def add(self, store: Transfer, number: int) -> None:
        """The next store."""
        known = self.by_channels.setdefault(store.channels, ([], [], []))
        for values, value in zip(known, (*store.rows, number), strict=True):
            values.append(value)

    def last(self, load: Transfer) -> int:
        """The last one that moves an element which `load` moves, too; -1 for none."""
        found = -1
        for channels, (begins, ends, numbers) in self.by_channels.items():
            apart = channels and load.channels and not (
                channels[0] < load.channels[1] and load.channels[0] < channels[1]
            )  # fmt: skip
            at = bisect_left(begins, load.rows[1]) - 1
            if not apart and at >= 0 and ends[at] > load.rows[0]:
                found = max(found, numbers[at])
        return found


class _Engines:
    """Clocks of the two engines.

    Attributes
    ----------
    ends : list of int
        Ends of the computes so far.
    lane, dma : int
        When the engines are free.
    """

    def __init__(self, computes: Sequence[Compute]) -> None:
        self.computes = computes
        self.ends: list[int] = []
        self.lane = self.dma = 0
        self._outstanding: dict[int, int] = defaultdict(int)
        self._arrived: dict[int, int] = defaultdict(int)

    def await_(self, compute: int) -> None:
        """Have a compute wait for one transfer more."""
        self._outstanding[compute] += 1

    def compute(self) -> None:
        """Run computes until one waits for a transfer to come."""
        while (n := len(self.ends)) < len(self.computes) and not self._outstanding[n]:
            self.lane = max(self.lane, self._arrived[n]) + self.computes[n].end_cycle
            self.ends.append(self.lane)

    def transfer(self, after: int, before: int, cycles: int, last: bool = True) -> int:
        """Run the next transfer; returns its end."""
        self.dma = max(self.dma, self.ends[after] if after >= 0 else 0) + cycles
        self._arrived[before] = max(self._arrived[before], self.dma)
        if last:
            self._outstanding[before] -= 1
            self.compute()
        return self.dma


class _Dispatch:
    """Chooses the order of the queue by one policy.

    Transfers that may start are ranked by the compute that waits for them first. Where one of a
    higher rank comes while the one at hand would still run, the policy decides whether the queue
    stands idle until then; a load that may be cut at no cost fills the time.
    """

    def __init__(self, shop: _Shop, dram: Dram, policy: str) -> None:
        self.shop, self.dram, self.policy = shop, dram, policy
        self.jobs = list(shop.jobs)
        self.engines = _Engines(shop.computes)
        self.cycles = [job.transfer.end_cycle for job in self.jobs]
        self.before_compute = [0, *accumulate(c.end_cycle for c in shop.computes)]
        #: jobs by what they wait for
        self.after: dict[int, list[int]] = defaultdict(list)
        self.behind: dict[int, list[int]] = defaultdict(list)
        self.free_cuts = shop.layout.cuts and dram.latency_cycles == 0
        #: ranked, of those that may start; by cycle, of those that will be able to
        self.ready: list[tuple[int, int]] = []
        self.coming: list[tuple[int, int, int]] = []
        self.missing = [0] * len(self.jobs)
        self.queue: list[Transfer] = []
        self.released = 0
        for n, job in enumerate(self.jobs):
            self.engines.await_(job.before)
            self.missing[n] = (job.after >= 0) + (job.behind >= 0)
            if job.after >= 0:
                self.after[job.after].append(n)
            if job.behind >= 0:
                self.behind[job.behind].append(n)

    def order(self) -> list[Transfer]:
        """All transfers, in the order chosen."""
        for n, missing in enumerate(self.missing):
            if not missing:
                self._open(n)
        self.engines.compute()
        self._release()
        while self.ready or self.coming:
            self._next()
        return self.queue

    def _open(self, n: int) -> None:
        job = self.jobs[n]
        cycle = self.engines.ends[job.after] if job.after >= 0 else 0
        heapq.heappush(self.coming, (cycle, job.before, n))

    def _release(self) -> None:
        """Let those go on that waited for computes which have run by now."""
        while self.released < len(self.engines.ends):
            self._satisfied(self.after[self.released])
            self.released += 1

    def _satisfied(self, waiting: Sequence[int]) -> None:
        for n in waiting:
            self.missing[n] -= 1
            if not self.missing[n]:
                self._open(n)

    def _next(self) -> None:
        dma = self.engines.dma
        while self.coming and self.coming[0][0] <= dma:
            _, rank, n = heapq.heappop(self.coming)
            heapq.heappush(self.ready, (rank, n))
        if not self.ready:
            self.engines.dma = self.coming[0][0]
            return
        rank, n = self.ready[0]
        urgent = self._urgent(rank, dma + self.cycles[n])
        if urgent is None or not self._gives_way(n, urgent):
            heapq.heappop(self.ready)
            self._run(n)

    def _urgent(self, rank: int, end: int) -> tuple[int, int, int] | None:
        """The first that comes before cycle `end` and ranks higher."""
        if self.policy == "eager" and not self.free_cuts:
            return None
        found = [entry for entry in self.coming if entry[1] < rank and entry[0] < end]
        return min(found, default=None, key=lambda entry: (entry[1], entry[0]))

    def _gives_way(self, n: int, urgent: tuple[int, int, int]) -> bool:
        """Whether the queue waits for the urgent one; the time until then is filled if it can."""
        cycle, rank, other = urgent
        job, dma = self.jobs[n], self.engines.dma
        if self.free_cuts and job.transfer.role == "weights" and job.transfer.tile is None:
            first, rest = cut_load(self.dram, job.transfer, cycle - dma)
            if first is not None:
                self._start(n, first, last=False)
                self.jobs[n] = replace(job, transfer=rest)
                self.cycles[n] = rest.end_cycle
                return True
        if self.policy == "eager":
            return False
        late = dma + self.cycles[n] + self.cycles[other] - self._due(rank)
        delayed = cycle + self.cycles[other] + self.cycles[n] - self._due(job.before)
        if late <= 0 or (self.policy == "weighed" and late <= delayed):
            return False
        self.engines.dma = cycle
        return True

    def _due(self, compute: int) -> int:
        """When a compute could start if nothing but computes held it up."""
        if compute >= _NEVER:
            return _NEVER
        done = len(self.engines.ends)
        return self.engines.lane + self.before_compute[compute] - self.before_compute[done]

    def _run(self, n: int) -> None:
        self._start(n, self.jobs[n].transfer, last=True)
        self._satisfied(self.behind[n])
        self._release()

    def _start(self, n: int, transfer: Transfer, last: bool) -> None:
        job = self.jobs[n]
        step = transfer.step
        if transfer.kind == "load" and transfer.tile is None:
            step = min(max(step, self._step()), transfer.need_step)
        self.queue.append(transfer if step == transfer.step else replace(transfer, step=step))
        self.engines.transfer(job.after, job.before, transfer.end_cycle, last)

    def _step(self) -> int:
        """Step whose computes run, or wait, now."""
        done, computes = len(self.engines.ends), self.shop.computes
        return computes[min(done, len(computes) - 1)].step if computes else 0
