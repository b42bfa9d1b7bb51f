"""Transfers and computes as C statements: what one routine does for tile ``t``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from spm_opt.commands import Command, DramRange, Window
from spm_opt.cost.compression import is_coded
from spm_opt.emit.c_fit import Series, Tables
from spm_opt.emit.c_names import Names, string
from spm_opt.emit.c_order import Routine
from spm_opt.emit.c_scope import Scope
from spm_opt.emit.kernels import (
    Slice,
    held_channels,
    kernel_call,
    require_chunk,
    weights_literal,
)
from spm_opt.graph.network import DTYPE_BYTES, Layer, Network
from spm_opt.graph.sums import sliced
from spm_opt.schedule import Schedule

Get = Callable[[Command], int]
Find = Callable[[Command], Window]


@dataclass(frozen=True)
class Writer:
    """Writes routines of one schedule.

    ``tables_dram`` has the DRAM address of the look-up tables that stay there, by layer.
    """

    schedule: Schedule
    names: Names
    dram_addresses: Mapping[str, int]
    tables_dram: Mapping[str, int]

    @property
    def network(self) -> Network:
        """The schedule's network."""
        return self.schedule.network

    @cached_property
    def layers(self) -> Mapping[str, Layer]:
        """Layers by name."""
        return {layer.name: layer for layer in self.network.layers}

    def statements(self, routine: Routine, tables: Tables, ticket: str | None) -> list[str]:
        """Lines of C that run `routine` for tile ``t``.

        Parameters
        ----------
        routine : Routine
        tables : Tables
            Of the step.
        ticket : str or None
            Where a transfer's ticket goes, if anybody waits for it.
        """
        scope = Scope(tables)
        write = self._compute if routine.key[0] == "compute" else self._transfer
        body = write(_Numbers(routine, scope), ticket)
        return [*scope.lines, *body]

    # ---------------------------------------------------------------- transfers

    def _transfer(self, numbers: _Numbers, ticket: str | None) -> list[str]:
        kind, name, role = numbers.routine.key[:3]
        key = name if role == "map" else f"weights:{name}"
        rows = numbers.scope.range(
            "row0", "row1", {t: _side(c).rows for t, c in numbers.commands.items()}
        )
        if role == "weights":
            rows = ("0", "1")
        start = f"dma_start(DMA_{kind.upper()},"
        return [
            start if ticket is None else f"{ticket} = {start}",
            f"    {self._dram_side(numbers, key)},",
            f"    {self._spm_side(numbers, rows)});",
        ]

    def _dram_side(self, numbers: _Numbers, key: str) -> str:
        base = self.dram_addresses[key]
        shift = numbers.expr("address", lambda c: _dram(c).address - base)
        address = self.names.dram[key] + ("" if shift == "0" else f" + {shift}")
        size = numbers.expr("bytes", lambda c: _dram(c).run_bytes)
        if numbers.all(lambda c: _dram(c).runs == 1):
            side = f"dma_line({address}, {size})"
        else:
            step = numbers.expr("step", lambda c: _dram(c).run_step_bytes)
            runs = numbers.expr("runs", lambda c: _dram(c).runs)
            side = f"(dma_dram){{{address}, {size}, {step}, {runs}, 0}}"
        tensor, compression = self.network.tensors.get(key), self.schedule.hardware.dram.compression
        if tensor is None or compression is None or not is_coded(compression, tensor):
            return side
        return f"dma_packed({side}, {DTYPE_BYTES[tensor.dtype]})"

    def _spm_side(self, numbers: _Numbers, rows: tuple[str, str]) -> str:
        base = self._base(numbers, _side)
        if numbers.all(lambda c: c.role == "weights"):
            first = numbers.expr("first", lambda c: _side(c).first_byte)
            size = numbers.expr("size", lambda c: _side(c).run_bytes * _side(c).runs)
            return f"dma_bytes({base if first == '0' else f'{base} + {first}'}, {size})"
        pitch = numbers.expr("pitch", lambda c: _side(c).pitch_bytes)
        held = numbers.expr("held", lambda c: _side(c).held)
        if numbers.all(lambda c: _is_whole_rows(_side(c))):
            return f"dma_rows({base}, {held}, {pitch}, {rows[0]}, {rows[1]})"
        first = numbers.expr("first", lambda c: _side(c).first_byte)
        size = numbers.expr("run_bytes", lambda c: _side(c).run_bytes)
        step = numbers.expr("run_step", lambda c: _side(c).run_step_bytes)
        runs = numbers.expr("row_runs", lambda c: _side(c).runs)
        return (
            f"(dma_spm){{{base}, {held}, {pitch}, {rows[0]}, {rows[1]}, {first}, {size}, "
            f"{step}, {runs}}}"
        )

    def _base(self, numbers: _Numbers, window: Find) -> str:
        """Address of a window's first row in the scratchpad: its buffer's, and what is beyond."""
        buffer = window(next(iter(numbers.commands.values()))).buffer
        offset = self.schedule.buffers[buffer].offset_bytes
        shift = numbers.expr("base", lambda c: window(c).base_bytes - offset)
        name = self.names.spm[buffer]
        if shift == "0":
            return name
        return f"{name} - {shift[1:]}" if shift.startswith("-") else f"{name} + {shift}"

    # ---------------------------------------------------------------- computes

    def _compute(self, numbers: _Numbers, ticket: str | None) -> list[str]:
        layer = self.layers[numbers.routine.key[1]]
        rows = numbers.scope.range("row0", "row1", {t: c.rows for t, c in numbers.commands.items()})
        macs = numbers.expr("macs", lambda c: _macs(layer, c))
        lines = [
            f"dma_note({string(layer.name)}, {numbers.routine.step}, {numbers.tile}, {rows[0]}, "
            f"{rows[1]}, {macs});"
        ]
        lines.append(f"const spm_window out = {self._window(numbers, _written)};")
        for i in range(len(layer.inputs)):
            lines.append(f"const spm_window in{i} = {self._window(numbers, _operand(i))};")
        inputs = [f"in{i}" for i in range(len(layer.inputs))]
        added = self._added(numbers, layer)
        for constants, channels in self._slices(numbers, layer):
            lines.append(kernel_call(
                layer, self.names.layers[layer.name], "out", inputs, constants, rows, channels,
                added,
            ))  # fmt: skip
        return lines

    def _added(self, numbers: _Numbers, layer: Layer) -> Slice | None:
        """Input channels that are added, and the window of the partial sums; None for all."""
        slices = {t: c.summed for t, c in numbers.commands.items() if c.summed is not None}
        if not slices:
            return None
        for begin, _ in slices.values():
            require_chunk(layer, begin)
        first, last = numbers.scope.range("input0", "input1", slices)
        return first, last, self._window(numbers, _sums)

    def _window(self, numbers: _Numbers, window: Find) -> str:
        base = self._base(numbers, window)
        held = numbers.expr("held", lambda c: window(c).held)
        pitch = numbers.expr("pitch", lambda c: window(c).pitch_bytes)
        tensor = window(next(iter(numbers.commands.values()))).tensor
        every = held_channels(self.network, tensor)

        def holds(command: Command) -> tuple[int, int]:
            return window(command).channels or (0, every)

        def line(command: Command) -> int:
            found = window(command)
            if found.runs == 1:
                return holds(command)[1] - holds(command)[0]
            # a map that lies inside a wider one: from one leading index to the next
            touched = found.touched or (0, every)
            return found.run_step_bytes * (touched[1] - touched[0]) // found.run_bytes

        first = numbers.expr("first", lambda c: holds(c)[0])
        count = numbers.expr("channels", line)
        return f"{{spm + {base}, {held}, {pitch}, {first}, {count}}}"

    def _slices(self, numbers: _Numbers, layer: Layer) -> list[tuple[str, tuple[str, str]]]:
        """Constants and output channels of each call: one for each buffer of constants."""
        count = max((len(c.weights) for c in numbers.commands.values()), default=0)
        table = "NULL"
        if layer.name in self.tables_dram:
            table = f"dram + {self.tables_dram[layer.name]}"
        if count == 0:
            return [(weights_literal("NULL", 0, table), self._channels(numbers, layer, None))]
        found = []
        for i in range(count):
            window = _constants(i)
            base = self._base(numbers, window)
            first = numbers.expr("from", _first_channel(window))
            own = i if count > 1 else None
            channels = self._channels(numbers, layer, own)
            found.append((weights_literal(f"spm + {base}", first, table), channels))
        return found

    def _channels(self, numbers: _Numbers, layer: Layer, piece: int | None) -> tuple[str, str]:
        """Output channels of a call: the command's, or those of a piece of its constants."""
        every = (0, held_channels(self.network, layer.output))
        if layer.output in self.network.columnar and layer.loops is not None:
            # columns of its map are all there: what is cut are the channels of its constants
            every = (0, layer.output_shape[1])
        if piece is None:
            spans = {t: c.channels or every for t, c in numbers.commands.items()}
            return numbers.scope.range("channel0", "channel1", spans)
        spans = {t: c.weights[piece].touched or every for t, c in numbers.commands.items()}
        return numbers.scope.range(f"channel{2 * piece}", f"channel{2 * piece + 1}", spans)


@dataclass(frozen=True)
class _Numbers:
    """The commands of a routine, read as series."""

    routine: Routine
    scope: Scope

    @property
    def commands(self) -> Mapping[int, Command]:
        """By tile."""
        return self.routine.commands

    @property
    def tile(self) -> str:
        """The tile's number in C."""
        tiles = list(self.commands)
        return str(tiles[0]) if len(tiles) == 1 else self.scope.variable

    def expr(self, name: str, get: Get) -> str:
        """What `get` says of each command, as an expression."""
        prefix = f"{self.routine.key[0]}{self.routine.number}_{name}"
        series: Series = {t: get(command) for t, command in self.commands.items()}
        return self.scope.expr(prefix, series)

    def all(self, holds: Callable[[Command], bool]) -> bool:
        """Whether something holds for every command."""
        return all(holds(command) for command in self.commands.values())


def _side(command: Command) -> Window:
    """The scratchpad side of a transfer."""
    window = command.output if command.kind == "load" else command.inputs[0]
    if window is None:
        raise ValueError(f"command {command.number} loads nowhere")
    return window


def _written(command: Command) -> Window:
    """Where a compute writes."""
    if command.output is None:
        raise ValueError(f"command {command.number} computes into nothing")
    return command.output


def _sums(command: Command) -> Window:
    """Partial sums that a compute goes on from, or that it begins."""
    windows = (*command.inputs, _written(command))
    return next(window for window in windows if window.summed is not None)


def _operand(index: int) -> Find:
    return lambda command: command.inputs[index]


def _constants(index: int) -> Find:
    return lambda command: command.weights[index]


def _first_channel(window: Find) -> Get:
    return lambda command: (window(command).channels or (0, 0))[0]


def _dram(command: Command) -> DramRange:
    if command.dram is None:
        raise ValueError(f"command {command.number} moves nothing")
    return command.dram


def _is_whole_rows(window: Window) -> bool:
    return (
        window.first_byte == 0
        and window.run_step_bytes == window.run_bytes
        and window.run_bytes * window.runs == window.pitch_bytes
    )


def _macs(layer: Layer, command: Command) -> int:
    axis = layer.channel_axis
    every = 1 if axis is None else layer.output_shape[axis]
    begin, end = command.channels or (0, every)
    part = (command.rows[1] - command.rows[0]) * (end - begin)
    if command.summed is not None:
        layer = sliced(layer, command.summed[1] - command.summed[0])
    return layer.macs * part // (layer.rows * every)
