"""Candidates: every group that may run, under every tiling and residency pattern worth having.

A candidate is a run of layers that all feed its last one, or one slice of a layer; a cutting of
the last layer's rows (or output channels, constants and channelwise inputs streamed); a halo
policy; a buffer depth; and, for each map that crosses its border, whether it is read or written in
SPM or streamed. With that fixed, its cycles, bytes and space are constants. Options are proposed
(`spm_opt.fusion_groups`) and compared (`spm_opt.fusion_prices`), never chosen.

Halos are retained by default, and nothing is lost by it: a tile that recomputes its halo computes
the same last rows, from no later a row, than one that finds it retained. It so computes and reads
no fewer rows, and its buffers hold no fewer, tile by tile and layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from math import ceil

from spm_opt.errors import SpmTooSmallError
from spm_opt.fusion_bands import banded_groups
from spm_opt.fusion_blocks import block_groups
from spm_opt.fusion_channels import tiled_groups
from spm_opt.fusion_groups import (
    MAX_GROUP_LAYERS,
    Group,
    Recipe,
    layer_tile_cycles,
    part_cycles,
    recipe_chain,
    row_groups,
    seen_columns,
    slice_groups,
)
from spm_opt.fusion_prices import Pricer
from spm_opt.fusion_runs import run_groups
from spm_opt.fusion_sums import sum_groups
from spm_opt.hardware import Dram
from spm_opt.parts_space import layer_minimum_bytes, minimum_spm_bytes
from spm_opt.pipeline import Cut
from spm_opt.problem import Candidate
from spm_opt.site import Site

__all__ = [
    "MAX_GROUP_LAYERS",
    "Offer",
    "Recipe",
    "cut_costs",
    "layer_tile_cycles",
    "make_candidates",
    "minimum_spm_bytes",
    "part_cycles",
    "recipe_chain",
    "seen_columns",
]


@dataclass(frozen=True, slots=True)
class Offer:
    """What there is to choose from.

    Attributes
    ----------
    candidates : tuple of Candidate
        All that are worth having.
    recipes : tuple of Recipe
        How each runs.
    dropped : int
        Options that fit, and that another one of the same parts and residency pattern beats or
        equals in every price.
    """

    candidates: tuple[Candidate, ...]
    recipes: tuple[Recipe, ...]
    dropped: int


def make_candidates(
    site: Site,
    halos: tuple[str, ...] = ("retain",),
    prune: bool = True,
    longest: int = MAX_GROUP_LAYERS,
    cuts: bool = True,
    bands: bool = True,
    blocks: bool = True,
    runs: bool = True,
) -> Offer:
    """All candidates worth having, and how each runs.

    Parameters
    ----------
    prune : bool
        Keep only the Pareto set on (duration, transfer end, space, DRAM bytes, energy where it
        is counted) per group and residency pattern; of equal candidates the first stays.
    longest : int
        Layers of the longest group.
    cuts : bool
        Whether prefetches may be cut, to fill the gaps between streams.
    bands : bool
        Whether groups may be cut into bands of columns.
    blocks : bool
        Whether layers may run in blocks, which load their constants again for each stripe, or keep
        partial sums.
    runs : bool
        Whether several layers may run together in tiles of output channels.

    Raises
    ------
    SpmTooSmallError
        Where a part of the network fits the scratchpad in no tiling; it names the layer that
        needs most of these in stripes, so that in that size each has a tiling.
    """
    capacity = site.hardware.spm.capacity_bytes
    pricer = Pricer(
        capacity, prune, cut_costs(site.hardware.dram) if cuts else None, site.transfer_fj
    )
    for position in range(len(site.order)):
        for group in _plain_groups(site, position, halos, longest):
            pricer.add(group)
    if blocks:
        for position in range(len(site.order)):
            for group in chain(block_groups(site, position), sum_groups(site, position)):
                pricer.add(group)
    if runs:
        for position in range(len(site.order)):
            for group in run_groups(site, position, longest):
                pricer.add(group)
    if bands and longest > 1:
        for banded in banded_groups(site, longest):
            pricer.add_banded(site, banded)
    candidates, recipes = _with_elided(site, *pricer.candidates())
    _require_space(site, candidates, recipes)
    return Offer(candidates, recipes, pricer.dropped)


def _plain_groups(
    site: Site, position: int, halos: tuple[str, ...], longest: int
) -> Iterator[Group]:
    """Groups in stripes of rows, and in channel tiles, that end with the layer at `position`."""
    for halo in halos:
        yield from row_groups(site, position, halo, longest)
    begin, end = site.spans[position]
    if end - begin > 1:
        yield from slice_groups(site, position)
    yield from tiled_groups(site, position)


def _require_space(
    site: Site, candidates: tuple[Candidate, ...], recipes: tuple[Recipe, ...]
) -> None:
    """Raise SpmTooSmallError where stripes do not fit, and neither bands nor sums do.

    Of the layers without a candidate it names the one that needs most.
    """
    least, layer = minimum_spm_bytes(site.network, site.hardware)
    spm = site.hardware.spm
    if least <= spm.capacity_bytes:
        return
    covered = {part for c in candidates for part in range(c.first, c.end)}
    left = {part.layer for number, part in enumerate(site.parts) if number not in covered}
    if left:
        least, index = max((layer_minimum_bytes(site.network, spm, i), -i) for i in left)
        raise SpmTooSmallError(site.network.layers[-index].name, least, spm.capacity_bytes)
    if not any(recipe.bands or recipe.axis == "sums" for recipe in recipes):
        raise SpmTooSmallError(layer, least, spm.capacity_bytes)


def cut_costs(dram: Dram) -> Cut:
    """What cutting a load in two costs: a latency, and rounding where bursts take many cycles."""
    rate, burst = dram.bytes_per_cycle, dram.burst_bytes
    exact = rate.denominator == 1 and rate.numerator % burst == 0
    return Cut(dram.latency_cycles, 0 if exact else ceil(burst / rate) + 1)


def _with_elided(
    site: Site, candidates: tuple[Candidate, ...], recipes: tuple[Recipe, ...]
) -> tuple[tuple[Candidate, ...], tuple[Recipe, ...]]:
    """`candidates`, and those of copying layers that have nothing to do.

    The pieces of a concatenation were written in place, and whoever reads it reads them; or the
    outputs of a split are read where they lie. The map that holds them must be there.
    """
    found: list[Candidate] = []
    added: list[Recipe] = []
    for index, place in site.elidable.items():
        position = site.position[index]
        for part in range(*site.spans[position]):
            cut = None if site.parts[part].channels is None else site.parts[part]
            height = site.layer_at(position).rows
            for reads, streams in (((place.map,), ()), ((), (place.map,))):
                number = len(recipes) + len(added)
                added.append(
                    Recipe((position, position + 1), cut, "rows", height, 1, "retain", True)
                )
                found.append(
                    Candidate(
                        part, part + 1, reads, streams, (), (), False, 0, 0, 0, 0, 0, number, 0
                    )
                )
    merged = sorted((*candidates, *found), key=lambda candidate: (candidate.first, candidate.end))
    return tuple(merged), (*recipes, *added)
