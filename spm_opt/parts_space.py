"""The least scratchpad: in how few bytes a layer, or a slice of one, can run at all.

Least is a slice of one channel, row by row, every map streamed: no other tiling in rows, channels
or blocks needs less, since a taller stripe or a wider slice holds at least the same rows and
channels. It does not depend on the capacity. Bands of columns, and slices of input channels, may do
with less: then it is no bound, but a size that suffices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from spm_opt.graph.network import Layer, Network
from spm_opt.hardware import Hardware, Scratchpad
from spm_opt.tiling import (
    Chain,
    Channels,
    input_channels,
    slice_row_bytes,
    start_chain,
    stored_rows,
    streamed_rows,
)
from spm_opt.units import align_up, ceil_div

#: Bytes of a channel tile that are few in any scratchpad: a larger one has no reason to have only
#: coarser tiles, and would otherwise be worse where the array likes narrow ones better.
FINE_TILE = 8192


def channel_count(layer: Layer) -> int:
    """Output channels that can be cut apart; 1 where none can."""
    axis = layer.channel_axis
    return 1 if axis is None or not layer.op.tileable else layer.output_shape[axis]


def slice_edges(layer: Layer, count: int) -> list[int]:
    """Channels at which `count` slices, or a few more, begin and end.

    Slices are whole groups, or parts of one group each: none cuts two groups.
    """
    step = layer.op.channel_step()
    groups = channel_count(layer) // step
    if count <= groups:
        return [groups * i // count * step for i in range(count + 1)]
    each = min(ceil_div(count, groups), step)
    return [step * (i // each) + step * (i % each) // each for i in range(groups * each + 1)]


def widest_slice(layer: Layer, count: int) -> Channels:
    """The widest of `count` slices; None for the whole layer."""
    if count == 1:
        return None
    edges = slice_edges(layer, count)
    return max(pairwise(edges), key=lambda slice_: slice_[1] - slice_[0])


def channel_weight_bytes(layer: Layer, channels: Channels) -> int:
    """Bytes of the constants of output channels ``[begin, end)``; of all by default."""
    axis = layer.channel_axis
    if channels is None or axis is None:
        return layer.weight_bytes
    return layer.weight_bytes * (channels[1] - channels[0]) // layer.output_shape[axis]


def row_tile_bytes(network: Network, spm: Scratchpad, index: int, channels: Channels) -> int:
    """Space in which `channels` of a layer run row by row, every map streamed."""
    layer = network.layers[index]
    chain = start_chain(network, index, (1 if layer.op.tileable else layer.rows,))
    rows = int(stored_rows(chain, 0, 1)[1][0])
    total = _space(spm, channel_weight_bytes(layer, channels))
    total += _space(spm, rows * slice_row_bytes(network, layer.output, channels))
    return total + _input_bytes(network, spm, chain, input_channels(network, layer, channels))


def channel_tile_bytes(network: Network, spm: Scratchpad, index: int, height: int) -> int:
    """Space in which a layer runs in tiles of `height` channels and all rows, one deep."""
    layer, tile = network.layers[index], (0, height)
    chain = start_chain(network, index, (layer.rows,))
    total = _space(spm, channel_weight_bytes(layer, tile))
    total += _space(spm, layer.rows * slice_row_bytes(network, layer.output, tile))
    own = tile_inputs(network, layer, height)
    for tensor in own:
        rows = network.tensors[tensor].rows
        total += _space(spm, rows * slice_row_bytes(network, tensor, tile))
    others = {tensor: None for tensor in chain.needs if tensor not in own}
    return total + _input_bytes(network, spm, chain, others)


def _input_bytes(
    network: Network, spm: Scratchpad, chain: Chain, inputs: Mapping[str, Channels]
) -> int:
    """Space of the rolling buffers of streamed inputs, one deep."""
    total = 0
    for tensor, channels in inputs.items():
        need, rows = chain.needs[tensor], network.tensors[tensor].rows
        held = streamed_rows(need, rows, 1, chain.cuts)[1]
        total += _space(spm, int(held[0]) * slice_row_bytes(network, tensor, channels))
    return total


def _space(spm: Scratchpad, size_bytes: int) -> int:
    return align_up(size_bytes, spm.alignment_bytes)


def tile_inputs(network: Network, layer: Layer, height: int) -> frozenset[str]:
    """Inputs that stream by channel tiles of `height`: each tile's channels come with it.

    Channelwise ones, where the tiles are whole groups; others are read whole by every tile.
    """
    if height % layer.op.channel_step():
        return frozenset()
    flags = zip(layer.inputs, network.sliced_reads[layer.name], strict=True)
    return frozenset(operand.tensor for operand, own in flags if own)


def has_channel_tiles(network: Network, layer: Layer) -> bool:
    """Whether tiles of channels can do what tiles of rows cannot.

    They stream large weights; and they cut an input that every row of the output needs whole,
    where each channel needs its own channel only (global pooling, products of attention heads).
    """
    if channel_count(layer) < 2:
        return False
    if layer.loops is not None and layer.weight_bytes:
        return True
    own = network.sliced_reads[layer.name]
    return any(
        own[i] and layer.input_rows(i).axis is None and network.tensors[operand.tensor].rows > 1
        for i, operand in enumerate(layer.inputs)
    )


def channel_heights(
    network: Network, layer: Layer, channels: Channels, capacity_bytes: int
) -> tuple[int, ...]:
    """Channel tile heights worth trying, tallest first.

    What streams in with a tile (weights, or its channels of the inputs) takes 1/64 (`FINE_TILE`
    bytes, where that is less) to 1/2 of the scratchpad. No tile holds parts of two groups.
    """
    if not has_channel_tiles(network, layer):
        return ()
    step = layer.op.channel_step()
    begin, end = channels or (0, channel_count(layer))
    finest = min(capacity_bytes // 64, FINE_TILE)
    found: set[int] = set()
    for height in halved(end - begin, step):
        tile = (0, height)
        size = channel_weight_bytes(layer, tile) or sum(
            network.tensors[t].rows * slice_row_bytes(network, t, tile)
            for t in tile_inputs(network, layer, height)
        )
        if size <= capacity_bytes // 2 and (size >= finest or not found):
            found.add(height)
    return tuple(sorted(found, reverse=True))


def halved(width: int, step: int) -> Iterator[int]:
    """A half, a quarter ... of `width` channels, in whole groups of `step` while there are any."""
    groups = width // step
    for shift in range(1, groups.bit_length() + 1 if groups > 1 else 1):
        yield ceil_div(groups, 2**shift) * step
    inside = step if groups else width
    for shift in range(1, inside.bit_length() + 1 if inside > 1 else 1):
        height = ceil_div(inside, 2**shift)
        if not groups or step % height == 0:
            yield height


def layer_minimum_bytes(network: Network, spm: Scratchpad, index: int) -> int:
    """Least capacity at which a layer has a tiling in stripes."""
    layer = network.layers[index]
    least = row_tile_bytes(network, spm, index, None)
    finest = widest_slice(layer, channel_count(layer))
    return least if finest is None else min(least, row_tile_bytes(network, spm, index, finest))


def minimum_spm_bytes(network: Network, hardware: Hardware) -> tuple[int, str]:
    """Least capacity at which every layer has a tiling in stripes, and the layer that sets it.

    Returns
    -------
    (int, str)
        Bytes, a multiple of the alignment; name of the first layer that needs them.
    """
    needs = [
        layer_minimum_bytes(network, hardware.spm, index) for index in range(len(network.layers))
    ]
    least = max(needs, default=0)
    return least, network.layers[needs.index(least)].name if needs else ""
