"""Accesses and energy of one tile of one layer, in whole femtojoules.

What a tile touches: MACs, registers of the array, scratchpad bytes, vector operations. The answer
is for one tile: nothing here sums over a group or a network, and nothing here is about time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from spm_opt.cost.array_tiles import machine, spm_words, tile_counts, word_bytes
from spm_opt.cost.compute import nest_passes
from spm_opt.cost.exact import Ints, ceil_scaled
from spm_opt.cost.nests import SAME_RATE, boxes, share_of
from spm_opt.errors import InputError
from spm_opt.graph.network import DTYPE_BYTES, MILLION, Layer
from spm_opt.graph.ops import Loops
from spm_opt.hardware import ComputeArray, Energy, Hardware, PeArray

#: bytes of a partial sum at least, whatever the element: int8 products are summed in 32 bits
ACCUMULATOR_BYTES: Final = 4
#: dimensions whose products are summed
_SUMMED: Final = ("c", "fy", "fx")


@dataclass(frozen=True, slots=True)
class Tiles:
    """What tiles of a layer do, one element a tile.

    Attributes
    ----------
    rows, begin : int64 array
        Output rows, and the first of them.
    map_bytes : int64 array
        Bytes that the tile reads of feature maps in the scratchpad, and those that it writes.
    weight_bytes : int64 array
        Bytes that it reads of constants there.
    channels : int or None
        Output channels of the slice; None for all.
    density_ppm : int
        Elements of the first operand, per million, that are not zero.
    """

    rows: Ints
    begin: Ints
    map_bytes: Ints
    weight_bytes: Ints
    channels: int | None = None
    density_ppm: int = MILLION


@dataclass(frozen=True, slots=True)
class TileEnergy:
    """Energy of tiles by level, int64 arrays in femtojoules.

    The scratchpad's is told apart by what is read: constants, or maps (read and written).
    """

    mac_fj: Ints
    register_fj: Ints
    vector_fj: Ints
    spm_weights_fj: Ints
    spm_maps_fj: Ints
    neighbour_fj: Ints

    @property
    def total_fj(self) -> Ints:
        """All levels."""
        return (
            self.mac_fj + self.register_fj + self.neighbour_fj + self.vector_fj
            + self.spm_weights_fj + self.spm_maps_fj
        )  # fmt: skip


def tile_energy(layer: Layer, dtype: str, hardware: Hardware, tiles: Tiles) -> TileEnergy:
    """Energy of tiles of `layer`.

    - MACs, at the price of the element type; with zero gating those alone whose element of the
      first operand is not zero, as its density says, and only these read at the registers.
    - Registers: a MAC reads two operands there. A partial sum is read and written there once for
      all products that the array adds up in space: one for ``f`` MACs, where ``f`` is the product
      of the iterations of ``c``, ``fy``, ``fx`` that run at once in the unrolling that the tile
      takes (`spm_opt.cost.compute`). It has at least `ACCUMULATOR_BYTES`.
    - Vector operations, of layers without MACs.
    - Scratchpad: every byte that `spm_opt.cost.compute` has the tile read, and the output.

    Where the array keeps a dataflow, registers, words between processing elements, and what passes
    between scratchpad and array are those of the mapping (`spm_opt.cost.array_tiles`) instead.

    A tile of no rows costs nothing.

    Parameters
    ----------
    dtype : str
        Element type of the output map.

    Raises
    ------
    InputError
        Where the hardware has no energies, or none for a MAC of `dtype`.
    """
    energy, array = required(hardware), hardware.compute.dataflow
    if array is not None and layer.loops is not None:
        return _array_energy(layer, layer.loops, dtype, hardware, array, tiles)
    none = np.zeros_like(tiles.rows)
    macs = updates = operations = none
    if layer.loops is None:
        operations = ceil_scaled(tiles.rows, _per_row(layer, layer.vector_ops, tiles.channels))
    else:
        macs = ceil_scaled(tiles.rows, _per_row(layer, layer.macs, tiles.channels))
        updates = _updates(layer, layer.loops, hardware.compute, tiles)
    element = DTYPE_BYTES[dtype]
    if energy.zero_gating:
        macs = ceil_scaled(macs, Fraction(tiles.density_ppm, MILLION))
    registers = 2 * element * macs + 2 * max(element, ACCUMULATOR_BYTES) * updates
    some = tiles.rows > 0
    return TileEnergy(
        macs * (mac_fj(energy, dtype) if layer.loops is not None else 0),
        registers * energy.register_fj,
        operations * energy.vector_fj,
        np.where(some, tiles.weight_bytes, 0) * energy.spm_fj,
        np.where(some, tiles.map_bytes, 0) * energy.spm_fj,
        none,
    )


def _array_energy(
    layer: Layer, loops: Loops, dtype: str, hardware: Hardware, array: PeArray, tiles: Tiles
) -> TileEnergy:
    """Energy of tiles on an array that keeps a dataflow."""
    energy, word = required(hardware), word_bytes(array, dtype)
    counts = tile_counts(
        layer, loops, machine(hardware, array, dtype), tiles.rows, tiles.begin, tiles.channels
    )
    macs = ceil_scaled(tiles.rows, _per_row(layer, layer.macs, tiles.channels))
    operands = counts["operand_words"]
    if energy.zero_gating:
        some = Fraction(tiles.density_ppm, MILLION)
        macs, operands = ceil_scaled(macs, some), ceil_scaled(operands, some)
    maps, weights = spm_words(layer, counts)
    return TileEnergy(
        macs * mac_fj(energy, dtype),
        (operands + counts["register_words"]) * (word * energy.register_fj),
        np.zeros_like(tiles.rows),
        weights * (word * energy.spm_fj),
        maps * (word * energy.spm_fj),
        counts["neighbour_words"] * (word * energy.neighbour_fj),
    )


def required(hardware: Hardware) -> Energy:
    """The hardware's energies.

    Raises
    ------
    InputError
        Where it has none.
    """
    if hardware.energy is None:
        raise InputError(
            "energy cannot be counted without this block", field="energy",
            allowed="mac, vector, register_file, spm, dram and leakage",
        )  # fmt: skip
    return hardware.energy


def mac_fj(energy: Energy, dtype: str) -> int:
    """Energy of one MAC of `dtype`; of the plain type of its width where it is not listed.

    Raises
    ------
    InputError
        Where neither is.
    """
    found = energy.mac_fj.get(dtype, energy.mac_fj.get(SAME_RATE.get(dtype, dtype)))
    if found is None:
        raise InputError(
            "no energy of a MAC of this element type", field=f"energy.mac.{dtype}",
            allowed="an energy such as '300 fJ'",
        )  # fmt: skip
    return found


def _per_row(layer: Layer, work: int, channels: int | None) -> Fraction:
    """Work of a row of some output channels."""
    axis = layer.channel_axis
    total = 1 if axis is None else layer.output_shape[axis]
    return Fraction(work * (total if channels is None else channels), layer.rows * total)


def _updates(layer: Layer, loops: Loops, compute: ComputeArray, tiles: Tiles) -> Ints:
    """Partial sums that are read and written at the registers."""
    axis = layer.channel_axis
    total = 1 if axis is None else layer.output_shape[axis]
    part = total if tiles.channels is None else tiles.channels
    share = share_of(loops, layer.op.channel_loop, part, total)
    share["b"] //= layer.images
    if loops.oy != layer.image_rows:
        # the rows are no dimension of the nest: scaled, as its cycles are
        height, images = np.array([loops.oy]), np.array([layer.images])
        whole = _nest_updates(loops, share, compute, height, images)
        return ceil_scaled(tiles.rows, Fraction(int(whole[0]), layer.rows))
    found = np.zeros_like(tiles.rows)
    for height, images in boxes(layer, tiles.rows, tiles.begin):
        found += _nest_updates(loops, share, compute, height, images)
    return found


def _nest_updates(
    loops: Loops, share: Mapping[str, int], compute: ComputeArray, rows: Ints, images: Ints
) -> Ints:
    """MACs of a nest over those that the chosen unrolling sums in space; of equals the first."""
    cycles = np.stack([
        nest_passes(loops, share, u, rows, images) for u in compute.unrollings
    ])  # fmt: skip
    passes = np.array([_summing_passes(loops, u.factors) for u in compute.unrollings])
    outside = loops.ox * share["b"] * share["g"] * share["k"]
    updates: Ints = outside * rows * images * passes[np.argmin(cycles, axis=0)]
    return updates


def _summing_passes(loops: Loops, factors: Mapping[str, int]) -> int:
    """Partial sums that one output takes."""
    passes = 1
    for dimension in _SUMMED:
        passes *= -(-getattr(loops, dimension) // factors.get(dimension, 1))
    return passes
