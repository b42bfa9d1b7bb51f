"""Data are there when read: rows in SPM buffers, weights, and rows in DRAM.

The commands are replayed in the order of their start cycles over what every buffer holds. A cell
holds the last content that was written to it: earlier rows of a rolling buffer are gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.verify.accesses import (
    Access,
    Command,
    blocks,
    commands_in_time,
    shared_with,
    state_shape,
)
from spm_opt.verify.coverage import runs_text
from spm_opt.verify.facts import MAP_TILE_KINDS, ROW_KINDS, Facts

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

_NOTHING: Final = -1
_NEVER: Final = np.iinfo(np.int64).max


def data_present(facts: Facts) -> Iterator[str]:
    """Every cell that a command reads was written before, and not overwritten since."""
    shapes = [state_shape(facts, number) for number in range(len(facts.schedule.buffers))]
    held = [np.full(shape, _NOTHING, dtype=np.int64) for shape in shapes]
    ready = [np.full(shape, _NEVER, dtype=np.int64) for shape in shapes]
    others = _sharers(facts)
    dram = _Dram(facts)
    for command in commands_in_time(facts):
        for access in (*command.reads, *command.writes):
            if access.overflows:
                yield _overflow(facts, command, access)
        for access in command.reads:
            state = held[access.buffer], ready[access.buffer]
            yield from _check_read(facts, command, access, *state)
        yield from dram.move(command)
        for access in command.writes:
            for block, content in blocks(access, shapes[access.buffer][1]):
                held[access.buffer][block] = content
                ready[access.buffer][block] = command.end_cycle
            for number in others[access.buffer]:
                # what lay in the same bytes is gone
                for block, _ in blocks(shared_with(facts, access, number), shapes[number][1]):
                    held[number][block] = _overwritten_by(access.buffer)


def _overwritten_by(number: int) -> int:
    """Content of cells whose bytes a buffer took over; its own inverse."""
    return _NOTHING - 1 - number


def _sharers(facts: Facts) -> list[list[int]]:
    """The other buffers that have each one's bytes."""
    groups: dict[int, list[int]] = {}
    for number, first in enumerate(facts.sharing):
        groups.setdefault(first, []).append(number)
    return [[n for n in groups[first] if n != i] for i, first in enumerate(facts.sharing)]


def _overflow(facts: Facts, command: Command, access: Access) -> str:
    buffer = facts.schedule.buffers[access.buffer]
    return (
        f"{command.label(facts)} touches more rows of {buffer.tensor!r} than buffer "
        f"{buffer.name!r} holds ({buffer.count})"
    )


def _check_read(
    facts: Facts, command: Command, access: Access, held: Ints, ready: Ints
) -> Iterator[str]:
    absent: list[Flags] = []
    late: list[Flags] = []
    contents: list[Ints] = []
    takers: set[int] = set()
    for block, content in blocks(access, held.shape[1]):
        there = held[block] == content
        absent.append(~there)
        late.append(there & (ready[block] > command.start_cycle))
        contents.append(content)
        takers.update(_overwritten_by(n) for n in held[block][~there].tolist() if n < _NOTHING)
    content = np.concatenate(contents)
    missing, waiting = np.concatenate(absent, axis=1), np.concatenate(late, axis=1)
    if missing.any():
        said = _absence(facts, command, access, missing, content, "is not")
        yield said + _taken(facts, takers)
    if waiting.any():
        yield _absence(facts, command, access, waiting, content, "is not yet")


def _taken(facts: Facts, takers: set[int]) -> str:
    names = ", ".join(repr(facts.schedule.buffers[number].name) for number in sorted(takers))
    return f": buffer {names} has its bytes since" if takers else ""


def _absence(
    facts: Facts, command: Command, access: Access, marked: Flags, content: Ints, words: str
) -> str:
    buffer = facts.schedule.buffers[access.buffer]
    if buffer.kind in ROW_KINDS:
        what = _rows_text(facts, buffer.tensor, access.cells[0], marked, content)
    elif buffer.kind in MAP_TILE_KINDS:
        what = f"the tile of {buffer.tensor!r}"
    elif buffer.kind == "sums":
        what = f"the partial sums of {buffer.tensor!r}"
    else:
        what = f"the weights of {buffer.tensor!r}"
    return (
        f"{command.label(facts)} reads {what}, which {words} in buffer {buffer.name!r} "
        f"at cycle {command.start_cycle}"
    )


def _rows_text(facts: Facts, tensor: str, first_cell: int, marked: Flags, rows: Ints) -> str:
    """Marked cells (of channels) and rows of a map; channels only where not all are meant."""
    mask = np.zeros(int(rows.max()) + 1, dtype=np.bool_)
    mask[rows[marked.any(axis=0)]] = True
    text, cuts = f"rows {runs_text(mask)}", facts.map_cuts[tensor]
    cells = np.flatnonzero(marked.any(axis=1)) + first_cell
    if len(cells) < len(cuts) - 1:
        channels = np.zeros(cuts[-1], dtype=np.bool_)
        for cell in cells:
            channels[cuts[cell] : cuts[cell + 1]] = True
        text += f" of channels {runs_text(channels)}"
    return f"{text} of {tensor!r}"


class _Dram:
    """Cycle from which DRAM holds each row of each map; inputs lie there from the start."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._ready: dict[str, Ints] = {}

    def move(self, command: Command) -> Iterator[str]:
        if command.is_compute:
            return
        transfer = self._facts.schedule.transfers[command.label_index]
        if transfer.role != "map":
            return
        begin, end = self._facts.map_cells(transfer.tensor, transfer.channels)
        block = slice(begin, end), slice(*transfer.rows)
        ready = self._state(transfer.tensor)
        if transfer.kind == "store":
            ready[block] = np.minimum(ready[block], transfer.end_cycle)
            return
        absent = ready[block] > transfer.start_cycle
        if absent.any():
            rows = np.arange(*transfer.rows, dtype=np.int64)
            what = _rows_text(self._facts, transfer.tensor, begin, absent, rows)
            yield (
                f"{command.label(self._facts)} loads {what}, "
                f"which DRAM does not hold at cycle {transfer.start_cycle}"
            )

    def _state(self, tensor: str) -> Ints:
        if tensor not in self._ready:
            shape = self._facts.map_cell_count(tensor), self._facts.tensor(tensor).rows
            since = _NEVER if tensor in self._facts.producers else 0
            self._ready[tensor] = np.full(shape, since, dtype=np.int64)
        return self._ready[tensor]
