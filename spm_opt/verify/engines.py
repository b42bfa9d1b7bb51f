"""The two engines: what each command costs, and that an engine does one thing at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from spm_opt.cost.compression import map_share
from spm_opt.cost.compute import tile_cycles
from spm_opt.cost.dram import moved_bytes, transfer_cycles
from spm_opt.graph.sums import sliced
from spm_opt.hardware import RAW
from spm_opt.schedule import Compute, Transfer
from spm_opt.verify.dram import extent_of
from spm_opt.verify.facts import (
    Facts,
    channel_count,
    compute_label,
    transfer_label,
    width,
)


def compute_durations(facts: Facts) -> list[int]:
    """Cycles of every compute command, by the price of its rows and channels."""
    alike: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    for index, command in enumerate(facts.schedule.computes):
        part = width(facts.layers[command.layer], command.channels)
        alike[command.layer, part, inputs_added(command)].append(index)
    durations = [0] * len(facts.schedule.computes)
    for (name, part, added), indices in alike.items():
        layer = sliced(facts.layers[name], added) if added else facts.layers[name]
        commands = [facts.schedule.computes[i] for i in indices]
        cycles = tile_cycles(
            layer,
            facts.tensor(layer.output).dtype,
            facts.schedule.hardware,
            np.array([c.rows[1] - c.rows[0] for c in commands], dtype=np.int64),
            np.array([read_bytes(facts, c) for c in commands], dtype=np.int64),
            None if part == channel_count(layer) else part,
            np.array([c.rows[0] for c in commands], dtype=np.int64),
        )
        for index, duration in zip(indices, cycles.tolist(), strict=True):
            durations[index] = duration
    return durations


def inputs_added(command: Compute) -> int:
    """Input channels of a group that a compute adds; 0 for all."""
    return 0 if command.summed is None else command.summed[1] - command.summed[0]


def read_bytes(facts: Facts, command: Compute) -> int:
    """SPM bytes that a compute reads: needed rows (and channels) of operands, and its weights.

    And the partial sums that it goes on from.
    """
    layer = facts.layers[command.layer]
    total = facts.constant_bytes(layer, command.channels, command.summed)
    total += 0 if command.sums is None else facts.sums_bytes(command)
    for i, operand in enumerate(layer.inputs):
        begin, end = facts.needed_rows(layer, i, command.rows)
        channels = facts.operand_channels(layer, i, command.channels, command.summed)
        total += (end - begin) * facts.slice_row_bytes(operand.tensor, channels)
    return total


def transfer_moved(facts: Facts, transfer: Transfer) -> int:
    """Bytes over the pins for the rows and channels of a transfer."""
    extent, dram = extent_of(facts, transfer), facts.schedule.hardware.dram
    return moved_bytes(dram, extent.run_bytes, extent.runs, transfer_share(facts, transfer))


def transfer_share(facts: Facts, transfer: Transfer) -> int:
    """What compression leaves of a transfer, in parts of `RAW`: constants are raw."""
    if transfer.role == "weights":
        return RAW
    tensor = facts.schedule.network.tensors[transfer.tensor]
    return map_share(facts.schedule.hardware.dram.compression, tensor)


def transfer_durations(facts: Facts) -> list[int]:
    """Cycles of every transfer."""
    dram = facts.schedule.hardware.dram
    return [transfer_cycles(dram, transfer_moved(facts, t)) for t in facts.schedule.transfers]


def compute_prices(facts: Facts) -> Iterator[str]:
    """A compute lasts as long as its tile costs."""
    for index, duration in enumerate(compute_durations(facts)):
        command = facts.schedule.computes[index]
        found = command.end_cycle - command.start_cycle
        if found != duration:
            yield f"{compute_label(facts, index)} lasts {found} cycles, its tile costs {duration}"


def transfer_prices(facts: Facts) -> Iterator[str]:
    """A transfer moves whole bursts and lasts as long as they cost."""
    for index, duration in enumerate(transfer_durations(facts)):
        transfer = facts.schedule.transfers[index]
        moved = transfer_moved(facts, transfer)
        if transfer.moved_bytes != moved:
            yield (
                f"{transfer_label(facts, index)} says that it moves {transfer.moved_bytes} bytes, "
                f"its bursts are {moved}"
            )
        found = transfer.end_cycle - transfer.start_cycle
        if found != duration:
            yield f"{transfer_label(facts, index)} lasts {found} cycles, its bytes cost {duration}"


def engine_order(facts: Facts) -> Iterator[str]:
    """Each engine runs its commands in order, one at a time, from cycle 0 on."""
    computes = [(c.start_cycle, c.end_cycle) for c in facts.schedule.computes]
    transfers = [(t.start_cycle, t.end_cycle) for t in facts.schedule.transfers]
    for spans, label in ((computes, compute_label), (transfers, transfer_label)):
        free = 0
        for index, (start, end) in enumerate(spans):
            if start < free:
                yield (
                    f"{label(facts, index)} starts at cycle {start}, before its engine is free "
                    f"at {free}"
                )
            free = max(free, end)
