"""Each command names buffers that hold what it reads or writes, and fits its step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from spm_opt.schedule import Buffer, Compute, Transfer
from spm_opt.verify.facts import (
    ROW_KINDS,
    TILE_KINDS,
    WEIGHT_KINDS,
    Channels,
    Facts,
    channel_count,
    compute_label,
    transfer_label,
)

_MAP_TILES: Final = ("channel_input", "channel_output")
_MAP_KINDS: Final = (*ROW_KINDS, *_MAP_TILES)
_READABLE: Final = (*ROW_KINDS, "channel_input")
_WRITABLE: Final = ("map", "stripe", "output", "channel_output")


def compute_operands(facts: Facts) -> Iterator[str]:
    """A compute reads its operands' tensors and its own weights, and writes its output."""
    for index, command in enumerate(facts.schedule.computes):
        for problem in _compute_problems(facts, command):
            yield f"{compute_label(facts, index)} {problem}"


def _compute_problems(facts: Facts, command: Compute) -> Iterator[str]:
    layer, step = facts.layers[command.layer], facts.schedule.steps[command.step]
    buffers = facts.schedule.buffers
    if command.layer not in step.layers:
        yield f"computes a layer that step {command.step} does not list"
    if step.channels is not None and not _inside(
        channel_count(layer), command.channels, step.channels
    ):
        yield f"computes channels outside its step's slice {list(step.channels)}"
    for i, (operand, number) in enumerate(zip(layer.inputs, command.inputs, strict=True)):
        buffer = buffers[number]
        wanted = facts.operand_channels(layer, i, command.channels)
        if buffer.kind not in _READABLE or buffer.tensor != operand.tensor:
            yield f"reads {operand.tensor!r} from buffer {buffer.name!r}, which {_holds(buffer)}"
        elif not _inside(facts.channels_of("map", operand.tensor), wanted, buffer.channels):
            yield f"reads channels that buffer {buffer.name!r} does not hold"
    output = buffers[command.output]
    if output.kind not in _WRITABLE or output.tensor != layer.output:
        yield f"writes {layer.output!r} to buffer {output.name!r}, which {_holds(output)}"
    elif not _inside(channel_count(layer), command.channels, output.channels):
        yield f"writes channels that buffer {output.name!r} does not hold"
    elif output.kind == "channel_output" and command.rows != (0, layer.rows):
        yield f"writes some rows of a channel tile to buffer {output.name!r}"
    yield from _weights(facts, command)


def _weights(facts: Facts, command: Compute) -> Iterator[str]:
    layer = facts.layers[command.layer]
    if len(set(command.weights)) != len(command.weights):
        yield "names a weight buffer twice"
    for number in command.weights:
        buffer = facts.schedule.buffers[number]
        if buffer.kind not in WEIGHT_KINDS or buffer.tensor != layer.name:
            yield f"reads its weights from buffer {buffer.name!r}, which {_holds(buffer)}"
            return
    if layer.weight_bytes == 0:
        if command.weights:
            yield "names weight buffers, but the layer has no weights"
        return
    held: set[int] = set()
    for number in command.weights:
        buffer = facts.schedule.buffers[number]
        # a streamed tile is whatever was loaded last: its channels are checked with the data
        streamed = buffer.kind == "weight_stream"
        held.update(range(*facts.cells(layer, command.channels if streamed else buffer.channels)))
    if not held.issuperset(range(*facts.cells(layer, command.channels))):
        yield "names no buffer for some of its weights"


def transfer_ends(facts: Facts) -> Iterator[str]:
    """A transfer moves a tensor between DRAM and a buffer of that tensor."""
    for index, command in enumerate(facts.schedule.transfers):
        for problem in _transfer_problems(facts, command):
            yield f"{transfer_label(facts, index)} {problem}"


def _transfer_problems(facts: Facts, command: Transfer) -> Iterator[str]:
    buffer = facts.schedule.buffers[command.buffer]
    right_kinds = WEIGHT_KINDS if command.role == "weights" else _MAP_KINDS
    if buffer.kind not in right_kinds or buffer.tensor != command.tensor:
        yield f"uses buffer {buffer.name!r}, which {_holds(buffer)}"
        return
    if command.kind == "store" and command.role == "weights":
        yield "stores weights, which are constant"
    if command.kind == "load" and buffer.kind == "channel_output":
        yield f"loads into the output buffer {buffer.name!r}"
    if command.kind == "store" and buffer.kind == "channel_input":
        yield f"stores from the input buffer {buffer.name!r}"
    if buffer.kind in TILE_KINDS and command.tile is None:
        yield f"names no tile, but buffer {buffer.name!r} holds tiles"
    if buffer.kind in WEIGHT_KINDS and facts.layers[command.tensor].weight_bytes == 0:
        yield "moves weights of a layer that has none"
    total = facts.channels_of(buffer.kind, buffer.tensor)
    if not _inside(total, command.channels, buffer.channels):
        yield f"moves channels that buffer {buffer.name!r} does not hold"
    if buffer.kind in _MAP_TILES and command.rows != (0, facts.tensor(command.tensor).rows):
        yield f"moves some rows of a channel tile in buffer {buffer.name!r}"


def _inside(total: int, inner: Channels, outer: Channels) -> bool:
    if outer is None:
        return True
    begin, end = (0, total) if inner is None else inner
    return outer[0] <= begin and end <= outer[1]


def _holds(buffer: Buffer) -> str:
    what = "weights of " if buffer.kind in WEIGHT_KINDS else ""
    return f"is of kind {buffer.kind!r} for {what}{buffer.tensor!r}"
