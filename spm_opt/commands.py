"""The command stream: what each engine of the machine is told, in order, and what it waits for.

A schedule says what happens; commands say it to the machine: byte ranges of the scratchpad, DRAM
addresses, and dependences. There are two engines, each runs its commands in order: ``compute`` and
``dma``. A command starts as soon as its engine is free and the commands that it *waits* for have
ended. Waits are the fewest that keep the schedule's order: none that the engines' order or another
wait implies.

What the semantics of `spm_opt.schedule` ask for is collected per command (`_awaited`), then thinned
out (`_fewest`). The simulator executes this stream, the emitter prints it, the checker asks whether
it keeps everything apart that touches the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from spm_opt.cost.compression import map_share
from spm_opt.graph.network import DTYPE_BYTES, Layer, Network
from spm_opt.graph.ops import row_axis
from spm_opt.graph.pieces import pieces
from spm_opt.graph.sums import Reduction, reduction, sum_bytes
from spm_opt.hardware import RAW
from spm_opt.schedule import Buffer, Compute, Schedule, Transfer
from spm_opt.stream import COMPUTE, DMA, Channels, Command, DramRange, Stream, Window

__all__ = [
    "COMPUTE", "DMA", "Channels", "Command", "DramRange", "Stream", "Window", "channel_layout",
    "lower",
]  # fmt: skip


def lower(schedule: Schedule) -> Stream:
    """The commands of a schedule that the checker accepted."""
    return _Lowering(schedule).stream()


@dataclass(slots=True)
class _Queues:
    """The last command of every sort, step and tile, by its place in its engine's queue."""

    computes: dict[tuple[int, int], int] = field(default_factory=dict)
    loads: dict[tuple[int, int], int] = field(default_factory=dict)
    stores: dict[tuple[int, int], int] = field(default_factory=dict)
    #: last compute of each step that writes each buffer
    writers: dict[tuple[int, int], int] = field(default_factory=dict)
    #: last whole load into each buffer
    into: dict[int, int] = field(default_factory=dict)
    #: last compute before each step, and last transfer that must have ended before its computes
    before: list[tuple[int, int]] = field(default_factory=list)


class _Lowering:
    """Turns one schedule into commands; holds the tables that its methods share."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.network = schedule, schedule.network
        self.layers: dict[str, Layer] = {layer.name: layer for layer in schedule.network.layers}
        self.pieces = pieces(schedule.network)
        self.queues = _queues(schedule)
        self._reductions: dict[str, Reduction] = {}

    def stream(self) -> Stream:
        computes, transfers = self.schedule.computes, self.schedule.transfers
        awaited = (
            [self._before_compute(c) for c in computes],
            [self._before_transfer(t) for t in transfers],
        )
        waits, order = _fewest(awaited)
        numbers: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for number, (engine, place) in enumerate(order):
            numbers[engine][place] = number
        commands = tuple(
            self._command(number, engine, place, tuple(
                numbers[1 - engine][other] for other in waits[engine][place]
            ))
            for number, (engine, place) in enumerate(order)
        )  # fmt: skip
        used = max((b.offset_bytes + b.size_bytes for b in self.schedule.buffers), default=0)
        return Stream(commands, dict(self.schedule.dram_addresses), used)

    # ---------------------------------------------------------------- dependences

    def _before_compute(self, compute: Compute) -> int:
        """Last transfer that must have ended before a compute starts; -1 for none."""
        step, tile, queues = compute.step, compute.tile, self.queues
        drained = tile - self.schedule.steps[step].depth
        return max(
            queues.before[step][1], queues.loads.get((step, tile), -1),
            queues.stores.get((step, drained), -1),
            *(queues.into.get(b, -1) for b in compute.touched),
        )  # fmt: skip

    def _before_transfer(self, transfer: Transfer) -> int:
        """Last compute that must have ended before a transfer starts; -1 for none."""
        step, tile, queues = transfer.step, transfer.tile, self.queues
        if transfer.kind == "store":
            if tile is None:
                return queues.writers.get((step, transfer.buffer), -1)
            return queues.computes.get((step, tile), -1)
        claimed = queues.before[self.schedule.buffers[transfer.buffer].first_step][0]
        if tile is None:
            return claimed
        return max(claimed, queues.computes.get((step, tile - self.schedule.steps[step].depth), -1))

    # ---------------------------------------------------------------- commands

    def _command(self, number: int, engine: int, place: int, waits: tuple[int, ...]) -> Command:
        if engine == 0:
            return self._compute(number, self.schedule.computes[place], waits)
        return self._transfer(number, self.schedule.transfers[place], waits)

    def _compute(self, number: int, command: Compute, waits: tuple[int, ...]) -> Command:
        layer = self.layers[command.layer]
        inputs = []
        for i, (operand, buffer) in enumerate(zip(layer.inputs, command.inputs, strict=True)):
            tensor = self.network.tensors[operand.tensor]
            rows = layer.input_rows(i).needed(*command.rows, tensor.rows)
            read = self.network.operand_channels(layer, i, command.channels)
            if command.summed is not None:
                read = self._reduction(layer).read(command.channels, command.summed)
            inputs.append(self._map_window(buffer, tensor.name, rows, read, command.tile))
        weights = [
            self._weight_window(buffer, layer, command.channels, command.tile, command.summed)
            for buffer in command.weights
        ]
        begin, end = command.summed or (0, 0)
        if command.sums is not None:
            inputs.append(self._sums_window(command.sums, layer, command, begin))
        output = (
            self._sums_window(command.output, layer, command, end)
            if self.schedule.buffers[command.output].kind == "sums"
            else self._map_window(
                command.output, layer.output, command.rows, command.channels, command.tile
            )
        )
        return Command(
            number, COMPUTE, "compute", layer.name, "", command.step, command.tile, command.rows,
            command.channels, waits, tuple(inputs), tuple(w for w in weights if w is not None),
            output, None, command.end_cycle - command.start_cycle, summed=command.summed,
        )  # fmt: skip

    def _transfer(self, number: int, transfer: Transfer, waits: tuple[int, ...]) -> Command:
        tile = -1 if transfer.tile is None else transfer.tile
        window: Window | None
        if transfer.role == "weights":
            layer = self.layers[transfer.tensor]
            window = self._weight_window(
                transfer.buffer, layer, transfer.channels, max(tile, 0), transfer.summed
            )
            if window is not None and transfer.piece is not None:
                begin, end = transfer.piece
                window = replace(
                    window, first_byte=window.first_byte + begin, run_bytes=end - begin
                )
            step = transfer.run_bytes
            if transfer.summed is not None:
                step = self._reduction(layer).channel_bytes
        else:
            window = self._map_window(
                transfer.buffer, transfer.tensor, transfer.rows, transfer.channels, max(tile, 0)
            )
            step = transfer.run_bytes
            if transfer.channels is not None:
                _, channels, rest = channel_layout(self.network, transfer.tensor)
                step = channels * rest
        dram = DramRange(
            transfer.dram_address, transfer.run_bytes, step, transfer.runs, self._share(transfer)
        )
        store = transfer.kind == "store"
        found = () if window is None else (window,)
        return Command(
            number, DMA, transfer.kind, transfer.tensor, transfer.role, transfer.step, tile,
            transfer.rows, transfer.channels, waits, found if store else (), (),
            None if store else window, dram, 0, not store and transfer.step < transfer.need_step,
            transfer.summed,
        )  # fmt: skip

    # ---------------------------------------------------------------- windows

    def _share(self, transfer: Transfer) -> int:
        """What compression leaves of a transfer; constants are raw."""
        if transfer.role == "weights":
            return RAW
        dram = self.schedule.hardware.dram
        return map_share(dram.compression, self.network.tensors[transfer.tensor])

    def _map_window(
        self, number: int, tensor: str, rows: tuple[int, int], touched: Channels, tile: int
    ) -> Window:
        """Rows and channels of a map in a buffer: of it, of a map around it, of a piece of it."""
        buffer = self.schedule.buffers[number]
        _, channels, rest = channel_layout(self.network, tensor)
        base, held, pitch = buffer.offset_bytes, buffer.count, buffer.unit_bytes
        holds = buffer.channels
        low, high = holds or (0, channel_layout(self.network, buffer.tensor)[1])
        line = high - low  # channels in a row of the buffer, whatever the map has of them
        if buffer.tensor != tensor:
            shift, holds = self._seen_in(buffer, tensor, channels)
            # a piece that nobody cuts has one channel, as wide as many of the map around it
            base += shift * channel_layout(self.network, buffer.tensor)[2]
            holds = None if tensor not in self.network.channel_axes else holds
        if buffer.kind in ("channel_input", "channel_output", "channel_stripe"):
            # a unit is a tile: rows of the channels that it holds now
            base += tile % buffer.count * buffer.unit_bytes
            pitch, holds = self._row_bytes(tensor, touched), touched
            held = min(self.network.tensors[tensor].rows, buffer.unit_bytes // pitch)
            low, high = touched or (0, channels)
            line = high - low
        low, high = (0, channels) if holds is None else holds
        begin, end = (low, high) if touched is None else touched
        lead = self._lead(tensor)
        return Window(
            number, tensor, base, held, pitch, rows, holds, touched, (begin - low) * rest,
            (end - begin) * rest, line * rest, lead,
        )  # fmt: skip

    def _seen_in(self, buffer: Buffer, tensor: str, channels: int) -> tuple[int, Channels]:
        """Where in a row of a buffer a map begins that is a piece of the buffer's, or around it.

        Returns
        -------
        shift : int
            Channels before it.
        holds : (int, int) or None
            Channels of the map that the row holds.
        """
        if (buffer.tensor, tensor) in self.pieces:
            # a piece that is stored as a part of the joined map
            return 0, self.pieces[buffer.tensor, tensor]
        begin, end = self.pieces[tensor, buffer.tensor]
        low, high = buffer.channels or (begin, end)
        first, last = max(begin, low), min(end, high)
        holds = (first - begin, last - begin)
        shift = first - (low if buffer.channels else 0)
        return shift, None if holds == (0, channels) else holds

    def _reduction(self, layer: Layer) -> Reduction:
        """How the sums of a layer are taken apart: some record says that they are."""
        if layer.name not in self._reductions:
            known = reduction(self.network, layer)
            if known is None:
                raise ValueError(f"the sums of {layer.name!r} cannot be taken apart")
            self._reductions[layer.name] = known
        return self._reductions[layer.name]

    def _sums_window(self, number: int, layer: Layer, command: Compute, added: int) -> Window:
        """Partial sums of a compute's rows and channels: as the map's elements, but longer."""
        buffer, tensor = self.schedule.buffers[number], self.network.tensors[layer.output]
        lead, channels, rest = channel_layout(self.network, layer.output)
        begin, end = command.channels or (0, channels)
        run = (end - begin) * rest // DTYPE_BYTES[tensor.dtype] * sum_bytes(tensor.dtype)
        held = min(tensor.rows, buffer.unit_bytes // (lead * run))
        return Window(
            number, layer.output, buffer.offset_bytes, held, lead * run, command.rows,
            command.channels, command.channels, 0, run, run, lead, (0, added),
        )  # fmt: skip

    def _slice_window(
        self, buffer: Buffer, number: int, layer: Layer, channels: Channels, tile: int,
        summed: tuple[int, int],
    ) -> Window:  # fmt: skip
        """Constants of some input channels, for each output channel one run."""
        begin, end = channels or (0, channel_count(layer))
        first, last = self._reduction(layer).constants(summed)
        base = buffer.offset_bytes + tile % buffer.count * buffer.unit_bytes
        return Window(
            number, layer.constants, base, 1, (end - begin) * (last - first), (0, 1), channels,
            channels, 0, last - first, last - first, end - begin, summed,
        )  # fmt: skip

    def _weight_window(
        self, number: int, layer: Layer, channels: Channels, tile: int,
        summed: Channels = None,
    ) -> Window | None:  # fmt: skip
        """Constants of output channels in a buffer; None where it has none of them."""
        buffer, total = self.schedule.buffers[number], channel_count(layer)
        if summed is not None:
            return self._slice_window(buffer, number, layer, channels, tile, summed)
        begin, end = channels or (0, total)
        base, (low, high) = buffer.offset_bytes, buffer.channels or (0, total)
        if buffer.kind == "weight_stream":
            base += tile % buffer.count * buffer.unit_bytes
            low, high = begin, end
        begin, end = max(begin, low), min(end, high)
        if begin >= end:
            return None
        first = layer.weight_bytes * begin // total - layer.weight_bytes * low // total
        size = layer.weight_bytes * (end - begin) // total
        held = layer.weight_bytes * (high - low) // total
        whole = (low, high) == (0, total)
        return Window(
            number, layer.constants, base, 1, held, (0, 1), None if whole else (low, high),
            None if (begin, end) == (0, total) else (begin, end), first, size, held, 1,
        )  # fmt: skip

    def _lead(self, tensor: str) -> int:
        return channel_layout(self.network, tensor)[0]

    def _row_bytes(self, tensor: str, channels: Channels) -> int:
        lead, total, rest = channel_layout(self.network, tensor)
        begin, end = channels or (0, total)
        return lead * (end - begin) * rest


def channel_count(layer: Layer) -> int:
    """Output channels of a layer; 1 where nothing cuts them."""
    axis = layer.channel_axis
    return 1 if axis is None else layer.output_shape[axis]


def channel_layout(network: Network, tensor: str) -> tuple[int, int, int]:
    """How one row of a map is laid: leading indices, channels, bytes of one channel."""
    found, axis = network.tensors[tensor], network.channel_axes.get(tensor)
    if axis is None:
        return 1, 1, found.row_bytes
    rows, lead, rest = row_axis(found.shape), 1, DTYPE_BYTES[found.dtype]
    for i, extent in enumerate(found.shape):
        if i < axis and i != rows:
            lead *= extent
        elif i > axis and i != rows:
            rest *= extent
    return lead // found.images, found.shape[axis], rest


def _queues(schedule: Schedule) -> _Queues:
    """Last command of every kind, step and tile, by its place in its engine's queue."""
    found, steps = _Queues(), len(schedule.steps)
    computed, released = [-1] * (steps + 1), [-1] * (steps + 1)
    for place, compute in enumerate(schedule.computes):
        found.computes[compute.step, compute.tile] = place
        found.writers[compute.step, compute.output] = place
        computed[compute.step + 1] = place
    for place, transfer in enumerate(schedule.transfers):
        rolling = schedule.buffers[transfer.buffer].kind in ("output", "channel_output")
        if transfer.kind == "store":
            released[transfer.need_step + 1] = place
            if rolling and transfer.tile is not None:
                found.stores[transfer.step, transfer.tile] = place
        elif transfer.tile is None:
            found.into[transfer.buffer] = place
            released[schedule.buffers[transfer.buffer].end_step] = place
        else:
            found.loads[transfer.step, transfer.tile] = place
    found.before = list(zip(accumulate(computed, max), accumulate(released, max), strict=True))
    return found


def _fewest(
    awaited: tuple[Sequence[int], Sequence[int]],
) -> tuple[tuple[list[tuple[int, ...]], list[tuple[int, ...]]], list[tuple[int, int]]]:
    """Waits that nothing else implies, and an order that all of them respect.

    Parameters
    ----------
    awaited : (sequence of int, sequence of int)
        For each command of either engine, the last of the other engine that it must follow.

    Returns
    -------
    waits : (list, list)
        For each command, those of the other engine that it waits for: one at most.
    order : list of (int, int)
        All commands as (engine, place in its queue).
    """
    waits: tuple[list[tuple[int, ...]], list[tuple[int, ...]]] = ([], [])
    #: last command of the other engine that has surely ended once each command has
    known: tuple[list[int], list[int]] = ([], [])
    order: list[tuple[int, int]] = []
    total = len(awaited[0]) + len(awaited[1])
    while len(order) < total:
        # transfers first: they are to start as early as they can
        engine = next(
            e
            for e in (1, 0)
            if len(waits[e]) < len(awaited[e]) and awaited[e][len(waits[e])] < len(waits[1 - e])
        )
        place = len(waits[engine])
        needed = awaited[engine][place]
        before = known[engine][-1] if place else -1
        waits[engine].append((needed,) if needed > before else ())
        known[engine].append(max(before, needed))
        order.append((engine, place))
    return waits, order
