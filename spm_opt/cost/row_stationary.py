"""Row-stationary execution (Eyeriss): counts of a layer under a mapping, and the best mapping.

A PE convolves one kernel row with one input row; a *set* of ``kernel x e`` PEs makes e output rows.
r x t sets run at once: r of different channels, whose partial sums meet in the array, and t of
different filters. A PE interleaves p filters and q channels out of its scratchpads. A pass is
therefore p t filters and q r channels of n images (ISCA 2016; JSSC 2017, doi
10.1109/JSSC.2016.2616357).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np

from spm_opt.cost.exact import Ints
from spm_opt.cost.spatial import (
    Accesses,
    ConvNest,
    LayerAccesses,
    Objective,
    Sparsity,
    ceil_quotient,
    dram_words,
)
from spm_opt.dataflow import SpatialArray


@dataclass(frozen=True, slots=True)
class RowMapping:
    """How a layer is mapped: m filters, n images, e output rows a fill; p, q, r, t as above."""

    m: int
    n: int
    e: int
    p: int
    q: int
    r: int
    t: int


class RowMappings(NamedTuple):
    """Many mappings: arrays of the same shape, fields as in `RowMapping`."""

    m: Ints
    n: Ints
    e: Ints
    p: Ints
    q: Ints
    r: Ints
    t: Ints

    @classmethod
    def of(cls, mapping: RowMapping) -> RowMappings:
        """An array of one."""
        return cls(*(np.array([value], dtype=np.int64) for value in astuple(mapping)))

    def at(self, index: int) -> RowMapping:
        """One of them."""
        return RowMapping(*(int(values[index]) for values in self))


def accesses(nest: ConvNest, mappings: RowMappings) -> Accesses:
    """Counts of a layer under each of some mappings; capacities are not looked at.

    Cycles count whole passes: idle sets, filters and channels of a last pass, and idle rows of a
    last strip, take the time of busy ones. Words count only what exists.
    """
    m, n, e, p, q, r, t = mappings
    strips = ceil_quotient(nest.rows_out, e)
    channel_passes = ceil_quotient(nest.channels, q * r)
    filter_passes = _filter_passes(nest.filters, m, p * t)
    passes = nest.groups * channel_passes * filter_passes
    weights, ifmap, ofmap = dram_words(nest, m, n, e)
    blocks = ceil_quotient(nest.filters, m)
    # every filter reaches the e columns of its set's rows, for each block of images
    filters_in = weights // strips * nest.rows_out
    # a row of a channel reaches `kernel` PEs an output row, in each of the t sets
    rows_in = (
        nest.images * nest.groups * nest.channels * filter_passes * t
        * nest.kernel * nest.rows_out * nest.rows_in
    )  # fmt: skip
    hops = nest.ofmap_words * (nest.kernel * ceil_quotient(nest.channels, q) - channel_passes)
    return Accesses(
        active_pes=nest.kernel * e * r * t,
        mac_cycles=passes * strips * nest.images * p * q * nest.kernel * nest.rows_out,
        # a MAC reads weight, activation and partial sum and writes the sum
        register_words=4 * nest.macs + filters_in + rows_in,
        neighbour_words=filters_in + rows_in + hops,
        # partial sums come and go once a pass of channels, the input once a pass of filters
        buffer_map_words=2 * channel_passes * ofmap + ifmap // blocks * filter_passes,
        buffer_weight_words=weights,
        dram_weight_words=weights,
        dram_ifmap_words=ifmap,
        dram_ofmap_words=ofmap,
    )


def _filter_passes(filters: int, fill: Ints, at_once: Ints) -> Ints:
    full, rest = np.divmod(filters, fill)
    return full * ceil_quotient(fill, at_once) + ceil_quotient(rest, at_once)


def mapped(nest: ConvNest, mapping: RowMapping) -> LayerAccesses:
    """Counts under one mapping."""
    return accesses(nest, RowMappings.of(mapping)).at(0)


def sets_at_once(kernel: int, rows: Ints, chip: SpatialArray) -> Ints:
    """PE sets that the array holds; one wider than the array folds into several of its width.

    JSSC 2017: the 5 x 27 set of AlexNet CONV2 takes two runs of 5 rows.
    """
    runs = chip.pe_rows // kernel
    beside = np.maximum(1, chip.pe_columns // rows)
    return runs // ceil_quotient(rows, chip.pe_columns) * beside


def map_banks(nest: ConvNest, mappings: RowMappings, chip: SpatialArray) -> Ints:
    """Buffer banks of the input maps of a pass, and of the partial sums of a fill."""
    rows = np.where(
        mappings.e >= nest.rows_out, nest.rows_in, (mappings.e - 1) * nest.stride + nest.kernel
    )
    ifmap = mappings.n * mappings.q * mappings.r * rows * nest.rows_in * chip.word_bytes
    psum = mappings.n * mappings.m * mappings.e * nest.rows_out * chip.word_bytes
    return ceil_quotient(ifmap, chip.bank_bytes) + ceil_quotient(psum, chip.bank_bytes)


def violations(nest: ConvNest, mapping: RowMapping, chip: SpatialArray) -> tuple[str, ...]:
    """What a mapping asks of the chip beyond what it has; one sentence each."""
    p, q, kernel = mapping.p, mapping.q, nest.kernel
    grid = RowMappings.of(mapping)
    sets = int(sets_at_once(kernel, grid.e, chip)[0])
    weights = p * mapping.t * q * mapping.r * kernel**2 * chip.word_bytes
    limits = (
        ("filter scratchpad words", p * q * kernel, chip.filter_words),
        ("ifmap scratchpad words", q * kernel, chip.ifmap_words),
        ("psum scratchpad words", p, chip.psum_words),
        ("PE sets", mapping.r * mapping.t, sets),
        ("weight bytes of a pass", weights, chip.weight_bytes),
        ("map banks", int(map_banks(nest, grid, chip)[0]), chip.map_bytes // chip.bank_bytes),
        ("images of a fill", mapping.n, nest.images),
        ("filters of a fill", mapping.m, nest.filters),
        ("output rows of a strip", mapping.e, nest.rows_out),
    )
    return tuple(
        f"{what}: {needed} needed, {available} available"
        for what, needed, available in limits
        if needed > available
    )


def best_mapping(
    nest: ConvNest, chip: SpatialArray, sparsity: Sparsity, objective: Objective
) -> RowMapping:
    """The mapping of least `objective` among all that fit the chip.

    All e, p, q, r, t, n are tried. m is all filters or whole passes of p t, as in every published
    mapping; the largest that the buffer holds is never worse than another (the input is read once
    a block and nothing else depends on m), and is evened out over the blocks.
    Of equal mappings the one of most active PEs, then the first, is taken.

    Raises
    ------
    ValueError
        If no mapping fits.
    """
    best: tuple[tuple[float, int], RowMapping] | None = None
    for images in range(1, nest.images + 1):
        mappings = _candidates(nest, chip, images)
        if not mappings.m.size:
            continue
        counts = accesses(nest, mappings)
        values = objective(nest, counts, chip, sparsity)
        index = int(np.lexsort((-counts.active_pes, values))[0])
        rank = (float(values[index]), -int(counts.active_pes[index]))
        if best is None or rank < best[0]:
            best = rank, mappings.at(index)
    if best is None:
        raise ValueError(f"{nest} fits the array in no mapping")
    return best[1]


def _candidates(nest: ConvNest, chip: SpatialArray, images: int) -> RowMappings:
    """Every mapping of `images` images that fits, m as large as the buffer allows."""
    kernel = nest.kernel
    widest = min(nest.rows_out, chip.pe_rows // kernel * chip.pe_columns)
    most_sets = int(sets_at_once(kernel, np.array([1]), chip)[0])
    pairs = np.array([
        (r, t)
        for r in range(1, min(nest.channels, most_sets) + 1)
        for t in range(1, min(nest.filters, most_sets // r) + 1)
    ], dtype=np.int64)  # fmt: skip
    ranges = (
        widest, min(nest.filters, chip.psum_words),
        min(nest.channels, chip.ifmap_words // kernel), len(pairs),
    )  # fmt: skip
    e, p, q, pair = (axis.ravel() for axis in np.indices(ranges, dtype=np.int64))
    e, p, q, r, t = e + 1, p + 1, q + 1, pairs[pair, 0], pairs[pair, 1]
    fits = (
        (p * q * kernel <= chip.filter_words)
        & (r * t <= sets_at_once(kernel, e, chip))
        & (q * (r - 1) < nest.channels)
        & (p * (t - 1) < nest.filters)
        & (p * t * q * r * kernel**2 * chip.word_bytes <= chip.weight_bytes)
    )
    e, p, q, r, t = (axis[fits] for axis in (e, p, q, r, t))
    n = np.full_like(e, images)
    m = _most_filters(nest, RowMappings(np.zeros_like(n), n, e, p, q, r, t), chip)
    kept = m > 0
    return RowMappings(*(axis[kept] for axis in (m, n, e, p, q, r, t)))


def _most_filters(nest: ConvNest, grid: RowMappings, chip: SpatialArray) -> Ints:
    """Filters of a fill beside the input maps of a pass; 0 where a pass does not fit."""
    left = chip.map_bytes // chip.bank_bytes - map_banks(nest, grid, chip)
    filter_bytes = grid.n * grid.e * nest.rows_out * chip.word_bytes
    at_once = np.minimum(grid.p * grid.t, nest.filters)
    room = np.maximum(left, 0) * chip.bank_bytes // filter_bytes
    most = np.where(room >= nest.filters, nest.filters, room // at_once * at_once)
    blocks = ceil_quotient(nest.filters, np.maximum(most, 1))
    even = ceil_quotient(ceil_quotient(nest.filters, blocks), at_once) * at_once
    return np.where(most > 0, np.minimum(even, most), 0)
