"""Which scratchpad bytes belong to nobody after a step: the checking build fills them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spm_opt.commands import Command, Stream
from spm_opt.emit.c_names import Names
from spm_opt.emit.c_order import Program
from spm_opt.schedule import Buffer, Schedule


@dataclass(frozen=True, slots=True)
class Release:
    """Bytes that are free once a transfer has ended.

    ``routine`` and ``tile`` name the store that empties them; -1 where none does.
    """

    text: str
    size_bytes: int
    routine: int
    tile: int


def releases_of(
    schedule: Schedule, stream: Stream, program: Program, names: Names
) -> dict[int, list[Release]]:
    """For every step but the last, what is released at its end.

    A buffer's bytes may live on in another one that took them over.
    """
    places = {
        command.number: (routine.number, tile)
        for routine in program.routines
        for tile, command in routine.commands.items()
    }
    stores = sorted((c for c in stream.commands if c.kind == "store"), key=lambda c: c.step)
    steps = [command.step for command in stores]
    found: dict[int, list[Release]] = {}
    for number, buffer in enumerate(schedule.buffers):
        if buffer.end_step >= len(schedule.steps):
            continue
        before = bisect_left(steps, buffer.end_step)
        alive = _alive(schedule.buffers, buffer.end_step)
        for begin, end in _minus((buffer.offset_bytes, _end(buffer)), alive):
            last = _last_store(stores[:before], schedule.buffers, begin, end)
            routine, tile = (-1, -1) if last is None else places[last.number]
            shift = begin - buffer.offset_bytes
            text = names.spm[number] + (f" + {shift}" if shift else "")
            found.setdefault(buffer.end_step - 1, []).append(
                Release(text, end - begin, routine, tile)
            )
    return found


def _alive(buffers: Sequence[Buffer], step: int) -> list[tuple[int, int]]:
    """Bytes of buffers that are there before `step` and in it, by rising address."""
    return sorted((b.offset_bytes, _end(b)) for b in buffers if b.first_step < step < b.end_step)


def _minus(span: tuple[int, int], others: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    begin, end = span
    for low, high in others:
        if low >= end or high <= begin:
            continue
        if begin < low:
            yield begin, low
        begin = max(begin, high)
    if begin < end:
        yield begin, end


def _last_store(
    stores: Sequence[Command], buffers: Sequence[Buffer], begin: int, end: int
) -> Command | None:
    """The last of these stores that reads bytes ``[begin, end)``."""
    for command in reversed(stores):
        buffer = buffers[command.inputs[0].buffer]
        if buffer.offset_bytes < end and begin < _end(buffer):
            return command
    return None


def _end(buffer: Buffer) -> int:
    return buffer.offset_bytes + buffer.size_bytes
