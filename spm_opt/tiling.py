"""Tiles of a run of layers: which rows each layer computes, each buffer holds, each tile moves.

The last layer's output is cut into stripes of rows. Everything else follows backwards through the
operators' row maps, as arrays over the tiles. With **retain** a row is computed once and kept in a
rolling buffer while a later tile needs it; with **recompute** each tile computes all rows that it
needs. Rows of maps that are streamed from DRAM are always retained while needed: each is loaded
once. Several cuttings of the same map lie side by side in one array: what is asked of one is
answered for all.

This room knows shapes and rows; no cycles, no bandwidth, no choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spm_opt.graph.bands import copies_beside, is_window
from spm_opt.graph.network import Layer, Network
from spm_opt.graph.ops import RowMap, row_axis
from spm_opt.units import ceil_div

Ints = NDArray[np.int64]
#: channels ``[begin, end)``; None for all
Channels = tuple[int, int] | None

#: more rows than any map has
_NO_IMAGES = 2**62

#: stripes of all images where each loads constants again; more take long to time
MOST_STRIPES = 64
#: numbers of stripes that are tried, besides one row a stripe
STRIPE_COUNTS = (
    1, 2, 3, 4, 5, 7, 8, 10, 14, 16, 20, 28, 32, 40, 56, 64, 80, 112, 128, 160, 192, 224, 256,
    320, 384, 512,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rows:
    """Half-open row intervals, one a tile; empty where ``end <= begin``."""

    begin: Ints
    end: Ints

    @property
    def count(self) -> Ints:
        """Rows of each interval."""
        rows: Ints = np.maximum(self.end - self.begin, 0)
        return rows


@dataclass(frozen=True, slots=True)
class Cuttings:
    """Ways to cut an axis into tiles, side by side in the same arrays.

    Attributes
    ----------
    heights : tuple of int
        Rows (or channels) of a tile, one a cutting.
    tiles : Rows
        The tiles of all cuttings.
    first, last : int64 array (tiles,)
        First and last tile of the cutting that each tile belongs to.
    owner : int64 array (tiles,)
        Number of that cutting.
    starts : int64 array (cuttings,)
        First tile of each cutting.
    """

    heights: tuple[int, ...]
    tiles: Rows
    first: Ints
    last: Ints
    owner: Ints
    starts: Ints

    def spans(self) -> list[tuple[int, int]]:
        """Tiles ``[begin, end)`` of each cutting."""
        ends = [*self.starts[1:].tolist(), len(self.owner)]
        return list(zip(self.starts.tolist(), ends, strict=True))

    def total(self, values: Ints) -> Ints:
        """Sums of `values` over the tiles of each cutting."""
        sums: Ints = np.add.reduceat(values, self.starts)
        return sums

    def largest(self, values: Ints) -> Ints:
        """Largest of `values` in each cutting."""
        found: Ints = np.maximum.reduceat(values, self.starts)
        return found


def stripe_heights(rows: int, images: int = 1) -> tuple[int, ...]:
    """Distinct stripe heights for a map of `rows` rows of `images` images, tallest first.

    Whole images, and rows of one image.
    """
    one = rows // images
    heights = {one * ceil_div(images, count) for count in STRIPE_COUNTS if count <= images}
    heights |= {ceil_div(one, count) for count in STRIPE_COUNTS if count <= one}
    return tuple(sorted(heights | {1}, reverse=True))


def row_cuttings(layer: Layer, heights: Sequence[int]) -> Cuttings:
    """Output rows of a layer cut into stripes of each of `heights`.

    The last stripe may be smaller, and so may the last of each image where an image takes several.
    """
    one, begins = layer.image_rows, np.arange(layer.images, dtype=np.int64) * layer.image_rows
    return _side_by_side(
        heights,
        [
            np.add.outer(begins, np.arange(0, one, height, dtype=np.int64)).ravel()
            if height < one
            else np.arange(0, layer.rows, height, dtype=np.int64)
            for height in heights
        ],
        layer.rows,
    )


def few_stripes(layer: Layer, most: int) -> Iterator[Cuttings]:
    """Output rows cut into at most `most` stripes of each image, tallest first, one by one.

    A batch has at most `MOST_STRIPES` in all: of many images, a stripe is several.
    """
    most = min(most * layer.images, MOST_STRIPES)
    for height in stripe_heights(layer.rows, layer.images):
        cuts = row_cuttings(layer, (height,))
        if len(cuts.owner) <= most:
            yield cuts


def cuttings(begin: int, end: int, heights: Sequence[int]) -> Cuttings:
    """``[begin, end)`` cut into tiles of each of `heights`; the last tile may be smaller."""
    lows = [np.arange(begin, end, height, dtype=np.int64) for height in heights]
    return _side_by_side(heights, lows, end)


def _side_by_side(heights: Sequence[int], begins: Sequence[Ints], end: int) -> Cuttings:
    """Tiles that begin at `begins`, for each of `heights`, and last until the next one or `end`."""
    counts = np.array([len(tiles) for tiles in begins], dtype=np.int64)
    ends = np.cumsum(counts)
    starts = ends - counts
    low = np.concatenate(begins)
    high = np.append(low[1:], end)
    high[ends - 1] = end
    owner = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return Cuttings(
        tuple(heights), Rows(low, high), starts[owner], ends[owner] - 1, owner, starts
    )  # fmt: skip


def needed(row_map: RowMap, rows: Rows, extent: int) -> Rows:
    """Input rows, of `extent`, that output `rows` need; nothing where they are empty."""
    # rows before the image that a tile begins or ends in, and rows inside it
    image, inputs = row_map.image_rows or _NO_IMAGES, row_map.image_inputs or extent
    first, one = np.divmod(rows.begin, image)
    last, other = np.divmod(rows.end - 1, image)
    if row_map.axis is None:
        low, high = first * inputs, (last + 1) * inputs
    else:
        lowest = (row_map.scale * one + row_map.first) // row_map.divisor
        highest = (row_map.scale * other + row_map.last) // row_map.divisor + 1
        low = first * inputs + np.clip(lowest, 0, inputs)
        high = last * inputs + np.clip(highest, 0, inputs)
    idle = (rows.end <= rows.begin) | (high <= low)
    # an empty need must pull neither end of a hull: begin above all rows, end below all
    return Rows(np.where(idle, extent, low), np.where(idle, 0, high))


def hull(a: Rows | None, b: Rows) -> Rows:
    """Smallest intervals that hold both."""
    if a is None:
        return b
    return Rows(np.minimum(a.begin, b.begin), np.maximum(a.end, b.end))


def fresh(need: Rows, extent: int, complete: bool, cuts: Cuttings) -> Rows:
    """Rows that each tile adds when earlier ones are retained.

    Parameters
    ----------
    need : Rows
        Rows each tile needs.
    extent : int
        Rows of the map.
    complete : bool
        Whether every row must appear (somebody outside reads the map); otherwise rows that no
        tile needs are skipped.
    """
    # each cutting is lifted above all before it: the running maximum starts anew there
    lift = cuts.owner * (extent + 1)
    end: Ints = np.maximum.accumulate(need.end + lift) - lift
    if complete:
        end[cuts.last] = extent
    begin = np.concatenate((np.zeros(1, dtype=np.int64), end[:-1]))
    begin[cuts.starts] = 0
    if not complete:
        begin = np.minimum(np.maximum(begin, need.begin), end)
    return Rows(begin, end)


def live_from(need: Rows, extent: int, cuts: Cuttings) -> Ints:
    """First row that a tile or a later one still needs."""
    lift = cuts.owner * (extent + 1)
    low: Ints = np.minimum.accumulate((need.begin + lift)[::-1])[::-1] - lift
    return low


def held_rows(low: Ints, high: Ints, cuts: Cuttings) -> Ints:
    """Rows of rolling buffers, one a cutting, that hold rows ``[low, high)`` at each tile."""
    return np.maximum(cuts.largest(high - low), 1)


@dataclass(frozen=True, slots=True)
class Chain:
    """A run of layers under one or more cuttings, built backwards from its last layer.

    Attributes
    ----------
    cuts : Cuttings
        Of the last layer's output rows.
    layers : tuple of int
        Layers of the run, last first.
    computed : tuple of Rows
        Output rows that each layer computes per tile.
    read : tuple of tuple of Rows
        Rows that each layer reads of each of its operands, per tile.
    held : tuple of int64 array (cuttings,)
        Rows of each layer's output that must be held for later tiles (rolling buffer).
    low : tuple of int64 array (tiles,)
        First row of each layer's output still needed.
    needs : mapping of str to Rows
        Rows of every outside map that the tiles need.
    """

    cuts: Cuttings
    layers: tuple[int, ...]
    computed: tuple[Rows, ...]
    read: tuple[tuple[Rows, ...], ...]
    held: tuple[Ints, ...]
    low: tuple[Ints, ...]
    needs: dict[str, Rows]


def start_chain(network: Network, index: int, heights: Sequence[int]) -> Chain:
    """The chain of the last layer alone, its output cut into stripes of each of `heights`."""
    cuts = row_cuttings(network.layers[index], heights)
    empty = Chain(cuts, (), (), (), (), (), {network.layers[index].output: cuts.tiles})
    return grow_chain(network, empty, index, "retain", complete=True)


def grow_chain(network: Network, chain: Chain, index: int, halo: str, complete: bool) -> Chain:
    """`chain` with layer `index`, which feeds it, in front.

    Parameters
    ----------
    halo : str
        ``retain`` or ``recompute``.
    complete : bool
        Whether the layer's output is read outside the run, and so must be computed whole.
    """
    layer = network.layers[index]
    if is_window(network, layer):
        return _seen_through(network, chain, index)
    if copies_beside(network, layer):
        return beside_chain(network, chain, index, chain.needs[_shown_by(network, layer)])
    needs = dict(chain.needs)
    need = needs.pop(layer.output)
    new = fresh(need, layer.rows, complete, chain.cuts)
    # the first rows anyone asks for may lie above rows that only the outside reads
    own = Rows(np.minimum(need.begin, new.begin), new.end) if halo == "recompute" else new
    low = np.minimum(live_from(need, layer.rows, chain.cuts), own.begin)
    read = tuple(
        needed(layer.input_rows(i), own, network.tensors[operand.tensor].rows)
        for i, operand in enumerate(layer.inputs)
    )
    for operand, rows in zip(layer.inputs, read, strict=True):
        needs[operand.tensor] = hull(needs.get(operand.tensor), rows)
    return Chain(
        chain.cuts,
        (*chain.layers, index),
        (*chain.computed, own),
        (*chain.read, read),
        (*chain.held, held_rows(low, own.end, chain.cuts)),
        (*chain.low, low),
        needs,
    )


def _seen_through(network: Network, chain: Chain, index: int) -> Chain:
    """`chain` with a window in front: it computes and holds nothing, its map is read for it."""
    layer, needs = network.layers[index], dict(chain.needs)
    need, source = needs.pop(layer.output), layer.inputs[0].tensor
    needs[source] = hull(needs.get(source), need)
    none = np.zeros_like(need.begin)
    return Chain(
        chain.cuts, (*chain.layers, index), (*chain.computed, Rows(none, none)),
        (*chain.read, (need,)), (*chain.held, np.zeros_like(chain.cuts.starts)),
        (*chain.low, need.begin), needs,
    )  # fmt: skip


def _shown_by(network: Network, layer: Layer) -> str:
    """The map whose border a layer copies: its rows are those that it copies, as they come."""
    if layer.name in network.fills:
        return network.fills[layer.name][0]
    window = network.layers[network.producer[layer.inputs[0].tensor]]
    return window.inputs[0].tensor


def beside_chain(network: Network, chain: Chain, index: int, need: Rows) -> Chain:
    """`chain` with a layer in front that copies rows of a map as they come, as nobody asks it to.

    Parameters
    ----------
    need : Rows
        Rows of that map that the tiles need.
    """
    layer, needs = network.layers[index], dict(chain.needs)
    own = fresh(need, layer.rows, complete=False, cuts=chain.cuts)
    source = layer.inputs[0].tensor
    read = needed(layer.input_rows(0), own, network.tensors[source].rows)
    needs[source] = hull(needs.get(source), read)
    return Chain(
        chain.cuts, (*chain.layers, index), (*chain.computed, own), (*chain.read, (read,)),
        (*chain.held, np.zeros_like(chain.cuts.starts)), (*chain.low, own.begin), needs,
    )  # fmt: skip


def streamed_rows(need: Rows, extent: int, depth: int, cuts: Cuttings) -> tuple[Rows, Ints]:
    """Rows loaded by each tile, and rows that the rolling buffer of each cutting holds."""
    loads = fresh(need, extent, complete=False, cuts=cuts)
    ahead = np.minimum(np.arange(len(cuts.last)) + depth - 1, cuts.last)
    return loads, held_rows(live_from(need, extent, cuts), loads.end[ahead], cuts)


def stored_rows(chain: Chain, i: int, depth: int) -> tuple[Rows, Ints]:
    """Rows stored by each tile of a chain's layer, and rows that its rolling buffers hold."""
    own, cuts = chain.computed[i], chain.cuts
    begin = np.concatenate((np.zeros(1, dtype=np.int64), own.end[:-1]))
    begin[cuts.starts] = 0
    oldest = np.maximum(np.arange(len(begin)) - depth + 1, cuts.first)
    low = np.minimum(chain.low[i], begin[oldest])
    return Rows(begin, own.end), held_rows(low, own.end, cuts)


# --------------------------------------------------------------------------- bytes


def channel_runs(network: Network, tensor: str, channels: Channels) -> tuple[int, int]:
    """Contiguous DRAM runs a row, and bytes of one, of channels ``[begin, end)`` of a map.

    All channels (None) of a row are one run; some of them are one run for each leading index.
    """
    map_, axis = network.tensors[tensor], network.channel_axes.get(tensor)
    if channels is None or axis is None:
        return 1, map_.row_bytes
    rows = row_axis(map_.shape)
    lead = math.prod(extent for i, extent in enumerate(map_.shape[:axis]) if i != rows)
    lead //= map_.images
    return lead, map_.row_bytes // lead * (channels[1] - channels[0]) // map_.shape[axis]


def slice_row_bytes(network: Network, tensor: str, channels: Channels) -> int:
    """Bytes of one row of channels ``[begin, end)`` of a map; of all by default."""
    runs, run_bytes = channel_runs(network, tensor, channels)
    return runs * run_bytes


def input_channels(network: Network, layer: Layer, channels: Channels) -> dict[str, Channels]:
    """Channels of each input that output `channels` of `layer` read; None for all of them."""
    return {
        operand.tensor: network.operand_channels(layer, i, channels)
        for i, operand in enumerate(layer.inputs)
    }


def read_bytes(
    network: Network, layer: Layer, read: tuple[Rows, ...], weight_bytes: int,
    channels: Channels = None,
) -> Ints:  # fmt: skip
    """SPM bytes that each tile of `layer` reads: rows of each operand, and weights.

    Parameters
    ----------
    channels : (int, int), optional
        Output channels ``[begin, end)`` of a slice; of channelwise operands no others are read.
    """
    total = np.full_like(read[0].begin, weight_bytes) if read else np.array([weight_bytes])
    own = input_channels(network, layer, channels)
    for operand, rows in zip(layer.inputs, read, strict=True):
        total = total + rows.count * slice_row_bytes(network, operand.tensor, own[operand.tensor])
    return total
