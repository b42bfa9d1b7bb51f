"""Layer-by-layer execution on a spatial array: the convolution, what is counted, what it costs.

Shared by the dataflows (`row_stationary`, `stationary`). A layer is computed in *fills* of the
global buffer: m filters of n images over a strip of e output rows. Inside a fill, *passes* of some
filters and some channels go through the PEs; partial sums live in the buffer between passes.
Arrays run over mappings, so that a search prices all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from spm_opt.cost.compression import run_length_factor
from spm_opt.cost.exact import Ints
from spm_opt.dataflow import SpatialArray


@dataclass(frozen=True, slots=True)
class ConvNest:
    """A square convolution, or a fully connected layer (``rows_in == kernel``).

    Attributes
    ----------
    images, groups : int
    filters, channels : int
        Of one group.
    rows_in : int
        Rows, and columns, of the padded input.
    kernel, stride : int
    """

    images: int
    groups: int
    filters: int
    channels: int
    rows_in: int
    kernel: int
    stride: int = 1

    @property
    def rows_out(self) -> int:
        """Rows, and columns, of the output."""
        return (self.rows_in - self.kernel) // self.stride + 1

    @property
    def ofmap_words(self) -> int:
        """Elements of the output of all images."""
        return self.images * self.groups * self.filters * self.rows_out**2

    @property
    def ifmap_words(self) -> int:
        """Elements of the padded input of all images."""
        return self.images * self.groups * self.channels * self.rows_in**2

    @property
    def weight_words(self) -> int:
        """Elements of the weights."""
        return self.groups * self.filters * self.channels * self.kernel**2

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all images."""
        return self.ofmap_words * self.channels * self.kernel**2


@dataclass(frozen=True, slots=True)
class Sparsity:
    """Shares of zeros in the input and output feature maps (see `run_length_factor`)."""

    ifmap: Fraction = Fraction(0)
    ofmap: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Accesses:
    """What a layer does under each of some mappings: arrays of the same shape.

    Attributes
    ----------
    active_pes, mac_cycles : int64 array
    register_words : int64 array
        Reads and writes of the PEs' own scratchpads.
    neighbour_words : int64 array
        Words that reach a PE over the array: from a neighbour, or by multicast out of the buffer.
    buffer_map_words, buffer_weight_words : int64 array
        Words between the global buffer and the array: feature maps and partial sums; weights.
    dram_weight_words, dram_ifmap_words, dram_ofmap_words : int64 array
        Before compression.
    """

    active_pes: Ints
    mac_cycles: Ints
    register_words: Ints
    neighbour_words: Ints
    buffer_map_words: Ints
    buffer_weight_words: Ints
    dram_weight_words: Ints
    dram_ifmap_words: Ints
    dram_ofmap_words: Ints

    def at(self, index: int) -> LayerAccesses:
        """The counts of one mapping."""
        return LayerAccesses(
            **{field.name: int(getattr(self, field.name)[index]) for field in fields(self)}
        )


@dataclass(frozen=True, slots=True)
class LayerAccesses:
    """As `Accesses`, of one mapping."""

    active_pes: int
    mac_cycles: int
    register_words: int
    neighbour_words: int
    buffer_map_words: int
    buffer_weight_words: int
    dram_weight_words: int
    dram_ifmap_words: int
    dram_ofmap_words: int


@dataclass(frozen=True, slots=True)
class LayerCost:
    """A layer under one mapping, with the chip's bandwidths, compression and energies.

    Attributes
    ----------
    cycles : int
        Processing: the longer of the MACs and the buffer's maps and partial sums, then the
        weights, which enter the scratchpads while no MAC runs.
    exposed_cycles : int
        Beyond these: the array stands still while feature maps move to or from DRAM.
    dram_bytes : int
        Compressed.
    chip_energy, dram_energy : Fraction
        In units of one MAC.
    """

    accesses: LayerAccesses
    cycles: int
    exposed_cycles: int
    dram_bytes: int
    chip_energy: Fraction
    dram_energy: Fraction

    @property
    def energy(self) -> Fraction:
        """Of chip and DRAM."""
        return self.chip_energy + self.dram_energy


def strip_rows(nest: ConvNest, rows: Ints) -> Ints:
    """Input rows that all strips of `rows` output rows read together, halos again for each."""
    window = (rows - 1) * nest.stride + nest.kernel
    full, rest = np.divmod(nest.rows_out, rows)
    last = np.where(rest > 0, (rest - 1) * nest.stride + nest.kernel, 0)
    return np.where(rows >= nest.rows_out, nest.rows_in, full * window + last)


def ceil_quotient(numerator: Ints | int, denominator: Ints | int) -> Ints:
    """``ceil(numerator / denominator)``."""
    return np.asarray(-(-np.asarray(numerator) // np.asarray(denominator)), dtype=np.int64)


def dram_words(nest: ConvNest, filters: Ints, images: Ints, rows: Ints) -> tuple[Ints, Ints, Ints]:
    """Weights, input and output between DRAM and chip for fills of the given extents.

    The weights come once a strip and block of images, the input once a block of filters, halos
    again; the output leaves once (JSSC 2017; the sum reproduces the measured DRAM accesses).
    """
    fills = ceil_quotient(nest.rows_out, rows) * ceil_quotient(nest.images, images)
    line = nest.images * nest.groups * nest.channels * nest.rows_in
    ifmap = line * strip_rows(nest, rows) * ceil_quotient(nest.filters, filters)
    return nest.weight_words * fills, ifmap, np.full_like(ifmap, nest.ofmap_words)


def layer_cost(
    nest: ConvNest, accesses: LayerAccesses, chip: SpatialArray, sparsity: Sparsity
) -> LayerCost:
    """Cycles, bytes and energy of a layer whose accesses are counted."""
    moved = _moved(accesses, sparsity)
    word, buffer_rate = chip.word_bytes, chip.buffer_bytes_per_cycle
    streamed = accesses.buffer_map_words * word / buffer_rate
    loaded = accesses.buffer_weight_words * word / buffer_rate
    exposed = moved * word / chip.dram_bytes_per_cycle * chip.exposed_share
    price = chip.energy
    # a PE skips the MAC and the read of the weight where the activation is zero
    gated = nest.macs * sparsity.ifmap
    skipped_reads = gated if chip.kind == "row_stationary" else 0
    return LayerCost(
        accesses=accesses,
        cycles=_ceil(max(Fraction(accesses.mac_cycles), streamed) + loaded),
        exposed_cycles=_ceil(exposed),
        dram_bytes=_ceil((moved + accesses.dram_weight_words) * word),
        chip_energy=nest.macs - gated
        + price.register * (accesses.register_words - skipped_reads)
        + price.neighbour * accesses.neighbour_words
        + price.buffer * (accesses.buffer_map_words + accesses.buffer_weight_words),
        dram_energy=price.dram * (moved + accesses.dram_weight_words),
    )  # fmt: skip


def _moved(accesses: LayerAccesses, sparsity: Sparsity) -> Fraction:
    return accesses.dram_ifmap_words * run_length_factor(
        sparsity.ifmap
    ) + accesses.dram_ofmap_words * run_length_factor(sparsity.ofmap)


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


Floats = NDArray[np.float64]
#: what a search makes least: accesses of many mappings to one number each
Objective = Callable[[ConvNest, Accesses, SpatialArray, Sparsity], Floats]


def energies(nest: ConvNest, accesses: Accesses, chip: SpatialArray, sparsity: Sparsity) -> Floats:
    """Objective: energy of chip and DRAM, without the constant part of the MACs."""
    price = chip.energy
    into, out = (float(run_length_factor(z)) for z in (sparsity.ifmap, sparsity.ofmap))
    moved = accesses.dram_ifmap_words * into + accesses.dram_ofmap_words * out
    energy: Floats = (
        float(price.register) * accesses.register_words
        + float(price.neighbour) * accesses.neighbour_words
        + float(price.buffer) * (accesses.buffer_map_words + accesses.buffer_weight_words)
        + float(price.dram) * (moved + accesses.dram_weight_words)
    )
    return energy


def processing(
    nest: ConvNest, accesses: Accesses, chip: SpatialArray, sparsity: Sparsity
) -> Floats:
    """Objective: cycles of processing."""
    words_per_cycle = float(chip.buffer_bytes_per_cycle) / chip.word_bytes
    streamed = accesses.buffer_map_words / words_per_cycle
    loaded = accesses.buffer_weight_words / words_per_cycle
    cycles: Floats = np.maximum(accesses.mac_cycles, streamed) + loaded
    return cycles
