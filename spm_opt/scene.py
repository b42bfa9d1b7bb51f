"""What every picture of a schedule shows: buffers in time, who reads them, how maps travel.

Facts are read off the schedule once, for the figures, the trace and the report alike, so that no
two of them disagree. It draws nothing and decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from spm_opt.commands import lower
from spm_opt.schedule import Compute, Schedule, Transfer
from spm_opt.simulate import Simulation, Stall, simulate
from spm_opt.stream import Command, Stream

__all__ = ["BUFFER_KINDS", "STALL_COLOUR", "Kind", "Lifetime", "Link", "Scene", "short_name"]


@dataclass(frozen=True, slots=True)
class Kind:
    """How one sort of buffer is shown: what a legend calls it, and its colour."""

    label: str
    colour: str


#: the palette of Okabe and Ito, which the colour-blind tell apart
_ORANGE, _SKY, _GREEN, _YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
_BLUE, _PURPLE, _GREY = "#0072B2", "#CC79A7", "#999999"
STALL_COLOUR: Final = "#D55E00"

#: in the order of legends; those that look the same are named once
BUFFER_KINDS: Final[dict[str, Kind]] = {
    "map": Kind("whole map", _BLUE),
    "weights": Kind("weights", _ORANGE),
    "weight_stream": Kind("weights, streamed", _YELLOW),
    "stripe": Kind("stripe", _GREEN),
    "channel_stripe": Kind("stripe", _GREEN),
    "input": Kind("in stream", _SKY),
    "channel_input": Kind("in stream", _SKY),
    "output": Kind("out stream", _PURPLE),
    "channel_output": Kind("out stream", _PURPLE),
    "sums": Kind("partial sums", _GREY),
}


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a buffer has its bytes.

    Attributes
    ----------
    claim_cycle, release_cycle : int
        From the beginning of its first step to the end of its last one, or of the last command
        that touches it, where a store drains beside the step behind.
    first_cycle, last_cycle : int
        From the start of the first command that touches it to the end of the last; both are
        `claim_cycle` where none does.
    readers : tuple of str
        Layers that read it, in order.
    """

    claim_cycle: int
    release_cycle: int
    first_cycle: int
    last_cycle: int
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """How a layer gets one of its operands.

    Attributes
    ----------
    tensor : str
    producer : str or None
        Layer that computes it; None for an input of the network.
    reader : str
    way : str
        ``inside``: the producer is in the same group; ``pinned``: kept in SPM since;
        ``spilled``: loaded from DRAM.
    """

    tensor: str
    producer: str | None
    reader: str
    way: str


class Scene:
    """A schedule with everything that pictures ask of it, each computed when first asked."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    @cached_property
    def stream(self) -> Stream:
        """The commands."""
        return lower(self.schedule)

    @cached_property
    def simulation(self) -> Simulation:
        """The commands, run."""
        return simulate(self.stream, self.schedule.hardware)

    @cached_property
    def lifetimes(self) -> tuple[Lifetime, ...]:
        """One for each buffer of the schedule."""
        touched: dict[int, list[int]] = {}
        readers: dict[int, dict[str, None]] = defaultdict(dict)
        for compute in self.schedule.computes:
            sums = () if compute.sums is None else (compute.sums,)
            for b in (*compute.inputs, *compute.weights, *sums):
                readers[b][compute.layer] = None
                _stretch(touched, b, compute)
            _stretch(touched, compute.output, compute)
        for transfer in self.schedule.transfers:
            _stretch(touched, transfer.buffer, transfer)
        return tuple(
            self._lifetime(b, touched.get(b), tuple(readers[b]))
            for b in range(len(self.schedule.buffers))
        )

    def _lifetime(self, number: int, span: list[int] | None, readers: tuple[str, ...]) -> Lifetime:
        buffer, steps = self.schedule.buffers[number], self.schedule.steps
        claim, end = steps[buffer.first_step].start_cycle, steps[buffer.end_step - 1].end_cycle
        first, last = (claim, claim) if span is None else span
        return Lifetime(min(claim, first), max(end, last), first, last, readers)

    @cached_property
    def reserved_bytes(self) -> tuple[int, ...]:
        """Bytes of all buffers resident at each step; buffers over the same bytes count once."""
        change = [0] * (len(self.schedule.steps) + 1)
        for buffer in self.schedule.buffers:
            if buffer.shares is None:
                change[buffer.first_step] += buffer.size_bytes
                change[buffer.end_step] -= buffer.size_bytes
            else:
                # it lies over its host; what it outlives the host by is its own
                host = self.schedule.buffers[buffer.shares]
                begin = max(buffer.first_step, host.end_step)
                if begin < buffer.end_step:
                    change[begin] += buffer.size_bytes
                    change[buffer.end_step] -= buffer.size_bytes
        total, found = 0, []
        for difference in change[:-1]:
            total += difference
            found.append(total)
        return tuple(found)

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """How every layer that computes gets each of its operands, by first use."""
        layers = {layer.name: layer for layer in self.schedule.network.layers}
        home: dict[str, set[int]] = defaultdict(set)
        for compute in self.schedule.computes:
            home[compute.layer].add(compute.step)
        loaded = {t.buffer for t in self.schedule.transfers if (t.kind, t.role) == ("load", "map")}
        found: dict[tuple[str, str | None, str], Link] = {}
        for compute in self.schedule.computes:
            for operand, buffer in zip(layers[compute.layer].inputs, compute.inputs, strict=True):
                for producer in self._makers(operand.tensor):
                    inside = producer is not None and compute.step in home[producer]
                    way = "spilled" if buffer in loaded else "inside" if inside else "pinned"
                    # a layer in slices may read one map in two ways: what costs traffic is shown
                    key = (operand.tensor, producer, compute.layer)
                    if key not in found or way == "spilled":
                        found[key] = Link(*key, way)
        return tuple(found.values())

    @cached_property
    def _idle(self) -> dict[str, tuple[str, ...]]:
        """Maps that no layer computes, since their parts lie in place already: what is in them."""
        busy = {compute.layer for compute in self.schedule.computes}
        return {
            layer.output: tuple(dict.fromkeys(operand.tensor for operand in layer.inputs))
            for layer in self.schedule.network.layers
            if layer.name not in busy
        }

    @cached_property
    def _made(self) -> dict[str, tuple[str | None, ...]]:
        return {}

    def _makers(self, tensor: str) -> tuple[str | None, ...]:
        """Layers that compute a map or its parts; None stands for an input of the network."""
        if tensor not in self._made:
            network, found = self.schedule.network, dict[str | None, None]()
            waiting = [tensor]
            while waiting:
                name = waiting.pop()
                if name in self._idle:
                    waiting += self._idle[name]
                elif name in network.producer:
                    found[network.layers[network.producer[name]].name] = None
                else:
                    found[None] = None
            self._made[tensor] = tuple(found)
        return self._made[tensor]

    def awaited(self, stall: Stall) -> str:
        """What a stall waits for, in words."""
        return describe(self.stream.commands[stall.awaited])


def _stretch(touched: dict[int, list[int]], buffer: int, command: Compute | Transfer) -> None:
    span = touched.setdefault(buffer, [command.start_cycle, command.end_cycle])
    span[0] = min(span[0], command.start_cycle)
    span[1] = max(span[1], command.end_cycle)


def describe(command: Command) -> str:
    """A command in a few words."""
    if command.role == "weights":
        return f"{command.kind} weights of {command.name}"
    return f"{command.kind} {command.name}"


def short_name(name: str, longest: int = 18) -> str:
    """A name for where space is scarce: its end, which is what tells layers apart."""
    return name if len(name) <= longest else "…" + name[1 - longest :].lstrip("./_")
