"""Each command names buffers that hold what it reads or writes, and fits its step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from spm_opt.graph.network import Layer
from spm_opt.schedule import Buffer, Compute, Transfer
from spm_opt.verify.facts import (
    MAP_TILE_KINDS,
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
_READABLE: Final = (*ROW_KINDS, *MAP_TILE_KINDS)
_WRITABLE: Final = ("map", "stripe", "output", "channel_output", "channel_stripe")


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
        wanted = facts.operand_channels(layer, i, command.channels, command.summed)
        if buffer.kind not in _READABLE or not facts.lies_in(operand.tensor, buffer.tensor):
            yield f"reads {operand.tensor!r} from buffer {buffer.name!r}, which {_holds(buffer)}"
        elif not _holds_channels(facts, buffer, operand.tensor, wanted):
            yield f"reads channels that buffer {buffer.name!r} does not hold"
    output = buffers[command.output]
    # a border that an earlier band kept lies beside what is loaded of its map
    writable = (*_WRITABLE, "input") if facts.fills(layer) else _WRITABLE
    if not facts.finishes(command):
        pass  # partial sums: see `spm_opt.verify.sums`
    elif output.kind not in writable or not facts.lies_in(layer.output, output.tensor):
        yield f"writes {layer.output!r} to buffer {output.name!r}, which {_holds(output)}"
    elif not _holds_channels(facts, output, layer.output, command.channels):
        yield f"writes channels that buffer {output.name!r} does not hold"
    elif (
        output.kind == "channel_output"
        and command.rows != (0, layer.rows)
        and step.axis not in ("blocks", "sums")
    ):
        yield f"writes some rows of a channel tile to buffer {output.name!r}"
    yield from _weights(facts, command)


def _weights(facts: Facts, command: Compute) -> Iterator[str]:
    layer = facts.layers[command.layer]
    if len(set(command.weights)) != len(command.weights):
        yield "names a weight buffer twice"
    for number in command.weights:
        buffer = facts.schedule.buffers[number]
        if buffer.kind not in WEIGHT_KINDS or buffer.tensor != layer.constants:
            yield f"reads its weights from buffer {buffer.name!r}, which {_holds(buffer)}"
            return
    if layer.weight_bytes == 0:
        if command.weights:
            yield "names weight buffers, but the layer has no weights"
        return
    owner = facts.layers[layer.constants]
    held: set[int] = set()
    for number in command.weights:
        buffer = facts.schedule.buffers[number]
        # a streamed tile is whatever was loaded last: its channels are checked with the data
        streamed = buffer.kind == "weight_stream"
        held.update(range(*facts.cells(owner, command.channels if streamed else buffer.channels)))
    if not held.issuperset(range(*facts.cells(owner, command.channels))):
        yield "names no buffer for some of its weights"


def transfer_ends(facts: Facts) -> Iterator[str]:
    """A transfer moves a tensor between DRAM and a buffer of that tensor."""
    for index, command in enumerate(facts.schedule.transfers):
        for problem in _transfer_problems(facts, command):
            yield f"{transfer_label(facts, index)} {problem}"


def _transfer_problems(facts: Facts, command: Transfer) -> Iterator[str]:
    buffer = facts.schedule.buffers[command.buffer]
    right_kinds = WEIGHT_KINDS if command.role == "weights" else _MAP_KINDS
    if buffer.kind not in right_kinds or not _belongs(facts, buffer, command):
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
    if command.role == "weights":
        total = facts.channels_of(buffer.kind, buffer.tensor)
        held = _inside(total, command.channels, buffer.channels)
    else:
        held = _holds_channels(facts, buffer, command.tensor, command.channels)
    if not held:
        yield f"moves channels that buffer {buffer.name!r} does not hold"
    if buffer.kind in _MAP_TILES and not (
        _in_blocks(facts, command) or command.rows == (0, facts.tensor(command.tensor).rows)
    ):
        yield f"moves some rows of a channel tile in buffer {buffer.name!r}"


def _in_blocks(facts: Facts, command: Transfer) -> bool:
    axis = facts.schedule.steps[command.step].axis
    return axis in ("blocks", "sums")


def _belongs(facts: Facts, buffer: Buffer, command: Transfer) -> bool:
    """Whether a buffer holds what a transfer moves: the tensor, or (of maps) a piece of it."""
    if command.role == "weights" or buffer.tensor == command.tensor:
        return buffer.tensor == command.tensor
    # a piece goes where it belongs; what is loaded as another map lies in a buffer of that
    return command.kind == "store" and (buffer.tensor, command.tensor) in facts.pieces


def _holds_channels(facts: Facts, buffer: Buffer, tensor: str, channels: Channels) -> bool:
    """Whether a buffer has room for channels of a map that lies in its own, or holds it."""
    total = facts.channels_of("map", buffer.tensor)
    low, high = facts.channels_in(buffer.tensor, tensor, channels) or (0, total)
    return low >= 0 and high <= total and _inside(total, (low, high), buffer.channels)


def in_place(facts: Facts) -> Iterator[str]:
    """A compute that reads bytes which it writes does so element by element, or apart."""
    for index, command in enumerate(facts.schedule.computes):
        layer = facts.layers[command.layer]
        for i, number in enumerate(command.inputs):
            if facts.sharing[number] == facts.sharing[command.output] and not (
                _apart(facts, command, i) or _element_wise(facts, layer, i, command)
            ):
                yield (
                    f"{compute_label(facts, index)} reads {layer.inputs[i].tensor!r} from bytes "
                    f"of buffer {facts.schedule.buffers[number].name!r} that it writes in buffer "
                    f"{facts.schedule.buffers[command.output].name!r}"
                )


def _apart(facts: Facts, command: Compute, i: int) -> bool:
    """Whether operand and output are different channels of one buffer."""
    layer, number = facts.layers[command.layer], command.inputs[i]
    if number != command.output:
        return False
    holder = facts.schedule.buffers[number].tensor
    if not (facts.lies_in(layer.inputs[i].tensor, holder) and facts.lies_in(layer.output, holder)):
        return False
    wanted = facts.operand_channels(layer, i, command.channels)
    total = facts.channels_of("map", holder)
    read = facts.channels_in(holder, layer.inputs[i].tensor, wanted) or (0, total)
    written = facts.channels_in(holder, layer.output, command.channels) or (0, total)
    return read[1] <= written[0] or written[1] <= read[0]


def _element_wise(facts: Facts, layer: Layer, i: int, command: Compute) -> bool:
    """Whether each output element needs the operand's element at its own place only."""
    operand = layer.inputs[i]
    read, written = facts.tensor(operand.tensor), facts.tensor(layer.output)
    alike = read.shape == operand.shape == written.shape and read.dtype == written.dtype
    alike = alike and read.images == written.images
    own = facts.schedule.buffers[command.output].tensor == layer.output
    return (
        alike
        and own
        and facts.schedule.buffers[command.inputs[i]].tensor == operand.tensor
        and layer.op.in_place(i, layer.input_shapes, layer.output_shape)
        and facts.needed_rows(layer, i, command.rows) == command.rows
    )


def _inside(total: int, inner: Channels, outer: Channels) -> bool:
    if outer is None:
        return True
    begin, end = (0, total) if inner is None else inner
    return outer[0] <= begin and end <= outer[1]


def _holds(buffer: Buffer) -> str:
    what = "weights of " if buffer.kind in WEIGHT_KINDS else ""
    return f"is of kind {buffer.kind!r} for {what}{buffer.tensor!r}"
