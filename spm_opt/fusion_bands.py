"""Groups in bands of columns: the same run of layers, on narrower maps, band after band.

A group whose rows are too wide for the scratchpad is cut into vertical bands
(`spm_opt.graph.bands`). Each band is a pipeline of stripes of its own; bands run one after another
and share the constants. The group occupies the largest working set of its bands in all of them.
Bands that are alike (all but the first and the last, mostly) are priced once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Final

import numpy as np

from spm_opt.cost.dram import moved_bytes, moved_bytes_array, transfer_cycles_array
from spm_opt.errors import GraphError
from spm_opt.fusion_borders import DEPTHS, MAX_FREE_MAPS, Moves, aligned, streamed
from spm_opt.fusion_groups import (
    MAX_GROUP_LAYERS,
    ChainLoads,
    Recipe,
    layer_tile_cycles,
    seen_columns,
)
from spm_opt.fusion_sharing import sharing
from spm_opt.graph.bands import band_cuts, some_bands
from spm_opt.graph.columns import Columns
from spm_opt.graph.network import DTYPE_BYTES, Network
from spm_opt.parts import Part
from spm_opt.site import Site, make_site
from spm_opt.tiling import (
    Chain,
    Cuttings,
    Ints,
    grow_chain,
    start_chain,
    stored_rows,
    stripe_heights,
)
from spm_opt.units import ceil_div

#: numbers of bands that are tried
BAND_COUNTS: Final = (2, 3, 4, 6, 8, 12, 16, 24, 32)
#: columns of the narrowest band
LEAST_COLUMNS: Final = 8
#: runs are cut into bands where stripes of a row each take more than one part in so many of the
#: scratchpad: where they take less, bands have nothing to save
WORTH: Final = 8
#: stripe heights of a band
HEIGHTS: Final = 10


@dataclass(frozen=True, slots=True)
class Band:
    """Bands that are alike, under several stripe heights.

    Attributes
    ----------
    count : int
        How many.
    cuts : Cuttings
    compute : int64 array (tiles,)
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
        for first in _beginnings(site, end, longest):
            names = [site.layer_at(position).name for position in range(first, end + 1)]
            for edges in _edges(site.layer_at(end).output_shape[3]):
                group = _banded(site, first, end, names, edges)
                if group is not None:
                    yield group


def _beginnings(site: Site, end: int, longest: int) -> Iterator[int]:
    """First positions of runs that end at `end`, can be cut, and are worth it."""
    if not _can_be_cut(site, end):
        return
    network, capacity = site.network, site.hardware.spm.capacity_bytes
    last = site.layer_at(end)
    inside = {last.output}
    chain = start_chain(network, site.order[end], (1,))
    weights = site.weight_space(end)
    stripes = _row_space(site, last.output)
    for first in range(end, max(-1, end - longest), -1):
        layer = site.layer_at(first)
        if first < end:
            readers = {site.position[r] for r in network.readers[layer.output]}
            private = readers <= set(range(first, end + 1)) and layer.output not in network.outputs
            if layer.output not in chain.needs or not private or not _can_be_cut(site, first):
                return
            chain = grow_chain(network, chain, site.order[first], "retain", complete=False)
            inside.add(layer.output)
            weights += site.weight_space(first)
            stripes += int(chain.held[-1][0]) * network.tensors[layer.output].row_bytes
        if weights >= capacity:
            return
        if len(chain.needs) <= MAX_FREE_MAPS and stripes * WORTH > capacity:
            yield first


def _row_space(site: Site, tensor: str) -> int:
    return site.aligned(site.network.tensors[tensor].row_bytes)


def _can_be_cut(site: Site, position: int) -> bool:
    layer = site.layer_at(position)
    if len(layer.output_shape) != 4 or not layer.op.tileable:
        return False
    try:
        # whether it can be cut at all does not depend on where
        half = ceil_div(layer.output_shape[3], 2)
        band_cuts(site.network, [layer.name], (0, half))
    except GraphError:
        return False
    return True


def _edges(width: int) -> Iterator[tuple[int, ...]]:
    """Even cuts of `width` columns."""
    seen: set[int] = set()
    for count in BAND_COUNTS:
        columns = ceil_div(width, count)
        if columns >= LEAST_COLUMNS and columns not in seen and columns < width:
            seen.add(columns)
            yield (*range(0, width, columns), width)


def _banded(
    site: Site, first: int, end: int, names: list[str], edges: tuple[int, ...]
) -> BandedGroup | None:
    """The group in bands of these edges; None where a band has nothing to compute from."""
    try:
        alike = _alike(site.network, names, list(pairwise(edges)))
        network, layers = some_bands(site.network, names, [columns for columns, _ in alike])
    except GraphError:
        return None
    heights = _heights(site, end)
    part_of = {site.layer_at(p).name: p for p in range(first, end + 1)}
    narrow = _band_site(site, network, part_of)
    chains = [_chain(narrow, [network_index(network, name) for name in band], heights)
              for band in layers]  # fmt: skip
    inputs = tuple(chains[0][0].needs)
    parts = site.spans[first][0], site.spans[end][1]
    dram = site.hardware.dram
    return BandedGroup(
        Recipe((first, end + 1), None, "rows", heights[0], 1, "retain", bands=edges), heights,
        parts, inputs, site.layer_at(end).output,
        sum(site.weight_space(p) for p in range(first, end + 1)),
        sum(moved_bytes(dram, part.weight_bytes) for part in site.parts[slice(*parts)]),
        tuple(_band(narrow, chain, loads, inputs, count)
              for (chain, loads), (_, count) in zip(chains, alike, strict=True)),
    )  # fmt: skip


def _alike(
    network: Network, names: list[str], bands: Sequence[Columns]
) -> list[tuple[Columns, int]]:
    """One of each sort of bands, in order, and how many there are; the first and last apart."""
    known: dict[object, int] = {}
    found: list[tuple[Columns, int]] = []
    for number, columns in enumerate(bands):
        cuts = band_cuts(network, names, columns)
        widths = [
            (cut.op, cut.columns[1] - cut.columns[0], *(b - a for a, b in cut.windows))
            for cut in cuts.values()
        ]
        key = number == 0, number == len(bands) - 1, repr(widths)
        if key in known:
            at = known[key]
            found[at] = found[at][0], found[at][1] + 1
        else:
            known[key] = len(found)
            found.append((columns, 1))
    return found


def _heights(site: Site, end: int) -> tuple[int, ...]:
    layer = site.layer_at(end)
    every = stripe_heights(layer.rows, layer.images)
    low = every[-HEIGHTS:]
    return low if every[0] in low else (every[0], *low)


def network_index(network: Network, name: str) -> int:
    """Index of a layer."""
    return next(i for i, layer in enumerate(network.layers) if layer.name == name)


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
    return make_site(network, site.hardware, order, site.aliases, tuple(parts))


def _chain(
    site: Site, indices: Sequence[int], heights: tuple[int, ...]
) -> tuple[Chain, ChainLoads]:
    """The chain of a band's layers, and what it loads the engine with."""
    chain = start_chain(site.network, indices[-1], heights)
    loads = ChainLoads([layer_tile_cycles(site, chain, 0)], [None])
    for index in reversed(indices[:-1]):
        chain = grow_chain(site.network, chain, index, "retain", complete=False)
        row_bytes = site.network.tensors[site.network.layers[index].output].row_bytes
        stripe = aligned(site, chain.held[-1] * row_bytes)
        loads = loads.grown(layer_tile_cycles(site, chain, len(chain.layers) - 1), stripe)
    return chain, loads


def _band(site: Site, chain: Chain, loads: ChainLoads, inputs: tuple[str, ...], count: int) -> Band:
    seen, cuts = seen_columns(site, chain), chain.cuts
    # what a band makes is a piece of a map: nothing is written over by it
    apart = {m for m, i in sharing(site, chain, "retain").over.items() if i == 0}
    shared = sharing(site, chain, "retain", frozenset(apart))
    none = np.zeros_like(cuts.starts)
    enter = loads.enter(site, chain)
    return Band(
        count, cuts, loads.compute(shared), none + loads.stripes(shared),
        tuple(streamed(site, t, chain.needs[t], cuts, seen.get(t)) for t in inputs),
        _stored(site, chain), none if enter is None else enter,
    )  # fmt: skip


def _stored(site: Site, chain: Chain) -> Moves:
    """The output of a band, stored into its columns of the whole map: a run a channel and row."""
    layer, dram, cuts = site.network.layers[chain.layers[0]], site.hardware.dram, chain.cuts
    tensor = site.network.tensors[layer.output]
    run_bytes = tensor.shape[3] * DTYPE_BYTES[tensor.dtype]
    found = [stored_rows(chain, 0, depth) for depth in DEPTHS]
    moved = moved_bytes_array(dram, np.array([run_bytes]), found[0][0].count * tensor.shape[1])
    buffers = aligned(site, np.stack([held for _, held in found]) * tensor.row_bytes)
    return Moves(transfer_cycles_array(dram, moved), cuts.total(moved), buffers)


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
