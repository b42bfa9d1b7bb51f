"""Layers that add their input channels a slice at a time, with partial sums in the scratchpad.

Where neither the constants of a layer nor its input have room, one of them comes again and again.
Partial sums have room where they are fewer: a *block* of rows and output channels is computed from
slices of input channels, whose rows and constants come together, each once for the block. The
output is made with the last slice. A block of all rows and channels loads every byte once.

Blocks are stripes of rows outside, ranges of output channels inside; a tile is a slice of a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from spm_opt.cost.compression import map_share
from spm_opt.cost.compute import tile_cycles
from spm_opt.cost.dram import moved_bytes_array, transfer_cycles_array
from spm_opt.cost.energy import Tiles, tile_energy
from spm_opt.fusion_borders import DEPTHS, Moves, aligned, input_uses
from spm_opt.fusion_channels import wide_parts
from spm_opt.fusion_groups import (
    Group,
    Recipe,
    other_place,
    part_outputs,
    sorted_borders,
)
from spm_opt.graph.densities import first_density_ppm
from spm_opt.graph.network import DTYPE_BYTES, Layer
from spm_opt.graph.ops import Linear
from spm_opt.graph.sums import Reduction, reduction, sliced, sum_bytes
from spm_opt.parts import Part
from spm_opt.parts_space import channel_count, layer_minimum_bytes
from spm_opt.site import Site
from spm_opt.tiling import (
    STRIPE_COUNTS,
    Chain,
    Cuttings,
    Ints,
    Rows,
    channel_runs,
    cuttings,
    few_stripes,
    needed,
    row_cuttings,
    slice_row_bytes,
)

#: constants, and inputs, that take more than this part of the scratchpad are worth dividing
WORTH: Final = Fraction(1, 4)
#: a block that loads more than another takes no more than this part of its space
STEP: Final = Fraction(3, 4)
#: most stripes of an image, each of which loads all constants
STRIPES: Final = 16
#: most tiles of a layer
TILES: Final = 4096
#: more bytes than any layer loads
_ANY: Final = 2**62
#: least input channels of a slice: of a convolution, and of a product, whose runs are these
LEAST: Final = {False: 4, True: 64}


@dataclass(frozen=True, slots=True)
class Sums:
    """Tiles of one layer, for several heights of a stripe side by side.

    Attributes
    ----------
    layer : Layer
    known : Reduction
    chain : Chain
        The layer alone; its cuttings are the heights.
    channels : tuple of (int, int)
        Output channels of the blocks of a stripe, in order.
    slices : tuple of (int, int)
        Input channels of the tiles of a block, in order.
    block, slice : int64 array (tiles,)
        Which of these each tile has.
    """

    layer: Layer
    known: Reduction
    chain: Chain
    channels: tuple[tuple[int, int], ...]
    slices: tuple[tuple[int, int], ...]
    block: Ints
    slice: Ints

    @property
    def cuts(self) -> Cuttings:
        """Tiles of all heights."""
        return self.chain.cuts

    @property
    def widths(self) -> Ints:
        """Output channels of each tile."""
        widths = np.array([end - begin for begin, end in self.channels], dtype=np.int64)
        return widths[self.block]

    @property
    def added(self) -> Ints:
        """Input channels that each tile adds."""
        added = np.array([end - begin for begin, end in self.slices], dtype=np.int64)
        return added[self.slice]

    @property
    def begins(self) -> Ints:
        """1 for the first tile of each block."""
        begins: Ints = (self.slice == 0).astype(np.int64)
        return begins

    @property
    def ends(self) -> Ints:
        """1 for the last tile of each block, which makes the output."""
        ends: Ints = (self.slice == len(self.slices) - 1).astype(np.int64)
        return ends

    @property
    def runs(self) -> Ints:
        """Bytes of the constants of one output channel that each tile needs."""
        sizes = [last - first for first, last in map(self.known.constants, self.slices)]
        return np.array(sizes, dtype=np.int64)[self.slice]


def sum_groups(site: Site, position: int) -> Iterator[Group]:
    """All of a layer, or one group of a grouped one, in blocks of partial sums."""
    layer, (begin, end) = site.layer_at(position), site.spans[position]
    known = reduction(site.network, layer)
    if known is None or not layer.op.tileable:
        return
    spans = list(wide_parts(site, position)) if end - begin > 1 else []
    spans += [((begin, end), site.parts[begin])] if end - begin == 1 else []
    least = layer_minimum_bytes(site.network, site.hardware.spm, site.order[position])
    for span, part in spans:
        first, last = part.channels or (0, channel_count(layer))
        room = site.hardware.spm.capacity_bytes * WORTH
        weights = (last - first) * known.channel_bytes
        inputs = site.network.tensors[layer.inputs[0].tensor].size_bytes
        inputs = inputs * max(1, (last - first) // known.outputs) // _groups(layer, known)
        if weights <= room or inputs <= room:
            continue
        # slices of output channels, one after the other, read all of the input each
        fit = span[1] - span[0] > 1 and least <= site.hardware.spm.capacity_bytes
        most = weights + inputs * (span[1] - span[0]) if fit else _ANY
        for (width, count), heights in _shapes(site, layer, known, last - first, most).items():
            yield _sum_group(site, position, span, part, heights, width, count)


def _groups(layer: Layer, known: Reduction) -> int:
    return channel_count(layer) // known.outputs


# --------------------------------------------------------------------------- shapes


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows and output channels of a block, and slices that fit beside its sums.

    Attributes
    ----------
    height, width : int
    counts : tuple of int
        Input channels of slices: the most that fit once, and the most that fit twice.
    space_bytes : int
        Its sums and output, and the least slice.
    loaded_bytes : int
        What all blocks load.
    """

    height: int
    width: int
    counts: tuple[int, ...]
    space_bytes: int
    loaded_bytes: int


def _shapes(
    site: Site, layer: Layer, known: Reduction, channels: int, most_bytes: int
) -> Mapping[tuple[int, int], tuple[int, ...]]:
    """Heights to try, tallest first, by output channels of a block and input channels of a slice.

    Only what loads less than `most_bytes`.
    """
    found: dict[tuple[int, int], list[int]] = {}
    for block in _worthy(_blocks(site, layer, known, channels), most_bytes):
        for count in block.counts:
            found.setdefault((block.width, count), []).append(block.height)
    return {shape: tuple(sorted(heights, reverse=True)) for shape, heights in found.items()}


def _worthy(blocks: Iterable[_Block], most_bytes: int) -> Iterator[_Block]:
    """Those that load least, and less than `most_bytes`; others where they take much less space."""
    space = None
    for block in sorted(blocks, key=lambda b: (b.loaded_bytes, b.space_bytes, -b.height)):
        if space is None or block.space_bytes <= space * STEP:
            space = block.space_bytes
            if block.loaded_bytes < most_bytes:
                yield block


def _blocks(site: Site, layer: Layer, known: Reduction, channels: int) -> Iterator[_Block]:
    """Blocks beside which some slice fits."""
    network, source = site.network, site.network.tensors[layer.inputs[0].tensor]
    dtype, row = network.tensors[layer.output].dtype, slice_row_bytes(network, layer.output, (0, 1))
    element = row + row // DTYPE_BYTES[dtype] * sum_bytes(dtype)
    each = slice_row_bytes(network, source.name, (0, 1))
    for cuts in few_stripes(layer, STRIPES):
        height, stripes = cuts.heights[0], len(cuts.owner)
        read = needed(layer.input_rows(0), cuts.tiles, source.rows).count
        most = int(read.max())
        for width in _widths(min(known.outputs, channels)):
            blocks = -(-channels // width)
            counts = _counts(
                layer, known, site.hardware.spm.capacity_bytes - height * width * element,
                most * each + width * known.input_bytes, stripes * blocks,
            )  # fmt: skip
            if counts:
                loaded = blocks * int(read.sum()) * each * known.inputs
                yield _Block(
                    height, width, counts,
                    height * width * element
                    + LEAST[isinstance(layer.op, Linear)]
                    * (most * each + width * known.input_bytes),
                    loaded + stripes * channels * known.channel_bytes,
                )  # fmt: skip


def _widths(channels: int) -> Iterator[int]:
    """Output channels of the blocks of a group, in so many even parts."""
    widths = {-(-channels // count) for count in STRIPE_COUNTS if count <= channels}
    yield from sorted(widths, reverse=True)


def _counts(
    layer: Layer, known: Reduction, room_bytes: int, each_bytes: int, blocks: int
) -> tuple[int, ...]:
    """Input channels of slices, powers of two: the most of which one fits, and of which two do."""
    least = LEAST[isinstance(layer.op, Linear)]
    counts = [
        2**n for n in range((known.inputs - 1).bit_length())
        if 2**n >= least and blocks * -(-known.inputs // 2**n) <= TILES
    ]  # fmt: skip
    found = (
        max((n for n in counts if depth * n * each_bytes <= room_bytes), default=0)
        for depth in DEPTHS
    )
    return tuple(sorted({count for count in found if count}))


# --------------------------------------------------------------------------- tiles


def sums(
    site: Site, position: int, part: Part, heights: tuple[int, ...], width: int, count: int
) -> Sums:  # fmt: skip
    """The tiles of a layer, or of one group of it: slices of `count`, blocks `width` wide."""
    layer = site.layer_at(position)
    known = reduction(site.network, layer)
    if known is None:
        raise ValueError(f"the sums of {layer.name!r} cannot be taken apart")
    begin, end = part.channels or (0, channel_count(layer))
    channels = tuple(
        pair
        for first in range(begin, end, min(known.outputs, end - begin))
        for pair in _pairs(cuttings(first, min(end, first + known.outputs), (width,)))
    )
    slices = _pairs(cuttings(0, known.inputs, (count,)))
    inside = len(channels) * len(slices)
    stripes = row_cuttings(layer, heights)
    tiles = Rows(*(np.repeat(ends, inside) for ends in (stripes.tiles.begin, stripes.tiles.end)))
    cuts = Cuttings(
        heights, tiles, np.repeat(stripes.first, inside) * inside,
        np.repeat(stripes.last, inside) * inside + inside - 1, np.repeat(stripes.owner, inside),
        stripes.starts * inside,
    )  # fmt: skip
    block = np.repeat(np.arange(len(channels), dtype=np.int64), len(slices))
    slice_ = np.tile(np.arange(len(slices), dtype=np.int64), len(channels))
    return Sums(
        layer, known, _chain(site, position, cuts), channels, slices,
        np.tile(block, len(stripes.owner)), np.tile(slice_, len(stripes.owner)),
    )  # fmt: skip


def _pairs(cuts: Cuttings) -> tuple[tuple[int, int], ...]:
    return tuple(zip(cuts.tiles.begin.tolist(), cuts.tiles.end.tolist(), strict=True))


def _chain(site: Site, position: int, cuts: Cuttings) -> Chain:
    """A layer alone, of which each tile adds to its rows."""
    network, layer = site.network, site.layer_at(position)
    name = layer.inputs[0].tensor
    read = needed(layer.input_rows(0), cuts.tiles, network.tensors[name].rows)
    return Chain(
        cuts, (site.order[position],), (cuts.tiles,), ((read,),),
        (cuts.largest(cuts.tiles.count),), (cuts.tiles.begin,), {name: read},
    )  # fmt: skip


# --------------------------------------------------------------------------- prices


def _sum_group(
    site: Site, position: int, span: tuple[int, int], part: Part, heights: tuple[int, ...],
    width: int, count: int,
) -> Group:  # fmt: skip
    dram, found = site.hardware.dram, sums(site, position, part, heights, width, count)
    layer, cuts = found.layer, found.cuts
    name = layer.inputs[0].tensor
    # rows and channels that two tiles read are loaded by both
    borders = [input_uses(site, name, _loaded(site, found), other_place(site, found.chain, name))]
    moves = _stored(site, found)
    borders.append(part_outputs(site, position, span[0], part, moves, moves))
    moved = moved_bytes_array(dram, found.runs, found.widths)
    held = cuts.largest(found.runs * found.widths)
    sums_bytes = aligned(site, cuts.largest(_sums_bytes(site, found)))
    space = np.stack([aligned(site, depth * held) + sums_bytes for depth in DEPTHS])
    compute, energy = sum_computes(site, found)
    recipe = Recipe(
        (position, position + 1), part, "sums", heights[0], 1, "retain", width=width, slice=count
    )  # fmt: skip
    return Group(
        *span, recipe, cuts, compute, energy, transfer_cycles_array(dram, moved), space, 0,
        cuts.total(moved), True, sorted_borders(borders),
    )  # fmt: skip


def _loaded(site: Site, found: Sums) -> Moves:
    """The input: rows of the block and channels of the slice, with each tile."""
    dram, cuts, name = site.hardware.dram, found.cuts, found.layer.inputs[0].tensor
    runs, channel_bytes = channel_runs(site.network, name, (0, 1))
    share = map_share(dram.compression, site.network.tensors[name])
    rows = found.chain.read[0][0].count
    moved = moved_bytes_array(dram, found.added * channel_bytes, rows * runs, share)
    unit = cuts.largest(rows * runs * found.added * channel_bytes)
    buffers = aligned(site, np.stack([depth * unit for depth in DEPTHS]))
    return Moves(transfer_cycles_array(dram, moved), cuts.total(moved), buffers)


def _stored(site: Site, found: Sums) -> Moves:
    """The output, stored block by block: one is surely stored when the next one is made."""
    dram, cuts, name = site.hardware.dram, found.cuts, found.layer.output
    runs, channel_bytes = channel_runs(site.network, name, (0, 1))
    share = map_share(dram.compression, site.network.tensors[name])
    rows = cuts.tiles.count * found.ends
    moved = moved_bytes_array(dram, found.widths * channel_bytes, rows * runs, share)
    unit = aligned(site, cuts.largest(rows * runs * found.widths * channel_bytes))
    return Moves(transfer_cycles_array(dram, moved), cuts.total(moved), np.stack([unit, unit]))


def _sums_bytes(site: Site, found: Sums) -> Ints:
    """Partial sums of each tile's rows and channels."""
    dtype = site.network.tensors[found.layer.output].dtype
    row = slice_row_bytes(site.network, found.layer.output, (0, 1)) // DTYPE_BYTES[dtype]
    sizes: Ints = found.cuts.tiles.count * found.widths * (row * sum_bytes(dtype))
    return sizes


def sum_computes(site: Site, found: Sums) -> tuple[Ints, Ints]:
    """Cycles and energy of the tiles; those of equal widths and slices are priced together."""
    compute, energy = (np.zeros_like(found.block) for _ in range(2))
    widths, added = found.widths, found.added
    for width, count in sorted(set(zip(widths.tolist(), added.tolist(), strict=True))):
        alike = (widths == width) & (added == count)
        compute[alike], energy[alike] = _alike(site, found, alike, width, count)
    return compute, energy


def _alike(
    site: Site, found: Sums, alike: Ints, width: int, count: int
) -> tuple[Ints, Ints]:  # fmt: skip
    """Cycles and energy of tiles that have as many output channels, and add as many inputs."""
    network, layer = site.network, sliced(found.layer, count)
    dtype, name = network.tensors[layer.output].dtype, layer.inputs[0].tensor
    rows, begin = found.cuts.tiles.count[alike], found.cuts.tiles.begin[alike]
    sums_bytes, first, last = (
        array[alike] for array in (_sums_bytes(site, found), found.begins, found.ends)
    )
    read = found.chain.read[0][0].count[alike] * slice_row_bytes(network, name, (0, count))
    read = read + sums_bytes * (1 - first)
    weights = found.runs[alike] * width
    part = None if width == channel_count(layer) else width
    cycles = tile_cycles(layer, dtype, site.hardware, rows, read + weights, part, begin)
    if not site.energy:
        return cycles, np.zeros_like(cycles)
    output = rows * slice_row_bytes(network, layer.output, (0, width))
    written = np.where(last == 1, output, sums_bytes)
    tiles = Tiles(
        rows, begin, read + written, weights, part, first_density_ppm(network, found.layer)
    )  # fmt: skip
    return cycles, tile_energy(layer, dtype, site.hardware, tiles).total_fj
