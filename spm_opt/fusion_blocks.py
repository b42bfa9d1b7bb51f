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
from spm_opt.fusion_groups import (
    Group,
    Recipe,
    other_place,
    part_cycles,
    part_energy,
    part_outputs,
    sorted_borders,
    wide_parts,
)
from spm_opt.graph.network import Layer
from spm_opt.parts import Part
from spm_opt.parts_space import channel_count, channel_heights, channel_weight_bytes
from spm_opt.site import Site
from spm_opt.tiling import (
    Chain,
    Cuttings,
    Ints,
    Rows,
    channel_runs,
    cuttings,
    input_channels,
    needed,
    row_cuttings,
    stripe_heights,
)

#: constants that take more than this part of the scratchpad are worth loading again
WORTH: Final = Fraction(1, 4)
#: most stripes, each of which loads all constants
STRIPES: Final = 16


@dataclass(frozen=True, slots=True)
class Blocks:
    """Tiles of one layer in blocks, for several heights of a stripe side by side.

    Attributes
    ----------
    chain : Chain
        The layer alone; its tiles are those of the blocks, its cuttings the heights.
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
    heights = _heights(layer)
    if not heights or layer.loops is None:
        return
    spans = list(wide_parts(site, position)) if end - begin > 1 else []
    spans += [((begin, end), site.parts[begin])] if end - begin == 1 else []
    capacity = site.hardware.spm.capacity_bytes
    for span, part in spans:
        if channel_weight_bytes(layer, part.channels) > capacity * WORTH:
            for width in channel_heights(site.network, layer, part.channels, capacity):
                yield _block_group(site, position, span, part, heights, width)


def _heights(layer: Layer) -> tuple[int, ...]:
    """Heights of a few stripes, tallest first; one stripe is a tiling in channels alone."""
    if not layer.op.tileable:
        return ()
    found = []
    for height in stripe_heights(layer.rows, layer.images):
        stripes = len(row_cuttings(layer, (height,)).owner)
        if 1 < stripes <= STRIPES:
            found.append(height)
    return tuple(found)


def blocks(site: Site, position: int, part: Part, heights: tuple[int, ...], width: int) -> Blocks:
    """The tiles of a layer, or of a part of it."""
    layer = site.layer_at(position)
    channels = cuttings(*(part.channels or (0, channel_count(layer))), (width,)).tiles
    count = len(channels.begin)
    stripes = row_cuttings(layer, heights)
    cuts = replace(
        stripes, tiles=Rows(*(np.repeat(ends, count) for ends in _ends(stripes.tiles))),
        first=np.repeat(stripes.first, count) * count,
        last=np.repeat(stripes.last, count) * count + count - 1,
        owner=np.repeat(stripes.owner, count), starts=stripes.starts * count,
    )  # fmt: skip
    column = np.tile(np.arange(count, dtype=np.int64), len(stripes.owner))
    pairs = tuple(zip(*(ends.tolist() for ends in _ends(channels)), strict=True))
    return Blocks(_chain(site, position, cuts), pairs, column)


def _ends(rows: Rows) -> tuple[Ints, Ints]:
    return rows.begin, rows.end


def _chain(site: Site, position: int, cuts: Cuttings) -> Chain:
    """A layer alone, of which each tile computes its rows again, for other channels."""
    network, layer = site.network, site.layer_at(position)
    read = tuple(
        needed(layer.input_rows(i), cuts.tiles, network.tensors[operand.tensor].rows)
        for i, operand in enumerate(layer.inputs)
    )
    needs = {operand.tensor: rows for operand, rows in zip(layer.inputs, read, strict=True)}
    return Chain(
        cuts, (site.order[position],), (cuts.tiles,), (read,), (cuts.largest(cuts.tiles.count),),
        (cuts.tiles.begin,), needs,
    )  # fmt: skip


def _block_group(
    site: Site, position: int, span: tuple[int, int], part: Part, heights: tuple[int, ...],
    width: int,
) -> Group:  # fmt: skip
    layer, dram = site.layer_at(position), site.hardware.dram
    found = blocks(site, position, part, heights, width)
    chain, inputs = found.chain, input_channels(site.network, layer, part.channels)
    borders = [
        input_uses(
            site, t, streamed(site, t, need, chain.cuts, inputs[t]), other_place(site, chain, t)
        )
        for t, need in chain.needs.items()
    ]
    # a piece's channels are as long as those of the map that it is a piece of
    moves = stored_tiles(site, layer.output, found)
    borders.append(part_outputs(site, position, span[0], part, moves, moves))
    sizes = np.array([channel_weight_bytes(layer, c) for c in found.channels], dtype=np.int64)
    moved = moved_bytes_array(dram, sizes)[found.column]
    space = aligned(site, np.stack([depth * sizes.max() for depth in DEPTHS]))
    compute, energy = block_computes(site, layer, found)
    recipe = Recipe(
        (position, position + 1), part, "blocks", heights[0], 1, "retain", width=width
    )  # fmt: skip
    return Group(
        *span, recipe, chain.cuts, compute, energy, transfer_cycles_array(dram, moved),
        np.repeat(space[:, None], len(heights), axis=1), 0, chain.cuts.total(moved), True,
        sorted_borders(borders),
    )  # fmt: skip


def stored_tiles(site: Site, tensor: str, found: Blocks) -> Moves:
    """The output, stored tile by tile."""
    dram, cuts = site.hardware.dram, found.cuts
    runs, channel_bytes = channel_runs(site.network, tensor, (0, 1))
    share = map_share(dram.compression, site.network.tensors[tensor])
    rows, widths = cuts.tiles.count, found.widths
    moved = moved_bytes_array(dram, widths * channel_bytes, runs * rows, share)
    unit = cuts.largest(rows) * int(widths.max()) * runs * channel_bytes
    buffers = aligned(site, np.stack([depth * unit for depth in DEPTHS]))
    return Moves(transfer_cycles_array(dram, moved), cuts.total(moved), buffers)


def block_computes(site: Site, layer: Layer, found: Blocks) -> tuple[Ints, Ints]:
    """Cycles and energy of the tiles; those of equal widths are priced together."""
    compute, energy = (np.zeros_like(found.column) for _ in range(2))
    for channels in {end - begin: (begin, end) for begin, end in found.channels}.values():
        alike = found.widths == channels[1] - channels[0]
        compute[alike] = part_cycles(site, layer, channels, found.chain)[alike]
        energy[alike] = part_energy(site, layer, channels, found.chain)[alike]
    return compute, energy
