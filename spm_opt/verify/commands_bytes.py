"""Bytes: no two commands race for one, and each one read is the byte that was meant.

Both rules cut the scratchpad into ranges that no command splits (`spm_opt.footprint`), and follow
them through the stream. The stream is one order that engines and waits allow; that all others are
as good is what the absence of races says.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spm_opt.footprint import Ints, Ranges
from spm_opt.simulate import command_label
from spm_opt.stream import Command, DramRange
from spm_opt.verify.commands_identity import UNKNOWN, Named, Names
from spm_opt.verify.commands_space import Space, Touched, reads, writes
from spm_opt.verify.commands_trace import Trace, engine_of


def bytes_inside(trace: Trace) -> Iterator[str]:
    """No command touches a byte beyond the scratchpad."""
    capacity = trace.facts.schedule.hardware.spm.capacity_bytes
    pad = trace.scratchpad
    for command in trace.stream.commands:
        for key in (*reads(command), *writes(command)):
            ranges = pad.touched[key].ranges
            end = int(pad.space.cut.cuts[ranges.max() + 1]) if ranges.size else 0
            if end > capacity:
                yield f"{command_label(command)} touches bytes up to {end} of {capacity}"


# --------------------------------------------------------------------------- races


def spm_races(trace: Trace) -> Iterator[str]:
    """Of two commands that touch a byte, one of them writing, one surely ends before the other."""
    pad = trace.scratchpad
    size = len(pad.space.cut)
    #: by engine, the place of the last command that read, or wrote, each range
    read, written = (np.full((2, size), -1, dtype=np.int64) for _ in range(2))
    for command in trace.stream.commands:
        engine, place = engine_of(command), trace.places[command.number]
        other, done = 1 - engine, trace.clocks[command.number][1 - engine]
        for key in reads(command):
            here = pad.touched[key].ranges
            yield from _unordered(trace, command, pad.space.cut, here, written[other, here], done)
        for key in writes(command):
            here = pad.touched[key].ranges
            last = np.maximum(read[other, here], written[other, here])
            yield from _unordered(trace, command, pad.space.cut, here, last, done)
            written[engine, here] = place
        for key in reads(command):
            read[engine, pad.touched[key].ranges] = place


def _unordered(
    trace: Trace, command: Command, cut: Ranges, here: Ints, last: Ints, done: int
) -> Iterator[str]:
    late = last > done
    if not late.any():
        return
    queue = trace.queues[1 - engine_of(command)]
    for place in np.unique(last[late]).tolist():
        low, high = cut.span(here[last == place])
        yield (
            f"race: {command_label(queue[place])} and {command_label(command)} touch SPM bytes "
            f"{low:#x} .. {high:#x}, one of them writing, and nothing orders them"
        )


# --------------------------------------------------------------------------- owners


class _Owners:
    """What every byte of an address space holds."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.values = np.full(len(space.cut), UNKNOWN, dtype=np.int64)
        self.positions = np.zeros(len(space.cut), dtype=np.int64)

    def put(self, touched: Touched) -> None:
        self.values[touched.ranges] = touched.values
        self.positions[touched.ranges] = touched.positions

    def wrong(self, touched: Touched) -> tuple[int, int, int, int] | None:
        """First bytes that do not hold what is asked for: begin, end, value asked, value found."""
        here = touched.ranges
        meant = touched.values != UNKNOWN
        differ = (self.values[here] != touched.values) | (self.positions[here] != touched.positions)
        wrong = np.flatnonzero(meant & differ)
        if not wrong.size:
            return None
        low, high = self.space.cut.span(here[wrong])
        first = wrong[np.argmin(here[wrong])]
        return low, high, int(touched.values[first]), int(self.values[here[first]])


def owners(trace: Trace) -> Iterator[str]:
    """Every byte that is read, in SPM or DRAM, was written last as that byte of that operand."""
    names, pad, dram = trace.names, trace.scratchpad, _Dram(trace)
    held = _Owners(pad.space)
    for command in trace.stream.commands:
        for key in reads(command):
            wrong = held.wrong(pad.touched[key])
            if wrong is not None:
                yield _sentence(names, command_label(command), "SPM", *wrong)
        if command.dram is not None:
            yield from dram.move(command)
        for key in writes(command):
            held.put(pad.touched[key])
    yield from dram.outputs()


class _Dram:
    """What every byte of DRAM holds: at first inputs and constants, at last the outputs."""

    def __init__(self, trace: Trace) -> None:
        names, self.facts = trace.names, trace.facts
        self.names = names
        self.addresses = trace.stream.dram_addresses
        network = trace.facts.schedule.network
        first = [self._whole(name) for name in network.inputs if name in self.addresses]
        for layer in network.layers:
            if layer.weight_bytes and "weights:" + layer.name in self.addresses:
                address = self.addresses["weights:" + layer.name]
                first.append(names.constants_at(layer.name, address))
        self.last = {name: self._whole(name) for name in network.outputs if name in self.addresses}
        moved = {_key(c): names.stored(c) for c in trace.stream.commands if c.dram is not None}
        space = Space([*first, *self.last.values(), *moved.values()])
        self.held = _Owners(space)
        self.touched = {key: space.touched(named) for key, named in moved.items()}
        for named in first:
            self.held.put(space.touched(named))

    def _whole(self, tensor: str) -> Named:
        found = self.facts.tensor(tensor)
        size = found.rows * found.row_bytes
        dram = DramRange(self.addresses[tensor], size, size, 1)
        return self.names.map_at(tensor, dram, (0, found.rows), None)

    def move(self, command: Command) -> Iterator[str]:
        touched = self.touched[_key(command)]
        if command.kind == "store":
            self.held.put(touched)
            return
        wrong = self.held.wrong(touched)
        if wrong is not None:
            yield _sentence(self.names, command_label(command), "DRAM", *wrong)

    def outputs(self) -> Iterator[str]:
        for name, named in self.last.items():
            wrong = self.held.wrong(self.held.space.touched(named))
            if wrong is not None:
                yield _sentence(self.names, f"who takes the output {name!r}", "DRAM", *wrong)


def _key(command: Command) -> tuple[object, ...]:
    return (
        command.role, command.name, command.rows, command.channels, command.summed, command.dram
    )  # fmt: skip


def _sentence(
    names: Names, who: str, where: str, low: int, high: int, meant: int, found: int
) -> str:  # fmt: skip
    what = names.label(found)
    if meant == found:
        what = "others of its bytes"
    return (
        f"{who} reads {where} bytes {low:#x} .. {high:#x} as {names.label(meant)}: they hold {what}"
    )
