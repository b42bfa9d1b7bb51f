"""Which bytes of which operand a window holds: every byte of a map or of constants has one name.

A map that is a piece of another one is the same bytes under two names: maps are cut into cells
where pieces begin and end, and cells that are the same channels count as one *value*. A byte is
then named by its value, and by its position in it: row by row, as a map lies in DRAM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from networkx.utils import UnionFind

from spm_opt.footprint import Ints, Runs, dram_runs, window_runs
from spm_opt.graph.network import Layer
from spm_opt.stream import Command, DramRange, Window
from spm_opt.verify.facts import ChannelLayout, Channels, Facts, channel_count

#: what no value has
UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Named:
    """Runs of bytes, each with the value whose bytes it holds, and where in it the run begins."""

    runs: Runs
    values: Ints
    positions: Ints


def layouts(facts: Facts) -> dict[str, ChannelLayout]:
    """How one row of every map is laid; a piece has channels, even where nothing ever cuts them."""
    found = {tensor: facts.layout(tensor) for tensor in facts.schedule.network.tensors}
    for (inner, outer), (begin, end) in facts.pieces.items():
        found[inner] = ChannelLayout(found[outer].lead, end - begin, found[outer].rest_bytes)
    return found


class Names:
    """Names the bytes of windows and DRAM ranges."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._layouts = layouts(facts)
        cuts = _cuts(facts, self._layouts)
        self._values = _values(facts, cuts)
        self._labels = _labels(cuts, self._values)
        #: numbers of the partial sums that windows name, behind those of all others
        self._sums_values: dict[tuple[str, str, object], int] = {}
        self._cells = {tensor: self._cells_of(tensor, at) for tensor, at in cuts.items()}

    def label(self, value: int) -> str:
        """A value for a sentence."""
        return "nothing" if value == UNKNOWN else f"bytes of {self._labels[value]}"

    def window(self, window: Window, constants: bool) -> Named:
        """Bytes of a window; of unknown value where its runs are not those of its channels."""
        if constants:
            return self._constants(window)
        if window.tensor not in self.facts.schedule.network.tensors:
            return _unknown(window_runs(window))
        layout = self._layouts[window.tensor]
        begin, end = window.touched or (0, layout.channels)
        if window.summed is not None:
            return self._sums(window, (begin, end))
        right = (window.runs, window.run_bytes) == (layout.lead, (end - begin) * layout.rest_bytes)
        if not (right and 0 <= begin < end <= layout.channels and self._rows_exist(window)):
            return _unknown(window_runs(window))
        rows = np.arange(*window.rows, dtype=np.int64)
        first = window.base_bytes + window.first_byte + rows % window.held * window.pitch_bytes
        leads = np.arange(layout.lead, dtype=np.int64) * window.run_step_bytes
        return self._named(window.tensor, first[:, None] + leads, rows, (begin, end))

    def stored(self, command: Command) -> Named:
        """Bytes of DRAM on the other side of a transfer."""
        dram = command.dram if command.dram is not None else DramRange(0, 0, 0, 0)
        if command.role == "weights":
            return self._stored_constants(command, dram)
        if command.name not in self.facts.schedule.network.tensors:
            return _unknown(dram_runs(dram))
        return self.map_at(command.name, dram, command.rows, command.channels)

    def map_at(
        self, tensor: str, dram: DramRange, rows: tuple[int, int], channels: Channels
    ) -> Named:
        """Rows and channels of a map in DRAM, the first byte at the range's address."""
        layout, row_bytes = self._layouts[tensor], self.facts.tensor(tensor).row_bytes
        begin, end = channels or (0, layout.channels)
        step, count = layout.channels * layout.rest_bytes, rows[1] - rows[0]
        wanted = DramRange(
            dram.address, (end - begin) * layout.rest_bytes, step, count * layout.lead, dram.share
        )
        if channels is None:
            wanted = DramRange(dram.address, count * row_bytes, count * row_bytes, 1, dram.share)
        if dram != wanted or not 0 <= begin < end <= layout.channels:
            return _unknown(dram_runs(dram))
        numbers = np.arange(*rows, dtype=np.int64)
        first = dram.address + (numbers - rows[0]) * row_bytes
        leads = np.arange(layout.lead, dtype=np.int64) * step
        return self._named(tensor, first[:, None] + leads, numbers, (begin, end))

    def constants_at(self, layer: str, address: int) -> Named:
        """All constants of a layer in DRAM."""
        return _one(
            address, self.facts.layers[layer].weight_bytes, self._values["weights", layer, 0], 0
        )

    # ---------------------------------------------------------------- values

    def _cells_of(self, tensor: str, cuts: tuple[int, ...]) -> tuple[Ints, Ints, Ints]:
        """First channel, end and value of each of a map's cells."""
        at = np.array(cuts, dtype=np.int64)
        values = [self._values["map", tensor, cell] for cell in range(len(cuts) - 1)]
        return at[:-1], at[1:], np.array(values, dtype=np.int64)

    def _rows_exist(self, window: Window) -> bool:
        return window.rows[1] <= self.facts.tensor(window.tensor).rows

    def _named(self, tensor: str, first: Ints, rows: Ints, channels: tuple[int, int]) -> Named:
        """Name runs that begin at `first`, an array of rows by leading indices."""
        layout = self._layouts[tensor]
        lines = rows[:, None] * layout.lead + np.arange(layout.lead, dtype=np.int64)
        lows, highs, values = self._cells[tensor]
        some = (lows < channels[1]) & (highs > channels[0])
        low, high = lows[some], highs[some]
        begin, end = np.maximum(low, channels[0]), np.minimum(high, channels[1])
        starts = first[:, :, None] + (begin - channels[0]) * layout.rest_bytes
        inside = lines[:, :, None] * (high - low) + (begin - low)
        return _joined(
            starts.ravel(), (starts + (end - begin) * layout.rest_bytes).ravel(),
            np.broadcast_to(values[some], starts.shape).ravel(),
            (inside * layout.rest_bytes).ravel(),
        )  # fmt: skip

    def _constants(self, window: Window) -> Named:
        layer = self.facts.layers.get(window.tensor)
        if layer is None:
            return _unknown(window_runs(window))
        if window.summed is not None:
            return self._slice(layer, window)
        begin, end = self._constant_bytes(layer, window.touched)
        position = self._position(layer, window)
        # a piece of a load moves some of these bytes
        inside = begin <= position and position + window.run_bytes <= end
        if (window.runs, window.rows) != (1, (0, 1)) or not inside:
            return _unknown(window_runs(window))
        value = self._values["weights", layer.name, 0]
        return _one(window.base_bytes + window.first_byte, window.run_bytes, value, position)

    def _sums(self, window: Window, channels: tuple[int, int]) -> Named:
        """Partial sums: of these rows and channels, with so many input channels in them."""
        runs = window_runs(window)
        key = "sums", window.tensor, (window.rows, channels, window.summed)
        value = self._sums_values.setdefault(key, len(self._values) + len(self._sums_values))
        self._labels.setdefault(value, f"partial sums of {window.tensor!r}")
        sizes = runs.ends - runs.begins
        values = np.full(runs.begins.shape, value, dtype=np.int64)
        return Named(runs, values, np.cumsum(sizes) - sizes)

    def _slice(self, layer: Layer, window: Window) -> Named:
        """Constants of some input channels, one run for each output channel."""
        known, summed = self.facts.reductions.get(layer.name), window.summed
        if known is None or summed is None or not 0 <= summed[0] < summed[1] <= known.inputs:
            return _unknown(window_runs(window))
        first, last = known.constants(summed)
        begin, end = window.touched or (0, channel_count(layer))
        shape = window.runs, window.run_bytes, window.run_step_bytes, window.rows
        if shape != (end - begin, last - first, last - first, (0, 1)):
            return _unknown(window_runs(window))
        starts = window.base_bytes + np.arange(window.runs, dtype=np.int64) * window.run_bytes
        return self._strips(layer, starts, (begin, end), (first, last))

    def _strips(
        self, layer: Layer, starts: Ints, channels: tuple[int, int], part: tuple[int, int]
    ) -> Named:
        """Runs that begin at `starts`: bytes `part` of the constants of each output channel."""
        pitch = self.facts.reductions[layer.name].channel_bytes
        positions = np.arange(*channels, dtype=np.int64) * pitch + part[0]
        value = self._values["weights", layer.name, 0]
        values = np.full(starts.shape, value, dtype=np.int64)
        return _joined(starts, starts + part[1] - part[0], values, positions)

    def _stored_slice(self, layer: Layer, command: Command, dram: DramRange) -> Named:
        known, summed = self.facts.reductions.get(layer.name), command.summed
        if known is None or summed is None or not 0 <= summed[0] < summed[1] <= known.inputs:
            return _unknown(dram_runs(dram))
        first, last = known.constants(summed)
        begin, end = command.channels or (0, channel_count(layer))
        if (dram.runs, dram.run_bytes) != (end - begin, last - first):
            return _unknown(dram_runs(dram))
        starts = dram.address + np.arange(dram.runs, dtype=np.int64) * dram.run_step_bytes
        return self._strips(layer, starts, (begin, end), (first, last))

    def _stored_constants(self, command: Command, dram: DramRange) -> Named:
        layer = self.facts.layers.get(command.name)
        if layer is not None and command.summed is not None:
            return self._stored_slice(layer, command, dram)
        if layer is None or dram.runs != 1 or command.output is None:
            return _unknown(dram_runs(dram))
        position = self._position(layer, command.output)
        return _one(dram.address, dram.run_bytes, self._values["weights", layer.name, 0], position)

    def _position(self, layer: Layer, window: Window) -> int:
        """Byte of a layer's constants that a window's first touched byte is."""
        return self._constant_bytes(layer, window.channels)[0] + window.first_byte

    def _constant_bytes(self, layer: Layer, channels: tuple[int, int] | None) -> tuple[int, int]:
        total = channel_count(layer)
        begin, end = channels or (0, total)
        first = layer.weight_bytes * begin // total
        return first, first + layer.weight_bytes * (end - begin) // total


def _unknown(runs: Runs) -> Named:
    nothing = np.full(runs.begins.shape, UNKNOWN, dtype=np.int64)
    return Named(runs, nothing, nothing)


def _one(begin: int, size: int, value: int, position: int) -> Named:
    begins = np.array([begin], dtype=np.int64)
    return Named(Runs(begins, begins + size), np.array([value]), np.array([position]))


def _joined(begins: Ints, ends: Ints, values: Ints, positions: Ints) -> Named:
    """Runs that go on in address, value and position as one."""
    if not begins.size:  # a tile of padding alone reads no rows
        return Named(Runs(begins, ends), values, positions)
    sizes = ends - begins
    apart = (begins[1:] != ends[:-1]) | (values[1:] != values[:-1])
    apart |= positions[1:] != positions[:-1] + sizes[:-1]
    first, last = np.concatenate(([True], apart)), np.concatenate((apart, [True]))
    return Named(Runs(begins[first], ends[last]), values[first], positions[first])


def _cuts(facts: Facts, laid: Mapping[str, ChannelLayout]) -> dict[str, tuple[int, ...]]:
    """Channels at which pieces cut each map, the same in pieces as around them."""
    cuts = {tensor: {0, layout.channels} for tensor, layout in laid.items()}
    for (_, outer), channels in facts.pieces.items():
        cuts[outer].update(channels)
    grown = True
    while grown:
        grown = False
        for (inner, outer), (begin, end) in facts.pieces.items():
            down = {cut - begin for cut in cuts[outer] if begin <= cut <= end}
            up = {cut + begin for cut in cuts[inner]}
            if not (down <= cuts[inner] and up <= cuts[outer]):
                cuts[inner] |= down
                cuts[outer] |= up
                grown = True
    return {tensor: tuple(sorted(found)) for tensor, found in cuts.items()}


def _values(facts: Facts, cuts: Mapping[str, tuple[int, ...]]) -> dict[tuple[str, str, int], int]:
    """Number of the value of every layer's constants, and of every cell of every map."""
    found = {("weights", layer, 0): number for number, layer in enumerate(facts.layers)}
    cells = [(tensor, cell) for tensor, at in cuts.items() for cell in range(len(at) - 1)]
    same: UnionFind[tuple[str, int]] = UnionFind(cells)
    for (inner, outer), (begin, _) in facts.pieces.items():
        shift = cuts[outer].index(begin)
        for cell in range(len(cuts[inner]) - 1):
            same.union((inner, cell), (outer, shift + cell))
    numbers: dict[tuple[str, int], int] = {}
    for tensor, cell in cells:
        number = numbers.setdefault(same[tensor, cell], len(found) + len(numbers))
        found["map", tensor, cell] = number
    return found


def _labels(
    cuts: Mapping[str, tuple[int, ...]], values: Mapping[tuple[str, str, int], int]
) -> dict[int, str]:
    """The first name of every value."""
    labels: dict[int, str] = {}
    for (kind, name, cell), number in values.items():
        if kind == "weights":
            labels.setdefault(number, f"weights of {name!r}")
        else:
            low, high = cuts[name][cell : cell + 2]
            part = "" if len(cuts[name]) == 2 else f" channels {low}..{high}"
            labels.setdefault(number, f"{name!r}{part}")
    return labels
