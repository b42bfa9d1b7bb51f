"""Groups in channel tiles: all rows of a few output channels of a layer, or its slices, at a time.

Constants stream beside the computation, and inputs too where the operator treats channels apart.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import numpy as np

from spm_opt.cost.dram import moved_bytes_array, transfer_cycles_array
from spm_opt.fusion_borders import DEPTHS, Moves, aligned, input_uses, streamed, tiled
from spm_opt.fusion_groups import (
    Group,
    Recipe,
    channel_width,
    other_place,
    part_cycles,
    part_energy,
    part_outputs,
    sorted_borders,
)
from spm_opt.graph.network import Layer
from spm_opt.parts import Part
from spm_opt.parts_space import channel_count, channel_heights, channel_weight_bytes, tile_inputs
from spm_opt.site import Site
from spm_opt.tiling import Chain, Cuttings, Ints, cuttings, input_channels, start_chain


def tiled_groups(site: Site, position: int) -> Iterator[Group]:
    """A layer's slices, each by itself and those that may run as one, in channel tiles."""
    begin, end = site.spans[position]
    if end - begin > 1:
        for span, part in wide_parts(site, position):
            yield from channel_groups(site, position, span, part)
    for index in range(begin, end):
        yield from channel_groups(site, position, (index, index + 1), site.parts[index])


def wide_parts(site: Site, position: int) -> Iterator[tuple[tuple[int, int], Part]]:
    """Slices of a layer that may run as one in channel tiles, and the part that they are then.

    All of them, or those of one group of a grouped layer: what they read is read once, where each
    slice by itself would read it again, and no other map need stay for that.
    """
    layer, (begin, end) = site.layer_at(position), site.spans[position]
    index, step = site.order[position], layer.op.channel_step()
    yield (begin, end), Part(index, None, layer.weight_bytes)
    if step == 1 or step == channel_count(layer):
        return
    owner = [(part.channels or (0, 0))[0] // step for part in site.parts[begin:end]]
    for group in range(channel_count(layer) // step):
        first, last = begin + bisect_left(owner, group), begin + bisect_right(owner, group)
        channels = group * step, (group + 1) * step
        if last - first > 1:
            yield (first, last), Part(index, channels, channel_weight_bytes(layer, channels))


def channel_groups(site: Site, position: int, span: tuple[int, int], part: Part) -> Iterator[Group]:
    """Parts `span`, one together, in tiles of output channels: constants, and inputs, stream.

    Tiles that are whole groups and tiles inside a group differ in which inputs stream by them.
    """
    layer = site.layer_at(position)
    capacity, step = site.hardware.spm.capacity_bytes, layer.op.channel_step()
    heights = channel_heights(site.network, layer, part.channels, capacity)
    for chosen in (
        tuple(height for height in heights if height % step == 0),
        tuple(height for height in heights if height % step),
    ):
        if chosen:
            yield _channel_group(site, position, span, part, chosen)


def _channel_group(
    site: Site, position: int, span: tuple[int, int], part: Part, heights: tuple[int, ...]
) -> Group:
    layer, dram = site.layer_at(position), site.hardware.dram
    cuts = cuttings(*(part.channels or (0, channel_count(layer))), heights)
    chain = start_chain(site.network, site.order[position], (layer.rows,))
    by_tile = tile_inputs(site.network, layer, heights[0])
    inputs = input_channels(site.network, layer, part.channels)
    borders = [
        input_uses(site, t, tiled(site, t, cuts) if t in by_tile else
                   _at_first_tile(streamed(site, t, need, chain.cuts, inputs[t]), cuts),
                   other_place(site, chain, t))
        for t, need in chain.needs.items()
    ]  # fmt: skip
    # a piece's channels are as long as those of the map that it is a piece of
    moves = tiled(site, layer.output, cuts)
    borders.append(part_outputs(site, position, span[0], part, moves, moves))
    sizes = cuts.tiles.count * layer.weight_bytes // channel_count(layer)
    moved = moved_bytes_array(dram, sizes)
    space = aligned(site, np.stack([depth * cuts.largest(sizes) for depth in DEPTHS]))
    streams = layer.weight_bytes > 0
    recipe = Recipe((position, position + 1), part, "channels", heights[0], 1, "retain")
    compute, energy = _tile_computes(site, layer, chain, cuts)
    return Group(
        *span, recipe, cuts, compute, energy,
        transfer_cycles_array(dram, moved) if streams else None, space, 0, cuts.total(moved),
        streams, sorted_borders(borders),
    )  # fmt: skip


def _tile_computes(
    site: Site, layer: Layer, chain: Chain, cuts: Cuttings
) -> tuple[Ints, Ints]:  # fmt: skip
    """Cycles and energy of channel tiles, those of equal widths priced once."""
    known: dict[tuple[int | None, ...], tuple[int, int]] = {}
    found: list[tuple[int, int]] = []
    for channels in zip(cuts.tiles.begin.tolist(), cuts.tiles.end.tolist(), strict=True):
        inputs = input_channels(site.network, layer, channels)
        key = (channel_width(channels), *map(channel_width, inputs.values()))
        if key not in known:
            known[key] = (
                int(part_cycles(site, layer, channels, chain)[0]),
                int(part_energy(site, layer, channels, chain)[0]),
            )
        found.append(known[key])
    cycles, energy = np.array(found, dtype=np.int64).reshape(-1, 2).T
    return cycles, energy


def _at_first_tile(whole: Moves, cuts: Cuttings) -> Moves:
    """Transfers of a map that is loaded in one piece with the first tile of every cutting."""
    cycles = np.zeros_like(cuts.owner)
    cycles[cuts.starts] = whole.cycles[0]
    count = len(cuts.starts)
    return Moves(
        cycles, np.repeat(whole.dram_bytes, count),
        np.repeat(whole.buffer_bytes[:1], len(DEPTHS), axis=0).repeat(count, axis=1),
    )  # fmt: skip
