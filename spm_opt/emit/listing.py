"""The schedule as text that a compiler engineer reads: memory maps, then every command in time.

One line a command: start cycle, what it does, to which tile, which rows, at which addresses, how
long, and what it waits for. Printed, not decided: everything stands in the schedule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from spm_opt.graph.network import Layer
from spm_opt.schedule import Buffer, Compute, Schedule, Step, Transfer
from spm_opt.units import format_bytes

_ROLLING_OUTPUTS = ("output", "channel_output")
_TILE_KINDS = ("weight_stream", "channel_input", "channel_output")


@dataclass(frozen=True)
class _Book:
    """The schedule with its commands by step, and which tiles load and store."""

    schedule: Schedule
    layers: dict[str, Layer]
    computes: dict[int, list[Compute]]
    transfers: dict[int, list[Transfer]]
    loads: set[tuple[int, int | None]]
    stores: set[tuple[int, int | None]]


def listing(schedule: Schedule) -> str:
    """The whole schedule as text, ending in a newline."""
    book = _book(schedule)
    lines = [*_header(schedule), "", *_spm_map(schedule), "", *_dram_map(schedule)]
    for index in range(len(schedule.steps)):
        lines += ["", *_step(book, index)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _book(schedule: Schedule) -> _Book:
    computes: dict[int, list[Compute]] = defaultdict(list)
    for compute in schedule.computes:
        computes[compute.step].append(compute)
    transfers: dict[int, list[Transfer]] = defaultdict(list)
    loads: set[tuple[int, int | None]] = set()
    stores: set[tuple[int, int | None]] = set()
    for transfer in schedule.transfers:
        transfers[transfer.step].append(transfer)
        if transfer.kind == "load" and transfer.step == transfer.need_step:
            loads.add((transfer.step, transfer.tile))
        if schedule.buffers[transfer.buffer].kind in _ROLLING_OUTPUTS and transfer.kind == "store":
            stores.add((transfer.step, transfer.tile))
    layers = {layer.name: layer for layer in schedule.network.layers}
    return _Book(schedule, layers, computes, transfers, loads, stores)


def _header(schedule: Schedule) -> Iterator[str]:
    made, claims, hardware = schedule.provenance, schedule.claims, schedule.hardware
    microseconds = claims.latency_cycles / hardware.frequency_hz * 1e6
    yield "; spm_opt listing: cycles, bytes, hexadecimal addresses, half-open row intervals"
    yield f"; model     {schedule.network.name}: {len(schedule.network.layers)} layers"
    yield (
        f"; hardware  {hardware.name}: {format_bytes(hardware.spm.capacity_bytes)} SPM, "
        f"{format_bytes(claims.spm_peak_bytes)} used"
    )
    yield f"; strategy  {made.strategy}, objective {made.objective}, order {made.order}"
    yield (
        f"; status    {made.status}: {made.objective} {made.objective_value}, "
        f"bound {made.objective_bound}"
    )
    yield (
        f"; latency   {claims.latency_cycles} cycles ({microseconds:.3f} us), "
        f"bound {made.latency_lower_bound_cycles}, roofline {claims.roofline_cycles}"
    )
    yield (
        f"; DRAM      {claims.dram_bytes} bytes: weights {claims.dram_weight_bytes}, "
        f"feature maps {claims.dram_feature_map_bytes}"
    )


def _spm_map(schedule: Schedule) -> Iterator[str]:
    yield "; SPM: begin .. end, resident steps, buffer, kind, contents"
    for buffer in sorted(schedule.buffers, key=lambda b: (b.first_step, b.offset_bytes)):
        end = buffer.offset_bytes + buffer.size_bytes
        yield (
            f"; {buffer.offset_bytes:#08x} .. {end:#08x}  "
            f"[{buffer.first_step}, {buffer.end_step})  {buffer.name}  {buffer.kind}  "
            f"{buffer.tensor}{_channels(buffer.channels)}: "
            f"{buffer.count} x {buffer.unit_bytes} bytes"
        )


def _dram_map(schedule: Schedule) -> Iterator[str]:
    yield "; DRAM: begin, tensor"
    for name, address in sorted(schedule.dram_addresses.items(), key=lambda item: item[1]):
        yield f"; {address:#010x}  {name}"


def _step(book: _Book, index: int) -> Iterator[str]:
    step = book.schedule.steps[index]
    tiles = "1 tile" if step.tiles == 1 else f"{step.tiles} tiles of {step.axis}, {step.halo}"
    yield (
        f"step {index}: {' + '.join(step.layers)}{_channels(step.channels)}; {tiles}, "
        f"depth {step.depth}; cycles {step.start_cycle} .. {step.end_cycle}"
    )
    # the engines' queues break ties: a transfer of no cycles keeps its place
    commands: list[tuple[int, int, str]] = [
        (t.start_cycle, t.end_cycle, _transfer(book, t)) for t in book.transfers[index]
    ]
    commands += [(c.start_cycle, c.end_cycle, _compute(book, c)) for c in book.computes[index]]
    commands.sort(key=lambda command: command[:2])
    width = len(str(step.end_cycle))
    for start, end, text in commands:
        yield f"  {start:>{width}} +{end - start:<7} {text}"


def _transfer(book: _Book, transfer: Transfer) -> str:
    buffer = book.schedule.buffers[transfer.buffer]
    if transfer.role == "weights":
        what, spm = f"weights of {transfer.tensor}", _unit_address(buffer, transfer.tile)
    else:
        what = f"{transfer.tensor} rows {_rows(transfer.rows)}"
        spm = _row_addresses(buffer, transfer.rows, transfer.tile)
    what += _channels(transfer.channels)
    runs = "" if transfer.runs == 1 else f" in {transfer.runs} runs"
    dram = f"dram {transfer.dram_address:#010x}"
    ends = f"{dram} -> {spm}" if transfer.kind == "load" else f"{spm} -> {dram}"
    size = f"{transfer.run_bytes * transfer.runs} B{runs}, {transfer.moved_bytes} B moved"
    waits = _transfer_waits(book, transfer)
    return f"{transfer.kind.upper():<7} {_tile(transfer.tile):<5} {what}: {ends}; {size}; {waits}"


def _compute(book: _Book, compute: Compute) -> str:
    layer, buffers = book.layers[compute.layer], book.schedule.buffers
    reads = []
    for i, number in enumerate(compute.inputs):
        tensor = book.schedule.network.tensors[layer.inputs[i].tensor]
        rows = layer.input_rows(i).needed(*compute.rows, tensor.rows)
        where = _row_addresses(buffers[number], rows, compute.tile)
        reads.append(f"{tensor.name} rows {_rows(rows)} {where}")
    for number in compute.weights:
        reads.append(f"weights {_unit_address(buffers[number], compute.tile)}")
    output = _row_addresses(buffers[compute.output], compute.rows, compute.tile)
    what = f"{compute.layer} rows {_rows(compute.rows)}{_channels(compute.channels)}"
    return (
        f"COMPUTE {_tile(compute.tile):<5} {what}: {', '.join(reads)} -> {output}; "
        f"{_compute_waits(book, compute)}"
    )


def _transfer_waits(book: _Book, transfer: Transfer) -> str:
    step: Step = book.schedule.steps[transfer.step]
    if transfer.kind == "store":
        return "after the step's tiles" if transfer.tile is None else f"after tile {transfer.tile}"
    if transfer.step < transfer.need_step:
        return f"after the barrier; before step {transfer.need_step}"
    if transfer.tile is None or transfer.tile < step.depth:
        return "after the barrier"
    return f"after tile {transfer.tile - step.depth}"


def _compute_waits(book: _Book, compute: Compute) -> str:
    step, tile = compute.step, compute.tile
    drained = tile - book.schedule.steps[step].depth
    waits = []
    if (step, None) in book.loads and tile == 0:
        waits.append("the step's loads")
    if (step, tile) in book.loads:
        waits.append(f"loads {tile}")
    if (step, drained) in book.stores:
        waits.append(f"stores {drained}")
    if waits:
        return f"after {', '.join(waits)}"
    first = tile == 0 and compute.layer == book.schedule.steps[step].layers[0]
    return "after the barrier" if first else "after the command before"


def _unit_address(buffer: Buffer, tile: int | None) -> str:
    unit = (tile or 0) % buffer.count if buffer.kind in _TILE_KINDS else 0
    return f"spm {buffer.offset_bytes + unit * buffer.unit_bytes:#08x}"


def _row_addresses(buffer: Buffer, rows: tuple[int, int], tile: int | None) -> str:
    """SPM addresses of rows: of the first, and of the one at which a rolling buffer wraps."""
    if buffer.kind in _TILE_KINDS:
        return _unit_address(buffer, tile)
    first = rows[0] % buffer.count
    address = f"spm {buffer.offset_bytes + first * buffer.unit_bytes:#08x}"
    if first + rows[1] - rows[0] > buffer.count:
        wrapped = rows[0] + buffer.count - first
        address += f" (row {wrapped} at {buffer.offset_bytes:#08x})"
    return address


def _tile(tile: int | None) -> str:
    return "-" if tile is None else f"t{tile}"


def _rows(rows: tuple[int, int]) -> str:
    return f"{rows[0]}..{rows[1]}"


def _channels(channels: tuple[int, int] | None) -> str:
    return "" if channels is None else f" channels {channels[0]}..{channels[1]}"
