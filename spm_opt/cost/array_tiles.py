"""Tiles of a layer on an array that keeps a dataflow: the best mapping, its cycles and accesses.

The mapping of a nest is the fastest one; of equally fast ones that of least energy of registers,
neighbours and scratchpad. It is chosen nest by nest and remembered: tiles that are alike, and
layers that are, ask once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Final, NamedTuple

import numpy as np

from spm_opt.cost.exact import Ints, ceil_scaled
from spm_opt.cost.nests import (
    MacNest,
    boxes,
    cycles_per_mac,
    has_own_weights,
    mac_nest,
    share_of,
)
from spm_opt.cost.pe_array import Passes, least_mac_cycles, passes
from spm_opt.graph.network import DTYPE_BYTES, Layer
from spm_opt.graph.ops import Loops
from spm_opt.hardware import Hardware, PeArray

#: dataflows whose PEs keep weights, which enter them while no MAC runs
_KEEPS_WEIGHTS: Final = ("row_stationary", "weight_stationary")


class Counts(NamedTuple):
    """What nests do under their best mappings; words are words of the array.

    ``cycles`` are those of MACs and of the scratchpad's port together, ``work_cycles`` what they
    would be if feature maps and partial sums passed the port in no time; the others are as in
    `spm_opt.cost.pe_array.Passes`.
    """

    cycles: int
    work_cycles: int
    active_pes: int
    filters: int
    operand_words: int
    register_words: int
    neighbour_words: int
    map_words: int
    weight_words: int


#: counts that do not add up
_AT_ONCE: Final = ("active_pes", "filters")
#: what an empty tile does
NOTHING: Final = Counts(*[0] * len(Counts._fields))


@dataclass(frozen=True, slots=True)
class Machine:
    """What the choice of a mapping depends on beside the nest: hashable.

    Attributes
    ----------
    array : PeArray
        With scratchpads in elements.
    cycles_per_mac : int
    words_per_cycle : Fraction
        Elements through the scratchpad's port.
    register_fj, neighbour_fj, spm_fj : int
        Of an element; 0 where energies are not known.
    """

    array: PeArray
    cycles_per_mac: int
    words_per_cycle: Fraction
    register_fj: int = 0
    neighbour_fj: int = 0
    spm_fj: int = 0


def word_bytes(array: PeArray, dtype: str) -> int:
    """Bytes of an element in the array: as many whole words of it as the element needs."""
    return -(-DTYPE_BYTES[dtype] // array.word_bytes) * array.word_bytes


def machine(hardware: Hardware, array: PeArray, dtype: str) -> Machine:
    """The machine for elements of `dtype`."""
    size, energy = word_bytes(array, dtype), hardware.energy
    rate = hardware.spm.bytes_per_cycle / size
    per_mac = cycles_per_mac(hardware.compute, dtype)
    array = array.with_words(size // array.word_bytes)
    if energy is None:
        return Machine(array, per_mac, rate)
    return Machine(
        array, per_mac, rate, energy.register_fj * size, energy.neighbour_fj * size,
        energy.spm_fj * size,
    )  # fmt: skip


@lru_cache(maxsize=1 << 16)
def best(nest: MacNest, of: Machine) -> Counts:
    """The nest under its fastest mapping, of equals the one of least energy, then the first."""
    found = passes(nest, of.array)
    cycles, work = _cycles(found, of)
    energy = (
        (found.operand_words + found.register_words) * of.register_fj
        + found.neighbour_words * of.neighbour_fj
        + (found.map_words + found.weight_words) * of.spm_fj
    )
    at = int(np.lexsort((energy, cycles))[0])
    return Counts(
        int(cycles[at]), int(work[at]),
        *(int(getattr(found, name)[at]) for name in Counts._fields[2:]),
    )  # fmt: skip


def _cycles(found: Passes, of: Machine) -> tuple[Ints, Ints]:
    """The longer of MACs and port, behind the loading of weights that PEs keep; without maps."""
    macs, a_word = found.mac_cycles * of.cycles_per_mac, 1 / of.words_per_cycle
    if of.array.kind not in _KEEPS_WEIGHTS:
        streamed = ceil_scaled(found.map_words + found.weight_words, a_word)
        return np.maximum(macs, streamed), macs
    loading = ceil_scaled(found.weight_words, a_word)
    return loading + np.maximum(macs, ceil_scaled(found.map_words, a_word)), loading + macs


# --------------------------------------------------------------------------- tiles


def tile_counts(
    layer: Layer, loops: Loops, of: Machine, rows: Ints, begin: Ints, channels: int | None = None
) -> dict[str, Ints]:
    """Counts of tiles of a layer, by the names of `Counts`; PEs and filters are the most at once.

    Parameters
    ----------
    rows, begin : int64 array
        Output rows of each tile, and the first of them (see `spm_opt.cost.compute.tile_cycles`).
    channels : int, optional
        Output channels of the slice; all by default.
    """
    share = _share(layer, loops, channels)
    if loops.oy != layer.image_rows:
        # the rows are no dimension of the nest: in proportion
        whole = best(mac_nest(layer, loops, share, loops.oy, layer.images, loops.ox), of)
        return {
            name: np.full_like(rows, value) if name in _AT_ONCE else
            ceil_scaled(rows * value, Fraction(1, layer.rows))
            for name, value in whole._asdict().items()
        }  # fmt: skip
    counted = [_box_counts(layer, loops, share, of, *box) for box in boxes(layer, rows, begin)]
    return {name: _joined(name, [counts[name] for counts in counted]) for name in Counts._fields}


def _joined(name: str, nests: Sequence[Ints]) -> Ints:
    together = np.stack(nests)
    found: Ints = together.max(0) if name in _AT_ONCE else together.sum(0)
    return found


def _share(layer: Layer, loops: Loops, channels: int | None) -> dict[str, int]:
    """``b`` of one image, ``g`` and ``k`` of a slice."""
    axis = layer.channel_axis
    total = 1 if axis is None else layer.output_shape[axis]
    share = share_of(loops, layer.op.channel_loop, total if channels is None else channels, total)
    share["b"] //= layer.images
    return share


def _box_counts(
    layer: Layer, loops: Loops, share: Mapping[str, int], of: Machine, rows: Ints, images: Ints
) -> dict[str, Ints]:
    """Counts of the same rows of each of some images; those that are alike are looked up once."""
    unlike, where = np.unique(
        np.stack((rows.ravel(), images.ravel())), axis=1, return_inverse=True
    )  # fmt: skip
    found = np.array([
        best(mac_nest(layer, loops, share, height, count, loops.ox), of)
        if height and count else NOTHING
        for height, count in unlike.T.tolist()
    ], dtype=np.int64)  # fmt: skip
    table = found[where.ravel()].T.reshape(-1, *rows.shape)
    return dict(zip(Counts._fields, table, strict=True))


def array_counts(
    layer: Layer, dtype: str, hardware: Hardware, rows: Ints, channels: int | None, begin: Ints
) -> dict[str, Ints] | None:
    """Counts of tiles on the hardware's array; None where no nest of theirs runs under a dataflow.

    That of a measured layer does not: its cycles are known.
    """
    array, loops = hardware.compute.dataflow, layer.loops
    if array is None or loops is None or layer.measured:
        return None
    return tile_counts(layer, loops, machine(hardware, array, dtype), rows, begin, channels)


def array_box_cycles(layer: Layer, loops: Loops, of: Machine, extents: Mapping[str, Ints]) -> Ints:
    """Cycles of boxes of a layer's output, whose nests have the given extents.

    Parameters
    ----------
    extents : mapping of str to int64 array
        ``b``, ``g``, ``k``, ``oy``, ``ox``: arrays that broadcast over the boxes.
    """
    code: Ints = np.zeros(1, dtype=np.int64)
    lengths = []
    for name in ("b", "g", "k", "oy", "ox"):
        values, index = np.unique(extents[name], return_inverse=True)
        code = code * len(values) + index.reshape(extents[name].shape)
        lengths.append(values)
    unlike, where = np.unique(code, return_inverse=True)
    chosen = np.stack([
        values[i] for values, i in
        zip(lengths, np.unravel_index(unlike, [len(v) for v in lengths]), strict=True)
    ])  # fmt: skip
    found = np.array([
        best(mac_nest(layer, loops, {"b": b, "g": g, "k": k}, rows, 1, columns), of).cycles
        if b * g * k * rows * columns else 0
        for b, g, k, rows, columns in chosen.T.tolist()
    ], dtype=np.int64)  # fmt: skip
    boxes_cycles: Ints = found[where].reshape(code.shape)
    return boxes_cycles


def least_element_cycles(layer: Layer, loops: Loops, dtype: str, hardware: Hardware) -> Fraction:
    """Cycles an output element that no box of a layer's output beats (MACs alone)."""
    array = hardware.compute.dataflow
    if array is None:
        raise ValueError("the hardware's array keeps no dataflow")
    of, nest = machine(hardware, array, dtype), whole_nest(layer, loops)
    return least_mac_cycles(nest, of.array) * of.cycles_per_mac / nest.output_words


def least_array_cycles(layer: Layer, loops: Loops, dtype: str, hardware: Hardware) -> int:
    """Cycles that no cutting of a layer into bands, rows and channel slices beats, less overhead.

    Every tile takes ``max(MACs, words / port) + kept weights / port``, and each of the three has a
    lower bound that adds up over tiles: MACs (`least_mac_cycles`), every output word twice (once
    where it stays in the PE), weights once.
    """
    array = hardware.compute.dataflow
    if array is None:
        raise ValueError("the hardware's array keeps no dataflow")
    of = machine(hardware, array, dtype)
    nest = whole_nest(layer, loops)
    macs = least_mac_cycles(nest, of.array) * of.cycles_per_mac
    if array.kind in _KEEPS_WEIGHTS:
        streamed, kept = 2 * nest.output_words, nest.weight_words
    elif array.kind == "output_stationary":
        streamed, kept = nest.output_words + nest.weight_words, 0
    else:
        streamed = 2 * nest.output_words + nest.pixels * nest.depth + nest.macs
        kept = 0
    return ceil(max(macs, streamed / of.words_per_cycle) + kept / of.words_per_cycle)


def whole_nest(layer: Layer, loops: Loops) -> MacNest:
    """The nest of all of a layer."""
    share = _share(layer, loops, None)
    return mac_nest(layer, loops, share, loops.oy, layer.images, loops.ox)


def filters_at_once(layer: Layer, dtype: str, hardware: Hardware) -> int | None:
    """Output channels that the array computes at once; None where it keeps no dataflow."""
    array, loops = hardware.compute.dataflow, layer.loops
    if array is None or loops is None:
        return None
    return best(whole_nest(layer, loops), machine(hardware, array, dtype)).filters


def spm_words(layer: Layer, counts: Mapping[str, Ints]) -> tuple[Ints, Ints]:
    """Words between scratchpad and array of feature maps, and of constants."""
    maps, weights = counts["map_words"], counts["weight_words"]
    if has_own_weights(layer):
        return maps + weights, np.zeros_like(weights)
    return maps, weights
