"""Claims a step early, releases a step late: room for transfers beside the steps around theirs.

Buffers of streams live for one step, and whole loads at the front of a step are claimed by it.
Where the scratchpad has room in the step before, they are claimed there, so that the first loads
run beside its computations; where it has room in the step behind, stores drain there. No claim is
made where the bytes would not fit in sum; whether they can be placed is seen later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from spm_opt.layout import Layout, Program
from spm_opt.layout_space import hosts, rectangles
from spm_opt.schedule import Transfer


def widen(layout: Layout, capacity_bytes: int, reserved: Sequence[int] = ()) -> Layout:
    """`layout` with earlier claims and later releases, as far as `capacity_bytes` allow.

    Parameters
    ----------
    reserved : sequence of int, optional
        Bytes of each step that are taken by what lives in it alone, even if that needs less.
    """
    writer = _Writer(layout, capacity_bytes, reserved)
    for step in range(1, len(layout.programs)):
        writer.claim(step)
        writer.release(step - 1)
    return writer.layout()


class _Writer:
    """Residencies as they grow, and the room that is left in every step."""

    def __init__(self, layout: Layout, capacity_bytes: int, reserved: Sequence[int]) -> None:
        self.source = layout
        self.buffers = list(layout.buffers)
        self.steps = len(layout.programs)
        self.room = [capacity_bytes] * self.steps
        #: bytes of buffers that live in one step alone, those that share bytes once
        own = [0] * self.steps
        for found in rectangles(layout.buffers)[0]:
            for step in range(found.begin, found.end):
                self.room[step] -= found.size
            if found.end == found.begin + 1:
                own[found.begin] += found.size
        for step, taken in enumerate(reserved):
            self.room[step] -= max(0, taken - own[step])
        self.host = hosts(layout.buffers)
        #: the buffers that have each host's bytes
        self.guests: dict[int, list[int]] = defaultdict(list)
        for number, host in enumerate(self.host):
            self.guests[host].append(number)
        #: steps and buffers whose stores may drain beside the next step
        self.late: set[tuple[int, int]] = set()

    def claim(self, step: int) -> None:
        """Claim what a step loads, in the order of its loads, while there is room before it."""
        program = self.source.programs[step]
        for transfer in (*program.front, *(t for tile in program.loads[:1] for t in tile)):
            buffer = self.buffers[transfer.buffer]
            if buffer.first_step == step:
                if not self._takes(transfer.buffer, step - 1):
                    return
                self.buffers[transfer.buffer] = replace(buffer, first_step=step - 1)

    def release(self, step: int) -> None:
        """Let a step's stores drain beside the next one."""
        program = self.source.programs[step]
        for number in sorted({t.buffer for tile in program.stores for t in tile}):
            buffer = self.buffers[number]
            if buffer.end_step > step + 1:
                # of a map that stays; who takes its bytes over must find it stored
                if len(self.guests[self.host[number]]) == 1:
                    self.late.add((step, number))
            elif self._takes(number, step + 1):
                self.buffers[number] = replace(buffer, end_step=step + 2)
                self.late.add((step, number))

    def _takes(self, number: int, step: int) -> bool:
        """Whether a buffer's bytes fit a step more; takes them."""
        guests = (self.buffers[n] for n in self.guests[self.host[number]])
        if any(b.first_step <= step < b.end_step for b in guests):
            return True
        size = self.buffers[number].size_bytes
        if size > self.room[step]:
            return False
        self.room[step] -= size
        return True

    def layout(self) -> Layout:
        programs = [self._program(program) for program in self.source.programs]
        return replace(self.source, buffers=self.buffers, programs=programs)

    def _program(self, program: Program) -> Program:
        return replace(
            program,
            front=[self._early(t) for t in program.front],
            stores=[[self._late(t) for t in tile] for tile in program.stores],
        )

    def _early(self, load: Transfer) -> Transfer:
        return replace(load, step=self.buffers[load.buffer].first_step)

    def _late(self, store: Transfer) -> Transfer:
        late = (store.step, store.buffer) in self.late
        return replace(store, need_step=store.step + 1) if late else store
