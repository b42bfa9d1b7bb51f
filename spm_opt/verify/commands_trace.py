"""What the rules about commands look up: a command's place, its record, what has surely ended."""

from __future__ import annotations

from dataclasses import dataclass

from spm_opt.schedule import Compute, Transfer
from spm_opt.simulate import ENGINES, Simulation
from spm_opt.stream import Command, Stream
from spm_opt.verify.commands_identity import Names
from spm_opt.verify.commands_space import Scratchpad
from spm_opt.verify.facts import Facts

#: last command of either engine, by place, that has surely ended
Clock = tuple[int, int]


@dataclass(frozen=True)
class Trace:
    """A stream that can be run, beside the schedule that it should be.

    Attributes
    ----------
    queues : (tuple of Command, tuple of Command)
        Commands of the compute engine, and of the DMA engine.
    places : tuple of int
        For each command, its place in its engine's queue.
    clocks : tuple of (int, int)
        For each command, what has surely ended when it starts, however fast or slow others are.
    names : Names
        Which operand's bytes a window or DRAM range holds.
    scratchpad : Scratchpad
        Which bytes of the SPM each window touches.
    """

    facts: Facts
    stream: Stream
    simulation: Simulation
    queues: tuple[tuple[Command, ...], tuple[Command, ...]]
    places: tuple[int, ...]
    clocks: tuple[Clock, ...]
    names: Names
    scratchpad: Scratchpad

    def record(self, command: Command) -> Compute | Transfer | None:
        """Record of the schedule at a command's place; None where it has no more."""
        schedule, place = self.facts.schedule, self.places[command.number]
        records = (schedule.computes, schedule.transfers)[engine_of(command)]
        return records[place] if place < len(records) else None


def engine_of(command: Command) -> int:
    """0 for the compute engine, 1 for the DMA engine."""
    return ENGINES.index(command.engine)


def trace_of(facts: Facts, stream: Stream, simulation: Simulation) -> Trace:
    """Follow what every command can rely on, in the order of the stream."""
    queues: tuple[list[Command], list[Command]] = ([], [])
    places: list[int] = []
    clocks: list[Clock] = []
    for command in stream.commands:
        engine = engine_of(command)
        queue = queues[engine]
        done = list(clocks[queue[-1].number]) if queue else [-1, -1]
        done[engine] = len(queue) - 1
        for other in command.waits:
            ended = stream.commands[other]
            done = [max(a, b) for a, b in zip(done, clocks[other], strict=True)]
            done[engine_of(ended)] = max(done[engine_of(ended)], places[other])
        places.append(len(queue))
        clocks.append((done[0], done[1]))
        queue.append(command)
    names = Names(facts)
    return Trace(
        facts, stream, simulation, (tuple(queues[0]), tuple(queues[1])), tuple(places),
        tuple(clocks), names, Scratchpad(stream.commands, names),
    )  # fmt: skip
