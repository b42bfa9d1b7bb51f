"""What every rule of the checker looks up: names resolved, rows needed, channels cut into cells.

Only indexing and single-event arithmetic; no rule and no verdict belongs here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spm_opt.graph.network import DTYPE_BYTES, Layer, Tensor
from spm_opt.graph.ops import RowMap, row_axis
from spm_opt.schedule import Buffer, Compute, Schedule, Transfer

Channels = tuple[int, int] | None

#: buffers whose units are rows of a map
ROW_KINDS = ("map", "input", "stripe", "output")
#: buffers whose units are channel tiles
TILE_KINDS = ("weight_stream", "channel_output")
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
    cuts : dict
        Per layer, the sorted channels at which any record cuts its output or weights, with 0
        and the channel count. Channels ``[cuts[i], cuts[i+1])`` are one *cell*: nothing splits it.
    """

    schedule: Schedule
    layers: dict[str, Layer]
    producers: dict[str, Layer]
    row_maps: dict[str, tuple[RowMap, ...]]
    cuts: dict[str, tuple[int, ...]]

    def tensor(self, name: str) -> Tensor:
        """Feature map of this name."""
        return self.schedule.network.tensors[name]

    def owner(self, kind_or_role: str, name: str) -> Layer | None:
        """Layer whose output channels cut this map, or whose weights these are."""
        if kind_or_role in WEIGHT_KINDS:
            return self.layers[name]
        return self.producers.get(name)

    def cells(self, layer: Layer | None, channels: Channels) -> tuple[int, int]:
        """Cells ``[begin, end)`` that `channels` of `layer` span; a network input is one cell."""
        if layer is None:
            return 0, 1
        cuts = self.cuts[layer.name]
        if channels is None:
            return 0, len(cuts) - 1
        return cuts.index(channels[0]), cuts.index(channels[1])

    def cell_count(self, layer: Layer | None) -> int:
        """Number of cells of `layer`'s channels."""
        return 1 if layer is None else len(self.cuts[layer.name]) - 1

    def needed_rows(self, layer: Layer, operand: int, rows: tuple[int, int]) -> tuple[int, int]:
        """Rows of an operand's tensor that output `rows` of `layer` read."""
        tensor = self.tensor(layer.inputs[operand].tensor)
        return self.row_maps[layer.name][operand].needed(*rows, tensor.rows)


def channel_count(layer: Layer) -> int:
    """Output channels of `layer`; 1 where it cannot be sliced."""
    axis = layer.op.channel_axis(layer.output_shape)
    return 1 if axis is None else layer.output_shape[axis]


def width(layer: Layer, channels: Channels) -> int:
    """Number of `channels` of `layer`, None meaning all."""
    return channel_count(layer) if channels is None else channels[1] - channels[0]


def weight_bytes(layer: Layer, channels: Channels) -> int:
    """Bytes of the weights of a channel slice: their proportional part."""
    return layer.weight_bytes * width(layer, channels) // channel_count(layer)


def channel_layout(tensor: Tensor, layer: Layer) -> ChannelLayout:
    """How the output channels of `layer` lie in one row of its output `tensor`."""
    element = DTYPE_BYTES[tensor.dtype]
    axis, rows = layer.op.channel_axis(tensor.shape), row_axis(tensor.shape)
    if axis is None:
        return ChannelLayout(1, 1, tensor.row_bytes)
    lead = math.prod(n for i, n in enumerate(tensor.shape) if i < axis and i != rows)
    rest = math.prod(n for i, n in enumerate(tensor.shape) if i > axis and i != rows)
    return ChannelLayout(lead, tensor.shape[axis], rest * element)


def slice_row_bytes(tensor: Tensor, layer: Layer | None, channels: Channels) -> int:
    """Bytes of one row of `tensor`, or of a channel slice of it."""
    if layer is None or channels is None:
        return tensor.row_bytes
    layout = channel_layout(tensor, layer)
    return layout.lead * (channels[1] - channels[0]) * layout.rest_bytes


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
    cuts: dict[str, set[int]] = {name: {0, channel_count(layer)} for name, layer in layers.items()}
    for layer, channels in _channel_uses(schedule, layers, producers):
        cuts[layer.name].update(channels)
    return Facts(
        schedule, layers, producers, row_maps, {name: tuple(sorted(c)) for name, c in cuts.items()}
    )


def _channel_uses(
    schedule: Schedule, layers: dict[str, Layer], producers: dict[str, Layer]
) -> list[tuple[Layer, tuple[int, int]]]:
    uses: list[tuple[Layer, tuple[int, int]]] = []
    records: list[tuple[str, str, Compute | Transfer | Buffer]] = [
        *(("weights", c.layer, c) for c in schedule.computes),
        *((t.role, t.tensor, t) for t in schedule.transfers),
        *((b.kind, b.tensor, b) for b in schedule.buffers),
    ]
    for step in schedule.steps:
        if step.channels is not None:
            uses.append((layers[step.layers[0]], step.channels))
    for kind, name, record in records:
        layer = layers[name] if kind in WEIGHT_KINDS else producers.get(name)
        if layer is not None and record.channels is not None:
            uses.append((layer, record.channels))
    return uses
