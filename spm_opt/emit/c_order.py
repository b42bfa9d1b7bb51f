"""The order in which one program starts transfers and computes, and the loops that it makes.

A processor that runs a program has one order for both engines: it starts transfers, which the DMA
engine then runs by itself, and computes in between. A transfer is started as early as its queue
and its waits allow. What a step does for each of its tiles becomes the body of a loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate, pairwise

from spm_opt.commands import COMPUTE, Command, Stream
from spm_opt.errors import InputError
from spm_opt.schedule import Schedule

#: kind, name, role, buffer, and which of several alike in one tile
Key = tuple[str, str, str, int, int]


@dataclass(slots=True)
class Routine:
    """One command of a step for all of its tiles: what becomes a C function.

    ``commands`` has the command of each tile, by the tile's number; -1 for whole tensors. Pieces
    of a prefetch belong to the tiles beside which they start.
    """

    number: int
    step: int
    key: Key
    commands: dict[int, Command] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """A compute waits for tile ``shift`` later of a routine (``at``: for that very tile)."""

    routine: int
    shift: int | None
    at: int
    before: int


@dataclass(frozen=True, slots=True)
class Call:
    """A routine runs for the tile that is `shift` later than the loop's."""

    routine: int
    shift: int


Entry = Wait | Call


@dataclass(frozen=True, slots=True)
class Loop:
    """Tiles ``[begin, end)`` with one body; for each entry, the tiles in which it runs."""

    begin: int
    end: int
    body: tuple[tuple[Entry, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class StepCode:
    """What the program does in one step: calls before the first compute, then loops."""

    step: int
    prologue: tuple[tuple[int, int], ...]
    loops: tuple[Loop, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """Routines by number, and the steps that call them."""

    routines: tuple[Routine, ...]
    steps: tuple[StepCode, ...]


def program_order(stream: Stream) -> list[Command]:
    """All commands as one processor starts them: transfers as early as they may.

    Raises
    ------
    InputError
        If commands wait for one another.
    """
    queues = [[c for c in stream.commands if (c.engine == COMPUTE) == own] for own in (False, True)]
    started: set[int] = set()
    order: list[Command] = []
    places = [0, 0]
    while len(order) < len(stream.commands):
        for engine, queue in enumerate(queues):
            place = places[engine]
            if place < len(queue) and started.issuperset(queue[place].waits):
                break
        else:
            raise InputError("commands wait for one another", field="commands")
        places[engine] += 1
        order.append(queue[place])
        started.add(queue[place].number)
    return order


def program_of(schedule: Schedule, stream: Stream) -> Program:
    """The loops of a schedule's command stream."""
    order, steps = program_order(stream), len(schedule.steps)
    owners = _owners(order, schedule)
    routines, found = _routines(order, owners)
    prologues: list[list[tuple[int, int]]] = [[] for _ in range(steps)]
    rounds: list[list[tuple[int, list[Command]]]] = [[] for _ in range(steps)]
    for command, (step, tile) in zip(order, owners, strict=True):
        if tile is None:
            prologues[step].append(found[command.number])
        elif rounds[step] and rounds[step][-1][0] == tile:
            rounds[step][-1][1].append(command)
        else:
            rounds[step].append((tile, [command]))
    codes = [
        StepCode(step, tuple(prologues[step]), _loops(rounds[step], found, stream))
        for step in range(steps)
    ]
    return Program(routines, tuple(codes))


def _routines(
    order: Sequence[Command], owners: Sequence[tuple[int, int | None]]
) -> tuple[tuple[Routine, ...], dict[int, tuple[int, int]]]:
    """Routines, and for each command (by number) its routine and tile."""
    routines: dict[tuple[int, Key], Routine] = {}
    found: dict[int, tuple[int, int]] = {}
    for command, owner in zip(order, owners, strict=True):
        copy, tile = 0, _tile(command, *owner)
        while True:
            key = _key(command, copy)
            routine = routines.setdefault(
                (command.step, key), Routine(len(routines), command.step, key)
            )
            alike = all((other < 0) == (tile < 0) for other in routine.commands)
            if alike and tile not in routine.commands:
                break
            copy += 1
        routine.commands[tile] = command
        found[command.number] = routine.number, tile
    return tuple(routines.values()), found


def _tile(command: Command, owner: int, tile: int | None) -> int:
    """Tile of a command; of a prefetch the one beside which it starts: its pieces fill a loop."""
    beside = command.prefetch and command.tile < 0 and owner == command.step and tile is not None
    return tile if beside and tile is not None else command.tile


def _key(command: Command, copy: int) -> Key:
    window = command.output or command.inputs[0]
    return command.kind, command.name, command.role, window.buffer, copy


def _owners(order: Sequence[Command], schedule: Schedule) -> list[tuple[int, int | None]]:
    """Step in whose function each command stands, and tile of the loop; None ahead of loops.

    A load stands in that of its own step, and what is behind it follows it there; but stores stand
    where their buffer is released at the latest, and what is ahead of them stays there too.
    """
    last = order[-1].step if order else 0
    ahead: list[int] = [last] * len(order)
    for i in reversed(range(len(order))):
        own = order[i].engine == COMPUTE
        ahead[i] = order[i].step if own else ahead[i + 1] if i + 1 < len(order) else last
    released = (
        schedule.buffers[c.inputs[0].buffer].end_step - 1
        if c.kind == "store"
        else len(schedule.steps)
        for c in reversed(order)
    )
    latest = list(accumulate(released, min))[::-1]
    owners: list[tuple[int, int | None]] = []
    step, tile, wanted = -1, 0, 0
    for command, after, most in zip(order, ahead, latest, strict=True):
        if command.engine == COMPUTE:
            step, tile = command.step, command.tile
        wanted = max(wanted, min(max(command.step, step), max(after, step)))
        owner = min(wanted, most)
        owners.append((owner, tile if owner == step else None))
    return owners


# --- loops -------------------------------------------------------------------------------------


def _loops(
    rounds: Sequence[tuple[int, list[Command]]],
    found: Mapping[int, tuple[int, int]],
    stream: Stream,
) -> tuple[Loop, ...]:
    """As few loops as have one order of their bodies' entries, over consecutive tiles."""
    bodies = [(tile, _entries(tile, commands, found, stream)) for tile, commands in rounds]
    loops: list[Loop] = []
    begin = 0
    while begin < len(bodies):
        end = len(bodies)
        while (loop := _loop(bodies[begin:end])) is None:
            end = begin + (end - begin + 1) // 2
        loops.append(loop)
        begin = end
    return tuple(loops)


def _entries(
    tile: int,
    commands: Iterable[Command],
    found: Mapping[int, tuple[int, int]],
    stream: Stream,
) -> list[Entry]:
    entries: list[Entry] = []
    for command in commands:
        routine, own = found[command.number]
        if command.engine == COMPUTE:
            for number in command.waits:
                awaited, at = found[number]
                near = stream.commands[number].step == command.step and at >= 0
                entries.append(Wait(awaited, at - tile if near else None, -1 if near else at,
                                    routine))  # fmt: skip
        entries.append(Call(routine, own - tile if own >= 0 else 0))
    return entries


def _loop(bodies: Sequence[tuple[int, list[Entry]]]) -> Loop | None:
    """One loop for these tiles; None where no order of entries serves them all."""
    tiles = [tile for tile, _ in bodies]
    if tiles != list(range(tiles[0], tiles[0] + len(tiles))):
        return None
    before: dict[Entry, set[Entry]] = {}
    present: dict[Entry, list[int]] = {}
    for tile, entries in bodies:
        for entry in entries:
            before.setdefault(entry, set())
            present.setdefault(entry, []).append(tile)
        for a, b in pairwise(entries):
            before[b].add(a)
    if any(len(where) != len(set(where)) for where in present.values()):
        return None
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError:
        return None
    return Loop(tiles[0], tiles[-1] + 1, tuple((entry, tuple(present[entry])) for entry in order))
