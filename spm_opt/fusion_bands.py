"""Groups in bands of columns: the same run of layers, on narrower maps, band after band.

A group whose rows are too wide for the scratchpad is cut into vertical bands
(`spm_opt.graph.bands`). Each band is a pipeline of stripes of its own; bands run one after another
and share the constants. The group occupies the largest working set of its bands in all of them.
Bands that are alike (all but the first and the last, mostly) are priced once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise, product
from typing import Final

import numpy as np

from spm_opt.cost.compression import map_share
from spm_opt.cost.dram import moved_bytes, moved_bytes_array, transfer_cycles_array
from spm_opt.errors import GraphError
from spm_opt.fusion_borders import DEPTHS, MAX_FREE_MAPS, Moves, aligned
from spm_opt.fusion_groups import (
    MAX_GROUP_LAYERS,
    ChainLoads,
    Recipe,
    start_loads,
)
from spm_opt.fusion_sharing import sharing
from spm_opt.graph.bands import SomeBands, band_cuts, is_window, some_bands
from spm_opt.graph.columns import Columns
from spm_opt.graph.network import Layer, Network, Tensor
from spm_opt.graph.ops import Resize
from spm_opt.parts import Part
from spm_opt.site import Site, make_site
from spm_opt.tiling import (
    Chain,
    Cuttings,
    Ints,
    Rows,
    grow_chain,
    hull,
    start_chain,
    stored_rows,
    streamed_rows,
    stripe_heights,
)
from spm_opt.units import align_up, ceil_div

#: numbers of bands that are tried
BAND_COUNTS: Final = (2, 3, 4, 6, 8, 12, 16, 24, 32)
#: columns of the narrowest band
LEAST_COLUMNS: Final = 8
#: a run is cut into bands where the rows that its stripes hold at least take more than this part
#: of the scratchpad, and into no more bands than it takes to need less
WORTH: Final = Fraction(1, 4)
#: tallest stripe of a band, besides all rows; each height is at least twice the one below
TALLEST: Final = 32


@dataclass(frozen=True, slots=True)
class Band:
    """Bands that are alike, under several stripe heights.

    Attributes
    ----------
    count : int
        How many.
    cuts : Cuttings
    compute, energy : int64 array (tiles,)
        Cycles, and femtojoules (0 where energy is not counted).
    space_bytes : int64 array (cuttings,)
        Stripes of intermediate maps.
    inputs : tuple of Moves
        Streams of the maps from outside, in the order of `BandedGroup.inputs`.
    output : Moves
    enter : int64 array (cuttings,)
        Cycles of the first tile before the last layer that has constants.
    """

    count: int
    cuts: Cuttings
    compute: Ints
    energy: Ints
    space_bytes: Ints
    inputs: tuple[Moves, ...]
    output: Moves
    enter: Ints


@dataclass(frozen=True, slots=True)
class BandedGroup:
    """A run of whole layers in bands.

    Attributes
    ----------
    recipe : Recipe
        Of the first stripe height, one deep.
    heights : tuple of int
    parts : (int, int)
    inputs : tuple of str
        Maps from outside.
    output : str
    weight_space, weight_bytes : int
        Space of the constants, and bytes that are moved of them.
    bands : tuple of Band
        The first band first, the last one last.
    """

    recipe: Recipe
    heights: tuple[int, ...]
    parts: tuple[int, int]
    inputs: tuple[str, ...]
    output: str
    weight_space: int
    weight_bytes: int
    bands: tuple[Band, ...]


def banded_groups(site: Site, longest: int = MAX_GROUP_LAYERS) -> Iterator[BandedGroup]:
    """Every run of at most `longest` layers that is worth cutting, in every number of bands."""
    for end in range(len(site.order)):
        wanted = _beginnings(site, end, longest)
        cuts = _edges(site.layer_at(end)) if wanted else iter(())
        while wanted and (edges := next(cuts, None)):
            least = [0] * len(site.order)
            yield from _banded(site, wanted, end, edges, least)
            limit = site.hardware.spm.capacity_bytes * WORTH
            wanted = [first for first in wanted if least[first] > limit]


def _beginnings(site: Site, end: int, longest: int) -> list[int]:
    """First positions of runs that end at `end`, can be cut, and are worth it; last ones first."""
    found: list[int] = []
    if not _can_be_cut(site, end):
        return found
    network, capacity = site.network, site.hardware.spm.capacity_bytes
    last = site.layer_at(end)
    chain = start_chain(network, site.order[end], (1,))
    weights, stripes = site.weight_space(end), network.tensors[last.output].row_bytes
    for first in range(end, max(-1, end - longest), -1):
        layer = site.layer_at(first)
        if first < end:
            if layer.output not in chain.needs or not _is_private(site, layer, first, end):
                return found
            chain = grow_chain(network, chain, site.order[first], "retain", complete=False)
            weights += site.weight_space(first)
            stripes += int(chain.held[-1][0]) * network.tensors[layer.output].row_bytes
        if weights >= capacity:
            return found
        held = stripes + sum(_held_bytes(site, chain, name) for name in chain.needs)
        if len(chain.needs) <= MAX_FREE_MAPS and held > capacity * WORTH:
            found.append(first)
    return found


def _is_private(site: Site, layer: Layer, first: int, end: int) -> bool:
    """Whether nobody but positions ``(first, end]`` reads what a layer that can be cut makes."""
    readers = {site.position[r] for r in site.network.readers[layer.output]}
    inside = readers <= set(range(first, end + 1)) and layer.output not in site.network.outputs
    return inside and _can_be_cut(site, first)


def _held_bytes(site: Site, chain: Chain, name: str) -> int:
    """Bytes of the rows that a stream of a map holds at least."""
    tensor = site.network.tensors[name]
    return (
        int(streamed_rows(chain.needs[name], tensor.rows, 1, chain.cuts)[1][0]) * tensor.row_bytes
    )


def _can_be_cut(site: Site, position: int) -> bool:
    layer = site.layer_at(position)
    if len(layer.output_shape) != 4 or not layer.op.tileable:
        return False
    first, end = site.spans[position]
    if end - first > 1 and layer.weights and layer.loops is None:
        # kernels without loops over channels take the channels of a slice of their constants for
        # those that their map is cut along, which are columns here
        return False
    try:
        # whether it can be cut at all hardly depends on where
        edges = next(_edges(layer), None)
        band_cuts(site.network, [layer.name], (0, edges[1] if edges else 0))
    except GraphError:
        return False
    return True


def _edges(layer: Layer) -> Iterator[tuple[int, ...]]:
    """Even cuts of the columns of an output, into more and more bands."""
    width, seen = layer.output_shape[3], set[int]()
    # what is enlarged is made of whole input columns
    step = width // layer.input_shapes[0][3] if isinstance(layer.op, Resize) else 1
    for count in BAND_COUNTS:
        columns = align_up(ceil_div(width, count), max(1, step))
        if columns >= LEAST_COLUMNS and columns not in seen and columns < width:
            seen.add(columns)
            yield (*range(0, width, columns), width)


def _banded(
    site: Site, wanted: Sequence[int], end: int, edges: tuple[int, ...], least: list[int]
) -> Iterator[BandedGroup]:
    """Groups in bands of these edges that begin at the `wanted` positions.

    ``least`` takes for each position the least working set of the group that begins there. The
    bands of a run end with those of every shorter run: chains grow from one to the next.
    """
    positions = range(wanted[-1], end + 1)
    names = [site.layer_at(position).name for position in positions]
    try:
        alike = _alike(site.network, names, list(pairwise(edges)))
        made = some_bands(site.network, names, [columns for columns, _ in alike])
    except GraphError:
        return  # a band that has nothing to compute from
    narrow = _band_site(site, made.network, dict(zip(names, positions, strict=True)))
    heights, index = _heights(site, end), {x.name: i for i, x in enumerate(made.network.layers)}
    chains = [_start(narrow, index[band[-1]], heights) for band in made.bands]
    for first in reversed(positions):
        if first < end:
            own = [index[band[first - positions[0]]] for band in made.bands]
            chains = [_grown(narrow, *c, i) for c, i in zip(chains, own, strict=True)]
        if first in wanted:
            counts = [count for _, count in alike]
            group = _group(site, narrow, made, (first, end), edges, heights, chains, counts)
            least[first] = min(
                max(int(_least_space(band, height)) for band in group.bands)
                for height in range(len(heights))
            )
            yield group


def _least_space(band: Band, cutting: int) -> int:
    """Working set of a band, one deep, with everything streamed."""
    moves = (*band.inputs, band.output)
    return int(band.space_bytes[cutting] + sum(m.buffer_bytes[0, cutting] for m in moves))


def _group(
    site: Site, narrow: Site, made: SomeBands, span: tuple[int, int], edges: tuple[int, ...],
    heights: tuple[int, ...], chains: Sequence[tuple[Chain, ChainLoads]], counts: Sequence[int],
) -> BandedGroup:  # fmt: skip
    """The group of positions `span`, both included."""
    first, end = span
    inputs = tuple(dict.fromkeys(_source(made, name) for name in chains[0][0].needs))
    parts = site.spans[first][0], site.spans[end][1]
    dram = site.hardware.dram
    return BandedGroup(
        Recipe((first, end + 1), None, "rows", heights[0], 1, "retain", bands=edges), heights,
        parts, inputs, site.layer_at(end).output,
        sum(site.weight_space(p) for p in range(first, end + 1)),
        sum(moved_bytes(dram, part.weight_bytes) for part in site.parts[slice(*parts)]),
        tuple(_band(narrow, made, chain, loads, inputs, count)
              for (chain, loads), count in zip(chains, counts, strict=True)),
    )  # fmt: skip


def _source(made: SomeBands, name: str) -> str:
    return made.shown[name][0] if name in made.shown else name


def _alike(
    network: Network, names: list[str], bands: Sequence[Columns]
) -> list[tuple[Columns, int]]:
    """One of each sort of bands, in order, and how many there are; the first and last apart."""
    known: dict[object, int] = {}
    found: list[tuple[Columns, int]] = []
    for number, columns in enumerate(bands):
        cuts = band_cuts(network, names, columns)
        widths = tuple(
            (cut.op, cut.columns[1] - cut.columns[0], *(b - a for a, b in cut.windows))
            for cut in cuts.values()
        )
        key = number == 0, number == len(bands) - 1, widths
        if key in known:
            at = known[key]
            found[at] = found[at][0], found[at][1] + 1
        else:
            known[key] = len(found)
            found.append((columns, 1))
    return found


def _heights(site: Site, end: int) -> tuple[int, ...]:
    """Stripe heights of bands: all rows, and from `TALLEST` down, tallest first."""
    layer = site.layer_at(end)
    every = stripe_heights(layer.rows, layer.images)
    kept: list[int] = []
    for height in reversed(every):
        if height <= TALLEST and (not kept or height >= 2 * kept[-1]):
            kept.append(height)
    return tuple(sorted({every[0], *kept}, reverse=True))


def _band_site(site: Site, network: Network, position: dict[str, int]) -> Site:
    """A site of bands alone, cut into parts as the layers that they stand for."""
    parts: list[Part] = []
    for index, layer in enumerate(network.layers):
        source = position.get(layer.name.rpartition("#")[0])
        own = [Part(index, None, 0)] if source is None else [
            Part(index, part.channels, part.weight_bytes)
            for part in site.parts[slice(*site.spans[source])]
        ]  # fmt: skip
        parts += own
    order = tuple(range(len(network.layers)))
    return make_site(network, site.hardware, order, site.aliases, tuple(parts), site.energy)


def _start(site: Site, index: int, heights: tuple[int, ...]) -> tuple[Chain, ChainLoads]:
    """The chain of a band's last layer, and what it loads the engine with."""
    chain = start_chain(site.network, index, heights)
    return chain, start_loads(site, chain)


def _grown(site: Site, chain: Chain, loads: ChainLoads, index: int) -> tuple[Chain, ChainLoads]:
    """With the layer before, and the windows through which what is there reads it."""
    output = site.network.layers[index].output
    for reader in site.network.readers[output]:
        window = site.network.layers[reader]
        if is_window(site.network, window) and window.output in chain.needs:
            chain, loads = _with(site, chain, loads, reader)
    return _with(site, chain, loads, index)


def _with(site: Site, chain: Chain, loads: ChainLoads, index: int) -> tuple[Chain, ChainLoads]:
    chain = grow_chain(site.network, chain, index, "retain", complete=False)
    row_bytes = site.network.tensors[site.network.layers[index].output].row_bytes
    stripe = aligned(site, chain.held[-1] * row_bytes)
    return chain, loads.grown(site, chain, stripe)


def _band(
    site: Site, made: SomeBands, chain: Chain, loads: ChainLoads, inputs: tuple[str, ...],
    count: int,
) -> Band:  # fmt: skip
    cuts = chain.cuts
    # what a band makes is a piece of a map: nothing is written over by it
    apart = {m for m, i in sharing(site, chain, "retain").over.items() if i == 0}
    shared = sharing(site, chain, "retain", frozenset(apart))
    none = np.zeros_like(cuts.starts)
    enter = loads.enter(site, chain)
    return Band(
        count, cuts, loads.compute(shared), loads.energy(shared), none + loads.stripes(shared),
        tuple(_streamed(site, made, chain, name) for name in inputs),
        _stored(site, chain), none if enter is None else enter,
    )  # fmt: skip


def _streamed(site: Site, made: SomeBands, chain: Chain, source: str) -> Moves:
    """A map from outside: of the rows and columns that the band needs, whatever it calls them."""
    rows: Rows | None = None
    columns: Columns | None = None
    tensor = made.source.tensors[source]
    for name, need in chain.needs.items():
        if _source(made, name) == source:
            low, high = made.shown[name][1] if name in made.shown else (0, tensor.shape[3])
            columns = (low, high) if columns is None else (
                min(low, columns[0]), max(high, columns[1])
            )  # fmt: skip
            rows = hull(rows, need)
    if rows is None or columns is None:
        raise ValueError(f"no band reads {source}")
    found = [streamed_rows(rows, tensor.rows, depth, chain.cuts) for depth in DEPTHS]
    return _moves(site, tensor, columns, found[0][0], [held for _, held in found], chain.cuts)


def _moves(
    site: Site, tensor: Tensor, columns: Columns, rows: Rows, held: Sequence[Ints], cuts: Cuttings
) -> Moves:
    """Transfers of columns of a map: a run a channel and row, or whole rows."""
    dram, width = site.hardware.dram, columns[1] - columns[0]
    row_bytes = tensor.row_bytes * width // tensor.shape[3]
    share = map_share(dram.compression, tensor)
    if width == tensor.shape[3]:
        moved = moved_bytes_array(dram, rows.count * row_bytes, 1, share)
    else:
        runs = tensor.shape[1]
        run_bytes = np.array([row_bytes // runs])
        moved = moved_bytes_array(dram, run_bytes, rows.count * runs, share)
    buffers = aligned(site, np.stack(held) * row_bytes)
    return Moves(transfer_cycles_array(dram, moved), cuts.total(moved), buffers)


def _stored(site: Site, chain: Chain) -> Moves:
    """The output of a band, stored into its columns of the whole map: a run a channel and row."""
    tensor = site.network.tensors[site.network.layers[chain.layers[0]].output]
    found = [stored_rows(chain, 0, depth) for depth in DEPTHS]
    # as a part of a wider map, whatever its own extent
    wide = replace(tensor, shape=(*tensor.shape[:3], 2 * tensor.shape[3]))
    rows, held = found[0][0], [held for _, held in found]
    return _moves(site, wide, (0, tensor.shape[3]), rows, held, chain.cuts)


@dataclass(frozen=True, slots=True)
class Pattern:
    """What of a banded group's maps lies in the scratchpad.

    Attributes
    ----------
    reads : tuple of bool
        Whether each input is read there.
    output : str
        ``store``, ``keep`` or ``both``.
    """

    reads: tuple[bool, ...]
    output: str


def band_patterns(site: Site, group: BandedGroup) -> list[Pattern]:
    """Residency patterns of a group in bands."""
    outside = site.outside_readers(group.output, group.recipe.positions[1] - 1)
    must = group.output in site.network.outputs
    ways = ["store"]
    if outside and not must:
        ways.append("keep")
    if outside + must >= 2:
        ways.append("both")
    choices = product(product((False, True), repeat=len(group.inputs)), ways)
    return [Pattern(reads, way) for reads, way in choices]
