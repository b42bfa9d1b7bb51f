"""Waits: all that the schedule's semantics ask for, and none that something else implies."""

from __future__ import annotations

from collections.abc import Iterator

from spm_opt.simulate import command_label
from spm_opt.stream import Command
from spm_opt.verify.commands_trace import Trace, engine_of
from spm_opt.verify.timing import replay


def waits_suffice(trace: Trace) -> Iterator[str]:
    """Barriers, tiles and depths are kept by waits alone, and nothing beyond them is waited for."""
    machine = replay(trace.facts)
    for engine, runs in enumerate((machine.computes, machine.transfers)):
        other = 1 - engine
        queue = trace.queues[other]
        before = -1
        for command, run in zip(trace.queues[engine], runs, strict=False):
            asked, kept = run.done[other], trace.clocks[command.number][other]
            # what was asked for before and is missing has been said
            if kept < asked and asked > before and asked < len(queue):
                yield (
                    f"nothing makes {command_label(command)} wait for "
                    f"{command_label(queue[asked])}, as the schedule's steps and tiles ask"
                )
            for number in command.waits:
                if trace.places[number] > asked:
                    yield (
                        f"{command_label(command)} waits for "
                        f"{command_label(trace.stream.commands[number])}, which the schedule "
                        "does not ask for"
                    )
            before = asked


def superfluous_waits(trace: Trace) -> Iterator[str]:
    """No wait is implied by the engine's order and the other waits."""
    for command in trace.stream.commands:
        for number in command.waits:
            if trace.places[number] <= _known_without(trace, command, number):
                yield (
                    f"{command_label(command)} need not wait for "
                    f"{command_label(trace.stream.commands[number])}: its other waits, or the "
                    "commands before it, imply that"
                )


def _known_without(trace: Trace, command: Command, wait: int) -> int:
    """Last command of the engine of `wait` that has surely ended without that wait."""
    own, other = engine_of(command), engine_of(trace.stream.commands[wait])
    place = trace.places[command.number]
    known = trace.clocks[trace.queues[own][place - 1].number][other] if place else -1
    others = [number for number in command.waits if number != wait]
    return max([known, *(trace.places[number] for number in others)])
