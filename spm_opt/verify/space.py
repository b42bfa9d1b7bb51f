"""Buffers: inside the scratchpad, aligned, apart while resident, touched only while resident."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spm_opt.schedule import Buffer, Transfer
from spm_opt.verify.facts import (
    MAP_TILE_KINDS,
    ROW_KINDS,
    TILE_KINDS,
    Facts,
    compute_label,
    transfer_label,
    weight_bytes,
)


def buffer_placement(facts: Facts) -> Iterator[str]:
    """A buffer lies in [0, capacity), starts aligned and takes an aligned size."""
    spm = facts.schedule.hardware.spm
    for buffer in facts.schedule.buffers:
        end = buffer.offset_bytes + buffer.size_bytes
        where = f"buffer {buffer.name!r}"
        if buffer.offset_bytes < 0 or end > spm.capacity_bytes:
            yield (
                f"{where} takes bytes {buffer.offset_bytes} .. {end}, outside the "
                f"scratchpad's 0 .. {spm.capacity_bytes}"
            )
        if buffer.offset_bytes % spm.alignment_bytes:
            yield f"{where} has offset {buffer.offset_bytes}, not aligned to {spm.alignment_bytes}"
        if buffer.size_bytes % spm.alignment_bytes or buffer.size_bytes <= 0:
            yield f"{where} has size {buffer.size_bytes}, not aligned to {spm.alignment_bytes}"


def buffer_bytes(facts: Facts) -> Iterator[str]:
    """A buffer is large enough for its units, and a unit for what it holds."""
    for buffer in facts.schedule.buffers:
        held = buffer.count * buffer.unit_bytes
        if buffer.size_bytes < held:
            yield (
                f"buffer {buffer.name!r} has size {buffer.size_bytes}, too small for "
                f"{buffer.count} units of {buffer.unit_bytes} bytes"
            )
        expected = _unit_bytes(facts, buffer)
        if expected is not None and buffer.unit_bytes != expected:
            yield f"buffer {buffer.name!r} has units of {buffer.unit_bytes} bytes, not {expected}"
        if buffer.kind == "weights" and buffer.count != 1:
            yield f"buffer {buffer.name!r} holds weights in {buffer.count} units, not 1"
    yield from _tiles_fit(facts)


def _unit_bytes(facts: Facts, buffer: Buffer) -> int | None:
    if buffer.kind in TILE_KINDS:
        return None
    if buffer.kind == "weights":
        return weight_bytes(facts.layers[buffer.tensor], buffer.channels)
    return facts.slice_row_bytes(buffer.tensor, buffer.channels)


def _tiles_fit(facts: Facts) -> Iterator[str]:
    for index, command in enumerate(facts.schedule.transfers):
        buffer = facts.schedule.buffers[command.buffer]
        if buffer.kind not in TILE_KINDS:
            continue
        if buffer.kind == "weight_stream":
            layer = facts.layers[buffer.tensor]
            size = facts.constant_bytes(layer, command.channels, command.summed)
        else:
            row_bytes = facts.slice_row_bytes(buffer.tensor, command.channels)
            size = (command.rows[1] - command.rows[0]) * row_bytes
        if size > buffer.unit_bytes:
            yield (
                f"{transfer_label(facts, index)} moves a tile of {size} bytes "
                f"({_width(facts, buffer, command)} channels), but buffer {buffer.name!r} has "
                f"units of {buffer.unit_bytes}"
            )
    for index, compute in enumerate(facts.schedule.computes):
        buffer = facts.schedule.buffers[compute.output]
        if buffer.kind in MAP_TILE_KINDS:
            row_bytes = facts.slice_row_bytes(facts.layers[compute.layer].output, compute.channels)
            size = (compute.rows[1] - compute.rows[0]) * row_bytes
            if size > buffer.unit_bytes:
                yield (
                    f"{compute_label(facts, index)} writes a tile of {size} bytes, but buffer "
                    f"{buffer.name!r} has units of {buffer.unit_bytes}"
                )


def _width(facts: Facts, buffer: Buffer, command: Transfer) -> int:
    if command.channels is None:
        return facts.channels_of(buffer.kind, buffer.tensor)
    return command.channels[1] - command.channels[0]


def buffers_apart(facts: Facts) -> Iterator[str]:
    """No two buffers share a byte at a step, unless they say so."""
    buffers = facts.schedule.buffers
    offset = np.array([b.offset_bytes for b in buffers], dtype=np.int64)
    end = offset + np.array([b.size_bytes for b in buffers], dtype=np.int64)
    first = np.array([b.first_step for b in buffers], dtype=np.int64)
    last = np.array([b.end_step for b in buffers], dtype=np.int64)
    for i, buffer in enumerate(buffers):
        clash = (offset[i + 1 :] < end[i]) & (end[i + 1 :] > offset[i])
        clash &= (first[i + 1 :] < last[i]) & (last[i + 1 :] > first[i])
        for j in np.flatnonzero(clash) + i + 1:
            if facts.sharing[i] == facts.sharing[j]:
                continue
            yield (
                f"buffers {buffer.name!r} and {buffers[j].name!r} overlap at bytes "
                f"{max(offset[i], offset[j])} .. {min(end[i], end[j])} in step "
                f"{max(first[i], first[j])}"
            )


def sharing_alike(facts: Facts) -> Iterator[str]:
    """Buffers that share bytes share all of them, unit by unit and element by element."""
    for buffer in facts.schedule.buffers:
        if buffer.shares is None:
            continue
        other = facts.schedule.buffers[buffer.shares]
        rows = buffer.kind in ROW_KINDS and other.kind in ROW_KINDS
        if not rows or _extent(buffer) != _extent(other) or not _alike(facts, buffer, other):
            yield f"buffer {buffer.name!r} shares the bytes of {other.name!r}, but differs from it"
        elif buffer.first_step >= other.end_step or other.first_step >= buffer.end_step:
            yield f"buffer {buffer.name!r} shares the bytes of {other.name!r}, but in other steps"


def _alike(facts: Facts, buffer: Buffer, other: Buffer) -> bool:
    """Whether an element of one map lies where the same element of the other does."""
    one, two = facts.tensor(buffer.tensor), facts.tensor(other.tensor)
    same = (one.shape, one.dtype, one.images) == (two.shape, two.dtype, two.images)
    return same and buffer.channels == other.channels


def _extent(buffer: Buffer) -> tuple[int, int, int, int]:
    return buffer.offset_bytes, buffer.size_bytes, buffer.count, buffer.unit_bytes


def touched_while_resident(facts: Facts) -> Iterator[str]:
    """Commands touch a buffer only in the steps of its residency."""
    for index, compute in enumerate(facts.schedule.computes):
        for number in compute.touched:
            yield from _outside(
                facts, number, compute.step, compute.step, compute_label(facts, index)
            )
    for index, transfer in enumerate(facts.schedule.transfers):
        label = transfer_label(facts, index)
        yield from _outside(facts, transfer.buffer, transfer.step, transfer.need_step, label)


def needed_when_read(facts: Facts) -> Iterator[str]:
    """A whole load names the first step that touches what it brings, and runs before that does."""
    touched: dict[int, int] = {}
    for compute in facts.schedule.computes:
        for number in compute.touched:
            touched[number] = min(compute.step, touched.get(number, compute.step))
    for index, transfer in enumerate(facts.schedule.transfers):
        if transfer.kind == "load" and transfer.tile is None:
            first = touched.get(transfer.buffer, transfer.need_step)
            if transfer.need_step != first:
                yield (
                    f"{transfer_label(facts, index)} is needed by step {transfer.need_step}, its "
                    f"buffer is touched in step {first}"
                )


def _outside(facts: Facts, number: int, first: int, last: int, label: str) -> Iterator[str]:
    buffer = facts.schedule.buffers[number]
    if first < buffer.first_step or last >= buffer.end_step:
        yield (
            f"{label} touches buffer {buffer.name!r} in step {first if first == last else last}, "
            f"but it is resident only in steps {buffer.first_step} .. {buffer.end_step}"
        )
