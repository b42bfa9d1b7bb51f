"""Groups in blocks: stripes of rows outside, tiles of output channels inside.

Where the constants of a layer stay, each row of its input comes once; where its input stays, each
constant. Where neither has room, one of them comes again: slices of the constants, one after the
other, read the input for each slice, blocks read the constants for each stripe. A stripe may be
rows of an image, an image, or several.

A tile is a stripe of rows and a range of channels. The input's rows come with the first tile of a
stripe and stay for all; constants and output come and go with each tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np

from spm_opt.cost.compression import map_share
from spm_opt.cost.dram import moved_bytes_array, transfer_cycles_array
from spm_opt.fusion_borders import DEPTHS, Moves, aligned, input_uses, streamed
from spm_opt.fusion_channels import wide_parts
from spm_opt.fusion_groups import (
    Group,
    Recipe,
    other_place,
    part_cycles,
    part_energy,
    part_outputs,
    sorted_borders,
)
from spm_opt.graph.network import Layer
from spm_opt.parts import Part
from spm_opt.parts_space import (
    channel_count,
    channel_heights,
    channel_weight_bytes,
    tile_inputs,
)
from spm_opt.site import Site
from spm_opt.tiling import (
    Chain,
    Cuttings,
    Ints,
    Rows,
    channel_runs,
    cuttings,
    few_stripes,
    grow_chain,
    input_channels,
    slice_row_bytes,
    start_chain,
)

#: constants that take more than this part of the scratchpad are worth loading again
WORTH: Final = Fraction(1, 4)
#: most stripes of an image, each of which loads all constants
STRIPES: Final = 16


@dataclass(frozen=True, slots=True)
class Blocks:
    """Tiles of a layer, or of a run of layers, in blocks: for several heights side by side.

    Attributes
    ----------
    chain : Chain
        The layers, last first; tiles are those of the blocks, cuttings the heights.
    channels : tuple of (int, int)
        Output channels of the tiles of a stripe, in order.
    column : int64 array (tiles,)
        Which of these each tile has.
    """

    chain: Chain
    channels: tuple[tuple[int, int], ...]
    column: Ints

    @property
    def cuts(self) -> Cuttings:
        """Tiles of all heights."""
        return self.chain.cuts

    @property
    def widths(self) -> Ints:
        """Channels of each tile."""
        widths = np.array([end - begin for begin, end in self.channels], dtype=np.int64)
        return widths[self.column]


def block_groups(site: Site, position: int) -> Iterator[Group]:
    """All slices of a layer, or those of a group of it, together in blocks."""
    layer, (begin, end) = site.layer_at(position), site.spans[position]
    heights = block_heights(layer)
    if not heights or layer.loops is None:
        return
    spans = list(wide_parts(site, position)) if end - begin > 1 else []
    spans += [((begin, end), site.parts[begin])] if end - begin == 1 else []
    capacity = site.hardware.spm.capacity_bytes
    for span, part in spans:
        if channel_weight_bytes(layer, part.channels) > capacity * WORTH:
            for width in channel_heights(site.network, layer, part.channels, capacity):
                yield _block_group(site, position, span, part, heights, width)


def block_heights(layer: Layer, most: int = STRIPES) -> tuple[int, ...]:
    """Heights of a few stripes an image, tallest first; one is a tiling in channels alone."""
    if not layer.op.tileable:
        return ()
    return tuple(cuts.heights[0] for cuts in few_stripes(layer, most) if len(cuts.owner) > 1)


def blocks(
    site: Site, positions: tuple[int, int], part: Part | None, heights: tuple[int, ...], width: int
) -> Blocks:
    """The tiles of layers, or of a part of one; one stripe has tiles of channels alone."""
    layer = site.layer_at(positions[1] - 1)
    whole = None if part is None else part.channels
    channels = cuttings(*(whole or (0, channel_count(layer))), (width,)).tiles
    chain, count = stripes_of(site, positions, heights), len(channels.begin)
    column = np.tile(np.arange(count, dtype=np.int64), len(chain.cuts.owner))
    pairs = tuple(zip(channels.begin.tolist(), channels.end.tolist(), strict=True))
    return Blocks(_repeated(chain, count), pairs, column)


def recipe_blocks(site: Site, recipe: Recipe) -> Blocks:
    """The tiles of a recipe in blocks, or in tiles of channels."""
    if recipe.axis == "blocks":
        heights, width = (recipe.height,), recipe.width
    else:
        heights, width = (site.layer_at(recipe.positions[1] - 1).rows,), recipe.height
    return blocks(site, recipe.positions, recipe.part, heights, width)


def stripes_of(site: Site, positions: tuple[int, int], heights: tuple[int, ...]) -> Chain:
    """Layers whose stripes compute all rows that they need, or that somebody else needs."""
    first, end = positions
    chain = start_chain(site.network, site.order[end - 1], heights)
    for position in range(end - 2, first - 1, -1):
        whole = site.last_reader[site.layer_at(position).output] >= end
        chain = grow_chain(site.network, chain, site.order[position], "recompute", whole)
    return chain


def _repeated(chain: Chain, count: int) -> Chain:
    """Each tile of a chain `count` times: for other channels, in the same rows."""

    def again(rows: Rows) -> Rows:
        return Rows(np.repeat(rows.begin, count), np.repeat(rows.end, count))

    cuts = replace(
        chain.cuts, tiles=again(chain.cuts.tiles), first=np.repeat(chain.cuts.first, count) * count,
        last=np.repeat(chain.cuts.last, count) * count + count - 1,
        owner=np.repeat(chain.cuts.owner, count), starts=chain.cuts.starts * count,
    )  # fmt: skip
    return Chain(
        cuts, chain.layers, tuple(again(rows) for rows in chain.computed),
        tuple(tuple(again(rows) for rows in read) for read in chain.read), chain.held,
        tuple(np.repeat(low, count) for low in chain.low),
        {tensor: again(rows) for tensor, rows in chain.needs.items()},
    )  # fmt: skip


def _block_group(
    site: Site, position: int, span: tuple[int, int], part: Part, heights: tuple[int, ...],
    width: int,
) -> Group:  # fmt: skip
    layer, dram = site.layer_at(position), site.hardware.dram
    found = blocks(site, (position, position + 1), part, heights, width)
    chain, inputs = found.chain, input_channels(site.network, layer, part.channels)
    borders = [
        input_uses(
            site, t, streamed(site, t, need, chain.cuts, inputs[t]), other_place(site, chain, t)
        )
        for t, need in chain.needs.items()
    ]
    # a piece's channels are as long as those of the map that it is a piece of
    moves = tile_moves(site, layer.output, chain.cuts.tiles, found)
    borders.append(part_outputs(site, position, span[0], part, moves, moves))
    sizes = np.array([channel_weight_bytes(layer, c) for c in found.channels], dtype=np.int64)
    moved = moved_bytes_array(dram, sizes)[found.column]
    space = aligned(site, np.stack([depth * sizes.max() for depth in DEPTHS]))
    compute, energy = block_computes(site, found)
    recipe = Recipe(
        (position, position + 1), part, "blocks", heights[0], 1, "retain", width=width
    )  # fmt: skip
    return Group(
        *span, recipe, chain.cuts, compute, energy, transfer_cycles_array(dram, moved),
        np.repeat(space[:, None], len(heights), axis=1), 0, chain.cuts.total(moved), True,
        sorted_borders(borders),
    )  # fmt: skip


def tile_moves(site: Site, tensor: str, rows: Rows, found: Blocks) -> Moves:
    """A map of which each tile moves `rows` of its own channels."""
    dram, cuts = site.hardware.dram, found.cuts
    runs, channel_bytes = channel_runs(site.network, tensor, (0, 1))
    share = map_share(dram.compression, site.network.tensors[tensor])
    moved = moved_bytes_array(dram, found.widths * channel_bytes, runs * rows.count, share)
    unit = tile_bytes(site, tensor, rows, found)
    buffers = aligned(site, np.stack([depth * unit for depth in DEPTHS]))
    return Moves(transfer_cycles_array(dram, moved), cuts.total(moved), buffers)


def tile_bytes(site: Site, tensor: str, rows: Rows, found: Blocks) -> Ints:
    """Bytes of the largest tile of a map in each cutting."""
    widest = (0, int(found.widths.max()))
    return found.cuts.largest(rows.count) * slice_row_bytes(site.network, tensor, widest)


def block_computes(site: Site, found: Blocks, i: int = 0) -> tuple[Ints, Ints]:
    """Cycles and energy of the i-th layer's tiles; those of equal widths are priced together."""
    chain = found.chain
    layer = site.network.layers[chain.layers[i]]
    compute, energy = (np.zeros_like(found.column) for _ in range(2))
    for channels in {end - begin: (begin, end) for begin, end in found.channels}.values():
        alike = found.widths == channels[1] - channels[0]
        compute[alike] = part_cycles(site, layer, channels, chain, i)[alike]
        energy[alike] = part_energy(site, layer, channels, chain, i)[alike]
    return compute, energy


def tile_borne(site: Site, recipe: Recipe, chain: Chain) -> frozenset[str]:
    """Inputs of which each tile loads its own channels: none in blocks of a single layer."""
    first, end = recipe.positions
    if recipe.axis == "blocks":
        return frozenset() if end == first + 1 else channels_apart(site, chain, recipe.width)
    return channels_apart(site, chain, recipe.height)


def channels_apart(site: Site, chain: Chain, width: int) -> frozenset[str]:
    """Inputs of which no layer that reads them needs other channels than its tile's."""
    found = set(chain.needs)
    for index in chain.layers:
        layer = site.network.layers[index]
        read = {operand.tensor for operand in layer.inputs}
        found -= read - tile_inputs(site.network, layer, width)
    return frozenset(found)


def moved_rows(site: Site, recipe: Recipe, tensor: str, need: Rows) -> Rows:
    """Rows of its own channels that each tile loads: in blocks those that it needs, else all."""
    if recipe.axis == "blocks":
        return need
    return Rows(
        np.zeros_like(need.begin), np.full_like(need.end, site.network.tensors[tensor].rows)
    )
