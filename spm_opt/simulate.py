"""The command stream, executed: when each command runs, what it moves, what it waits for.

An event-driven simulation of the two engines from commands and hardware alone: no schedule, no
network. A command starts as soon as its engine has ended the one before and every command that it
waits for has ended. Cycles of transfers follow from their bytes (`spm_opt.cost.dram`), those of
computes stand in the commands.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from spm_opt.cost.dram import moved_bytes, transfer_cycles
from spm_opt.errors import InputError
from spm_opt.footprint import windows
from spm_opt.hardware import Hardware
from spm_opt.simulate_occupancy import Occupancy, occupancy
from spm_opt.stream import COMPUTE, DMA, Command, DramRange, Stream, Window

__all__ = [
    "Cause", "Occupancy", "Simulation", "Span", "Stall", "Traffic", "command_label", "simulate",
]  # fmt: skip

ENGINES: Final = (COMPUTE, DMA)
KINDS: Final = ("load", "store", "compute")
#: commands that an error names
_NAMED: Final = 8
#: numbers above are no machine's, and sums of them would leave 64 bits
_LARGEST: Final = 2**45
#: runs of one window or transfer, which are listed
_MOST_RUNS: Final = 2**24
#: what is wrong: field, sentence, found, allowed
_Fault = tuple[str, str, object, str | None]


@dataclass(frozen=True, slots=True)
class Span:
    """When a command runs: cycles ``[start_cycle, end_cycle)``."""

    start_cycle: int
    end_cycle: int


@dataclass(frozen=True, slots=True)
class Stall:
    """An engine stands still.

    Attributes
    ----------
    engine : str
    begin_cycle, end_cycle : int
    command : int or None
        Number of the command that could not start; None at the end, where the engine is done.
    awaited : int
        Number of the command that ended last of those it waited for.
    """

    engine: str
    begin_cycle: int
    end_cycle: int
    command: int | None
    awaited: int

    @property
    def cycles(self) -> int:
        """How long."""
        return self.end_cycle - self.begin_cycle


@dataclass(frozen=True, slots=True)
class Cause:
    """All stalls of an engine that one sort of command is to blame for.

    Attributes
    ----------
    engine : str
        Which engine stood still.
    kind, name, role : str
        Of the commands awaited (see `spm_opt.commands.Command`).
    step : int
        Step in which these stand.
    final : bool
        Whether the engine had nothing left to do.
    cycles, stalls : int
        In sum, and how often.
    """

    engine: str
    kind: str
    name: str
    role: str
    step: int
    final: bool
    cycles: int
    stalls: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What all transfers of one tensor in one direction move.

    Attributes
    ----------
    kind, role, name : str
        ``load`` or ``store``; ``map`` or ``weights``; the map, or the layer whose constants.
    transfers : int
    used_bytes : int
        Bytes asked for.
    moved_bytes : int
        Bytes over the pins: every contiguous run rounded up to bursts.
    """

    kind: str
    role: str
    name: str
    transfers: int
    used_bytes: int
    moved_bytes: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """A stream as the machine runs it.

    Attributes
    ----------
    spans : tuple of Span
        One for each command, by its number.
    latency_cycles : int
        End of the last command.
    busy_cycles : mapping of str to int
        Engine to the cycles that it works.
    traffic : tuple of Traffic
        In order of first use.
    occupancy : tuple of Occupancy
        Live bytes of the scratchpad over time, by rising cycle.
    stalls : tuple of Stall
        Of either engine in time: with its busy cycles they add up to the latency.
    causes : tuple of Cause
        The same stalls summed up, the largest first.
    """

    spans: tuple[Span, ...]
    latency_cycles: int
    busy_cycles: dict[str, int]
    traffic: tuple[Traffic, ...]
    occupancy: tuple[Occupancy, ...]
    stalls: tuple[Stall, ...]
    causes: tuple[Cause, ...]

    @property
    def dram_bytes(self) -> int:
        """Bytes over the DRAM pins."""
        return sum(traffic.moved_bytes for traffic in self.traffic)

    @property
    def peak_live_bytes(self) -> int:
        """Most bytes of the scratchpad that are live at once."""
        return max((record.live_bytes for record in self.occupancy), default=0)


def simulate(stream: Stream, hardware: Hardware) -> Simulation:
    """Execute a stream on a machine.

    Raises
    ------
    InputError
        Where the stream cannot be run: numbers that are no positions, engines or kinds that do not
        exist, waits for commands that do not exist, and waits that can never be met, naming the
        commands.
    """
    _require_runnable(stream)
    durations = [_cycles(command, hardware) for command in stream.commands]
    machine = _Machine(stream.commands, durations)
    latency = max((span.end_cycle for span in machine.spans), default=0)
    stalls = tuple(_stalls(stream.commands, machine, latency))
    cycles = [(span.start_cycle, span.end_cycle) for span in machine.spans]
    return Simulation(
        tuple(machine.spans), latency,
        {engine: _busy(stream.commands, machine.spans, engine) for engine in ENGINES},
        tuple(_traffic(stream.commands, hardware)),
        tuple(occupancy(stream.commands, cycles)), stalls,
        tuple(_causes(stream.commands, stalls)),
    )  # fmt: skip


def command_label(command: Command) -> str:
    """Name of a command for a sentence."""
    tile = "" if command.tile < 0 else f", tile {command.tile}"
    what = f"{command.kind} of weights of" if command.role == "weights" else command.kind
    return f"command {command.number} ({what} {command.name!r}, step {command.step}{tile})"


def _require_runnable(stream: Stream) -> None:
    for position, command in enumerate(stream.commands):
        for name, message, found, allowed in _faults(command, position, len(stream.commands)):
            raise InputError(
                message, field=f"commands[{position}].{name}", found=found, allowed=allowed
            )


def _faults(command: Command, position: int, total: int) -> Iterator[_Fault]:
    """Fields that no machine could make sense of, and what is wrong with them."""
    if command.number != position:
        yield "number", "commands are numbered by position", command.number, str(position)
    if command.kind not in KINDS:
        yield "kind", "no kind of command", command.kind, ", ".join(KINDS)
    if command.engine not in ENGINES:
        yield "engine", "no engine of this name", command.engine, ", ".join(ENGINES)
    if (command.kind == "compute") == (command.dram is not None):
        yield "dram", "transfers have DRAM ranges, computes have none", command.kind, None
    for other in command.waits:
        if not 0 <= other < total:
            message = f"{command_label(command)} waits for a command that does not exist"
            yield "waits", message, other, f"0 .. {total - 1}"
    if command.cycles < 0:
        yield "cycles", "must not be negative", command.cycles, None
    if command.cycles > _LARGEST:
        yield "cycles", "beyond what is counted", command.cycles, f"at most {_LARGEST}"
    if command.dram is not None:
        yield from _dram_faults(command.dram)
    for window in windows(command):
        yield from _window_faults(window)


def _dram_faults(dram: DramRange) -> Iterator[_Fault]:
    numbers = dram.address, dram.run_bytes, dram.runs, dram.run_step_bytes, dram.share
    if min(numbers) < 0:
        yield "dram", "must not be negative", min(numbers), None
    if max(numbers) > _LARGEST:
        yield "dram", "beyond what is counted", max(numbers), f"at most {_LARGEST}"
    if dram.runs > _MOST_RUNS:
        yield "dram", "has too many runs", dram.runs, f"at most {_MOST_RUNS}"


def _window_faults(window: Window) -> Iterator[_Fault]:
    sizes = window.first_byte, window.run_bytes, window.runs, window.run_step_bytes
    numbers = window.base_bytes, window.pitch_bytes, window.held, *window.rows, *sizes
    rows = window.rows[1] - window.rows[0]
    if min(numbers) < 0 or not 0 <= rows <= window.held:
        yield "windows", "no rows, or more than it holds", window.tensor, None
    if max(numbers) > _LARGEST:
        yield "windows", "beyond what is counted", max(numbers), f"at most {_LARGEST}"
    if rows * window.runs > _MOST_RUNS:
        yield "windows", "has too many runs", rows * window.runs, f"at most {_MOST_RUNS}"


# --------------------------------------------------------------------------- the two engines


class _Machine:
    """Two engines and their queues.

    Attributes
    ----------
    spans : list of Span
        By number, once all have run.
    awaited : dict of int to int
        For each command that had to wait, the one that ended last of those it waited for.
    """

    def __init__(self, commands: tuple[Command, ...], durations: list[int]) -> None:
        self.commands, self.durations = commands, durations
        self.ended: dict[int, Span] = {}
        self.awaited: dict[int, int] = {}
        self._queues = [deque(c for c in commands if c.engine == engine) for engine in ENGINES]
        self._free = dict.fromkeys(ENGINES, 0)
        while any(self._drain(queue) for queue in self._queues):
            pass
        if len(self.ended) < len(commands):
            raise self._deadlock()
        self.spans = [self.ended[number] for number in range(len(commands))]

    def _drain(self, queue: deque[Command]) -> bool:
        """Run what can be run now; whether anything was."""
        ran = False
        while queue and self.ended.keys() >= set(queue[0].waits):
            self._start(queue.popleft())
            ran = True
        return ran

    def _start(self, command: Command) -> None:
        start = self._free[command.engine]
        for other in command.waits:
            if self.ended[other].end_cycle > start:
                start = self.ended[other].end_cycle
                self.awaited[command.number] = other
        end = start + self.durations[command.number]
        self.ended[command.number] = Span(start, end)
        self._free[command.engine] = end

    def _deadlock(self) -> InputError:
        stuck = [queue[0] for queue in self._queues if queue]
        parts = []
        for command in stuck:
            missing = [other for other in command.waits if other not in self.ended][:_NAMED]
            labels = " and ".join(command_label(self.commands[other]) for other in missing)
            parts.append(f"{command_label(command)} waits for {labels}")
        return InputError(
            f"these waits can never be met: {'; '.join(parts)}",
            field=f"commands[{stuck[0].number}].waits",
        )


def _cycles(command: Command, hardware: Hardware) -> int:
    if command.dram is None:
        return command.cycles
    return transfer_cycles(hardware.dram, _moved_bytes(hardware, command.dram))


def _moved_bytes(hardware: Hardware, moved: DramRange) -> int:
    return moved_bytes(hardware.dram, moved.run_bytes, moved.runs, moved.share)


def _busy(commands: tuple[Command, ...], spans: list[Span], engine: str) -> int:
    return sum(
        span.end_cycle - span.start_cycle
        for command, span in zip(commands, spans, strict=True)
        if command.engine == engine
    )


# --------------------------------------------------------------------------- what it tells


def _stalls(commands: tuple[Command, ...], machine: _Machine, latency: int) -> Iterator[Stall]:
    """Gaps between the commands of each engine, the one after its last command included."""
    for engine in ENGINES:
        free = 0
        for command in commands:
            if command.engine == engine:
                span = machine.spans[command.number]
                if span.start_cycle > free:
                    awaited = machine.awaited[command.number]
                    yield Stall(engine, free, span.start_cycle, command.number, awaited)
                free = span.end_cycle
        if free < latency:
            last = max(range(len(commands)), key=lambda n: machine.spans[n].end_cycle)
            yield Stall(engine, free, latency, None, last)


def _causes(commands: tuple[Command, ...], stalls: tuple[Stall, ...]) -> list[Cause]:
    sums: dict[tuple[str, str, str, str, int, bool], list[int]] = defaultdict(lambda: [0, 0])
    for stall in stalls:
        found = commands[stall.awaited]
        final = stall.command is None
        total = sums[stall.engine, found.kind, found.name, found.role, found.step, final]
        total[0] += stall.cycles
        total[1] += 1
    causes = [Cause(*key, cycles, count) for key, (cycles, count) in sums.items()]
    return sorted(causes, key=lambda cause: -cause.cycles)


def _traffic(commands: tuple[Command, ...], hardware: Hardware) -> list[Traffic]:
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for command in commands:
        if command.dram is not None:
            run, runs = command.dram.run_bytes, command.dram.runs
            total = sums[command.kind, command.role, command.name]
            total[0] += 1
            total[1] += run * runs
            total[2] += _moved_bytes(hardware, command.dram)
    return [Traffic(*key, *total) for key, total in sums.items()]
