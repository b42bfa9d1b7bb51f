"""The checker of command streams: does what the machine is told keep what the schedule says?

The lowering (`spm_opt.commands`) is not trusted: windows, orders and waits are derived anew from
the schedule, and the bytes of the scratchpad and of DRAM are followed from command to command.
Whether the schedule itself is valid is asked by `spm_opt.verify.verify`.

DRAM bytes have no races of their own: one engine moves all of them, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from spm_opt.errors import InputError
from spm_opt.schedule import Schedule
from spm_opt.simulate import command_label, simulate
from spm_opt.stream import Stream
from spm_opt.verify.commands_bytes import bytes_inside, owners, spm_races
from spm_opt.verify.commands_records import addresses_alike, every_record_once, records_alike
from spm_opt.verify.commands_trace import Trace, trace_of
from spm_opt.verify.commands_waits import superfluous_waits, waits_suffice
from spm_opt.verify.facts import facts_of
from spm_opt.verify.structure import malformed

__all__ = ["verify_commands"]


def verify_commands(schedule: Schedule, stream: Stream) -> tuple[str, ...]:
    """Every way in which `stream` is not the schedule, or not safe; one sentence each.

    A stream that cannot be run at all is reported alone.

    Returns
    -------
    tuple of str
        Empty when the stream is right.
    """
    unreadable = tuple(malformed(schedule))
    if unreadable:
        return unreadable
    try:
        simulation = simulate(stream, schedule.hardware)
    except InputError as error:
        return (str(error),)
    disordered = tuple(numbered_in_order(stream))
    if disordered:
        return disordered
    trace = trace_of(facts_of(schedule), stream, simulation)
    return tuple(sentence for rule in _RULES for sentence in rule(trace))


def numbered_in_order(stream: Stream) -> Iterator[str]:
    """A command waits for earlier ones of the other engine, in rising order."""
    for command in stream.commands:
        label = command_label(command)
        for other in command.waits:
            if other >= command.number:
                yield f"{label} waits for a later one, {command_label(stream.commands[other])}"
            elif stream.commands[other].engine == command.engine:
                yield (
                    f"{label} waits for {command_label(stream.commands[other])}, which its own "
                    "engine runs before it"
                )
        if list(command.waits) != sorted(set(command.waits)):
            yield f"{label} waits for {list(command.waits)}, which do not rise"


def simulated_claims(trace: Trace) -> Iterator[str]:
    """The stream takes the cycles and moves the bytes that the schedule claims."""
    claims, found = trace.facts.schedule.claims, trace.simulation
    moved = dict.fromkeys(("weights", "map"), 0)
    for traffic in found.traffic:
        moved[traffic.role] = moved.get(traffic.role, 0) + traffic.moved_bytes
    for name, claimed, simulated in (
        ("latency_cycles", claims.latency_cycles, found.latency_cycles),
        ("compute_cycles", claims.compute_cycles, found.busy_cycles["compute"]),
        ("dram_bytes", claims.dram_bytes, found.dram_bytes),
        ("dram_weight_bytes", claims.dram_weight_bytes, moved["weights"]),
        ("dram_feature_map_bytes", claims.dram_feature_map_bytes, moved["map"]),
    ):
        if claimed != simulated:
            yield f"the schedule claims {name} {claimed}, its commands give {simulated}"


def simulated_cycles(trace: Trace) -> Iterator[str]:
    """Every command runs in exactly the cycles of its record."""
    for command in trace.stream.commands:
        record = trace.record(command)
        span = trace.simulation.spans[command.number]
        if record is None or (span.start_cycle, span.end_cycle) == (
            record.start_cycle, record.end_cycle,
        ):  # fmt: skip
            continue
        yield (
            f"{command_label(command)} runs in cycles {span.start_cycle} .. {span.end_cycle}, "
            f"the schedule says {record.start_cycle} .. {record.end_cycle}"
        )


#: the checker of commands at a glance
_RULES: Final[tuple[Callable[[Trace], Iterator[str]], ...]] = (
    every_record_once,
    records_alike,
    addresses_alike,
    bytes_inside,
    spm_races,
    owners,
    waits_suffice,
    superfluous_waits,
    simulated_claims,
    simulated_cycles,
)
