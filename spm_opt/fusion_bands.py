"""Groups in bands of columns: the same run of layers, on narrower maps, band after band.

A group whose rows are too wide for the scratchpad is cut into vertical bands
(`spm_opt.graph.bands`). Each band is a pipeline of stripes of its own; bands run one after another
and share the constants. The group occupies the largest working set of its bands in all of them.
Bands that are alike (all but the first and the last, mostly) are priced once. Maps may keep their
borders from band to band (`spm_opt.fusion_band_borders`): a group has one choice of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Final

import numpy as np

from spm_opt.errors import GraphError
from spm_opt.fusion_band_borders import border_choices
from spm_opt.fusion_band_runs import Band, BandedGroup, BandRun
from spm_opt.fusion_borders import MAX_FREE_MAPS
from spm_opt.fusion_groups import (
    MAX_GROUP_LAYERS,
    sum_of,
)
from spm_opt.graph.band_cuts import band_cuts
from spm_opt.graph.network import Layer
from spm_opt.graph.ops import Resize
from spm_opt.site import Site
from spm_opt.tiling import (
    Chain,
    Ints,
    grow_chain,
    start_chain,
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
    plain: dict[int, Ints] = {}
    for choice in border_choices(site, positions, list(pairwise(edges))):
        run = BandRun(site, positions, edges, choice, _heights(site, end))
        for group in run.groups(wanted, seen):
            first = group.recipe.positions[0]
            if not group.recipe.kept:
                plain[first] = _work(group)
                least[first] = min(
                    max(int(_least_space(band, height)) for band in group.bands)
                    for height in range(len(group.heights))
                )
            # a border that spares no work only takes space
            if not group.recipe.kept or (_work(group) < plain[first]).any():
                yield group


def _work(group: BandedGroup) -> Ints:
    """Cycles, energy and loaded bytes (first axis) of a group, in each cutting."""
    return sum_of(
        band.count
        * np.stack((
            band.cuts.total(band.compute), band.cuts.total(band.energy),
            sum_of(moves.dram_bytes for moves in band.inputs),
        ))
        for band in group.bands
    )  # fmt: skip


def _least_space(band: Band, cutting: int) -> int:
    """Working set of a band, one deep, with everything streamed."""
    moves = (*band.inputs, band.output)
    return int(band.space_bytes[cutting] + sum(m.buffer_bytes[0, cutting] for m in moves))


def _heights(site: Site, end: int) -> tuple[int, ...]:
    """Stripe heights of bands: all rows, and from `TALLEST` down, tallest first."""
    layer = site.layer_at(end)
    every = stripe_heights(layer.rows, layer.images)
    kept: list[int] = []
    for height in reversed(every):
        if height <= TALLEST and (not kept or height >= 2 * kept[-1]):
            kept.append(height)
    return tuple(sorted({every[0], *kept}, reverse=True))
