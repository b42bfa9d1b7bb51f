"""Candidates: every group that may run, under every tiling and residency pattern worth having.

A candidate is a run of layers that all feed its last one, or one slice of a layer; a striping of
the last layer's rows (or output channels, weights streamed); a halo policy; a buffer depth; and,
for each map that crosses its border, whether it is read or written in SPM or streamed. With that
fixed, its cycles, bytes and space are constants. Options are proposed and compared here, never
chosen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np

from spm_opt.cost.compute import tile_cycles
from spm_opt.cost.dram import moved_bytes, moved_bytes_array, transfer_cycles_array
from spm_opt.errors import SpmTooSmallError
from spm_opt.graph.network import Layer
from spm_opt.parts import Part, channel_weight_bytes, part_channels
from spm_opt.pipeline import pipeline_spans
from spm_opt.problem import Candidate
from spm_opt.site import Site
from spm_opt.tiling import (
    Chain,
    Ints,
    Rows,
    fresh,
    grow_chain,
    held_rows,
    live_from,
    read_bytes,
    start_chain,
    stripe_heights,
    stripes,
)
from spm_opt.units import ceil_div

#: layers of the longest group
MAX_GROUP_LAYERS: Final = 12
#: maps that cross a group's border beyond which they all share one choice
MAX_FREE_MAPS: Final = 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a candidate runs.

    Attributes
    ----------
    positions : (int, int)
        Layers ``[first, end)`` by position in the order.
    part : Part or None
        The slice, where the group is one slice of a layer.
    axis : str
        ``rows`` or ``channels``.
    height : int
        Rows, or output channels, of a tile of the last layer.
    depth : int
        1: a tile's transfers wait for its neighbour; 2: they run beside it.
    halo : str
        ``retain`` or ``recompute``.
    """

    positions: tuple[int, int]
    part: Part | None
    axis: str
    height: int
    depth: int
    halo: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to treat one map at the border of a group.

    Attributes
    ----------
    map : int
    use : str
        ``read``, ``stream``, ``keep``, ``store`` or ``both`` (keep and store).
    load, store, written : int64 array (tiles,) or None
        Cycles of its transfers per tile (see `pipeline_spans`); None for none.
    space_bytes : int
        What it adds to the working set.
    outside_bytes : int
        Space it takes besides (a map kept by an earlier group).
    dram_bytes : int
    """

    map: int
    use: str
    load: Ints | None
    store: Ints | None
    written: Ints | None
    space_bytes: int
    outside_bytes: int
    dram_bytes: int


@dataclass(frozen=True, slots=True)
class Body:
    """What a group does whatever its residency pattern: computation, stripes, constants."""

    first: int
    end: int
    recipe: Recipe
    compute: Ints
    stripe_bytes: int
    weight_space: int
    weight_bytes: int
    load: Ints | None
    streams_weights: bool


@dataclass(frozen=True, slots=True)
class Option:
    """A body under one residency pattern, not yet timed."""

    body: Body
    choices: tuple[Choice, ...]


# --------------------------------------------------------------------------- bodies


def row_groups(site: Site, end: int, halos: Iterable[str]) -> Iterator[tuple[Chain, str, int]]:
    """Chains that end with the layer at position `end`, with halo policy and stripe height."""
    layer = site.layer_at(end)
    heights = stripe_heights(layer.rows) if layer.op.tileable else (layer.rows,)
    for height in heights:
        for halo in halos:
            yield from _grow(site, end, height, halo)


def _grow(site: Site, end: int, height: int, halo: str) -> Iterator[tuple[Chain, str, int]]:
    tiles = stripes(site.layer_at(end).rows, height)
    chain = start_chain(site.network, site.order[end], tiles)
    if halo == "retain":
        yield chain, halo, height
    overlap = False
    for position in range(end - 1, max(-1, end - MAX_GROUP_LAYERS), -1):
        layer = site.layer_at(position)
        fused = site.layer_at(position + 1).op.tileable and layer.op.tileable
        if not fused or layer.output not in chain.needs:
            return
        need = chain.needs[layer.output]
        complete = site.last_reader[layer.output] > end
        chain = grow_chain(site.network, chain, site.order[position], halo, complete)
        overlap = overlap or bool(np.any(need.begin[1:] < need.end[:-1]))
        if halo == "retain" or overlap:
            yield chain, halo, height


def chain_cycles(site: Site, chain: Chain) -> Ints:
    """Compute cycles of each tile of a chain."""
    return sum(
        (layer_tile_cycles(site, chain, i) for i in range(len(chain.layers))),
        np.zeros_like(chain.computed[0].begin),
    )


def layer_tile_cycles(site: Site, chain: Chain, i: int) -> Ints:
    """Compute cycles of each tile of the i-th layer of a chain."""
    layer = site.network.layers[chain.layers[i]]
    dtype = site.network.tensors[layer.output].dtype
    reads = read_bytes(site.network, layer, chain.read[i], layer.weight_bytes)
    return tile_cycles(layer, dtype, site.hardware, chain.computed[i].count, reads)


def part_cycles(site: Site, layer: Layer, part: Part, chain: Chain) -> Ints:
    """Compute cycles of each tile of one slice of a layer."""
    channels = None if part.channels is None else part.channels[1] - part.channels[0]
    dtype = site.network.tensors[layer.output].dtype
    reads = read_bytes(site.network, layer, chain.read[0], part.weight_bytes)
    return tile_cycles(layer, dtype, site.hardware, chain.computed[0].count, reads, channels)


def recipe_chain(site: Site, recipe: Recipe) -> Chain:
    """The chain that a recipe stands for."""
    first, end = recipe.positions
    layer = site.layer_at(end - 1)
    height = recipe.height if recipe.axis == "rows" else layer.rows
    chain = start_chain(site.network, site.order[end - 1], stripes(layer.rows, height))
    for position in range(end - 2, first - 1, -1):
        complete = site.last_reader[site.layer_at(position).output] > end - 1
        chain = grow_chain(site.network, chain, site.order[position], recipe.halo, complete)
    return chain


# --------------------------------------------------------------------------- borders


def streamed_rows(need: Rows, extent: int, depth: int) -> tuple[Rows, int]:
    """Rows loaded by each tile, and rows the rolling buffer holds."""
    loads = fresh(need, extent, complete=False)
    ahead = loads.end[np.minimum(np.arange(len(loads.end)) + depth - 1, len(loads.end) - 1)]
    return loads, held_rows(live_from(need), ahead)


def stored_rows(chain: Chain, i: int, depth: int) -> tuple[Rows, int]:
    """Rows stored by each tile of a chain's layer, and rows its rolling buffer holds."""
    own = chain.computed[i]
    new = Rows(np.concatenate((np.zeros(1, dtype=np.int64), own.end[:-1])), own.end)
    pending = new.begin[np.maximum(np.arange(len(new.begin)) - depth + 1, 0)]
    return new, held_rows(np.minimum(chain.low[i], pending), own.end)


def channel_runs(site: Site, tensor: str, channels: int | None) -> tuple[int, int]:
    """Contiguous DRAM runs a row, and bytes of one, of `channels` channels of a map.

    All channels of a row are one run; some of them are one run for each leading index.
    """
    map_ = site.network.tensors[tensor]
    layer = site.network.layers[site.network.producer[tensor]]
    axis = layer.op.channel_axis(layer.output_shape)
    if channels is None or axis is None:
        return 1, map_.row_bytes
    lead = 1
    for i, extent in enumerate(map_.shape[:axis]):
        lead *= extent if i != len(map_.shape) - 2 else 1
    return lead, map_.row_bytes // lead * channels // map_.shape[axis]


def input_choices(site: Site, tensor: str, need: Rows, depth: int) -> list[Choice]:
    """Read a map in SPM, or stream it."""
    map_, index = site.network.tensors[tensor], site.map_index[tensor]
    dram = site.hardware.dram
    loads, held = streamed_rows(need, map_.rows, depth)
    moved = moved_bytes_array(dram, loads.count * map_.row_bytes)
    return [
        Choice(index, "read", None, None, None, 0, site.aligned(map_.size_bytes), 0),
        Choice(
            index, "stream", transfer_cycles_array(dram, moved), None, None,
            site.aligned(held * map_.row_bytes), 0, int(moved.sum()),
        ),
    ]  # fmt: skip


def output_choices(
    site: Site, tensor: str, part: Part | None, stores: tuple[Ints, Ints], held_bytes: int,
    outside: int,
) -> list[Choice]:  # fmt: skip
    """Keep a map, store it, or both.

    Parameters
    ----------
    stores : (int64 array, int64 array)
        Cycles and bytes of each tile's store.
    held_bytes : int
        Rolling buffer of a map that is only stored.
    outside : int
        Layers outside the group that read the map.
    """
    index, must = site.map_index[tensor], tensor in site.network.outputs
    whole = site.aligned(site.network.tensors[tensor].size_bytes)
    begins = part is None or part.channels is None or part.channels[0] == 0
    space, kept = (whole, 0) if begins else (0, whole)
    cycles, moved = stores
    total = int(moved.sum())
    found = [Choice(index, "store", None, cycles, None, site.aligned(held_bytes), 0, total)]
    if outside and not must:
        found.append(Choice(index, "keep", None, None, None, space, kept, 0))
    if outside + must >= 2:
        found.append(Choice(index, "both", None, None, cycles, space, kept, total))
    return found


def _patterns(groups: list[list[Choice]]) -> Iterator[tuple[Choice, ...]]:
    """Combinations of choices: free, or shared by kind where there are many maps."""
    if not all(groups):
        return
    if len(groups) <= MAX_FREE_MAPS:
        yield from product(*groups)
        return
    for inward, outward in product(("read", "stream"), ("keep", "store", "both")):
        picked = []
        for group in groups:
            uses = {choice.use: choice for choice in group}
            fallback = uses.get("store", group[0])
            picked.append(uses.get(inward) or uses.get(outward) or fallback)
        yield tuple(picked)


# --------------------------------------------------------------------------- options


def chain_options(site: Site, chain: Chain, halo: str, height: int) -> Iterator[Option]:
    """Every residency pattern of a group of whole layers."""
    last, first = site.position[chain.layers[0]], site.position[chain.layers[-1]]
    weights = sum(site.weight_space(p) for p in range(first, last + 1))
    capacity = site.hardware.spm.capacity_bytes
    outs = [
        i
        for i, index in enumerate(chain.layers)
        if site.last_reader[site.network.layers[index].output] > last or i == 0
    ]
    stripe_bytes = sum(
        site.aligned(chain.held[i] * site.network.tensors[site.network.layers[x].output].row_bytes)
        for i, x in enumerate(chain.layers)
        if i not in outs
    )
    if weights + stripe_bytes > capacity:
        return
    compute = chain_cycles(site, chain)
    begin, end = site.spans[first][0], site.spans[last][1]
    dram = site.hardware.dram
    weight_bytes = sum(moved_bytes(dram, part.weight_bytes) for part in site.parts[begin:end])
    for depth in (1, 2) if len(compute) > 1 else (1,):
        recipe = Recipe((first, last + 1), None, "rows", height, depth, halo)
        body = Body(begin, end, recipe, compute, stripe_bytes, weights, weight_bytes, None, False)
        groups = [
            input_choices(site, tensor, need, depth) for tensor, need in chain.needs.items()
        ] + [_chain_output(site, chain, i, depth, last) for i in outs]
        if halo == "recompute":
            # a recomputed row must not be rewritten while it is being stored
            groups = [
                [c for c in g if i - len(chain.needs) <= 0 or c.use == "keep"]
                for i, g in enumerate(groups)
            ]
        yield from _fitting(site, body, groups)


def _chain_output(site: Site, chain: Chain, i: int, depth: int, last: int) -> list[Choice]:
    tensor = site.network.layers[chain.layers[i]].output
    map_ = site.network.tensors[tensor]
    rows, held = stored_rows(chain, i, depth)
    moved = moved_bytes_array(site.hardware.dram, rows.count * map_.row_bytes)
    stores = (transfer_cycles_array(site.hardware.dram, moved), moved)
    outside = site.outside_readers(tensor, last)
    return output_choices(site, tensor, None, stores, held * map_.row_bytes, outside)


def slice_options(site: Site, position: int, index: int, height: int) -> Iterator[Option]:
    """Every residency pattern of one slice of a layer, cut into stripes of rows."""
    layer, part = site.layer_at(position), site.parts[index]
    chain = start_chain(site.network, site.order[position], stripes(layer.rows, height))
    compute = part_cycles(site, layer, part, chain)
    weights = site.aligned(part.weight_bytes)
    for depth in (1, 2) if len(compute) > 1 else (1,):
        recipe = Recipe((position, position + 1), part, "rows", height, depth, "retain")
        body = Body(
            index, index + 1, recipe, compute, 0, weights,
            moved_bytes(site.hardware.dram, part.weight_bytes), None, False,
        )  # fmt: skip
        groups = [input_choices(site, t, need, depth) for t, need in chain.needs.items()]
        rows, held = stored_rows(chain, 0, depth)
        groups.append(_slice_output(site, position, part, rows.count, held, part_channels(part)))
        yield from _fitting(site, body, groups)


def _slice_output(
    site: Site, position: int, part: Part, rows: Ints, held: int, channels: int | None
) -> list[Choice]:
    tensor, dram = site.layer_at(position).output, site.hardware.dram
    runs, run_bytes = channel_runs(site, tensor, channels)
    if channels is None:
        moved = moved_bytes_array(dram, rows * run_bytes)
    else:
        moved = moved_bytes_array(dram, np.full_like(rows, run_bytes), rows * runs)
    stores = (transfer_cycles_array(dram, moved), moved)
    outside = site.outside_readers(tensor, position)
    return output_choices(site, tensor, part, stores, held * runs * run_bytes, outside)


def channel_tiles(layer: Layer, part: Part, height: int) -> tuple[tuple[int, int], ...]:
    """Output channels ``[begin, end)`` of each channel tile of a part."""
    axis = layer.op.channel_axis(layer.output_shape)
    begin, end = part.channels or (0, 1 if axis is None else layer.output_shape[axis])
    return tuple((b, min(b + height, end)) for b in range(begin, end, height))


def channel_options(site: Site, position: int, index: int, height: int) -> Iterator[Option]:
    """A part run in tiles of `height` output channels, its weights streamed beside them."""
    layer, part, dram = site.layer_at(position), site.parts[index], site.hardware.dram
    tiles = channel_tiles(layer, part, height)
    whole = stripes(layer.rows, layer.rows)
    chain = start_chain(site.network, site.order[position], whole)
    weights = np.array([channel_weight_bytes(layer, e - b) for b, e in tiles], dtype=np.int64)
    compute = np.concatenate(
        [part_cycles(site, layer, Part(part.layer, t, int(w)), chain) for t, w in zip(tiles, weights, strict=True)]
    )  # fmt: skip
    moved = moved_bytes_array(dram, weights)
    runs = [channel_runs(site, layer.output, e - b) for b, e in tiles]
    stored = np.concatenate(
        [moved_bytes_array(dram, np.array([size]), n * layer.rows) for n, size in runs]
    )
    unit = max(n * size * layer.rows for n, size in runs)
    first = np.arange(len(tiles)) == 0
    for depth in (1, 2):
        recipe = Recipe((position, position + 1), part, "channels", height, depth, "retain")
        body = Body(
            index, index + 1, recipe, compute, site.aligned(depth * int(weights.max())), 0,
            int(moved.sum()), transfer_cycles_array(dram, moved), True,
        )  # fmt: skip
        groups = []
        for tensor, need in chain.needs.items():
            read, stream = input_choices(site, tensor, need, 1)
            once = np.where(first, stream.load[0] if stream.load is not None else 0, 0)
            groups.append([read, Choice(
                stream.map, "stream", once, None, None, stream.space_bytes, 0, stream.dram_bytes
            )])  # fmt: skip
        outside = site.outside_readers(layer.output, position)
        stores = (transfer_cycles_array(dram, stored), stored)
        groups.append(output_choices(site, layer.output, part, stores, depth * unit, outside))
        yield from _fitting(site, body, groups)


def channel_heights(layer: Layer, part: Part, capacity_bytes: int) -> tuple[int, ...]:
    """Channel tile heights worth trying: weights of 1/64 to 1/2 of the scratchpad a tile."""
    axis = layer.op.channel_axis(layer.output_shape)
    if axis is None or not layer.op.tileable or not (layer.loops and layer.weight_bytes):
        return ()
    step = layer.op.channel_step()
    begin, end = part.channels or (0, layer.output_shape[axis])
    blocks = (end - begin) // step
    found: set[int] = set()
    for shift in range(1, blocks.bit_length() + 1):
        height = ceil_div(blocks, 2**shift) * step
        size = channel_weight_bytes(layer, height)
        if size <= capacity_bytes // 2 and (size >= capacity_bytes // 64 or not found):
            found.add(height)
    return tuple(sorted(found, reverse=True))


def _fitting(site: Site, body: Body, groups: list[list[Choice]]) -> Iterator[Option]:
    room = site.hardware.spm.capacity_bytes - body.weight_space - body.stripe_bytes
    for choices in _patterns(groups):
        if sum(c.space_bytes + c.outside_bytes for c in choices) <= room:
            yield Option(body, choices)


# --------------------------------------------------------------------------- candidates


def all_options(site: Site, halos: tuple[str, ...] = ("retain",)) -> Iterator[Option]:
    """Every option of the plan space that fits the scratchpad."""
    for position in range(len(site.order)):
        layer = site.layer_at(position)
        for chain, halo, height in row_groups(site, position, halos):
            yield from chain_options(site, chain, halo, height)
        begin, end = site.spans[position]
        for index in range(begin, end):
            if end - begin > 1:
                for height in stripe_heights(layer.rows):
                    yield from slice_options(site, position, index, height)
            for height in channel_heights(
                layer, site.parts[index], site.hardware.spm.capacity_bytes
            ):
                yield from channel_options(site, position, index, height)


def time_options(options: Iterable[Option]) -> list[tuple[Option, int, int]]:
    """Each option with its duration and the end of its transfers, in cycles."""
    batches: dict[tuple[int, int], list[Option]] = defaultdict(list)
    for option in options:
        batches[len(option.body.compute), option.body.recipe.depth].append(option)
    timed: list[tuple[Option, int, int]] = []
    for (tiles, depth), batch in batches.items():
        compute = np.stack([option.body.compute for option in batch])
        load, store, written = (np.zeros((len(batch), tiles), dtype=np.int64) for _ in range(3))
        for n, option in enumerate(batch):
            if option.body.load is not None:
                load[n] += option.body.load
            for choice in option.choices:
                for total, part in (
                    (load, choice.load),
                    (store, choice.store),
                    (written, choice.written),
                ):
                    if part is not None:
                        total[n] += part
        spans = pipeline_spans(compute, load, store, written, depth)
        timed += zip(batch, spans.duration_cycles.tolist(), spans.dma_cycles.tolist(), strict=True)
    return timed


def make_candidates(
    site: Site, halos: tuple[str, ...] = ("retain",), prune: bool = True
) -> tuple[tuple[Candidate, ...], tuple[Recipe, ...]]:
    """All candidates worth having, and how each runs.

    Parameters
    ----------
    prune : bool
        Keep only the Pareto set on (duration, transfer end, space, DRAM bytes) per group and
        residency pattern; of equal candidates the first stays.

    Raises
    ------
    SpmTooSmallError
        Where a part of the network fits the scratchpad in no tiling.
    """
    families: dict[tuple[object, ...], list[Candidate]] = defaultdict(list)
    recipes: list[Recipe] = []
    for option, duration, dma in time_options(all_options(site, halos)):
        candidate = _candidate(option, duration, dma, len(recipes))
        recipes.append(option.body.recipe)
        families[_family(candidate)].append(candidate)
    kept: list[Candidate] = []
    for family in families.values():
        kept += _pareto(family) if prune else family
    kept.sort(key=lambda c: (c.first, c.end, c.recipe))
    _check_coverage(site, kept)
    return tuple(kept), tuple(recipes)


def _candidate(option: Option, duration: int, dma: int, recipe: int) -> Candidate:
    uses: dict[str, list[int]] = defaultdict(list)
    for choice in option.choices:
        uses[choice.use].append(choice.map)
    body = option.body
    return Candidate(
        body.first, body.end, tuple(uses["read"]), tuple(uses["stream"]),
        tuple(sorted(uses["keep"] + uses["both"])), tuple(sorted(uses["store"] + uses["both"])),
        body.streams_weights, duration, dma, int(body.compute.sum()),
        body.stripe_bytes + sum(c.space_bytes for c in option.choices),
        body.weight_bytes + sum(c.dram_bytes for c in option.choices), recipe,
    )  # fmt: skip


def _family(c: Candidate) -> tuple[object, ...]:
    return (c.first, c.end, c.reads, c.streams, c.keeps, c.stores, c.streams_weights)


def _pareto(family: list[Candidate]) -> list[Candidate]:
    """Candidates that no other one beats in every price; of equals the first."""
    if len(family) == 1:
        return family
    prices = np.array(
        [(c.duration_cycles, c.dma_cycles, c.work_bytes, c.dram_bytes) for c in family]
    )
    order = np.lexsort((np.arange(len(family)), *prices.T[::-1]))
    kept: list[int] = []
    for n in order.tolist():
        if not kept or not np.any(np.all(prices[kept] <= prices[n], axis=1)):
            kept.append(n)
    return [family[n] for n in kept]


def _check_coverage(site: Site, candidates: list[Candidate]) -> None:
    covered = {part for c in candidates for part in range(c.first, c.end)}
    for position in range(len(site.order)):
        missing = [p for p in range(*site.spans[position]) if p not in covered]
        if missing:
            name = site.layer_at(position).name
            needed = smallest_working_set(site, position)
            raise SpmTooSmallError(name, needed, site.hardware.spm.capacity_bytes)


def smallest_working_set(site: Site, position: int) -> int:
    """Least bytes with which the layer at `position` runs by itself, everything streamed."""
    from dataclasses import replace

    roomy = replace(site.hardware, spm=replace(site.hardware.spm, capacity_bytes=2**62))
    wide = replace(site, hardware=roomy)
    layer = site.layer_at(position)
    begin, end = site.spans[position]
    options: list[Option] = []
    heights = stripe_heights(layer.rows) if layer.op.tileable else (layer.rows,)
    for height in heights:
        chain = start_chain(site.network, site.order[position], stripes(layer.rows, height))
        if end - begin == 1:
            options += chain_options(wide, chain, "retain", height)
        else:
            options += slice_options(wide, position, begin, height)
    if layer.op.channel_axis(layer.output_shape) is not None and layer.op.tileable:
        options += channel_options(wide, position, begin, layer.op.channel_step())
    return min(
        o.body.weight_space
        + o.body.stripe_bytes
        + sum(c.space_bytes + c.outside_bytes for c in o.choices)
        for o in options
    )
