"""Each command is its record of the schedule: the same rows, channels, windows and addresses.

Windows are derived anew from buffers, maps and pieces; nothing of the lowering is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from spm_opt.graph.network import Layer
from spm_opt.graph.sums import Summed
from spm_opt.schedule import Buffer, Compute, Transfer
from spm_opt.simulate import command_label
from spm_opt.stream import COMPUTE, DMA, Command, DramRange, Window
from spm_opt.verify.commands_identity import layouts
from spm_opt.verify.commands_trace import Trace
from spm_opt.verify.engines import transfer_share
from spm_opt.verify.facts import (
    MAP_TILE_KINDS,
    Channels,
    Facts,
    channel_count,
    is_prefetch,
    width,
)

_NAMES = "compute", "transfer"
#: fields of a command that its record says nothing of
_OWN = ("number", "waits")


def every_record_once(trace: Trace) -> Iterator[str]:
    """Each engine has as many commands as the schedule has records for it."""
    schedule = trace.facts.schedule
    for name, queue, records in zip(
        _NAMES, trace.queues, (schedule.computes, schedule.transfers), strict=True
    ):
        if len(queue) != len(records):
            yield f"there are {len(queue)} commands for {len(records)} {name}s of the schedule"


def records_alike(trace: Trace) -> Iterator[str]:
    """The commands of each engine are the schedule's, in its order and in every field."""
    writer = _Expected(trace.facts)
    for command in trace.stream.commands:
        record = trace.record(command)
        if record is None:
            continue
        expected = writer.command(command, record)
        if expected == command:
            continue
        plain = writer.plain(command)
        for name, found, wanted in _differences(plain, writer.plain(expected)):
            place = trace.places[command.number]
            what = _NAMES[isinstance(record, Transfer)]
            yield (
                f"{command_label(command)}: {name} is {found}, by {what} {place} of the schedule "
                f"{wanted}"
            )


def addresses_alike(trace: Trace) -> Iterator[str]:
    """The stream's DRAM addresses and its share of the scratchpad are the schedule's."""
    schedule, stream = trace.facts.schedule, trace.stream
    for name in sorted(schedule.dram_addresses.keys() | stream.dram_addresses.keys()):
        wanted, found = schedule.dram_addresses.get(name), stream.dram_addresses.get(name)
        if wanted != found:
            yield f"{name!r} has DRAM address {found}, in the schedule {wanted}"
    used = max((b.offset_bytes + b.size_bytes for b in schedule.buffers), default=0)
    if used != stream.spm_bytes:
        yield f"the stream says that it uses {stream.spm_bytes} bytes of SPM, the schedule {used}"


def _differences(found: Command, wanted: Command) -> Iterator[tuple[str, object, object]]:
    """Fields, those of windows and DRAM ranges by themselves, that are not the same."""
    for item in fields(Command):
        one, other = getattr(found, item.name), getattr(wanted, item.name)
        if item.name in _OWN or one == other:
            continue
        if isinstance(one, (Window, DramRange)) and isinstance(other, (Window, DramRange)):
            yield from _inner(item.name, one, other)
        elif item.name in ("inputs", "weights") and len(one) == len(other):
            for i, (a, b) in enumerate(zip(one, other, strict=True)):
                yield from _inner(f"{item.name}[{i}]", a, b)
        else:
            yield item.name, one, other


def _inner(
    name: str, found: Window | DramRange, wanted: Window | DramRange
) -> Iterator[tuple[str, object, object]]:
    for item in fields(wanted):
        one, other = getattr(found, item.name), getattr(wanted, item.name)
        if one != other:
            yield f"{name}.{item.name}", one, other


class _Expected:
    """What a record should have become."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.buffers = facts.schedule.buffers
        self.layouts = layouts(facts)

    def command(self, found: Command, record: Compute | Transfer) -> Command:
        """The command of a record, with the number and the waits of the one found."""
        if isinstance(record, Compute):
            return self._compute(found, record)
        return self._transfer(found, record)

    def plain(self, command: Command) -> Command:
        """The command with None for channels that are all there are."""
        output = command.output
        total = self._total(command.name, command.role == "weights" or command.kind == "compute")
        return replace(
            command, channels=_some(command.channels, total),
            inputs=tuple(self._plain(w, False) for w in command.inputs),
            weights=tuple(self._plain(w, True) for w in command.weights),
            output=None if output is None else self._plain(output, command.role == "weights"),
        )  # fmt: skip

    def _plain(self, window: Window, constants: bool) -> Window:
        total = self._total(window.tensor, constants)
        return replace(
            window, channels=_some(window.channels, total), touched=_some(window.touched, total)
        )

    def _total(self, name: str, of_layer: bool) -> int | None:
        if of_layer:
            return channel_count(self.facts.layers[name]) if name in self.facts.layers else None
        return self.layouts[name].channels if name in self.layouts else None

    # ---------------------------------------------------------------- commands

    def _compute(self, found: Command, record: Compute) -> Command:
        facts, layer = self.facts, self.facts.layers[record.layer]
        inputs = tuple(
            self._map(
                number, layer.inputs[i].tensor, facts.needed_rows(layer, i, record.rows),
                facts.operand_channels(layer, i, record.channels, record.summed), record.tile,
            )
            for i, number in enumerate(record.inputs)
        )  # fmt: skip
        if record.sums is not None and record.summed is not None:
            inputs += (self._sums(record.sums, layer, record, record.summed[0]),)
        weights = [
            self._constants(n, layer, record.channels, record.tile, record.summed)
            for n in record.weights
        ]
        if record.summed is None or facts.finishes(record):
            output = self._map(
                record.output, layer.output, record.rows, record.channels, record.tile
            )
        else:
            output = self._sums(record.output, layer, record, record.summed[1])
        return Command(
            found.number, COMPUTE, "compute", record.layer, "", record.step, record.tile,
            record.rows, record.channels, found.waits, inputs,
            tuple(window for window in weights if window is not None), output, None,
            record.end_cycle - record.start_cycle, False, record.summed,
        )  # fmt: skip

    def _transfer(self, found: Command, record: Transfer) -> Command:
        tile = record.tile or 0
        window: Window | None
        step_bytes = record.run_bytes
        if record.role == "weights":
            layer = self.facts.layers[record.tensor]
            window = self._constants(record.buffer, layer, record.channels, tile, record.summed)
            if record.summed is not None:
                step_bytes = self.facts.reductions[layer.name].channel_bytes
            if window is not None and record.piece is not None:
                first = window.first_byte + record.piece[0]
                size = record.piece[1] - record.piece[0]
                window = replace(window, first_byte=first, run_bytes=size)
        else:
            window = self._map(record.buffer, record.tensor, record.rows, record.channels, tile)
            layout = self.layouts[record.tensor]
            if record.channels is not None:
                step_bytes = layout.channels * layout.rest_bytes
        loads = record.kind == "load"
        return Command(
            found.number, DMA, record.kind, record.tensor, record.role, record.step,
            -1 if record.tile is None else record.tile, record.rows, record.channels, found.waits,
            () if loads or window is None else (window,), (), window if loads else None,
            DramRange(
                record.dram_address, record.run_bytes, step_bytes, record.runs,
                transfer_share(self.facts, record),
            ), 0, is_prefetch(record), record.summed,
        )  # fmt: skip

    # ---------------------------------------------------------------- windows

    def _map(
        self, number: int, tensor: str, rows: tuple[int, int], touched: Channels, tile: int
    ) -> Window:
        buffer, layout = self.buffers[number], self.layouts[tensor]
        begin, end = touched or (0, layout.channels)
        base, held, pitch = buffer.offset_bytes, buffer.count, buffer.unit_bytes
        line = self.facts.slice_row_bytes(buffer.tensor, buffer.channels) // layout.lead
        if buffer.kind in MAP_TILE_KINDS:
            # a unit holds rows of the channels of one tile, and nothing else
            base += tile % buffer.count * buffer.unit_bytes
            low, high = begin, end
            line = (high - low) * layout.rest_bytes
            pitch = self.facts.slice_row_bytes(tensor, touched)
            held = min(self.facts.tensor(tensor).rows, buffer.unit_bytes // pitch)
        else:
            before, (low, high) = self._held(buffer, tensor, layout.channels)
            base += before * layout.rest_bytes
        return Window(
            number, tensor, base, held, pitch, rows, _some((low, high), layout.channels),
            _some(touched, layout.channels), (begin - low) * layout.rest_bytes,
            (end - begin) * layout.rest_bytes, line, layout.lead,
        )  # fmt: skip

    def _held(self, buffer: Buffer, tensor: str, channels: int) -> tuple[int, tuple[int, int]]:
        """Channels of a buffer's row before a map begins in it, and which of the map's it holds."""
        row = buffer.channels or (0, self.layouts[buffer.tensor].channels)
        # the row counted in channels of the map, of which some may not be there
        low, high = self.facts.channels_in(tensor, buffer.tensor, row) or (0, channels)
        return max(0, -low), (max(0, low), min(channels, high))

    def _sums(self, number: int, layer: Layer, record: Compute, added: int) -> Window:
        """Partial sums of a compute, that have the first `added` input channels in them."""
        buffer, layout = self.buffers[number], self.layouts[layer.output]
        count = record.rows[1] - record.rows[0]
        pitch = self.facts.sums_bytes(record) // count
        held = min(self.facts.tensor(layer.output).rows, buffer.unit_bytes // pitch)
        some = _some(record.channels, layout.channels)
        return Window(
            number, layer.output, buffer.offset_bytes, held, pitch, record.rows, some, some, 0,
            pitch // layout.lead, pitch // layout.lead, layout.lead, (0, added),
        )  # fmt: skip

    def _slice(
        self, number: int, layer: Layer, channels: Channels, tile: int, summed: Summed
    ) -> Window:
        """Constants of some input channels, a run for each output channel, one after another."""
        buffer, total = self.buffers[number], channel_count(layer)
        run = self.facts.constant_bytes(layer, (0, 1), summed)
        count, some = width(layer, channels), _some(channels, total)
        return Window(
            number, layer.name, buffer.offset_bytes + tile % buffer.count * buffer.unit_bytes, 1,
            count * run, (0, 1), some, some, 0, run, run, count, summed,
        )  # fmt: skip

    def _constants(
        self, number: int, layer: Layer, channels: Channels, tile: int,
        summed: Summed | None = None,
    ) -> Window | None:  # fmt: skip
        """Constants of the output `channels` that a buffer holds; None where it has none."""
        buffer, total = self.buffers[number], channel_count(layer)
        if summed is not None:
            return self._slice(number, layer, channels, tile, summed)
        wanted = channels or (0, total)
        base, (low, high) = buffer.offset_bytes, buffer.channels or (0, total)
        if buffer.kind == "weight_stream":
            base += tile % buffer.count * buffer.unit_bytes
            low, high = wanted
        begin, end = max(wanted[0], low), min(wanted[1], high)
        if begin >= end:
            return None
        before, held, size = (
            layer.weight_bytes * count // total for count in (begin, high - low, end - begin)
        )
        return Window(
            number, layer.constants, base, 1, held, (0, 1), _some((low, high), total),
            _some((begin, end), total), before - layer.weight_bytes * low // total, size, held, 1,
        )  # fmt: skip


def _some(channels: Channels, total: int | None) -> Channels:
    """None where `channels` are all."""
    return None if total is not None and channels == (0, total) else channels
