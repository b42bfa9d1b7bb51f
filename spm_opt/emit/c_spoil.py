"""Which scratchpad bytes belong to nobody after a step: the checking build fills them."""

from __future__ import annotations

from collections import deque
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
    found: dict[int, list[Release]] = {}
    for end_step, leaving, alive, stores in _ends(schedule, stream):
        released = found.setdefault(end_step - 1, [])
        for number in leaving:
            buffer = schedule.buffers[number]
            for begin, end in _minus((buffer.offset_bytes, _end(buffer)), alive):
                last = stores.last(begin, end)
                routine, tile = (-1, -1) if last is None else places[last.number]
                shift = begin - buffer.offset_bytes
                text = names.spm[number] + (f" + {shift}" if shift else "")
                released.append(Release(text, end - begin, routine, tile))
    return found


class _Stores:
    """The last store that reads each byte, of those that were noted."""

    def __init__(self) -> None:
        self._latest: list[tuple[int, int, Command]] = []

    def note(self, command: Command, buffer: Buffer) -> None:
        """A later store than all before it."""
        begin, end = buffer.offset_bytes, _end(buffer)
        # what lies below it altogether is not the last of any byte
        kept = [one for one in self._latest if one[0] < begin or end < one[1]]
        self._latest = [*kept, (begin, end, command)]

    def last(self, begin: int, end: int) -> Command | None:
        """The last one that reads of bytes ``[begin, end)``."""
        overlapping = (
            command for low, high, command in reversed(self._latest) if low < end and begin < high
        )
        return next(overlapping, None)


def _ends(
    schedule: Schedule, stream: Stream
) -> Iterator[tuple[int, list[int], list[tuple[int, int]], _Stores]]:
    """Where buffers end before the last step does: the step after, and which they are.

    Further the bytes, by rising address, of buffers that are there before and in that step, and the
    stores of the steps before it.
    """
    buffers = schedule.buffers
    leaving: dict[int, list[int]] = {}
    for number, buffer in enumerate(buffers):
        leaving.setdefault(buffer.end_step, []).append(number)
    waiting = deque(sorted((c for c in stream.commands if c.kind == "store"), key=_step))
    coming = deque(sorted(buffers, key=lambda buffer: buffer.first_step))
    alive: list[Buffer] = []
    stores = _Stores()
    for step in sorted(leaving):
        if step >= len(schedule.steps):
            return
        while coming and coming[0].first_step < step:
            alive.append(coming.popleft())
        alive = [buffer for buffer in alive if step < buffer.end_step]
        while waiting and waiting[0].step < step:
            command = waiting.popleft()
            stores.note(command, buffers[command.inputs[0].buffer])
        yield step, leaving[step], sorted((b.offset_bytes, _end(b)) for b in alive), stores


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


def _end(buffer: Buffer) -> int:
    return buffer.offset_bytes + buffer.size_bytes


def _step(command: Command) -> int:
    return command.step
