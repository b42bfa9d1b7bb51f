"""Weight-stationary, output-stationary and no-local-reuse execution: counts and best mappings.

Each keeps one kind of word, or none, where the MACs are (taxonomy of ISCA 2016); what is kept is
chosen here at its best: every extent of the array and of the buffer is tried.

- weight-stationary (systolic): a PE holds one weight; all taps of some channels and filters at
  once. Activations shift from PE to PE, partial sums add up along the way, and live in the buffer.
- output-stationary: a PE holds one partial sum until it is finished; rows x columns of some images
  and filters at once. Weights and activations are broadcast or shifted, one MAC a word.
- no local reuse: PEs hold nothing; taps x filters at once, every operand from the buffer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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
    strip_rows,
)
from spm_opt.dataflow import SpatialArray

#: extents of a mapping by name: arrays of the same shape
Extents = Mapping[str, Ints]


@dataclass(frozen=True, slots=True)
class Mapped:
    """The best mapping that was found, and its counts."""

    extents: Mapping[str, int]
    accesses: LayerAccesses


def weight_stationary(nest: ConvNest, of: Extents) -> Accesses:
    """Counts for `channels` x `filters` in the array and fills of `m`, `n`, `e`."""
    taps = nest.kernel**2
    channel_passes = ceil_quotient(nest.channels, of["channels"])
    filter_passes = _passes(nest.filters, of["m"], of["filters"])
    weights, ifmap, ofmap = dram_words(nest, of["m"], of["n"], of["e"])
    steps = nest.groups * nest.images * nest.rows_out**2 * channel_passes * filter_passes
    return Accesses(
        active_pes=taps * of["channels"] * of["filters"],
        mac_cycles=steps,
        register_words=nest.macs + weights,
        # every MAC gets its activation, every sum passes all PEs of its channels
        neighbour_words=weights
        + nest.macs
        + nest.ofmap_words * (nest.channels * taps - channel_passes),
        buffer_map_words=2 * channel_passes * ofmap
        + ifmap // ceil_quotient(nest.filters, of["m"]) * filter_passes,
        buffer_weight_words=weights,
        dram_weight_words=weights,
        dram_ifmap_words=ifmap,
        dram_ofmap_words=ofmap,
    )


def no_local_reuse(nest: ConvNest, of: Extents) -> Accesses:
    """Counts for `taps` x `filters` in the array and fills of `m`, `n`, `e`."""
    taps = nest.channels * nest.kernel**2
    tap_passes = ceil_quotient(taps, of["taps"])
    filter_passes = _passes(nest.filters, of["m"], of["filters"])
    weights, ifmap, ofmap = dram_words(nest, of["m"], of["n"], of["e"])
    pixels = nest.groups * nest.images * nest.rows_out**2
    return Accesses(
        active_pes=of["taps"] * of["filters"],
        mac_cycles=pixels * tap_passes * filter_passes,
        register_words=np.zeros_like(ofmap),
        neighbour_words=2 * nest.macs + nest.ofmap_words * (taps - tap_passes),
        # an activation is broadcast to the filters; a weight serves one MAC
        buffer_map_words=2 * tap_passes * ofmap + pixels * taps * filter_passes,
        buffer_weight_words=np.full_like(ofmap, nest.macs),
        dram_weight_words=weights,
        dram_ifmap_words=ifmap,
        dram_ofmap_words=ofmap,
    )


def output_stationary(nest: ConvNest, of: Extents) -> Accesses:
    """Counts for `filters` x `images` x `rows` x `columns` in the array and fills of `m`, `n`, `e`.

    Either the input of a fill stays in the buffer for all filters (``m`` = all), or m filters do
    while all images and rows pass (``n``, ``e`` = all).
    """
    filter_passes = _passes(nest.filters, of["m"], of["filters"])
    weights, ifmap, ofmap = dram_words(nest, of["m"], of["n"], of["e"])
    strips = ceil_quotient(nest.rows_out, of["rows"])
    bands = ceil_quotient(nest.rows_out, of["columns"])
    blocks = ceil_quotient(nest.images, of["images"])
    tiles = strips * bands * blocks
    # neighbours hand activations on: a tile reads its window once
    window = strip_rows(nest, of["rows"]) * strip_rows(nest, of["columns"])
    depth = nest.channels * nest.kernel**2
    read = nest.images * nest.groups * nest.channels * window * filter_passes
    return Accesses(
        active_pes=of["filters"] * of["images"] * of["rows"] * of["columns"],
        mac_cycles=nest.groups * tiles * filter_passes * depth,
        register_words=np.full_like(ofmap, 2 * nest.macs),
        neighbour_words=np.full_like(ofmap, 2 * nest.macs),
        buffer_map_words=read + ofmap,
        buffer_weight_words=nest.weight_words * tiles,
        dram_weight_words=weights,
        dram_ifmap_words=ifmap,
        dram_ofmap_words=ofmap,
    )


def _passes(filters: int, fill: Ints, at_once: Ints) -> Ints:
    full, rest = np.divmod(filters, fill)
    return full * ceil_quotient(fill, at_once) + ceil_quotient(rest, at_once)


_COUNTS = {
    "weight_stationary": weight_stationary,
    "output_stationary": output_stationary,
    "no_local_reuse": no_local_reuse,
}


def counted(kind: str, nest: ConvNest, extents: Mapping[str, int]) -> LayerAccesses:
    """Counts of a layer under one mapping of the dataflow `kind`."""
    arrays = {name: np.array([value], dtype=np.int64) for name, value in extents.items()}
    return _COUNTS[kind](nest, arrays).at(0)


def best_stationary(
    nest: ConvNest, chip: SpatialArray, sparsity: Sparsity, objective: Objective
) -> Mapped:
    """The mapping of least `objective` of the chip's dataflow, among all that fit it.

    Raises
    ------
    ValueError
        If no mapping fits.
    """
    best: tuple[float, dict[str, int]] | None = None
    for grid in _grids(nest, chip):
        if not grid["m"].size:
            continue
        values = objective(nest, _COUNTS[chip.kind](nest, grid), chip, sparsity)
        index = int(np.argmin(values))
        if best is None or float(values[index]) < best[0]:
            best = float(values[index]), {name: int(of[index]) for name, of in grid.items()}
    if best is None:
        raise ValueError(f"{nest} fits the array in no mapping")
    return Mapped(best[1], counted(chip.kind, nest, best[1]))


def _grids(nest: ConvNest, chip: SpatialArray) -> Iterator[dict[str, Ints]]:
    if chip.kind == "output_stationary":
        yield from _output_grids(nest, chip)
        return
    depth = nest.channels if chip.kind == "weight_stationary" else nest.channels * nest.kernel**2
    taps = nest.kernel**2 if chip.kind == "weight_stationary" else 1
    name = "channels" if chip.kind == "weight_stationary" else "taps"
    inner, filters = _pairs(depth, nest.filters, chip.pes // taps)
    for images in range(1, nest.images + 1):
        rows, pair = (a.ravel() for a in np.indices((nest.rows_out, inner.size), dtype=np.int64))
        grid = {name: inner[pair], "filters": filters[pair], "e": rows + 1}
        grid["n"] = np.full_like(rows, images)
        grid["m"] = _most_filters(nest, chip, grid, name)
        kept = grid["m"] > 0
        yield {key: values[kept] for key, values in grid.items()}


def _pairs(first: int, second: int, most: int) -> tuple[Ints, Ints]:
    """All extents of two dimensions whose product is within `most`."""
    pairs = [
        (a, b) for a in range(1, min(first, most) + 1) for b in range(1, min(second, most // a) + 1)
    ]
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _most_filters(nest: ConvNest, chip: SpatialArray, grid: Extents, name: str) -> Ints:
    """Filters whose partial sums fit beside a pass's input; nothing else limits m."""
    per_channel = 1 if name == "channels" else nest.kernel**2
    channels = np.minimum(ceil_quotient(grid[name], per_channel) + (per_channel > 1), nest.channels)
    window = np.minimum((grid["e"] - 1) * nest.stride + nest.kernel, nest.rows_in)
    left = chip.map_bytes // chip.word_bytes - grid["n"] * channels * window * nest.rows_in
    most = np.maximum(left, 0) // (grid["n"] * grid["e"] * nest.rows_out)
    at_once = grid["filters"]
    return np.where(most >= nest.filters, nest.filters, most // at_once * at_once)


def _output_grids(nest: ConvNest, chip: SpatialArray) -> Iterator[dict[str, Ints]]:
    words = chip.map_bytes // chip.word_bytes
    side = nest.rows_out
    for images in range(1, min(nest.images, chip.pes) + 1):
        rows, columns = _pairs(side, side, chip.pes // images)
        if not rows.size:
            continue
        filters = np.minimum(chip.pes // images // (rows * columns), nest.filters)
        tile = {"filters": filters, "rows": rows, "columns": columns}
        tile["images"] = np.full_like(rows, images)
        for m, n, e in _output_fills(nest, words):
            fits = (tile["images"] <= n) & (tile["rows"] <= e) & (tile["filters"] <= m)
            grid = {key: values[fits] for key, values in tile.items()}
            for key, value in (("m", m), ("n", n), ("e", e)):
                grid[key] = np.full_like(grid["rows"], value)
            yield grid


def _output_fills(nest: ConvNest, words: int) -> Iterator[tuple[int, int, int]]:
    """What stays in the buffer: the input of n images and e rows, or m filters beside a window."""
    for n in range(1, nest.images + 1):
        for e in range(1, nest.rows_out + 1):
            window = min((e - 1) * nest.stride + nest.kernel, nest.rows_in)
            if n * nest.channels * window * nest.rows_in <= words:
                yield nest.filters, n, e
    lines = nest.channels * nest.kernel * nest.rows_in
    m = min(nest.filters, max(0, words - lines) // (nest.channels * nest.kernel**2))
    if m:
        yield m, nest.images, nest.rows_out
