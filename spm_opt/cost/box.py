"""Cycles and contiguous runs of boxes: tiles that cut any axis of a layer's output.

`spm_opt.cost.compute` prices runs of rows; where a box is one, both say the same. The answer is for
one box at a time: arrays are over boxes, nothing here sums over a group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from spm_opt.cost.array_tiles import array_box_cycles, machine
from spm_opt.cost.exact import Ints, ceil_scaled
from spm_opt.cost.nests import cycles_per_mac
from spm_opt.graph.network import Layer
from spm_opt.graph.ops import Conv, ConvTranspose, Loops, row_axis
from spm_opt.hardware import ComputeArray, Hardware


def box_cycles(
    layer: Layer, dtype: str, hardware: Hardware, lengths: Sequence[Ints], read_bytes: Ints
) -> Ints:
    """Cycles of boxes of `layer`'s output.

    ``max(work, ceil(read_bytes / SPM bandwidth)) + overhead`` as in `tile_cycles`: the work of a
    MAC nest is the least over the unrollings of the product of ``ceil(extent / factor)``, or what
    the array's dataflow takes; that of anything else, and of measured layers, is in proportion to
    the elements.

    Parameters
    ----------
    lengths : sequence of int64 arrays
        Indices of each axis of the output, arrays that broadcast over the boxes.
    read_bytes : int64 array
        SPM bytes that each box reads.

    Returns
    -------
    int64 array
        Zero where a box is empty.
    """
    elements: Ints = np.ones(1, dtype=np.int64)
    for length in lengths:
        elements = elements * length
    work = _work(layer, dtype, hardware, lengths, elements)
    on_array = layer.loops is not None and hardware.compute.dataflow is not None
    if not layer.measured and not on_array:
        spm = hardware.spm
        vector = layer.loops is None and spm.vector_bytes_per_cycle is not None
        rate = spm.vector_bytes_per_cycle if vector else spm.bytes_per_cycle
        work = np.maximum(work, ceil_scaled(read_bytes, 1 / (rate or spm.bytes_per_cycle)))
    return np.where(elements > 0, work + hardware.compute.tile_overhead_cycles, 0)


def _work(
    layer: Layer, dtype: str, hardware: Hardware, lengths: Sequence[Ints], elements: Ints
) -> Ints:
    total, compute = math.prod(layer.output_shape), hardware.compute
    if layer.measured:
        rows, cycles = layer.measured[-1]
        return ceil_scaled(elements, Fraction(cycles * layer.rows, rows * total))
    loops = layer.loops
    if loops is None:
        return ceil_scaled(elements, Fraction(layer.vector_ops, total * compute.vector_lanes))
    extents = _extents(layer, loops, lengths)
    if compute.dataflow is not None:
        return array_box_cycles(layer, loops, machine(hardware, compute.dataflow, dtype), extents)
    return _nest(extents, compute) * cycles_per_mac(compute, dtype)


def _nest(extents: dict[str, Ints], compute: ComputeArray) -> Ints:
    best: Ints | None = None
    for unrolling in compute.unrollings:
        cycles: Ints = np.ones(1, dtype=np.int64)
        for dimension, extent in extents.items():
            cycles = cycles * -(-extent // unrolling.factors.get(dimension, 1))
        best = cycles if best is None else np.minimum(best, cycles)
    if best is None:
        raise ValueError("the array has no unrolling")
    return best


def _extents(layer: Layer, loops: Loops, lengths: Sequence[Ints]) -> dict[str, Ints]:
    """Extents of the eight dimensions of the nests that boxes are."""
    rank, one = len(lengths), np.ones(1, dtype=np.int64)
    window = isinstance(layer.op, (Conv, ConvTranspose))
    last, cut = rank - 1, 1 if window else rank - 1
    rows = row_axis(layer.output_shape)
    fixed = {"c": one * loops.c, "fy": one * loops.fy, "fx": one * loops.fx}
    found = {"ox": lengths[last] if window else one, **_cut(loops, lengths[cut])}
    found["oy"] = lengths[rows] if rows is not None and rows != cut else one
    batch = one
    for axis, length in enumerate(lengths):
        if axis not in (cut, rows) and not (window and axis == last):
            batch = batch * length
    # what is the same for all boxes comes first: products stay small for longer
    return {**fixed, "b": batch, **found}


def _cut(loops: Loops, channels: Ints) -> dict[str, Ints]:
    """Groups, and output channels of one, of a number of channels."""
    return {"g": -(-channels // loops.k), "k": np.minimum(channels, loops.k)}


def box_runs(order: Sequence[tuple[Ints, int]], element_bytes: int) -> tuple[Ints, Ints]:
    """Contiguous runs of boxes as they lie in memory, and bytes of one.

    Parameters
    ----------
    order : sequence of (int64 array, int)
        For each axis from the outermost in memory: indices of the boxes, and the axis's extent.

    Returns
    -------
    runs, run_bytes : int64 arrays
    """
    run: Ints = np.full(1, element_bytes, dtype=np.int64)
    runs: Ints = np.ones(1, dtype=np.int64)
    whole = np.ones(1, dtype=np.bool_)
    for length, extent in reversed(order):
        run, runs = np.where(whole, run * length, run), np.where(whole, runs, runs * length)
        whole = whole & (length == extent)
    return runs, run
