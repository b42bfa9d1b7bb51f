"""Cycles of one tile of one layer on the compute array.

A tile is a run of output rows and, where the layer is cut into slices, a number of output
channels. The answer is for one tile: nothing here sums over a group or a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Final

import numpy as np

from spm_opt.cost.array_tiles import array_counts, least_array_cycles
from spm_opt.cost.exact import Ints, ceil_scaled
from spm_opt.cost.nests import boxes, cycles_per_mac, share_of
from spm_opt.graph.network import Layer
from spm_opt.graph.ops import Loops
from spm_opt.hardware import LOOP_DIMENSIONS, ComputeArray, Hardware, Scratchpad, Unrolling

#: tiles whose passes are remembered
_FEW: Final = 4


def tile_cycles(
    layer: Layer,
    dtype: str,
    hardware: Hardware,
    rows: Ints,
    read_bytes: Ints,
    channels: int | None = None,
    begin: Ints | None = None,
) -> Ints:
    """Cycles of tiles of `layer`.

    ``max(work, ceil(read_bytes / SPM bandwidth)) + overhead``, where the work is, for a MAC nest,
    the least over the permitted unrollings of the product of ``ceil(extent / factor)``, and for a
    vector operator ``ceil(operations / lanes)``. Where the array keeps a dataflow, a MAC nest takes
    what `spm_opt.cost.array_tiles` says instead, reading included. Rows of several images are a
    nest of the whole images among them and one for the rows of each other: a nest has the same rows
    of every image.
    Measured cycles of a layer replace work and
    bandwidth (a measurement has both in it): those of a tile of as many rows where it was
    measured, else on the line between the nearest two; in proportion to the rows where only one
    is known, or below the least and above the most; slices in proportion to their channels.
    Rounded up.

    Parameters
    ----------
    layer : Layer
    dtype : str
        Element type of the output map.
    hardware : Hardware
    rows : int64 array
        Output rows of each tile; a tile of no rows costs nothing.
    read_bytes : int64 array, shape of `rows`
        SPM bytes that the tile reads (input rows and weights).
    channels : int, optional
        Output channels of the slice; all by default.
    begin : int64 array, shape of `rows`, optional
        First output row of each tile, where rows are those of several images; that of an image by
        default.

    Returns
    -------
    int64 array, shape of `rows`
    """
    first = np.zeros_like(rows) if begin is None else begin
    counts = array_counts(layer, dtype, hardware, rows, channels, first)
    if counts is not None:
        work = counts["cycles"]
    else:
        work = _work_cycles(layer, dtype, hardware.compute, rows, channels, first)
        if not layer.measured:
            work = np.maximum(work, ceil_scaled(read_bytes, 1 / _read_rate(layer, hardware.spm)))
    cycles: Ints = work + hardware.compute.tile_overhead_cycles
    return np.where(rows > 0, cycles, 0)


def _read_rate(layer: Layer, spm: Scratchpad) -> Fraction:
    if layer.loops is None and spm.vector_bytes_per_cycle is not None:
        return spm.vector_bytes_per_cycle
    return spm.bytes_per_cycle


def _work_cycles(
    layer: Layer, dtype: str, compute: ComputeArray, rows: Ints, channels: int | None, begin: Ints
) -> Ints:
    axis = layer.channel_axis
    all_channels = 1 if axis is None else layer.output_shape[axis]
    part = all_channels if channels is None else int(channels)
    per_row = Fraction(part, layer.rows * all_channels)
    if layer.measured:
        return _measured_cycles(layer.measured, rows, Fraction(part, all_channels))
    loops = layer.loops
    if loops is None:
        return ceil_scaled(rows, layer.vector_ops * per_row / compute.vector_lanes)
    share = share_of(loops, layer.op.channel_loop, part, all_channels)
    share["b"] //= layer.images
    if loops.oy != layer.image_rows:
        # the rows are no dimension of the nest (one-dimensional convolution: they are channels)
        height, images = np.array([loops.oy]), np.array([layer.images])
        whole = _nest_cycles(loops, share, dtype, compute, height, images)
        return ceil_scaled(rows, Fraction(int(whole[0]), layer.rows))
    total = np.zeros_like(rows)
    for height, images in boxes(layer, rows, begin):
        total += _nest_cycles(loops, share, dtype, compute, height, images)
    return total


def _measured_cycles(measured: tuple[tuple[int, int], ...], rows: Ints, share: Fraction) -> Ints:
    """Cycles of tiles of `rows`, of a share of the channels, by measurements of some tiles."""
    known = {0: Fraction(0), **{r: Fraction(cycles) for r, cycles in measured}}
    most = max(known)
    found: dict[int, int] = {}
    for count in np.unique(rows).tolist():
        low = max((r for r in known if r <= count), default=0)
        high = min((r for r in known if r >= count), default=most)
        if low == high:
            cycles = known[low] * Fraction(count, low) if low else Fraction(0)
        else:
            cycles = known[low] + (known[high] - known[low]) * Fraction(count - low, high - low)
        found[count] = ceil(cycles * share)
    return np.array([found[count] for count in rows.ravel().tolist()], dtype=np.int64).reshape(
        rows.shape
    )


def _nest_cycles(
    loops: Loops, share: Mapping[str, int], dtype: str, compute: ComputeArray, rows: Ints,
    images: Ints,
) -> Ints:  # fmt: skip
    """Cycles of the same `rows` of each of some `images`; ``b`` of `share` belongs to one."""
    per_mac = cycles_per_mac(compute, dtype)
    if rows.size > _FEW or images.size != rows.size:
        return _least_passes(loops, share, compute.unrollings, rows, images) * per_mac
    factors = tuple(tuple(u.factors.items()) for u in compute.unrollings)
    found = _few_passes(
        loops, tuple(share.items()), factors, tuple(rows.tolist()), tuple(images.tolist())
    )
    return np.array(found, dtype=np.int64) * per_mac


@lru_cache(maxsize=1 << 16)
def _few_passes(
    loops: Loops, share: tuple[tuple[str, int], ...],
    factors: tuple[tuple[tuple[str, int], ...], ...], rows: tuple[int, ...],
    images: tuple[int, ...],
) -> tuple[int, ...]:  # fmt: skip
    """Passes of the best unrolling: slices of layers that are alike ask for the same ones."""
    unrollings = tuple(Unrolling("", dict(of)) for of in factors)
    heights = np.array(rows, dtype=np.int64), np.array(images, dtype=np.int64)
    passes = _least_passes(loops, dict(share), unrollings, *heights)
    return tuple(passes.tolist())


def _least_passes(
    loops: Loops, share: Mapping[str, int], unrollings: tuple[Unrolling, ...], rows: Ints,
    images: Ints,
) -> Ints:  # fmt: skip
    """Passes of the best unrolling for each tile."""
    if not unrollings:
        raise ValueError("the array has no unrolling")
    best = nest_passes(loops, share, unrollings[0], rows, images)
    for unrolling in unrollings[1:]:
        best = np.minimum(best, nest_passes(loops, share, unrolling, rows, images))
    return best


def nest_passes(
    loops: Loops, share: Mapping[str, int], unrolling: Unrolling, rows: Ints, images: Ints
) -> Ints:
    """Passes of the array over the same `rows` of each of some `images` in one unrolling."""
    extents = {
        "c": loops.c, "ox": loops.ox, "fy": loops.fy, "fx": loops.fx, **share,
    }  # fmt: skip
    batch, factors = extents.pop("b"), unrolling.factors
    fixed = 1
    for dimension, extent in extents.items():
        fixed *= -(-extent // factors.get(dimension, 1))
    passes = -(-rows // factors.get("oy", 1)) * -(-batch * images // factors.get("b", 1))
    return fixed * passes


def whole_cycles(layer: Layer, dtype: str, hardware: Hardware) -> int:
    """Cycles of the whole layer in one tile, whatever it reads.

    No bound over tilings: where tiles choose different unrollings, their sum may be a little less
    than the one tile (see `least_cycles`).
    """
    rows = np.array([layer.rows], dtype=np.int64)
    return int(tile_cycles(layer, dtype, hardware, rows, np.zeros(1, dtype=np.int64))[0])


def least_cycles(layer: Layer, dtype: str, hardware: Hardware) -> int:
    """A bound that no cutting of the layer into bands, rows, and channel slices can beat.

    As `whole_cycles`, with the ceilings of the dimensions that can be cut (images, rows, output
    channels, groups) left out: what remains is additive over tiles. Columns and input channels can
    be cut too, but seldom are: their ceilings stay where they are no matter of the unrolling, since
    those of the parts add up to no less. Never above `whole_cycles`. For an array with a dataflow
    see `spm_opt.cost.array_tiles`.
    """
    loops, compute = layer.loops, hardware.compute
    if layer.measured:
        # some tiles may be cheaper by the row than others
        cheapest = min(Fraction(cycles, rows) for rows, cycles in layer.measured)
        return ceil(cheapest * layer.rows) + compute.tile_overhead_cycles
    if loops is None:
        return whole_cycles(layer, dtype, hardware)
    if compute.dataflow is not None:
        return least_array_cycles(layer, loops, dtype, hardware) + compute.tile_overhead_cycles
    cut = ["oy", "k", "g", layer.op.channel_loop, *(("b",) if layer.images > 1 else ())]
    for dimension in ("ox", "c"):
        # parts may choose different unrollings
        if len({u.factors.get(dimension, 1) for u in compute.unrollings}) > 1:
            cut.append(dimension)
    best = min(_least_nest(loops, unrolling.factors, cut) for unrolling in compute.unrollings)
    work = best * cycles_per_mac(compute, dtype)
    return -(-work.numerator // work.denominator) + compute.tile_overhead_cycles


def _least_nest(loops: Loops, factors: Mapping[str, int], cut: Sequence[str]) -> Fraction:
    cycles = Fraction(1)
    for dimension in LOOP_DIMENSIONS:
        passes = Fraction(getattr(loops, dimension), factors.get(dimension, 1))
        # e <= extent iterations of a tile take ceil(e / f) >= e / min(f, extent) passes
        cycles *= max(Fraction(1), passes) if dimension in cut else Fraction(ceil(passes))
    return cycles
