"""Passes of a MAC nest over an array of processing elements (PEs) that keeps one dataflow.

What the published models of whole layers (`row_stationary`, `stationary`) say of the array, for a
nest whose input, weights and output all lie in the scratchpad. Arrays run over mappings; words
count only what exists, cycles count whole passes. Sources: ISCA 2016 (taxonomy and row-stationary
passes); JSSC 2017, doi 10.1109/JSSC.2016.2616357 (sets of PEs, folding, interleaving).

A pass keeps its weights for all rows and images of the nest, so that these enter the array once;
partial sums come from and go to the scratchpad once a pass of channels, the input once a pass of
filters (row-stationary: halos again for every strip of rows).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from spm_opt.cost.exact import Ints
from spm_opt.cost.nests import MacNest
from spm_opt.hardware import PeArray


@dataclass(frozen=True, slots=True)
class Passes:
    """What a nest does under each of some mappings, int64 arrays.

    Attributes
    ----------
    mac_cycles : int64 array
        MACs of a PE one after another, in whole passes.
    active_pes : int64 array
        PEs at work in a full pass.
    filters : int64 array
        Filters at once: what a slice of output channels should be a multiple of.
    operand_words, register_words : int64 array
        Reads of MACs' operands at the registers of PEs; all other reads and writes there.
    neighbour_words : int64 array
        Words that reach a PE over the array: from a neighbour, or spread out of the scratchpad.
    map_words, weight_words : int64 array
        Words between scratchpad and array: input and partial sums; weights.
    """

    mac_cycles: Ints
    active_pes: Ints
    filters: Ints
    operand_words: Ints
    register_words: Ints
    neighbour_words: Ints
    map_words: Ints
    weight_words: Ints


def passes(nest: MacNest, array: PeArray) -> Passes:
    """The nest under every mapping of the array's dataflow that can be best."""
    nest = folded(nest, array)
    if array.kind == "row_stationary":
        return row_stationary(nest, array, *_row_mappings(nest, array))
    if array.kind == "output_stationary":
        return output_stationary(nest, *_output_mappings(nest, array))
    taps = nest.kernel_rows * nest.kernel_columns
    if array.kind == "weight_stationary":
        channels = even(nest.channels, array.pes // taps)
        return weight_stationary(nest, channels, _beside(nest, array, channels * taps))
    summed = even(nest.depth, array.pes)
    return no_local_reuse(nest, summed, _beside(nest, array, summed))


def folded(nest: MacNest, array: PeArray) -> MacNest:
    """The nest with a kernel that the array holds.

    A kernel of more rows than the array, or wider rows than a scratchpad, is cut into equal pieces
    (rounded up), which are passed like channels of their own.
    """
    high, wide = nest.kernel_rows, nest.kernel_columns
    if array.kind == "row_stationary":
        high = _piece(high, array.rows)
        wide = _piece(wide, min(array.ifmap_words, array.filter_words))
    elif array.kind == "weight_stationary":
        wide = _piece(wide, array.pes)
        high = _piece(high, array.pes // wide)
    pieces = -(-nest.kernel_rows // high) * -(-nest.kernel_columns // wide)
    return replace(
        nest, channels=nest.channels * pieces, kernel_rows=high, kernel_columns=wide
    )  # fmt: skip


def _piece(extent: int, most: int) -> int:
    return -(-extent // -(-extent // most))


def even(extent: int, most: int) -> Ints:
    """The least size within `most` for every number of parts that sizes within `most` give."""
    counts = np.unique(-(-extent // np.arange(1, min(extent, most) + 1, dtype=np.int64)))
    return np.unique(-(-extent // counts))


def _quotient(extent: int, sizes: Ints) -> Ints:
    """``ceil(extent / sizes)``."""
    found: Ints = -(-extent // sizes)
    return found


def _beside(nest: MacNest, array: PeArray, taken: Ints) -> Ints:
    """Filters at once beside each other, `taken` PEs each, evened out over the passes."""
    most = np.minimum(array.pes // taken, nest.filters)
    return _quotient(nest.filters, _quotient(nest.filters, most))


# --------------------------------------------------------------------------- row-stationary


def sets_at_once(kernel_rows: int, rows: Ints, array: PeArray) -> Ints:
    """Sets of ``kernel_rows x rows`` PEs that the array holds at once.

    One wider than the array folds into several of its width (JSSC 2017: the 5 x 27 set of AlexNet
    CONV2 takes two runs of 5 rows of PEs).
    """
    beside = np.maximum(1, array.columns // rows)
    found: Ints = array.rows // kernel_rows // -(-rows // array.columns) * beside
    return found


def row_stationary(
    nest: MacNest, array: PeArray, e: Ints, p: Ints, q: Ints, r: Ints, t: Ints
) -> Passes:
    """Strips of e output rows; p filters and q channels interleaved in a PE, r x t sets at once.

    A PE convolves a kernel row with an input row; ``kernel rows x e`` of them are a set. Sums of
    the r sets of other channels meet in the array, the t sets hold other filters.
    """
    channel_passes, filter_passes = _quotient(nest.channels, q * r), _quotient(nest.filters, p * t)
    strips, batch = _quotient(nest.rows, e), nest.images * nest.groups
    line = batch * nest.channels * int(nest.column_window.inputs(np.array(nest.columns)))
    # every filter reaches the PEs of its set's columns
    filters_in = nest.weight_words * e
    # an input row reaches one PE an output row and kernel row, in every set of other filters
    rows_in = line * nest.kernel_rows * nest.rows * _quotient(nest.filters, p)
    hops = nest.output_words * (nest.kernel_rows * _quotient(nest.channels, q) - channel_passes)
    read = line * nest.row_window.inputs_in_runs(nest.rows, e) * filter_passes
    at_once = _quotient(nest.filters, p * filter_passes)
    deep = _quotient(nest.channels, q * channel_passes)
    return Passes(
        mac_cycles=batch * nest.kernel_columns * nest.columns
        * channel_passes * filter_passes * strips * p * q,
        active_pes=nest.kernel_rows * e * deep * at_once,
        filters=np.minimum(p * t, nest.filters),
        operand_words=np.full_like(e, 2 * nest.macs),
        # the partial sum is read and written; what arrives is written
        register_words=2 * nest.macs + filters_in + rows_in,
        neighbour_words=filters_in + rows_in + hops,
        map_words=2 * channel_passes * nest.output_words + read,
        weight_words=np.full_like(e, nest.weight_words),
    )  # fmt: skip


def strips_of(nest: MacNest, array: PeArray) -> Iterable[tuple[int, int]]:
    """(rows, sets at once) of strips: for each number of sets the widest, evened out."""
    widest = min(nest.rows, array.rows // nest.kernel_rows * array.columns)
    rows = np.arange(1, widest + 1, dtype=np.int64)
    sets = sets_at_once(nest.kernel_rows, rows, array)
    last = {int(s): int(e) for e, s in zip(rows, sets, strict=True)}
    found = np.unique([_piece(nest.rows, e) for e in last.values()])
    return zip(
        found.tolist(), sets_at_once(nest.kernel_rows, found, array).tolist(), strict=True
    )  # fmt: skip


def _row_mappings(nest: MacNest, array: PeArray) -> tuple[Ints, ...]:
    """e, p, q, r, t: for each number of sets all ways to share them out, all p and q that fit."""
    shared = np.array([
        (e, r, min(nest.filters, sets // r))
        for e, sets in strips_of(nest, array)
        for r in sorted({min(nest.channels, sets // t) for t in range(1, sets + 1)})
    ], dtype=np.int64)  # fmt: skip
    width = nest.kernel_columns
    most_p = min(array.psum_words, nest.filters, array.filter_words // width)
    most_q = min(array.ifmap_words // width, nest.channels)
    inside = np.array([
        (p, q)
        for q in range(1, most_q + 1)
        for p in range(1, min(most_p, array.filter_words // (width * q)) + 1)
    ], dtype=np.int64)  # fmt: skip
    one, other = (axis.ravel() for axis in np.indices((len(shared), len(inside))))
    (e, r, t), (p, q) = shared[one].T, inside[other].T
    return e, p, q, r, t


# --------------------------------------------------------------------------- the other dataflows


def weight_stationary(nest: MacNest, channels: Ints, filters: Ints) -> Passes:
    """Systolic: a PE holds one weight; all taps of some channels and filters at once."""
    taps = nest.kernel_rows * nest.kernel_columns
    channel_passes, filter_passes = (
        _quotient(nest.channels, channels), _quotient(nest.filters, filters)
    )  # fmt: skip
    none = np.zeros_like(channels)
    return Passes(
        mac_cycles=nest.pixels * channel_passes * filter_passes,
        active_pes=taps * channels * filters,
        filters=filters,
        operand_words=none + nest.macs,
        register_words=none + nest.weight_words,
        # every MAC gets its activation, a sum passes the PEs of all its channels
        neighbour_words=nest.weight_words
        + nest.macs
        + nest.output_words * (nest.channels * taps - channel_passes),
        map_words=2 * channel_passes * nest.output_words + _input_words(nest) * filter_passes,
        weight_words=none + nest.weight_words,
    )


def no_local_reuse(nest: MacNest, summed: Ints, filters: Ints) -> Passes:
    """PEs hold nothing: products to be summed x filters at once, operands from the scratchpad."""
    sum_passes, filter_passes = _quotient(nest.depth, summed), _quotient(nest.filters, filters)
    none = np.zeros_like(summed)
    return Passes(
        mac_cycles=nest.pixels * sum_passes * filter_passes,
        active_pes=summed * filters,
        filters=filters,
        operand_words=none,
        register_words=none,
        neighbour_words=2 * nest.macs + nest.output_words * (nest.depth - sum_passes),
        # an activation is broadcast to the filters; a weight serves one MAC
        map_words=2 * sum_passes * nest.output_words + nest.pixels * nest.depth * filter_passes,
        weight_words=none + nest.macs,
    )


def output_stationary(
    nest: MacNest, filters: Ints, images: Ints, rows: Ints, columns: Ints
) -> Passes:
    """A PE holds one partial sum until it is finished; operands are handed on, one MAC a word."""
    filter_passes = _quotient(nest.filters, filters)
    tiles = (
        _quotient(nest.rows, rows) * _quotient(nest.columns, columns)
        * _quotient(nest.images, images)
    )  # fmt: skip
    # neighbours hand activations on: a block of outputs reads its window once
    window = nest.row_window.inputs_in_runs(nest.rows, rows) * nest.column_window.inputs_in_runs(
        nest.columns, columns
    )
    read = nest.images * nest.groups * nest.channels * window * filter_passes
    none = np.zeros_like(filters)
    return Passes(
        mac_cycles=nest.groups * tiles * filter_passes * nest.depth,
        active_pes=filters * images * rows * columns,
        filters=filters,
        operand_words=none,
        register_words=none + 2 * nest.macs,
        neighbour_words=none + 2 * nest.macs,
        map_words=read + nest.output_words,
        weight_words=nest.weight_words * tiles,
    )


def _output_mappings(nest: MacNest, array: PeArray) -> tuple[Ints, Ints, Ints, Ints]:
    """filters, images, rows, columns: what outputs of a filter leave room for."""
    blocks = np.meshgrid(*(even(n, array.pes) for n in (nest.images, nest.rows, nest.columns)))
    images, rows, columns = (axis.ravel() for axis in blocks)
    taken = images * rows * columns
    images, rows, columns = (axis[taken <= array.pes] for axis in (images, rows, columns))
    return _beside(nest, array, images * rows * columns), images, rows, columns


def _input_words(nest: MacNest) -> int:
    window = nest.row_window.inputs(np.array(nest.rows)) * nest.column_window.inputs(
        np.array(nest.columns)
    )
    return nest.images * nest.groups * nest.channels * int(window)


# --------------------------------------------------------------------------- bounds


def least_mac_cycles(nest: MacNest, array: PeArray) -> Fraction:
    """Cycles of MACs that no cutting of a nest beats, into rows or columns or along what else.

    A part with x <= X of an extent that can be cut needs ``ceil(x / f) >= x * max(1/f, 1/X)``
    passes along it, so that the product of these factors bounds its cycles by something that adds
    up over the parts, whatever mapping each of them takes.
    """
    nest = folded(nest, array)
    if array.kind == "row_stationary":
        # p and q only lengthen a pass: ceil(k / (p t)) p >= ceil(k / t), likewise q
        least = min(
            _least(nest.channels, r)
            * _least(nest.filters, max(1, sets // r))
            * _least(nest.rows, e)
            for e, sets in _widest_strips(nest, array)
            for r in range(1, sets + 1)
        )
        return nest.images * nest.groups * nest.kernel_columns * nest.columns * least
    if array.kind == "output_stationary":
        # no part of the outputs uses more PEs than there are, or than it has outputs
        outputs = nest.images * nest.rows * nest.columns * nest.filters
        return nest.groups * nest.depth * _least(outputs, array.pes)
    taps = nest.kernel_rows * nest.kernel_columns if array.kind == "weight_stationary" else 1
    extent = nest.channels if array.kind == "weight_stationary" else nest.depth
    return nest.pixels * min(
        _least(extent, summed) * _least(nest.filters, array.pes // (summed * taps))
        for summed in range(1, min(extent, array.pes // taps) + 1)
    )


def _least(extent: int, at_once: int) -> Fraction:
    """``extent * max(1 / at_once, 1 / extent)``."""
    return max(Fraction(extent, at_once), Fraction(1))


def _widest_strips(nest: MacNest, array: PeArray) -> list[tuple[int, int]]:
    """(rows, sets at once): for each number of sets the widest strip, whatever rows there are."""
    rows = np.arange(1, array.rows // nest.kernel_rows * array.columns + 1, dtype=np.int64)
    sets = sets_at_once(nest.kernel_rows, rows, array)
    return [(e, s) for s, e in {int(s): int(e) for e, s in zip(rows, sets, strict=True)}.items()]
