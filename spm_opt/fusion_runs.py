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
    WORTH,
    Blocks,
    block_computes,
    block_heights,
    blocks,
    channels_apart,
    moved_rows,
    stripes_of,
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
from spm_opt.tiling import (
    Chain,
    Ints,
    grow_chain,
    slice_row_bytes,
    start_chain,
    streamed_rows,
)

#: layers of the longest run
MAX_RUN_LAYERS: Final = 6
#: widths of a tile that are tried, from the widest that fits on: of all rows, and of each height
WIDTHS: Final = 4
STRIPE_WIDTHS: Final = 2
#: most stripes of an image: each loads all constants, and computes its halos
STRIPES: Final = 8


def run_groups(site: Site, end: int, longest: int = MAX_RUN_LAYERS) -> Iterator[Group]:
    """Runs that end with the layer at position `end`: in tiles of output channels, and in blocks.

    A run grows backwards while its layers hand channels on. Its tiles only take more space: once
    none fits, nothing longer does.
    """
    step, capacity = 1, site.hardware.spm.capacity_bytes
    for first in range(end - 1, max(-1, end - min(longest, MAX_RUN_LAYERS)), -1):
        if not hands_on(site, first, end):
            return
        step = lcm(step, site.layer_at(first + 1).op.channel_step())
        widths = _widths(site, first, step)
        if not widths or _least_space(site, (first, end + 1), widths[-1]) > capacity:
            return
        for recipe, heights in _recipes(site, (first, end + 1), widths):
            yield _run_group(site, recipe, heights)


def _recipes(
    site: Site, positions: tuple[int, int], widths: tuple[int, ...]
) -> Iterator[tuple[Recipe, tuple[int, ...]]]:
    """How layers may run, and the heights of their stripes."""
    last = site.layer_at(positions[1] - 1)
    for width, heights in fitting(site, positions, widths, (last.rows,), WIDTHS).items():
        yield Recipe(positions, None, "channels", width, 1, "retain"), heights
    # rows that are computed again must not be written while they are being stored
    handed = (site.layer_at(position).output for position in range(positions[0], positions[1] - 1))
    private = all(site.last_reader[name] < positions[1] for name in handed)
    stripes = block_heights(last, STRIPES)
    if stripes and private and worth_stripes(site, positions):
        for width, heights in fitting(site, positions, widths, stripes, STRIPE_WIDTHS).items():
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


def _widths(site: Site, first: int, step: int) -> tuple[int, ...]:
    """Widths of a tile, widest first: multiples of `step`, halved again and again.

    The first layer has whole groups in a tile, or part of one.
    """
    layer = site.layer_at(first)
    found = set(halved(channel_count(layer), layer.op.channel_step()))
    return tuple(sorted((width for width in found if width % step == 0), reverse=True))


def _least_space(site: Site, positions: tuple[int, int], width: int) -> int:
    """No tile takes less: constants, and what is made of a stripe."""
    layers = [site.layer_at(position) for position in range(*positions)]
    return sum(
        channel_weight_bytes(layer, (0, width))
        + layer.image_rows // STRIPES * slice_row_bytes(site.network, layer.output, (0, width))
        for layer in layers
    )


def fitting(
    site: Site, positions: tuple[int, int], widths: tuple[int, ...], heights: tuple[int, ...],
    most: int,
) -> dict[int, tuple[int, ...]]:  # fmt: skip
    """Of `widths`, those that are among the `most` widest that fit a height; and these heights.

    What fits is a tile with every map streamed, one deep.
    """
    chain = stripes_of(site, positions, heights)
    found: dict[int, list[int]] = {}
    left = np.full(len(heights), most)
    for width in widths:
        fits = (_space(site, chain, width) <= site.hardware.spm.capacity_bytes) & (left > 0)
        left -= fits
        if fits.any():
            found[width] = [h for h, own in zip(heights, fits.tolist(), strict=True) if own]
    return {width: tuple(own) for width, own in found.items()}


def _space(site: Site, chain: Chain, width: int) -> Ints:
    """Bytes of a tile of each cutting of a run's stripes, one deep."""
    network, cuts = site.network, chain.cuts
    borne = channels_apart(site, chain, width)
    total = np.zeros(len(cuts.heights), dtype=np.int64)
    for index, rows in zip(chain.layers, chain.computed, strict=True):
        layer = network.layers[index]
        total += channel_weight_bytes(layer, (0, width))
        total += cuts.largest(rows.count) * slice_row_bytes(network, layer.output, (0, width))
    for tensor, need in chain.needs.items():
        if tensor in borne:
            total += cuts.largest(need.count) * slice_row_bytes(network, tensor, (0, width))
        else:
            held = streamed_rows(need, network.tensors[tensor].rows, 1, cuts)[1]
            total += held * network.tensors[tensor].row_bytes
    return total


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
