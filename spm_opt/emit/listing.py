"""The command stream as text that a compiler engineer reads: memory maps, then every command.

One line a command: number, start cycle and duration, what it does, to which tile, which rows, at
which SPM and DRAM addresses, and the numbers of the commands that it waits for. Printed, not
decided: the commands stand in the stream, their cycles in its simulation; of the schedule come the
headings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from spm_opt.cost.dram import moved_bytes
from spm_opt.schedule import Schedule
from spm_opt.simulate import Simulation
from spm_opt.stream import Command, Stream, Window
from spm_opt.units import format_bytes


def listing(schedule: Schedule, stream: Stream, simulation: Simulation) -> str:
    """The whole stream as text, ending in a newline.

    Parameters
    ----------
    schedule : Schedule
        What the stream was lowered from.
    stream : Stream
    simulation : Simulation
        Of the stream on the schedule's hardware.
    """
    steps: dict[int, list[Command]] = defaultdict(list)
    for command in stream.commands:
        steps[command.step].append(command)
    lines = [*_header(schedule), "", *_spm_map(schedule), "", *_dram_map(stream)]
    for index in range(len(schedule.steps)):
        lines += ["", _heading(schedule, index), *_commands(schedule, steps[index], simulation)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


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


def _dram_map(stream: Stream) -> Iterator[str]:
    yield "; DRAM: begin, tensor"
    for name, address in sorted(stream.dram_addresses.items(), key=lambda item: item[1]):
        yield f"; {address:#010x}  {name}"


def _heading(schedule: Schedule, index: int) -> str:
    step = schedule.steps[index]
    tiles = "1 tile" if step.tiles == 1 else f"{step.tiles} tiles of {step.axis}, {step.halo}"
    return (
        f"step {index}: {' + '.join(step.layers)}{_channels(step.channels)}; {tiles}, "
        f"depth {step.depth}; cycles {step.start_cycle} .. {step.end_cycle}"
    )


def _commands(schedule: Schedule, commands: list[Command], simulation: Simulation) -> Iterator[str]:
    """The commands of one step in time; the stream's order breaks ties."""
    spans = simulation.spans
    commands = sorted(commands, key=lambda c: (spans[c.number].start_cycle, c.number))
    numbers, cycles = len(str(len(spans))), len(str(simulation.latency_cycles))
    for command in commands:
        span = spans[command.number]
        tile = "-" if command.tile < 0 else f"t{command.tile}"
        yield (
            f"  {command.number:>{numbers}}  {span.start_cycle:>{cycles}} "
            f"+{span.end_cycle - span.start_cycle:<7} {command.kind.upper():<7} {tile:<5} "
            f"{_what(schedule, command)}{_waits(command)}"
        )


def _what(schedule: Schedule, command: Command) -> str:
    if command.dram is None:
        return _compute(command)
    dram, windows = command.dram, [*command.inputs, *command.weights]
    if command.output is not None:
        windows.append(command.output)
    moved = moved_bytes(schedule.hardware.dram, dram.run_bytes, dram.runs, dram.share)
    spm, address = " ".join(_address(window) for window in windows), f"dram {dram.address:#010x}"
    ends = f"{address} -> {spm}" if command.kind == "load" else f"{spm} -> {address}"
    what = f"{command.name} rows {_rows(command.rows)}"
    if command.role == "weights":
        what = f"weights of {command.name}"
    runs = "" if dram.runs == 1 else f" in {dram.runs} runs"
    size = f"{dram.run_bytes * dram.runs} B{runs}, {moved} B moved"
    ahead = "; prefetched" if command.prefetch else ""
    return f"{what}{_channels(command.channels)}: {ends}; {size}{ahead}"


def _compute(command: Command) -> str:
    reads = [f"{w.tensor} rows {_rows(w.rows)} {_address(w)}" for w in command.inputs]
    reads += [f"weights {_address(window)}" for window in command.weights]
    what = f"{command.name} rows {_rows(command.rows)}{_channels(command.channels)}"
    output = "" if command.output is None else _address(command.output)
    return f"{what}: {', '.join(reads)} -> {output}"


def _waits(command: Command) -> str:
    return f"; after {', '.join(map(str, command.waits))}" if command.waits else ""


def _address(window: Window) -> str:
    """SPM addresses: of the first byte touched, and of the row at which a window wraps."""
    first = window.rows[0] % window.held
    begin = window.base_bytes + window.first_byte
    address = f"spm {begin + first * window.pitch_bytes:#08x}"
    if first + window.rows[1] - window.rows[0] > window.held:
        address += f" (row {window.rows[0] + window.held - first} at {begin:#08x})"
    return address


def _rows(rows: tuple[int, int]) -> str:
    return f"{rows[0]}..{rows[1]}"


def _channels(channels: tuple[int, int] | None) -> str:
    return "" if channels is None else f" channels {channels[0]}..{channels[1]}"
