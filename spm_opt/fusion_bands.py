"""Groups in bands of columns: the same run of layers, on narrower maps, band after band.

A group whose rows are too wide for the scratchpad is cut into vertical bands
(`spm_opt.graph.bands`). Each band is a pipeline of stripes of its own; bands run one after another
and share the constants. The group occupies the largest working set of its bands in all of them.
Bands that are alike (all but the first and the last, mostly) are priced once. Maps may keep their
borders from band to band (`spm_opt.fusion_band_borders`): a group has one choice of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Final

import numpy as np

from spm_opt.cost.compression import map_share
from spm_opt.cost.dram import moved_bytes, moved_bytes_array, transfer_cycles_array
from spm_opt.errors import GraphError
from spm_opt.fusion_band_borders import BorderChoice, border_bytes, border_choices
from spm_opt.fusion_borders import DEPTHS, MAX_FREE_MAPS, Moves, aligned
from spm_opt.fusion_groups import (
    MAX_GROUP_LAYERS,
    ChainLoads,
    Recipe,
    start_loads,
)
from spm_opt.fusion_sharing import sharing
from spm_opt.graph.band_cuts import band_cuts
from spm_opt.graph.bands import SomeBands, copies_beside, some_bands
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
    beside_chain,
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

    @property
    def streamed(self) -> tuple[str, ...]:
        """Maps from outside that keep their borders, and so cannot lie whole in the scratchpad."""
        return tuple(name for name in self.inputs if name in self.recipe.kept)


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

    ``least`` takes for each position the least working set of the group that begins there.
    """
    positions = range(wanted[-1], end + 1)
    seen: set[object] = set()
    for choice in border_choices(site, positions, list(pairwise(edges))):
        run = _Run(site, positions, edges, choice)
        for group in run.groups(wanted, seen):
            if not group.recipe.kept:
                least[group.recipe.positions[0]] = min(
                    max(int(_least_space(band, height)) for band in group.bands)
                    for height in range(len(group.heights))
                )
            yield group


def _least_space(band: Band, cutting: int) -> int:
    """Working set of a band, one deep, with everything streamed."""
    moves = (*band.inputs, band.output)
    return int(band.space_bytes[cutting] + sum(m.buffer_bytes[0, cutting] for m in moves))


class _Run:
    """A run of layers in bands, with one choice of borders; and every run that ends with it.

    The bands of a run end with those of every shorter run: chains grow from one to the next.
    """

    def __init__(
        self, site: Site, positions: range, edges: tuple[int, ...], choice: BorderChoice
    ) -> None:
        self.site, self.positions, self.edges, self.choice = site, positions, edges, choice
        names = [site.layer_at(position).name for position in positions]
        self.made = some_bands(site.network, names, choice.cuts)
        place = dict(zip(names, positions, strict=True))
        self.narrow = _band_site(site, self.made.network, place)

    def groups(self, wanted: Sequence[int], seen: set[object]) -> Iterator[BandedGroup]:
        """Groups that begin at the `wanted` positions, and are not `seen` already."""
        site, end = self.site, self.positions[-1]
        heights, last = _heights(site, end), site.layer_at(end).output
        chains = [_start(self.narrow, own[last][-1], heights) for own in self.made.layers]
        kept: list[str] = []
        for first in reversed(self.positions):
            output = site.layer_at(first).output
            if first < end:
                chains = [self._grown(n, *c, output) for n, c in enumerate(chains)]
                kept += [output] if output in self.choice.kept else []
            for inputs in self._kept_inputs(chains[0][0], first) if first in wanted else ():
                borders = (*kept, *inputs)
                if (first, borders) not in seen and self._fits(first, borders):
                    seen.add((first, borders))
                    yield self._group(first, heights, chains, borders, inputs)

    def _fits(self, first: int, borders: tuple[str, ...]) -> bool:
        """Whether constants and borders leave any space."""
        site = self.site
        weights = sum(site.weight_space(p) for p in range(first, self.positions[-1] + 1))
        kept = max(border_bytes(site, cut, borders) for cut in self.choice.cuts)
        return weights + kept < site.hardware.spm.capacity_bytes

    def _kept_inputs(self, chain: Chain, first: int) -> Iterator[tuple[str, ...]]:
        """Maps from outside that keep their borders: none, all that may, or one of them."""
        found = (name for name in _inputs(self.made, chain) if name in self.choice.kept)
        may = tuple(name for name in found if self._is_alike(name, first))
        yield ()
        if may:
            yield from dict.fromkeys((*((name,) for name in may), may))

    def _is_alike(self, tensor: str, first: int) -> bool:
        """Whether a map has the border that it has in the longest run where `first` begins one."""
        site, network = self.site, self.site.network
        producer = network.producer.get(tensor)
        if producer is not None and isinstance(network.layers[producer].op, Resize):
            return False  # made in whole blocks: up to another column than what is loaded
        earlier = range(self.positions[0], first)
        return not any(site.position[reader] in earlier for reader in network.readers[tensor])

    def _grown(
        self, band: int, chain: Chain, loads: ChainLoads, tensor: str
    ) -> tuple[Chain, ChainLoads]:
        """With the layer that makes a map, and those through which what is there reads it."""
        site = self.narrow
        for index in reversed(self.made.layers[band][tensor]):
            layer = site.network.layers[index]
            chain = grow_chain(site.network, chain, index, "retain", complete=False)
            row_bytes = site.network.tensors[layer.output].row_bytes
            stripe = aligned(site, chain.held[-1] * row_bytes)
            beside = copies_beside(site.network, layer)
            loads = loads.grown(site, chain, None if beside else stripe)
        return chain, loads

    def _group(
        self, first: int, heights: tuple[int, ...], chains: Sequence[tuple[Chain, ChainLoads]],
        borders: tuple[str, ...], kept_inputs: tuple[str, ...],
    ) -> BandedGroup:  # fmt: skip
        """The group that begins at position `first`, some of whose maps keep borders."""
        site, end = self.site, self.positions[-1] + 1
        parts = site.spans[first][0], site.spans[end - 1][1]
        inputs, dram = _inputs(self.made, chains[0][0]), site.hardware.dram
        recipe = Recipe(
            (first, end), None, "rows", heights[0], 1, "retain", bands=self.edges,
            kept=borders,
        )  # fmt: skip
        return BandedGroup(
            recipe, heights, parts, inputs, site.layer_at(end - 1).output,
            sum(site.weight_space(p) for p in range(first, end)),
            sum(moved_bytes(dram, part.weight_bytes) for part in site.parts[slice(*parts)]),
            tuple(self._band(number, *chain, inputs, recipe.kept, kept_inputs)
                  for number, chain in enumerate(chains)),
        )  # fmt: skip

    def _band(
        self, number: int, chain: Chain, loads: ChainLoads, inputs: tuple[str, ...],
        kept: tuple[str, ...], kept_inputs: tuple[str, ...],
    ) -> Band:  # fmt: skip
        site, made, cut = self.narrow, self.made, self.choice.cuts[number]
        borders = {name: cut.found[name] for name in kept_inputs if name in cut.found}
        streams = tuple(_streamed(site, made, chain, n, borders.get(n)) for n in inputs)
        for name in kept_inputs:
            chain, loads = _beside(site, made, number, chain, loads, name)
        # what a band makes is a piece of a map: nothing is written over by it
        shared = sharing(site, chain, "retain")
        apart = frozenset(m for m, i in shared.over.items() if i == 0)
        shared = sharing(site, chain, "retain", apart) if apart else shared
        space = np.full_like(chain.cuts.starts, border_bytes(self.site, cut, kept))
        enter = loads.enter(site, chain)
        return Band(
            self.choice.counts[number], chain.cuts, loads.compute(shared), loads.energy(shared),
            space + loads.stripes(shared), streams, _stored(site, chain),
            np.zeros_like(space) if enter is None else enter,
        )  # fmt: skip


def _inputs(made: SomeBands, chain: Chain) -> tuple[str, ...]:
    """Maps of the source that a chain of a band reads."""
    found = (_source(made, name) for name in chain.needs)
    return tuple(dict.fromkeys(name for name in found if name in made.source.tensors))


def _source(made: SomeBands, name: str) -> str:
    return made.shown[name][0] if name in made.shown else name


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


def _beside(
    site: Site, made: SomeBands, band: int, chain: Chain, loads: ChainLoads, tensor: str
) -> tuple[Chain, ChainLoads]:
    """With the layers that copy borders of a map from outside."""
    rows = _rows(made, chain, tensor)
    for index in reversed(made.copies[band].get(tensor, ())):
        chain = beside_chain(site.network, chain, index, rows)
        loads = loads.grown(site, chain, None)
    return chain, loads


def _rows(made: SomeBands, chain: Chain, tensor: str) -> Rows:
    """Rows of a map of the source that a chain of a band needs."""
    found = [need for name, need in chain.needs.items() if _source(made, name) == tensor]
    rows = found[0]
    for need in found[1:]:
        rows = hull(rows, need)
    return rows


def _streamed(
    site: Site, made: SomeBands, chain: Chain, source: str, border: Columns | None
) -> Moves:
    """A map from outside: of the rows and columns that the band needs, whatever it calls them.

    Columns of the `border` that the band before kept are not loaded.
    """
    tensor, rows = made.source.tensors[source], _rows(made, chain, source)
    shown = [
        made.shown[name][1] if name in made.shown else (0, tensor.shape[3])
        for name in chain.needs
        if _source(made, name) == source
    ]
    columns = min(low for low, _ in shown), max(high for _, high in shown)
    loaded = columns if border is None else (border[1], columns[1])
    found = [streamed_rows(rows, tensor.rows, depth, chain.cuts) for depth in DEPTHS]
    held = _held(site, tensor, columns, [rows for _, rows in found])
    return _moves(site, tensor, loaded, found[0][0], held, chain.cuts)


def _held(site: Site, tensor: Tensor, columns: Columns, rows: Sequence[Ints]) -> Ints:
    """Space of columns of some rows of a map, for each depth."""
    row_bytes = tensor.row_bytes * (columns[1] - columns[0]) // tensor.shape[3]
    return aligned(site, np.stack(rows) * row_bytes)


def _moves(
    site: Site, tensor: Tensor, columns: Columns, rows: Rows, held: Ints, cuts: Cuttings
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
    return Moves(transfer_cycles_array(dram, moved), cuts.total(moved), held)


def _stored(site: Site, chain: Chain) -> Moves:
    """The output of a band, stored into its columns of the whole map: a run a channel and row."""
    tensor = site.network.tensors[site.network.layers[chain.layers[0]].output]
    found = [stored_rows(chain, 0, depth) for depth in DEPTHS]
    # as a part of a wider map, whatever its own extent
    wide = replace(tensor, shape=(*tensor.shape[:3], 2 * tensor.shape[3]))
    columns = 0, tensor.shape[3]
    held = _held(site, wide, columns, [rows for _, rows in found])
    return _moves(site, wide, columns, found[0][0], held, chain.cuts)
