"""What every rule of the checker looks up: names resolved, rows needed, channels cut into cells.

Only indexing and single-event arithmetic; no rule and no verdict belongs here.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx

from spm_opt.graph.network import DTYPE_BYTES, Layer, Network, Tensor
from spm_opt.graph.ops import RowMap, row_axis
from spm_opt.graph.pieces import copy_free, pieces
from spm_opt.graph.sums import Reduction, Summed, reduction, sum_bytes
from spm_opt.schedule import Buffer, Compute, Schedule, Transfer

Channels = tuple[int, int] | None

#: buffers whose units are rows of a map
ROW_KINDS = ("map", "input", "stripe", "output")
#: buffers whose units are channel tiles
TILE_KINDS = ("weight_stream", "channel_input", "channel_output", "channel_stripe", "sums")
#: those of them that hold maps
MAP_TILE_KINDS = ("channel_input", "channel_output", "channel_stripe")
#: buffers that hold constants
WEIGHT_KINDS = ("weights", "weight_stream")
#: buffers of which the store empties a part that a later tile fills again
ROLLING_OUTPUTS = ("output", "channel_output")


@dataclass(frozen=True, slots=True)
class ChannelLayout:
    """How one row of a map is laid: ``[lead][channels][rest_bytes]``."""

    lead: int
    channels: int
    rest_bytes: int


@dataclass(frozen=True)
class Facts:
    """A schedule with its names resolved.

    Attributes
    ----------
    layers, producers : dict
        Layer by name; producing layer by tensor (network inputs absent).
    row_maps : dict
        Per layer, the row map of each operand.
    cuts, map_cuts : dict
        Per layer (its work and weights) and per feature map, the sorted channels at which any
        record cuts it, with 0 and the channel count. Channels ``[cuts[i], cuts[i+1])`` are one
        *cell*: nothing splits it.
    weight_cuts : dict
        Per layer, the bytes of its constants at which channels or pieces of transfers end.
    pieces : mapping of (str, str) to (int, int)
        Channels of the second map that the first is, for all pairs where it is a piece.
    copy_free : frozenset of str
        Layers that need not run where their pieces lie in place.
    sharing : tuple of int
        For each buffer, the first of those that have the same bytes, itself where it is alone.
    filled : mapping of (int, int, int) to (int, int)
        Rows that a load or compute puts into each tile of a map: by buffer, step and tile.
    reductions : dict
        How the sums of a layer are taken apart, of layers of which some record adds a slice.
    """

    schedule: Schedule
    layers: dict[str, Layer]
    producers: dict[str, Layer]
    row_maps: dict[str, tuple[RowMap, ...]]
    cuts: dict[str, tuple[int, ...]]
    map_cuts: dict[str, tuple[int, ...]]
    weight_cuts: dict[str, tuple[int, ...]]
    pieces: Mapping[tuple[str, str], tuple[int, int]]
    copy_free: frozenset[str]
    sharing: tuple[int, ...]
    filled: Mapping[tuple[int, int, int], tuple[int, int]]
    reductions: Mapping[str, Reduction]

    def tensor(self, name: str) -> Tensor:
        """Feature map of this name."""
        return self.schedule.network.tensors[name]

    def cells(self, layer: Layer, channels: Channels) -> tuple[int, int]:
        """Cells ``[begin, end)`` that `channels` of `layer` span."""
        return _span(self.cuts[layer.name], channels)

    def cell_count(self, layer: Layer) -> int:
        """Number of cells of `layer`'s channels."""
        return len(self.cuts[layer.name]) - 1

    def weight_cells(
        self, layer: Layer, channels: Channels, piece: tuple[int, int] | None = None
    ) -> tuple[int, int]:
        """Cells ``[begin, end)`` of a layer's constants: of channels, or of a piece of those."""
        cuts = self.weight_cuts[layer.name]
        begin, end = weight_span(layer, channels)
        if piece is not None:
            begin, end = begin + piece[0], begin + piece[1]
        # bytes beyond the layer's own are those of another: that is refused elsewhere
        last = len(cuts) - 1
        return min(bisect_left(cuts, begin), last), min(bisect_left(cuts, end), last)

    def weight_cell_count(self, layer: Layer) -> int:
        """Number of cells of `layer`'s constants."""
        return max(1, len(self.weight_cuts[layer.name]) - 1)

    def map_cells(self, tensor: str, channels: Channels) -> tuple[int, int]:
        """Cells ``[begin, end)`` that `channels` of a map span."""
        return _span(self.map_cuts[tensor], channels)

    def map_cell_count(self, tensor: str) -> int:
        """Number of cells of a map's channels."""
        return len(self.map_cuts[tensor]) - 1

    def channels_of(self, kind_or_role: str, name: str) -> int:
        """Channels of a layer's weights or of a map; 1 where nothing can cut it."""
        if kind_or_role in WEIGHT_KINDS:
            return channel_count(self.layers[name])
        return map_channel_count(self.schedule.network, name)

    def lies_in(self, tensor: str, holder: str) -> bool:
        """Whether a map is another one, or a piece of it."""
        return tensor == holder or (tensor, holder) in self.pieces

    def channels_in(self, holder: str, tensor: str, channels: Channels) -> Channels:
        """`channels` of a map, counted in the map that it is a piece of, or that is a piece of it.

        Channels that a piece does not have come out beyond its own.
        """
        if holder == tensor:
            return channels
        if (tensor, holder) in self.pieces:
            begin, end = self.pieces[tensor, holder]
            return (begin, end) if channels is None else (begin + channels[0], begin + channels[1])
        begin, _ = self.pieces[holder, tensor]
        whole = (0, map_channel_count(self.schedule.network, tensor))
        low, high = whole if channels is None else channels
        return low - begin, high - begin

    def fills(self, layer: Layer) -> bool:
        """Whether a layer copies a border into a map from outside."""
        return layer.name in self.schedule.network.fills

    def layout(self, tensor: str) -> ChannelLayout:
        """How one row of a map is laid."""
        network = self.schedule.network
        return channel_layout(network.tensors[tensor], network.channel_axes.get(tensor))

    def slice_row_bytes(self, tensor: str, channels: Channels) -> int:
        """Bytes of one row of a map, or of a channel slice of it."""
        if channels is None:
            return self.tensor(tensor).row_bytes
        layout = self.layout(tensor)
        return layout.lead * (channels[1] - channels[0]) * layout.rest_bytes

    def operand_channels(
        self, layer: Layer, operand: int, channels: Channels, summed: Summed | None = None
    ) -> Channels:
        """Channels of an operand that output `channels` of `layer` read; of some inputs, if so."""
        if summed is not None:
            return self.reductions[layer.name].read(channels, summed)
        return self.schedule.network.operand_channels(layer, operand, channels)

    def constant_bytes(self, layer: Layer, channels: Channels, summed: Summed | None) -> int:
        """Bytes of the constants of output `channels`, of all input channels or of some."""
        if summed is None:
            return weight_bytes(layer, channels)
        begin, end = self.reductions[layer.name].constants(summed)
        return width(layer, channels) * (end - begin)

    def finishes(self, command: Compute) -> bool:
        """Whether a compute adds the last input channels, and so makes its output."""
        if command.summed is None:
            return True
        return command.summed[1] == self.reductions[command.layer].inputs

    def sums_bytes(self, command: Compute) -> int:
        """Bytes of the partial sums of a compute's rows and channels."""
        output = self.tensor(self.layers[command.layer].output)
        row_bytes = self.slice_row_bytes(output.name, command.channels)
        elements = (command.rows[1] - command.rows[0]) * row_bytes // DTYPE_BYTES[output.dtype]
        return elements * sum_bytes(output.dtype)

    def needed_rows(self, layer: Layer, operand: int, rows: tuple[int, int]) -> tuple[int, int]:
        """Rows of an operand's tensor that output `rows` of `layer` read."""
        tensor = self.tensor(layer.inputs[operand].tensor)
        return self.row_maps[layer.name][operand].needed(*rows, tensor.rows)


def _span(cuts: tuple[int, ...], channels: Channels) -> tuple[int, int]:
    if channels is None:
        return 0, len(cuts) - 1
    return cuts.index(channels[0]), cuts.index(channels[1])


def map_channel_count(network: Network, tensor: str) -> int:
    """Channels of a map; 1 where it cannot be sliced."""
    axis = network.channel_axes.get(tensor)
    return 1 if axis is None else network.tensors[tensor].shape[axis]


def channel_count(layer: Layer) -> int:
    """Output channels of `layer`; 1 where it cannot be sliced."""
    axis = layer.channel_axis
    return 1 if axis is None else layer.output_shape[axis]


def width(layer: Layer, channels: Channels) -> int:
    """Number of `channels` of `layer`, None meaning all."""
    return channel_count(layer) if channels is None else channels[1] - channels[0]


def weight_bytes(layer: Layer, channels: Channels) -> int:
    """Bytes of the weights of a channel slice: their proportional part."""
    return layer.weight_bytes * width(layer, channels) // channel_count(layer)


def weight_span(layer: Layer, channels: Channels) -> tuple[int, int]:
    """Bytes ``[begin, end)`` that the constants of a channel slice take among the layer's."""
    total = channel_count(layer)
    begin, end = channels or (0, total)
    first = layer.weight_bytes * begin // total
    return first, first + layer.weight_bytes * (end - begin) // total


def channel_layout(tensor: Tensor, axis: int | None) -> ChannelLayout:
    """How the channels of `tensor`, which `axis` runs over, lie in one of its rows."""
    element = DTYPE_BYTES[tensor.dtype]
    rows = row_axis(tensor.shape)
    if axis is None:
        return ChannelLayout(1, 1, tensor.row_bytes)
    before = math.prod(n for i, n in enumerate(tensor.shape) if i < axis and i != rows)
    rest = math.prod(n for i, n in enumerate(tensor.shape) if i > axis and i != rows)
    # images are not inside a row
    return ChannelLayout(before // tensor.images, tensor.shape[axis], rest * element)


def is_prefetch(transfer: Transfer) -> bool:
    """Whether the transfer may run across the barriers of steps."""
    return transfer.kind == "load" and transfer.tile is None and transfer.step < transfer.need_step


def compute_label(facts: Facts, index: int) -> str:
    """Name of a compute command for a sentence."""
    command = facts.schedule.computes[index]
    return f"compute {index} ({command.layer!r}, step {command.step}, tile {command.tile})"


def transfer_label(facts: Facts, index: int) -> str:
    """Name of a transfer for a sentence."""
    command = facts.schedule.transfers[index]
    tile = "" if command.tile is None else f", tile {command.tile}"
    what = "weights of " if command.role == "weights" else ""
    return (
        f"transfer {index} ({command.kind} of {what}{command.tensor!r}, step {command.step}{tile})"
    )


def facts_of(schedule: Schedule) -> Facts:
    """Resolve the names of a well-formed schedule."""
    layers = {layer.name: layer for layer in schedule.network.layers}
    producers = {layer.output: layer for layer in schedule.network.layers}
    row_maps = {
        name: tuple(layer.input_rows(i) for i in range(len(layer.inputs)))
        for name, layer in layers.items()
    }
    cuts = {name: {0, channel_count(layer)} for name, layer in layers.items()}
    network, reductions = schedule.network, _reductions(schedule, layers)
    map_cuts = {name: {0, map_channel_count(network, name)} for name in network.tensors}
    for layer_name, channels in _layer_cuts(schedule):
        cuts[layer_name].update(channels)
        map_cuts[layers[layer_name].output].update(channels)
        for i, operand in enumerate(layers[layer_name].inputs):
            read = network.operand_channels(layers[layer_name], i, channels)
            if read is not None:
                map_cuts[operand.tensor].update(read)
    for compute in schedule.computes:
        if compute.summed is not None:
            slice_ = reductions[compute.layer].read(compute.channels, compute.summed)
            map_cuts[layers[compute.layer].inputs[0].tensor].update(slice_)
    records: tuple[Transfer | Buffer, ...] = (*schedule.transfers, *schedule.buffers)
    for record in records:
        kind = record.role if isinstance(record, Transfer) else record.kind
        if record.channels is not None:
            table = cuts if kind in WEIGHT_KINDS else map_cuts
            table[record.tensor].update(record.channels)
    relation = pieces(network)
    for holder, tensor, read in _moved_pieces(schedule, layers, reductions):
        if (tensor, holder) in relation:
            map_cuts[holder].update(_shifted(relation[tensor, holder], read))
        elif (holder, tensor) in relation:
            begin, end = relation[holder, tensor]
            map_cuts[tensor].update((begin, end))
    _settle_pieces(relation, map_cuts)
    return Facts(
        schedule, layers, producers, row_maps, _sorted(cuts), _sorted(map_cuts),
        _weight_cuts(schedule, layers, cuts), relation,
        copy_free(network), _shared(schedule.buffers), _filled(schedule), reductions,
    )  # fmt: skip


def _reductions(schedule: Schedule, layers: dict[str, Layer]) -> dict[str, Reduction]:
    """How sums are taken apart, of layers of which a record says that they are."""
    names = {c.layer for c in schedule.computes if c.summed is not None}
    names |= {t.tensor for t in schedule.transfers if t.summed is not None}
    found = {name: reduction(schedule.network, layers[name]) for name in names}
    return {name: known for name, known in found.items() if known is not None}


def _weight_cuts(
    schedule: Schedule, layers: dict[str, Layer], cuts: dict[str, set[int]]
) -> dict[str, tuple[int, ...]]:
    """Bytes at which the constants of each layer are cut."""
    found = {name: set(weight_span(layer, None)) for name, layer in layers.items()}
    for name, edges in cuts.items():
        for channels in pairwise(sorted(edges)):
            found[name].update(weight_span(layers[name], channels))
    named = [(c.layer, c.channels) for c in schedule.computes]
    named += [(b.tensor, b.channels) for b in schedule.buffers if b.kind in WEIGHT_KINDS]
    named += [(t.tensor, t.channels) for t in schedule.transfers if t.role == "weights"]
    for name, of in dict.fromkeys(named):
        found[name].update(weight_span(layers[name], of))
    for transfer in schedule.transfers:
        if transfer.piece is not None and transfer.role == "weights":
            begin = weight_span(layers[transfer.tensor], transfer.channels)[0]
            found[transfer.tensor].update(begin + edge for edge in transfer.piece)
    return _sorted(found)


def _moved_pieces(
    schedule: Schedule, layers: dict[str, Layer], reductions: Mapping[str, Reduction]
) -> Iterator[tuple[str, str, Channels]]:
    """Buffers' maps that commands touch as other maps, and which channels of these."""
    network, buffers = schedule.network, schedule.buffers
    for compute in schedule.computes:
        layer = layers[compute.layer]
        yield buffers[compute.output].tensor, layer.output, compute.channels
        for i, (operand, number) in enumerate(zip(layer.inputs, compute.inputs, strict=True)):
            read = network.operand_channels(layer, i, compute.channels)
            if compute.summed is not None:
                read = reductions[layer.name].read(compute.channels, compute.summed)
            yield buffers[number].tensor, operand.tensor, read
    for transfer in schedule.transfers:
        if transfer.role == "map":
            yield buffers[transfer.buffer].tensor, transfer.tensor, transfer.channels


def _shifted(piece: tuple[int, int], channels: Channels) -> tuple[int, int]:
    begin, end = piece
    return (begin, end) if channels is None else (begin + channels[0], begin + channels[1])


def _settle_pieces(
    relation: Mapping[tuple[str, str], tuple[int, int]], map_cuts: dict[str, set[int]]
) -> None:
    """Cut pieces where the maps that hold them are cut, and the other way round."""
    grown = True
    while grown:
        grown = False
        for (inner, outer), (begin, end) in relation.items():
            down = {cut - begin for cut in map_cuts[outer] if begin < cut < end}
            up = {cut + begin for cut in map_cuts[inner] if 0 < cut < end - begin}
            if not (down <= map_cuts[inner] and up <= map_cuts[outer]):
                map_cuts[inner] |= down
                map_cuts[outer] |= up
                grown = True


def _filled(schedule: Schedule) -> dict[tuple[int, int, int], tuple[int, int]]:
    """Rows of each tile of a map; those put there last, where it is filled more than once."""
    made = [(c.output, c.step, c.tile, c.rows) for c in schedule.computes]
    made += [
        (t.buffer, t.step, t.tile or 0, t.rows)
        for t in schedule.transfers
        if t.kind == "load" and t.role == "map"
    ]
    return {
        (number, step, tile): rows
        for number, step, tile, rows in made
        if schedule.buffers[number].kind in MAP_TILE_KINDS
    }


def _shared(buffers: Sequence[Buffer]) -> tuple[int, ...]:
    """The first of the buffers that have the same bytes, for each of them."""
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(range(len(buffers)))
    graph.add_edges_from((i, b.shares) for i, b in enumerate(buffers) if b.shares is not None)
    first = {n: min(group) for group in nx.connected_components(graph) for n in group}
    return tuple(first[i] for i in range(len(buffers)))


def _sorted(cuts: dict[str, set[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(sorted(places)) for name, places in cuts.items()}


def _layer_cuts(schedule: Schedule) -> Iterator[tuple[str, tuple[int, int]]]:
    """Layers cut by steps and computes, and where."""
    for step in schedule.steps:
        if step.channels is not None:
            yield step.layers[0], step.channels
    for compute in schedule.computes:
        if compute.channels is not None:
            yield compute.layer, compute.channels
