"""Runs: several layers in tiles of output channels, where channels stay apart from the second on.

The first layer of a run makes a few channels; those behind it, which treat channels apart (pools,
element-wise layers, depthwise convolutions, heads of attention), go on with these alone. So only a
few channels of what the layers hand on are ever there, all rows of them or those of a block, and
the constants of all layers come and go with their tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import lcm
from typing import Final

import numpy as np

from spm_opt.cost.dram import moved_bytes_array, transfer_cycles_array
from spm_opt.fusion_blocks import (
    STRIPES,
    WORTH,
    Blocks,
    block_computes,
    block_heights,
    blocks,
    moved_rows,
    tile_borne,
    tile_bytes,
    tile_moves,
)
from spm_opt.fusion_borders import DEPTHS, Use, aligned, input_uses, streamed
from spm_opt.fusion_groups import (
    Group,
    Recipe,
    group_outputs,
    other_place,
    sorted_borders,
    sum_of,
)
from spm_opt.graph.network import Layer
from spm_opt.parts_space import channel_count, channel_weight_bytes, halved
from spm_opt.site import Site
from spm_opt.tiling import Ints, grow_chain, slice_row_bytes, start_chain

#: layers of the longest run
MAX_RUN_LAYERS: Final = 6
#: widths of a tile that are tried, from the widest that fits on
WIDTHS: Final = 4


def run_groups(site: Site, end: int, longest: int = MAX_RUN_LAYERS) -> Iterator[Group]:
    """Runs that end with the layer at position `end`: in tiles of output channels, and in blocks.

    A run grows backwards while its layers hand channels on. Its tiles only take more space: once
    none fits, nothing longer does.
    """
    step = 1
    for first in range(end - 1, max(-1, end - min(longest, MAX_RUN_LAYERS)), -1):
        if not hands_on(site, first, end):
            return
        step = lcm(step, site.layer_at(first + 1).op.channel_step())
        if not run_widths(site, (first, end + 1), step, STRIPES):
            return
        for recipe, heights in _recipes(site, (first, end + 1), step):
            yield _run_group(site, recipe, heights)


def _recipes(
    site: Site, positions: tuple[int, int], step: int
) -> Iterator[tuple[Recipe, tuple[int, ...]]]:
    """How layers may run, and the heights of their stripes."""
    last = site.layer_at(positions[1] - 1)
    for width in run_widths(site, positions, step):
        yield Recipe(positions, None, "channels", width, 1, "retain"), (last.rows,)
    heights = block_heights(last)
    # rows that are computed again must not be written while they are being stored
    handed = (site.layer_at(position).output for position in range(positions[0], positions[1] - 1))
    private = all(site.last_reader[name] < positions[1] for name in handed)
    if heights and private and worth_stripes(site, positions):
        for width in run_widths(site, positions, step, STRIPES):
            recipe = Recipe(positions, None, "blocks", heights[0], 1, "recompute", width=width)
            yield recipe, heights


def hands_on(site: Site, position: int, end: int) -> bool:
    """Whether layers up to `end` read a layer's output, channel by channel."""
    network, layer = site.network, site.layer_at(position)
    count = channel_count(layer)
    if count < 2 or count != channel_count(site.layer_at(end)):
        return False
    flags = [
        own
        for reader in network.readers[layer.output]
        if site.position[reader] <= end
        for operand, own in zip(
            network.layers[reader].inputs,
            network.sliced_reads[network.layers[reader].name],
            strict=True,
        )
        if operand.tensor == layer.output
    ]
    return bool(flags) and all(flags)


def worth_stripes(site: Site, positions: tuple[int, int]) -> bool:
    """Whether constants, or rows of all channels, take enough space for blocks to save some."""
    layers = [site.layer_at(position) for position in range(*positions)]
    worth = site.hardware.spm.capacity_bytes * WORTH
    if sum(layer.weight_bytes for layer in layers) > worth:
        return True
    chain = start_chain(site.network, site.order[positions[1] - 1], (1,))
    for position in range(positions[1] - 2, positions[0] - 1, -1):
        chain = grow_chain(site.network, chain, site.order[position], "retain", complete=False)
    rows = zip(chain.held[1:], chain.layers[1:], strict=True)
    return worth < sum(
        int(held[0]) * site.network.tensors[site.network.layers[index].output].row_bytes
        for held, index in rows
    )


def run_widths(
    site: Site, positions: tuple[int, int], step: int, stripes: int = 1
) -> tuple[int, ...]:  # fmt: skip
    """Widths of a tile worth trying, widest first: multiples of `step`, halved again and again.

    The first layer has whole groups in a tile, or part of one. The widest is that whose constants
    and maps fit the scratchpad, the latter in so many stripes.
    """
    layers = [site.layer_at(position) for position in range(*positions)]
    capacity = site.hardware.spm.capacity_bytes
    found = {
        width
        for width in halved(channel_count(layers[0]), layers[0].op.channel_step())
        if width % step == 0 and _tile_space(site, layers, width, stripes) <= capacity
    }
    return tuple(sorted(found, reverse=True)[:WIDTHS])


def _tile_space(site: Site, layers: list[Layer], width: int, stripes: int) -> int:
    """Least bytes of a tile, inputs left out."""
    return sum(
        channel_weight_bytes(layer, (0, width))
        + layer.rows // stripes * slice_row_bytes(site.network, layer.output, (0, width))
        for layer in layers
    )


def _run_group(site: Site, recipe: Recipe, heights: tuple[int, ...]) -> Group:
    """A run in stripes of each of `heights`; of all rows where it is cut into channels alone."""
    first, end = recipe.positions
    width = recipe.width if recipe.axis == "blocks" else recipe.height
    found = blocks(site, recipe.positions, None, heights, width)
    computes = [block_computes(site, found, i) for i in range(end - first)]
    constants = [_constants(site, layer, found) for layer in _layers(site, found)]
    load, moved, streams = (sum_of(arrays) for arrays in zip(*constants, strict=True))
    own = [depths for _, _, depths in constants if depths.any()]
    cuts = found.cuts if recipe.axis == "blocks" else replace(found.cuts, heights=(width,))
    return Group(
        site.spans[first][0], site.spans[end - 1][1], recipe, cuts,
        sum_of(cycles for cycles, _ in computes), sum_of(energy for _, energy in computes),
        load if own else None, streams + _handed_on(site, found), 0, cuts.total(moved), bool(own),
        sorted_borders(_borders(site, recipe, found)),
        stream_space=np.min(np.stack(own), axis=0) if own else None,
    )  # fmt: skip


def _layers(site: Site, found: Blocks) -> list[Layer]:
    return [site.network.layers[index] for index in found.chain.layers]


def _constants(site: Site, layer: Layer, found: Blocks) -> tuple[Ints, Ints, Ints]:
    """Cycles and bytes of each tile's constants; buffers in depths by cuttings. 0 for none."""
    none = np.zeros((len(DEPTHS), len(found.cuts.heights)), dtype=np.int64)
    if not layer.weight_bytes:
        return np.zeros_like(found.column), np.zeros_like(found.column), none
    dram = site.hardware.dram
    sizes = np.array([channel_weight_bytes(layer, c) for c in found.channels], dtype=np.int64)
    moved = moved_bytes_array(dram, sizes)[found.column]
    space = aligned(site, np.array([[depth * sizes.max()] for depth in DEPTHS], dtype=np.int64))
    return transfer_cycles_array(dram, moved), moved, none + space


def _handed_on(site: Site, found: Blocks) -> Ints:
    """Space of a tile, in each cutting, of maps that nobody reads but the run."""
    total = np.zeros(len(found.cuts.heights), dtype=np.int64)
    last = site.position[found.chain.layers[0]]
    for layer, rows in zip(_layers(site, found)[1:], found.chain.computed[1:], strict=True):
        if site.last_reader[layer.output] <= last:
            total += aligned(site, tile_bytes(site, layer.output, rows, found))
    return total


def _borders(site: Site, recipe: Recipe, found: Blocks) -> list[list[Use]]:
    chain, last = found.chain, recipe.positions[1] - 1
    borne = tile_borne(site, recipe, chain)
    borders = [
        input_uses(
            site, t,
            tile_moves(site, t, moved_rows(site, recipe, t, need), found) if t in borne
            else streamed(site, t, need, chain.cuts, None),
            other_place(site, chain, t),
        )
        for t, need in chain.needs.items()
    ]  # fmt: skip
    out = (
        i
        for i, layer in enumerate(_layers(site, found))
        if i == 0 or site.last_reader[layer.output] > last
    )
    return [*borders, *(_outputs(site, recipe, found, i) for i in out)]


def _outputs(site: Site, recipe: Recipe, found: Blocks, i: int) -> list[Use]:
    """How the output of the i-th layer may be written."""
    first, end = recipe.positions
    tensor = site.network.layers[found.chain.layers[i]].output
    # a piece's channels are as long as those of the map that it is a piece of
    moves = tile_moves(site, tensor, found.chain.computed[i], found)
    span = site.spans[first][0], site.spans[end - 1][1]
    return group_outputs(site, tensor, span, end - 1, lambda place: moves)
