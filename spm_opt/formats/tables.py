"""The tables of a finished schedule as CSV: where buffers lie, what each layer costs.

Facts are read off the schedule; nothing is decided here and no file is opened.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from typing import Final

import numpy as np

from spm_opt.cost.array_tiles import array_counts
from spm_opt.cost.compute import tile_cycles
from spm_opt.cost.exact import Ints
from spm_opt.energy import add_up, can_count, compute_energies, transfer_energy
from spm_opt.graph.network import Layer
from spm_opt.graph.sums import sliced
from spm_opt.schedule import Buffer, Compute, Schedule, Step, Transfer

ALLOCATION_COLUMNS: Final = (
    "buffer", "tensor", "kind", "offset_bytes", "size_bytes", "first_step", "last_step",
)  # fmt: skip
LAYER_COLUMNS: Final = (
    "first_step", "last_step", "layer", "op", "tiles", "axis", "halo", "cycles",
    "dram_weight_bytes", "dram_feature_map_bytes", "spm_bytes", "macs", "mac_utilisation",
    "active_pes", "bound_by", "mac_fj", "register_file_fj", "neighbour_fj", "vector_fj", "spm_fj",
    "dram_fj", "weights_fj", "maps_fj", "energy_fj",
)  # fmt: skip


def allocation_csv(schedule: Schedule) -> str:
    """One row a buffer: SPM address, size and the steps at which it is resident (inclusive)."""
    return _csv(ALLOCATION_COLUMNS, (_buffer_row(buffer) for buffer in schedule.buffers))


def _buffer_row(b: Buffer) -> tuple[object, ...]:
    return (
        b.name, b.tensor, b.kind, b.offset_bytes, b.size_bytes, b.first_step, b.end_step - 1,
    )  # fmt: skip


def layers_csv(schedule: Schedule) -> str:
    """One row a layer, in order of execution.

    A layer cut into slices spans several steps; its tiles, cycles and bytes are their sums. A map
    that a step loads counts for the first of its layers that reads it, a stored map for the layer
    that writes it. ``spm_bytes`` is what is resident at the fullest of its steps,
    ``mac_utilisation`` useful MACs over those that the array could do in its cycles,
    ``active_pes`` the processing elements at work in its fullest tile, for an array that keeps a
    dataflow.
    ``bound_by`` is ``dram`` where the layer's transfers take longer than its tiles, otherwise what
    sets the time of its tiles: ``compute``, ``vector`` or ``spm`` (bandwidth). Energies are those
    of its tiles and transfers, by level and, of scratchpad and DRAM, by tensor kind; ``energy_fj``
    is the sum of the levels, without leakage. They are empty where the hardware does not say them.
    """
    layers = {layer.name: layer for layer in schedule.network.layers}
    computes: dict[str, list[Compute]] = defaultdict(list)
    for command in schedule.computes:
        computes[command.layer].append(command)
    transfers: dict[str, list[Transfer]] = defaultdict(list)
    booked = BookedLayers(schedule)
    for transfer in schedule.transfers:
        transfers[booked.layer(transfer)].append(transfer)
    resident = _resident_bytes(schedule)
    energies = _Energies(schedule)
    rows = (
        (
            *_layer_row(schedule, layers[name], commands, transfers[name], resident),
            *energies.row(commands, transfers[name]),
        )
        for name, commands in computes.items()
    )
    return _csv(LAYER_COLUMNS, rows)


def _layer_row(
    schedule: Schedule,
    layer: Layer,
    commands: list[Compute],
    transfers: list[Transfer],
    resident: list[int],
) -> tuple[object, ...]:
    steps = sorted({command.step for command in commands})
    first: Step = schedule.steps[steps[0]]
    cycles = sum(c.end_cycle - c.start_cycle for c in commands)
    peak = cycles * schedule.hardware.compute.macs_per_cycle
    moved = {
        role: sum(t.moved_bytes for t in transfers if t.role == role) for role in ("weights", "map")
    }
    return (
        steps[0], steps[-1], layer.name, layer.op.kind, len({(c.step, c.tile) for c in commands}),
        first.axis, first.halo, cycles, moved["weights"], moved["map"],
        max(resident[step] for step in steps), layer.macs,
        f"{layer.macs / peak if peak else 0.0:.4f}", _active_pes(schedule, layer, commands),
        _bound_by(schedule, layer, commands, transfers, cycles),
    )  # fmt: skip


class _Energies:
    """Energy of the commands of a layer."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.counted = can_count(schedule.network, schedule.hardware)

    def row(self, commands: list[Compute], transfers: list[Transfer]) -> tuple[object, ...]:
        """The last columns."""
        network, hardware = self.schedule.network, self.schedule.hardware
        if not self.counted or hardware.energy is None:
            return ("",) * 9
        energy = hardware.energy
        moved = (transfer_energy(energy, transfer) for transfer in transfers)
        found = add_up((*compute_energies(network, hardware, commands), *moved))
        return (*astuple(found), found.total_fj)


class BookedLayers:
    """Layers that transfers are booked on: who reads what is loaded first, who made what is stored.

    What is loaded for nobody, and what nobody computed, is booked on the first layer of its step.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.steps = schedule.steps
        self.readers: dict[int, list[tuple[int, str]]] = defaultdict(list)
        self.writers: dict[tuple[int, int], str] = {}
        self.idle = {name for step in schedule.steps for name in step.layers}
        for compute in schedule.computes:
            self.idle.discard(compute.layer)
            self.writers[compute.step, compute.output] = compute.layer
            for buffer in compute.inputs:
                self.readers[buffer].append((compute.step, compute.layer))

    def layer(self, transfer: Transfer) -> str:
        """The layer of one transfer."""
        if transfer.role == "weights":
            return transfer.tensor
        if transfer.kind == "store":
            found = self.writers.get((transfer.step, transfer.buffer))
        else:
            readers = self.readers[transfer.buffer]
            found = next((name for step, name in readers if step >= transfer.need_step), None)
        step = self.steps[transfer.step if transfer.kind == "store" else transfer.need_step]
        return found or next((name for name in step.layers if name not in self.idle), "")


def _resident_bytes(schedule: Schedule) -> list[int]:
    """Bytes of all buffers resident at each step."""
    change = [0] * (len(schedule.steps) + 1)
    for buffer in schedule.buffers:
        change[buffer.first_step] += buffer.size_bytes
        change[buffer.end_step] -= buffer.size_bytes
    total, resident = 0, []
    for difference in change[:-1]:
        total += difference
        resident.append(total)
    return resident


def _bound_by(
    schedule: Schedule,
    layer: Layer,
    commands: list[Compute],
    transfers: list[Transfer],
    cycles: int,
) -> str:
    if sum(t.end_cycle - t.start_cycle for t in transfers) > cycles:
        return "dram"
    if cycles > _work_cycles(schedule, layer, commands):
        return "spm"
    return "vector" if layer.loops is None else "compute"


def _work_cycles(schedule: Schedule, layer: Layer, commands: list[Compute]) -> int:
    """Cycles of the tiles if reading (of a dataflow's array: reading maps) cost nothing."""
    dtype, hardware = schedule.network.tensors[layer.output].dtype, schedule.hardware
    total = 0
    for deep, part, rows, begin in _tiles(layer, commands):
        counts = array_counts(deep, dtype, hardware, rows, part, begin)
        if counts is None:
            nothing = np.zeros_like(rows)
            cycles = tile_cycles(deep, dtype, hardware, rows, nothing, part, begin)
        else:
            cycles = counts["work_cycles"] + hardware.compute.tile_overhead_cycles
        total += int(cycles.sum())
    return total


def _active_pes(schedule: Schedule, layer: Layer, commands: list[Compute]) -> int | str:
    """PEs at work in that tile of a layer that has most; nothing where there is no dataflow."""
    dtype = schedule.network.tensors[layer.output].dtype
    found: list[int] = []
    for deep, part, rows, begin in _tiles(layer, commands):
        counts = array_counts(deep, dtype, schedule.hardware, rows, part, begin)
        found += [] if counts is None else counts["active_pes"].tolist()
    return max(found, default="")


def _tiles(layer: Layer, commands: list[Compute]) -> Iterator[tuple[Layer, int | None, Ints, Ints]]:
    """Rows and first rows of the tiles of every width, and the layer as deep as they add it up."""
    rows: dict[tuple[int | None, int | None], list[tuple[int, int]]] = defaultdict(list)
    for command in commands:
        rows[_width(command.channels), _width(command.summed)].append(command.rows)
    for (part, added), ranges in rows.items():
        begin, end = np.array(ranges, dtype=np.int64).T
        yield layer if added is None else sliced(layer, added), part, end - begin, begin


def _width(channels: tuple[int, int] | None) -> int | None:
    return None if channels is None else channels[1] - channels[0]


def _csv(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
