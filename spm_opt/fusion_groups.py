"""Groups that may run together, in stripes: rows of a chain, or of a slice.

Channel tiles, blocks, runs and partial sums have rooms of their own (`spm_opt.fusion_channels` and
others). A `Group` is what runs whatever its residency pattern: computation, stripes, constants, and
the maps at its border with their uses. Groups are proposed here, never compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from spm_opt.cost.compute import tile_cycles
from spm_opt.cost.dram import moved_bytes
from spm_opt.cost.energy import Tiles, tile_energy
from spm_opt.fusion_borders import (
    DEPTHS,
    Moves,
    Use,
    aligned,
    input_uses,
    joining_uses,
    output_uses,
    stored,
    streamed,
    within,
)
from spm_opt.fusion_sharing import Sharing, Takeover, sharing, takeovers
from spm_opt.graph.bands import is_window
from spm_opt.graph.densities import first_density_ppm
from spm_opt.graph.network import Layer
from spm_opt.graph.pieces import taken_channels
from spm_opt.parts import Part
from spm_opt.parts_space import (
    channel_weight_bytes,
)
from spm_opt.site import Place, Site
from spm_opt.tiling import (
    Chain,
    Channels,
    Cuttings,
    Ints,
    Rows,
    grow_chain,
    input_channels,
    read_bytes,
    slice_row_bytes,
    start_chain,
    stripe_heights,
)

#: layers of the longest group
MAX_GROUP_LAYERS: Final = 12


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a candidate runs.

    Attributes
    ----------
    positions : (int, int)
        Layers ``[first, end)`` by position in the order.
    part : Part or None
        The slice, where the group is one slice of a layer or is run in channel tiles.
    axis : str
        ``rows``, ``channels``, ``blocks``: rows outside, channels inside; or ``sums``: the same,
        and slices of input channels inside these.
    height : int
        Rows, or output channels, of a tile of the last layer.
    depth : int
        1: a tile's transfers wait for its neighbour; 2: they run beside it.
    halo : str
        ``retain`` or ``recompute``.
    elided : bool
        Nothing runs: the pieces of a concatenation, or of a split map, lie in place.
    bands : tuple of int
        Columns of the last layer at which bands begin and end; empty for a group in one piece.
    tail : int
        Layers behind those that run, which have nothing to do: what joins the bands.
    width : int
        Output channels of a tile in blocks, or of a block of partial sums.
    slice : int
        Input channels of each group that a tile adds to partial sums.
    kept : tuple of str
        Maps that keep their borders from band to band.
    """

    positions: tuple[int, int]
    part: Part | None
    axis: str
    height: int
    depth: int
    halo: str
    elided: bool = False
    bands: tuple[int, ...] = ()
    tail: int = 0
    width: int = 0
    slice: int = 0
    kept: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether this is neither in bands, blocks or sums nor a run in channel tiles."""
        first, end = self.positions
        run = self.axis == "channels" and end - first > 1
        return not (self.bands or run or self.axis in ("blocks", "sums"))


@dataclass(frozen=True, slots=True)
class Group:
    """A run of parts under several cuttings.

    Attributes
    ----------
    first, end : int
        Parts ``[first, end)``.
    plain : Recipe
        Recipe of the first cutting, one deep; others differ in height and depth only.
    cuts : Cuttings
    compute, energy : int64 array (tiles,)
        Cycles, and femtojoules (0 where energy is not counted).
    load : int64 array (tiles,) or None
        Cycles of the loads of streamed constants.
    space_bytes : int64 array (depths, cuttings)
        Stripes of intermediate maps, or buffers of streamed constants.
    weight_space : int
        Space of constants that must be there before the group runs.
    weight_bytes : int64 array (cuttings,)
        Bytes moved of the constants.
    streams_weights : bool
    borders : tuple of list of Use
        One list a map.
    takeovers : tuple of Takeover
        Kept maps that may take the space of dying ones.
    stripe_bytes : mapping of int to int64 array (cuttings,)
        Stripes of the layers of the chain, by place, that have one.
    enter : int64 array (cuttings,) or None
        Cycles of the first tile before the last layer that has constants; None for none.
    stream_space : int64 array (depths, cuttings) or None
        Smallest buffer of streamed constants, where `space_bytes` holds more than one.
    """

    first: int
    end: int
    plain: Recipe
    cuts: Cuttings
    compute: Ints
    energy: Ints
    load: Ints | None
    space_bytes: Ints
    weight_space: int
    weight_bytes: Ints
    streams_weights: bool
    borders: tuple[list[Use], ...]
    takeovers: tuple[Takeover, ...] = ()
    stripe_bytes: Mapping[int, Ints] = field(default_factory=dict)
    enter: Ints | None = None
    stream_space: Ints | None = None


# --------------------------------------------------------------------------- rows


def row_groups(site: Site, end: int, halo: str, longest: int = MAX_GROUP_LAYERS) -> Iterator[Group]:
    """Groups of whole layers that end with the layer at position `end`, cut into rows.

    A chain grows backwards from its last layer. Its constants only become more, and its stripes
    at least as many: once they alone do not fit, nothing longer does.
    """
    chain = start_chain(site.network, site.order[end], _heights(site.layer_at(end)))
    loads = start_loads(site, chain)
    weights = site.weight_space(end)
    if halo == "retain":
        yield _row_group(site, chain, halo, loads, weights)
    for position in range(end - 1, max(-1, end - longest), -1):
        layer = site.layer_at(position)
        fused = site.layer_at(position + 1).op.tileable and layer.op.tileable
        if not fused or layer.output not in chain.needs:
            return
        outside = site.last_reader[layer.output] > end
        chain = grow_chain(site.network, chain, site.order[position], halo, outside)
        weights += site.weight_space(position)
        row_bytes = site.network.tensors[layer.output].row_bytes
        stripe = None if outside else aligned(site, chain.held[-1] * row_bytes)
        loads = loads.grown(site, chain, stripe)
        if weights + int(loads.stripes(sharing(site, chain, halo)).min()) > (
            site.hardware.spm.capacity_bytes
        ):
            return
        yield _row_group(site, chain, halo, loads, weights)


@dataclass(frozen=True, slots=True)
class ChainLoads:
    """Cycles, energy and stripes of each layer of a chain.

    No stripe (None) for a layer whose output leaves it.
    """

    cycles: list[Ints]
    energies: list[Ints]
    stripe_bytes: list[Ints | None]

    def grown(self, site: Site, chain: Chain, stripe_bytes: Ints | None) -> ChainLoads:
        """With the layer that `chain` has grown by."""
        i = len(chain.layers) - 1
        return ChainLoads(
            [*self.cycles, layer_tile_cycles(site, chain, i)],
            [*self.energies, layer_tile_energy(site, chain, i)],
            [*self.stripe_bytes, stripe_bytes],
        )

    def compute(self, shared: Sharing) -> Ints:
        """Cycles of each tile."""
        return sum_of(c for i, c in enumerate(self.cycles) if i not in shared.elided)

    def energy(self, shared: Sharing) -> Ints:
        """Femtojoules of each tile."""
        return sum_of(e for i, e in enumerate(self.energies) if i not in shared.elided)

    def enter(self, site: Site, chain: Chain) -> Ints | None:
        """Cycles of the first tile of each cutting before the last layer that has constants."""
        layers = [site.network.layers[index] for index in chain.layers]
        last = next((i for i, layer in enumerate(layers) if layer.weight_bytes), len(layers))
        if last + 1 >= len(layers):
            return None
        firsts = [begin for begin, _ in chain.cuts.spans()]
        return sum_of(cycles[firsts] for cycles in self.cycles[last + 1 :])

    def stripes(self, shared: Sharing) -> Ints:
        """Space of the stripes in each cutting."""
        own = [b for i, b in enumerate(self.stripe_bytes) if b is not None and not shared.free(i)]
        return sum_of(own) if own else np.zeros(1, dtype=np.int64)


def start_loads(site: Site, chain: Chain) -> ChainLoads:
    """Of a chain of one layer."""
    return ChainLoads([], [], []).grown(site, chain, None)


def sum_of(arrays: Iterable[Ints]) -> Ints:
    """Sum of arrays of one shape."""
    total: Ints = np.sum(np.stack(list(arrays)), axis=0)
    return total


def _heights(layer: Layer) -> tuple[int, ...]:
    return stripe_heights(layer.rows, layer.images) if layer.op.tileable else (layer.rows,)


def _row_group(site: Site, chain: Chain, halo: str, loads: ChainLoads, weights: int) -> Group:
    last, first = site.position[chain.layers[0]], site.position[chain.layers[-1]]
    begin, end = site.spans[first][0], site.spans[last][1]
    seen = seen_columns(site, chain)
    borders = [_row_inputs(site, chain, t, need, seen.get(t)) for t, need in chain.needs.items()]
    for i, stripe in enumerate(loads.stripe_bytes):
        if stripe is None:
            uses = _row_outputs(site, chain, i, begin, end)
            if halo == "recompute":
                # a recomputed row must not be rewritten while it is being stored
                uses = [use for use in uses if i == 0 or use.kind == "keep"]
            borders.append(uses)
    dram, shared = site.hardware.dram, sharing(site, chain, halo)
    moved = sum(moved_bytes(dram, part.weight_bytes) for part in site.parts[begin:end])
    stripes = np.broadcast_to(loads.stripes(shared), len(chain.cuts.heights))
    return Group(
        begin, end, Recipe((first, last + 1), None, "rows", chain.cuts.heights[0], 1, halo),
        chain.cuts, loads.compute(shared), loads.energy(shared), None,
        np.stack([stripes] * len(DEPTHS)), weights, np.full_like(stripes, moved), False,
        sorted_borders(borders), takeovers(site, chain, halo),
        {i: stripe for i, stripe in enumerate(loads.stripe_bytes) if stripe is not None},
        loads.enter(site, chain),
    )  # fmt: skip


def seen_columns(site: Site, chain: Chain) -> dict[str, Channels]:
    """Columns of the maps outside that a chain in a band reads through windows only."""
    layers = [site.network.layers[index] for index in chain.layers]
    found: dict[str, Channels] = {}
    plain: set[str] = set()
    for layer in layers:
        taken = taken_channels(site.network, layer) if is_window(site.network, layer) else None
        for operand in layer.inputs:
            if taken is None:
                plain.add(operand.tensor)
            else:
                low, high = found.get(operand.tensor) or taken
                found[operand.tensor] = min(low, taken[0]), max(high, taken[1])
    return {t: columns for t, columns in found.items() if t in chain.needs and t not in plain}


def _row_inputs(
    site: Site, chain: Chain, tensor: str, need: Rows, channels: Channels
) -> list[Use]:  # fmt: skip
    """How a chain may read a map: by itself, or out of the map that holds it."""
    own = streamed(site, tensor, need, chain.cuts, channels)
    place = other_place(site, chain, tensor)
    if place is None:
        return input_uses(site, tensor, own)
    there = streamed(site, place.tensor, need, chain.cuts, within(place, channels))
    return input_uses(site, tensor, own, place, there)


def other_place(site: Site, chain: Chain, tensor: str) -> Place | None:
    """The map that holds `tensor`, unless the chain has the copying layer that fills that map."""
    place = site.read_from.get(tensor)
    if place is None:
        return None
    for index in chain.layers:
        layer = site.network.layers[index]
        fills = site.read_from.get(layer.output)
        if tensor in site.joins.get(index, ()) and fills is not None and fills.map == place.map:
            return None
    return place


def _row_outputs(site: Site, chain: Chain, i: int, begin: int, end: int) -> list[Use]:
    """How the group of parts ``[begin, end)`` may write the output of its i-th layer."""
    tensor, last = site.network.layers[chain.layers[i]].output, site.position[chain.layers[0]]
    return group_outputs(
        site, tensor, (begin, end), last, lambda place: stored(site, chain, i, None, place)
    )


def group_outputs(
    site: Site, tensor: str, span: tuple[int, int], last: int,
    moves: Callable[[Place | None], Moves],
) -> list[Use]:  # fmt: skip
    """How a group of whole layers, parts `span` up to position `last`, may write a map.

    `moves` are its transfers to its own place in DRAM, or to another.
    """
    outside = site.outside_readers(tensor, last)
    uses = output_uses(site, tensor, moves(None), True, outside)
    place = _joining_place(site, tensor, *span)
    if place is not None:
        begins = span[0] <= site.joining_parts(place.map)[0]
        uses += joining_uses(site, tensor, place, moves(place), begins, outside)
    return uses


def _joining_place(site: Site, tensor: str, begin: int, end: int) -> Place | None:
    """Where a piece may be written; nowhere where parts ``[begin, end)`` make other pieces too."""
    place = site.written_into.get(tensor)
    if place is None:
        return None
    mine = set(range(*site.spans[site.position[site.network.producer[tensor]]]))
    others = [p for p in site.joining_parts(place.map) if begin <= p < end and p not in mine]
    return None if others else place


def sorted_borders(borders: list[list[Use]]) -> tuple[list[Use], ...]:
    """Uses by map, as candidates have them."""
    # a map that may be used in no way stays: it leaves the group without a pattern
    return tuple(sorted(borders, key=lambda uses: uses[0].map if uses else -1))


def layer_tile_cycles(site: Site, chain: Chain, i: int) -> Ints:
    """Compute cycles of each tile of the i-th layer of a chain."""
    layer = site.network.layers[chain.layers[i]]
    dtype = site.network.tensors[layer.output].dtype
    reads = read_bytes(site.network, layer, chain.read[i], layer.weight_bytes)
    own = chain.computed[i]
    return tile_cycles(layer, dtype, site.hardware, own.count, reads, begin=own.begin)


def part_cycles(
    site: Site, layer: Layer, channels: Channels, chain: Chain, i: int = 0
) -> Ints:  # fmt: skip
    """Compute cycles of each tile of output channels ``[begin, end)`` of a chain's i-th layer."""
    dtype = site.network.tensors[layer.output].dtype
    weights = channel_weight_bytes(layer, channels)
    reads = read_bytes(site.network, layer, chain.read[i], weights, channels)
    width = None if channels is None else channels[1] - channels[0]
    own = chain.computed[i]
    return tile_cycles(layer, dtype, site.hardware, own.count, reads, width, own.begin)


def layer_tile_energy(site: Site, chain: Chain, i: int) -> Ints:
    """Femtojoules of each tile of the i-th layer of a chain; 0 where energy is not counted."""
    return _tile_energy(site, site.network.layers[chain.layers[i]], None, chain, i)


def part_energy(
    site: Site, layer: Layer, channels: Channels, chain: Chain, i: int = 0
) -> Ints:  # fmt: skip
    """Femtojoules of each tile of output channels ``[begin, end)`` of the i-th layer, or 0."""
    return _tile_energy(site, layer, channels, chain, i)


def _tile_energy(site: Site, layer: Layer, channels: Channels, chain: Chain, i: int) -> Ints:
    own = chain.computed[i]
    if not site.energy:
        return np.zeros_like(own.count)
    network, weights = site.network, channel_weight_bytes(layer, channels)
    reads = read_bytes(network, layer, chain.read[i], 0, channels)
    written = own.count * slice_row_bytes(network, layer.output, channels)
    tiles = Tiles(
        own.count, own.begin, reads + written, np.full_like(own.count, weights),
        channel_width(channels), first_density_ppm(network, layer),
    )  # fmt: skip
    return tile_energy(layer, network.tensors[layer.output].dtype, site.hardware, tiles).total_fj


# --------------------------------------------------------------------------- slices


def slice_groups(site: Site, position: int) -> Iterator[Group]:
    """The slices of a layer, each by itself, cut into rows."""
    layer, dram = site.layer_at(position), site.hardware.dram
    chain = start_chain(site.network, site.order[position], _heights(layer))
    none = np.zeros((len(DEPTHS), len(chain.cuts.heights)), dtype=np.int64)
    alike: dict[tuple[int | None, ...], tuple[Ints, Ints, list[list[Use]]]] = {}
    for index in range(*site.spans[position]):
        part = site.parts[index]
        inputs = input_channels(site.network, layer, part.channels)
        key = (
            channel_width(part.channels),
            *(channel_width(channels) for channels in inputs.values()),
        )
        if key not in alike:
            uses = [_row_inputs(site, chain, t, need, inputs[t]) for t, need in chain.needs.items()]
            alike[key] = (
                part_cycles(site, layer, part.channels, chain),
                part_energy(site, layer, part.channels, chain), uses,
            )  # fmt: skip
        compute, energy, uses = alike[key]
        place = site.written_into.get(layer.output)
        moves = [stored(site, chain, 0, part.channels, where) for where in (None, place)]
        output = part_outputs(site, position, index, part, moves[0], moves[-1])
        recipe = Recipe((position, position + 1), part, "rows", chain.cuts.heights[0], 1, "retain")
        yield Group(
            index, index + 1, recipe, chain.cuts, compute, energy, None, none,
            site.aligned(part.weight_bytes),
            np.full_like(none[0], moved_bytes(dram, part.weight_bytes)), False,
            sorted_borders([*uses, output]),
        )  # fmt: skip


def part_outputs(
    site: Site, position: int, index: int, part: Part, own: Moves, there: Moves
) -> list[Use]:
    """How `part` may write its layer's output, given its transfers to its own place and there.

    `index` is the first part of the network that it stands for.
    """
    tensor = site.layer_at(position).output
    outside = site.outside_readers(tensor, position)
    uses = output_uses(site, tensor, own, _begins(part), outside)
    place = site.written_into.get(tensor)
    if place is not None:
        begins = site.joining_parts(place.map)[0] == index
        # kept whole by itself and stored as a piece: whole layers only
        beside = outside if part.channels is None else 0
        uses += joining_uses(site, tensor, place, there, begins, beside)
    return uses


def channel_width(channels: Channels) -> int | None:
    """How many channels they are; None for all."""
    return None if channels is None else channels[1] - channels[0]


def _begins(part: Part) -> bool:
    return part.channels is None or part.channels[0] == 0


def recipe_chain(site: Site, recipe: Recipe) -> Chain:
    """The chain that a recipe stands for, under its cutting alone."""
    first, end = recipe.positions
    height = recipe.height if recipe.axis == "rows" else site.layer_at(end - 1).rows
    chain = start_chain(site.network, site.order[end - 1], (height,))
    for position in range(end - 2, first - 1, -1):
        complete = site.last_reader[site.layer_at(position).output] > end - 1
        chain = grow_chain(site.network, chain, site.order[position], recipe.halo, complete)
    return chain
