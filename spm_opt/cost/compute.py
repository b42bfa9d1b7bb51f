"""Cycles of one tile of one layer on the compute array.

A tile is a run of output rows and, where the layer is cut into slices, a number of output
channels. The answer is for one tile: nothing here sums over a group or a network.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from spm_opt.graph.network import Layer
from spm_opt.graph.ops import Loops
from spm_opt.hardware import ComputeArray, Hardware

Ints = NDArray[np.int64]


def tile_cycles(
    layer: Layer,
    dtype: str,
    hardware: Hardware,
    rows: Ints,
    read_bytes: Ints,
    channels: int | None = None,
) -> Ints:
    """Cycles of tiles of `layer`.

    ``max(work, ceil(read_bytes / SPM bandwidth)) + overhead``, where the work is, for a MAC nest,
    the least over the permitted unrollings of the product of ``ceil(extent / factor)``, and for a
    vector operator ``ceil(operations / lanes)``. Measured cycles of a layer replace its work in
    proportion to the rows (and channels) computed, rounded up.

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

    Returns
    -------
    int64 array, shape of `rows`
    """
    work = _work_cycles(layer, dtype, hardware.compute, rows, channels)
    bandwidth = hardware.spm.bytes_per_cycle
    bound = -(-read_bytes * bandwidth.denominator // bandwidth.numerator)
    cycles: Ints = np.maximum(work, bound) + hardware.compute.tile_overhead_cycles
    return np.where(rows > 0, cycles, 0)


def _work_cycles(
    layer: Layer, dtype: str, compute: ComputeArray, rows: Ints, channels: int | None
) -> Ints:
    axis = layer.op.channel_axis(layer.output_shape)
    all_channels = 1 if axis is None else layer.output_shape[axis]
    part = all_channels if channels is None else channels
    if layer.cycles is not None:
        return -(-layer.cycles * rows * part // (layer.rows * all_channels))
    loops = layer.loops
    if loops is not None:
        # a slice of a grouped convolution takes whole groups
        groups = max(1, loops.g * part // all_channels)
        share = {"g": groups, "k": loops.g * loops.k * part // all_channels // groups}
        return _nest_cycles(loops, share, dtype, compute, rows)
    operations = layer.vector_ops * part
    return -(-operations * rows // (layer.rows * all_channels * compute.vector_lanes))


def _nest_cycles(
    loops: Loops, share: Mapping[str, int], dtype: str, compute: ComputeArray, rows: Ints
) -> Ints:
    extents = {
        "b": loops.b, "c": loops.c, "ox": loops.ox, "fy": loops.fy, "fx": loops.fx, **share,
    }  # fmt: skip
    best: Ints | None = None
    for unrolling in compute.unrollings:
        fixed = 1
        for dimension, extent in extents.items():
            fixed *= -(-extent // unrolling.factors.get(dimension, 1))
        cycles = fixed * -(-rows // unrolling.factors.get("oy", 1))
        best = cycles if best is None else np.minimum(best, cycles)
    if best is None:
        raise ValueError("the array has no unrolling")
    return best * compute.cycles_per_mac.get(dtype, 1)


def whole_cycles(layer: Layer, dtype: str, hardware: Hardware) -> int:
    """Least cycles of the whole layer in one tile, whatever it reads (for the roofline)."""
    rows = np.array([layer.rows], dtype=np.int64)
    return int(tile_cycles(layer, dtype, hardware, rows, np.zeros(1, dtype=np.int64))[0])
