"""The accelerator: what stands on its datasheet, in exact integers and fractions.

No formula over a layer belongs here (see `spm_opt.cost`), and no spelling of a file
(see `spm_opt.formats.hardware_yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

from spm_opt.errors import InputError

#: loop dimensions that an array may unroll in space (see `spm_opt.graph.ops.Loops`)
LOOP_DIMENSIONS: Final = ("b", "g", "k", "c", "oy", "ox", "fy", "fx")


@dataclass(frozen=True, slots=True)
class Scratchpad:
    """The software-managed on-chip memory.

    Attributes
    ----------
    capacity_bytes : int
    alignment_bytes : int
        Every buffer starts at, and occupies, a multiple of this.
    bytes_per_cycle : Fraction
        Bytes that the MAC array reads per cycle.
    vector_bytes_per_cycle : Fraction or None
        Bytes that the vector unit reads per cycle; None for as many as the MAC array.
    """

    capacity_bytes: int
    alignment_bytes: int
    bytes_per_cycle: Fraction
    vector_bytes_per_cycle: Fraction | None = None


#: parts of the share of what is not compressed: shares of sizes are whole numbers of these
RAW: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Compression:
    """How feature maps lie in DRAM; constants, and all that is in the scratchpad, are raw.

    Attributes
    ----------
    kind : str
        ``run_length``: pairs of a number of zeros to skip and one element, packed into words.
        ``ratio``: whatever the map, a share of its bytes.
    run_bits, word_bits : int
        Of a run-length code: bits of the number of zeros, and of a word, which holds whole pairs.
    percent : int
        Of a ratio: compressed bytes over raw ones.
    """

    kind: str
    run_bits: int = 5
    word_bits: int = 64
    percent: int = 100


@dataclass(frozen=True, slots=True)
class Dram:
    """Off-chip memory behind one in-order DMA queue that reads and writes.

    Attributes
    ----------
    bytes_per_cycle : Fraction
    latency_cycles : int
        Paid once by every transfer.
    burst_bytes : int
        Every contiguous run moves a multiple of this.
    compression : Compression or None
        Of feature maps; None for none.
    """

    bytes_per_cycle: Fraction
    latency_cycles: int
    burst_bytes: int
    compression: Compression | None = None


@dataclass(frozen=True, slots=True)
class Unrolling:
    """One permitted way to spread a MAC loop nest over the array in space.

    Attributes
    ----------
    name : str
    factors : mapping of str to int
        Loop dimension to the number of its iterations that run at once.
    """

    name: str
    factors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PeArray:
    """An array of processing elements (PEs) that keeps one dataflow, whatever the layer.

    Attributes
    ----------
    kind : str
        Dataflow: one of `spm_opt.dataflow.KINDS`.
    rows, columns : int
        PEs.
    filter_words, ifmap_words, psum_words : int
        Scratchpads of one PE.
    word_bytes : int
        Of a word that the array holds or moves.
    """

    kind: str
    rows: int
    columns: int
    filter_words: int
    ifmap_words: int
    psum_words: int
    word_bytes: int

    @property
    def pes(self) -> int:
        """PEs of the array."""
        return self.rows * self.columns

    def with_words(self, per_element: int) -> PeArray:
        """The array with scratchpads counted in elements of some words, one at least."""
        filters, inputs, sums = (
            max(1, words // per_element)
            for words in (self.filter_words, self.ifmap_words, self.psum_words)
        )
        return replace(self, filter_words=filters, ifmap_words=inputs, psum_words=sums)


@dataclass(frozen=True, slots=True)
class ComputeArray:
    """The MAC array and the vector lanes; one tile of one layer at a time.

    Attributes
    ----------
    unrollings : tuple of Unrolling
        The best one is taken for each tile; not used where the array keeps a dataflow.
    vector_lanes : int
        Vector operations per cycle.
    cycles_per_mac : mapping of str to int
        Element type to cycles of one MAC in a cell of the array. A type that is absent takes that
        of the plain type of its width (uint8 of int8, bfloat16 of float16), or 1.
    tile_overhead_cycles : int
        Paid by every tile of every layer (descriptor set-up, pipeline fill).
    dataflow : PeArray or None
        The array, where MAC nests run under a dataflow instead of an unrolling.
    """

    unrollings: tuple[Unrolling, ...]
    vector_lanes: int
    cycles_per_mac: Mapping[str, int] = field(default_factory=dict)
    tile_overhead_cycles: int = 0
    dataflow: PeArray | None = None

    @property
    def macs_per_cycle(self) -> int:
        """Peak MACs per cycle: PEs of a dataflow's array, or the widest unrolling."""
        if self.dataflow is not None:
            return self.dataflow.pes
        peak = 1
        for unrolling in self.unrollings:
            width = 1
            for factor in unrolling.factors.values():
                width *= factor
            peak = max(peak, width)
        return peak


@dataclass(frozen=True, slots=True)
class Energy:
    """What each event costs, in whole femtojoules.

    Attributes
    ----------
    mac_fj : mapping of str to int
        Element type to the energy of one MAC, its product added.
    vector_fj : int
        One operation of a vector lane.
    register_fj, spm_fj, dram_fj : int
        A byte read or written at a register file of the array, in the scratchpad, and over the
        pins of the DRAM.
    leakage_fj : int
        A cycle, whatever happens in it.
    zero_gating : bool
        Whether a MAC with a zero of the first operand costs neither its own energy nor the reading
        of its operands at the registers.
    neighbour_fj : int
        A byte that reaches a processing element over the array, where that keeps a dataflow.
    """

    mac_fj: Mapping[str, int]
    vector_fj: int
    register_fj: int
    spm_fj: int
    dram_fj: int
    leakage_fj: int
    zero_gating: bool = False
    neighbour_fj: int = 0

    @property
    def transfer_fj(self) -> int:
        """A byte that a transfer moves: at the DRAM, and in the scratchpad at its other end."""
        return self.dram_fj + self.spm_fj


@dataclass(frozen=True, slots=True)
class Hardware:
    """An accelerator: scratchpad, DRAM, compute array and clock; energies where they are known."""

    name: str
    frequency_hz: int
    spm: Scratchpad
    dram: Dram
    compute: ComputeArray
    description: str = ""
    energy: Energy | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("frequency", self.frequency_hz),
            ("spm.capacity", self.spm.capacity_bytes),
            ("spm.alignment", self.spm.alignment_bytes),
            ("spm.bandwidth", self.spm.bytes_per_cycle),
            ("spm.vector_bandwidth", self.spm.vector_bytes_per_cycle or 1),
            ("dram.bandwidth", self.dram.bytes_per_cycle),
            ("dram.burst", self.dram.burst_bytes),
            ("compute.vector_lanes", self.compute.vector_lanes),
        ):
            if value <= 0:
                raise InputError("must be positive", field=name, found=str(value))
        for name, value in (
            ("dram.latency", self.dram.latency_cycles),
            ("compute.tile_overhead", self.compute.tile_overhead_cycles),
        ):
            if value < 0:
                raise InputError("must not be negative", field=name, found=value)
        if not self.compute.unrollings:
            raise InputError("at least one unrolling is needed", field="compute.unrollings")
