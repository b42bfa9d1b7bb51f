"""Which cells of which buffers each command reads and writes: shared by data and race rules.

The state of a buffer is a small matrix, channel cells by units. Rows ``[begin, end)`` lie in units
``row % count``: at most two contiguous blocks of columns, so each access is a few array slices.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spm_opt.graph.sums import Summed
from spm_opt.schedule import Compute, Transfer
from spm_opt.verify.facts import (
    ROW_KINDS,
    Channels,
    Facts,
    compute_label,
    transfer_label,
)

Block = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Access:
    """Cells of one buffer that one command touches.

    ``content`` is the first identity that the cells hold: the row, the number of the channel
    tile's cells, or 0 for weights; it counts up with the units. An access that `overflows` names
    more rows than the buffer has units.
    """

    buffer: int
    cells: tuple[int, int]
    unit: int
    units: int
    content: int
    overflows: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A compute or a transfer with what it touches."""

    label_index: int
    is_compute: bool
    start_cycle: int
    end_cycle: int
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]

    def label(self, facts: Facts) -> str:
        """Name for a sentence."""
        name = compute_label if self.is_compute else transfer_label
        return name(facts, self.label_index)


def commands_in_time(facts: Facts) -> list[Command]:
    """All commands by start cycle, those that end at once first, then in queue order."""
    commands = [_of_compute(facts, i, c) for i, c in enumerate(facts.schedule.computes)]
    commands += [_of_transfer(facts, i, t) for i, t in enumerate(facts.schedule.transfers)]
    commands.sort(key=lambda command: (command.start_cycle, command.end_cycle))
    return commands


def state_shape(facts: Facts, number: int) -> tuple[int, int]:
    """Cells by units of a buffer's state."""
    buffer = facts.schedule.buffers[number]
    if buffer.kind == "weights":
        return facts.weight_cell_count(facts.layers[buffer.tensor]), 1
    if buffer.kind in ROW_KINDS:
        cells = facts.map_cell_count(buffer.tensor)
        return cells, min(buffer.count, facts.tensor(buffer.tensor).rows)
    tiles = max(step.tiles for step in facts.schedule.steps)
    return 1, min(buffer.count, tiles)


def shared_with(facts: Facts, access: Access, number: int) -> Access:
    """The same bytes of another buffer that shares them; more where cells or units are others."""
    (_, width), (cells, units) = state_shape(facts, access.buffer), state_shape(facts, number)
    own, other = facts.schedule.buffers[access.buffer], facts.schedule.buffers[number]
    if own.kind not in ROW_KINDS or other.kind not in ROW_KINDS or width != units:
        return Access(number, (0, cells), 0, units, 0)
    same = own.channels == other.channels and (
        facts.layout(own.tensor) == facts.layout(other.tensor)
    )
    found = _covering(facts, access.cells, own.tensor, other.tensor) if same else (0, cells)
    return replace(access, buffer=number, cells=found)


def _covering(facts: Facts, cells: tuple[int, int], tensor: str, other: str) -> tuple[int, int]:
    """Cells of one map that have channels of `cells` of another."""
    cuts, own = facts.map_cuts[tensor], facts.map_cuts[other]
    low, high = cuts[cells[0]], cuts[cells[1]]
    return bisect_right(own, low) - 1, bisect_left(own, high)


def blocks(access: Access, width: int) -> Iterator[tuple[Block, NDArray[np.int64]]]:
    """Slices of a state of `width` units, each with the contents expected there."""
    cells = slice(*access.cells)
    straight = min(access.units, width - access.unit)
    content = np.arange(access.content, access.content + access.units, dtype=np.int64)
    yield (cells, slice(access.unit, access.unit + straight)), content[:straight]
    if access.units > straight:
        yield (cells, slice(0, access.units - straight)), content[straight:]


def _of_compute(facts: Facts, index: int, command: Compute) -> Command:
    layer = facts.layers[command.layer]
    reads = [
        _map_access(
            facts, number, layer.inputs[i].tensor, facts.needed_rows(layer, i, command.rows),
            facts.operand_channels(layer, i, command.channels, command.summed), command.tile,
            command.summed is not None,
        )
        for i, number in enumerate(command.inputs)
    ]  # fmt: skip
    for number in command.weights:
        reads.append(_weights(facts, number, command.channels, command.tile, summed=command.summed))
    if command.sums is not None and command.summed is not None:
        reads.append(_sums(facts, command.sums, command, command.summed[0]))
    if command.summed is None or facts.finishes(command):
        written = _map_access(
            facts, command.output, layer.output, command.rows, command.channels, command.tile
        )
    else:
        written = _sums(facts, command.output, command, command.summed[1])
    return Command(
        index, True, command.start_cycle, command.end_cycle,
        tuple(a for a in reads if a is not None), tuple(a for a in (written,) if a is not None),
    )  # fmt: skip


def _of_transfer(facts: Facts, index: int, command: Transfer) -> Command:
    tile = command.tile or 0
    if command.role == "weights":
        access = _weights(
            facts, command.buffer, command.channels, tile, command.piece, command.summed
        )
    else:
        access = _map_access(
            facts, command.buffer, command.tensor, command.rows, command.channels, tile,
            facts.schedule.steps[command.step].axis == "sums",
        )  # fmt: skip
    found = tuple(a for a in (access,) if a is not None)
    reads, writes = ((), found) if command.kind == "load" else (found, ())
    return Command(index, False, command.start_cycle, command.end_cycle, reads, writes)


def _map_access(
    facts: Facts, number: int, tensor: str, rows: tuple[int, int], channels: Channels, tile: int,
    some_rows: bool = False,
) -> Access | None:  # fmt: skip
    """Rows of channels of `tensor`, in a buffer of it or of a map that it is a piece of.

    With `some_rows`, tiles of channels that are streamed in have no more than these rows.
    """
    buffer = facts.schedule.buffers[number]
    try:
        channels = facts.channels_in(buffer.tensor, tensor, channels)
        facts.map_cells(buffer.tensor, channels)
    except (KeyError, ValueError):
        return None  # the wrong buffer: said by `spm_opt.verify.operands`
    if some_rows and rows[1] <= rows[0]:
        return None  # padding alone
    if buffer.kind == "channel_input" and not some_rows:
        return _tile(facts, number, channels, tile)  # all rows, some of which nobody may need
    if buffer.kind in ("channel_input", "channel_output"):
        return _tile(facts, number, channels, tile, rows)
    return _rows(facts, number, rows, channels)


def _rows(facts: Facts, number: int, rows: tuple[int, int], channels: Channels) -> Access | None:
    buffer = facts.schedule.buffers[number]
    begin, end = rows
    if buffer.kind not in ROW_KINDS or end <= begin:
        return None
    cells = facts.map_cells(buffer.tensor, channels)
    width = state_shape(facts, number)[1]
    kept = min(end - begin, width)
    return Access(number, cells, begin % width, kept, begin, overflows=kept < end - begin)


def _sums(facts: Facts, number: int, command: Compute, added: int) -> Access | None:
    """Partial sums of a compute's rows and channels, of the first `added` input channels."""
    layer = facts.layers[command.layer]
    if facts.schedule.buffers[number].kind != "sums":
        return None  # said by `spm_opt.verify.sums`
    count, (begin, end) = facts.cell_count(layer), facts.cells(layer, command.channels)
    content = (begin * (count + 1) + end) * (layer.rows + 1) + command.rows[0]
    content = content * (layer.rows + 1) + command.rows[1]
    content = content * (facts.reductions[layer.name].inputs + 1) + added
    return Access(number, (0, 1), 0, 1, content)


def _weights(
    facts: Facts, number: int, channels: Channels, tile: int,
    piece: tuple[int, int] | None = None, summed: Summed | None = None,
) -> Access | None:  # fmt: skip
    buffer = facts.schedule.buffers[number]
    if buffer.kind == "weight_stream":
        access = _tile(facts, number, channels, tile)
        if summed is None:
            return access
        inputs = facts.reductions[buffer.tensor].inputs + 1
        content = (access.content * inputs + summed[0]) * inputs + summed[1]
        return replace(access, content=content)
    if buffer.kind != "weights":
        return None
    layer = facts.layers[buffer.tensor]
    begin, end = facts.weight_cells(layer, channels, piece)
    held_begin, held_end = facts.weight_cells(layer, buffer.channels)
    begin, end = max(begin, held_begin), min(end, held_end)
    return Access(number, (begin, end), 0, 1, 0) if begin < end else None


def _tile(
    facts: Facts, number: int, channels: Channels, tile: int, rows: tuple[int, int] = (0, 0)
) -> Access:
    buffer = facts.schedule.buffers[number]
    if buffer.kind == "weight_stream":
        layer = facts.layers[buffer.tensor]
        count, (begin, end) = facts.cell_count(layer), facts.cells(layer, channels)
    else:
        count = facts.map_cell_count(buffer.tensor)
        begin, end = facts.map_cells(buffer.tensor, channels)
    # the tile's channels and rows identify what the unit holds
    content = begin * (count + 1) + end
    if rows != (0, 0):
        extent = facts.tensor(buffer.tensor).rows + 1
        content = (content * extent + rows[0]) * extent + rows[1]
    return Access(number, (0, 1), tile % state_shape(facts, number)[1], 1, content)
