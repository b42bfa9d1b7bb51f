"""A run of layers in bands, with one choice of the borders that are kept, as groups to be priced.

Bands are grown backwards like any chain, on the network in which each is a run of its own; the
bands of a run end with those of every shorter run, so one growth gives the groups of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spm_opt.cost.compression import map_share
from spm_opt.cost.dram import moved_bytes, moved_bytes_array, transfer_cycles_array
from spm_opt.fusion_band_borders import BorderChoice, border_bytes
from spm_opt.fusion_borders import DEPTHS, Moves, aligned
from spm_opt.fusion_groups import ChainLoads, Recipe, start_loads
from spm_opt.fusion_sharing import sharing
from spm_opt.graph.bands import SomeBands, copies_beside, some_bands
from spm_opt.graph.columns import Columns
from spm_opt.graph.network import Network, Tensor
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
)


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
        Stripes of intermediate maps, and borders.
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


class BandRun:
    """A run of layers in bands, with one choice of borders; and every run that ends with it.

    The bands of a run end with those of every shorter run: chains grow from one to the next.
    """

    def __init__(
        self, site: Site, positions: range, edges: tuple[int, ...], choice: BorderChoice,
        heights: tuple[int, ...],
    ) -> None:  # fmt: skip
        self.site, self.positions, self.edges, self.choice = site, positions, edges, choice
        self.heights = heights
        names = [site.layer_at(position).name for position in positions]
        self.made = some_bands(site.network, names, choice.cuts)
        place = dict(zip(names, positions, strict=True))
        self.narrow = _band_site(site, self.made.network, place)

    def groups(self, wanted: Sequence[int], seen: set[object]) -> Iterator[BandedGroup]:
        """Groups that begin at the `wanted` positions, and are not `seen` already."""
        site, end = self.site, self.positions[-1]
        last = site.layer_at(end).output
        chains = [_start(self.narrow, own[last][-1], self.heights) for own in self.made.layers]
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
                    yield self._group(first, chains, borders, inputs)

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
        self, first: int, chains: Sequence[tuple[Chain, ChainLoads]],
        borders: tuple[str, ...], kept_inputs: tuple[str, ...],
    ) -> BandedGroup:  # fmt: skip
        """The group that begins at position `first`, some of whose maps keep borders."""
        site, end = self.site, self.positions[-1] + 1
        parts = site.spans[first][0], site.spans[end - 1][1]
        inputs, dram = _inputs(self.made, chains[0][0]), site.hardware.dram
        recipe = Recipe(
            (first, end), None, "rows", self.heights[0], 1, "retain", bands=self.edges,
            kept=borders,
        )  # fmt: skip
        return BandedGroup(
            recipe, self.heights, parts, inputs, site.layer_at(end - 1).output,
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
