"""A spatial array with its memories, as far as the published models of dataflows look at it.

What stands on the datasheet of such a chip, no formula over a layer (see `spm_opt.cost.spatial`).
It is for layer-by-layer execution as the chip does it; the planner takes what it needs of it as a
`spm_opt.hardware.PeArray`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

#: dataflows that a chip can be built for
KINDS: Final = ("row_stationary", "weight_stationary", "output_stationary", "no_local_reuse")


@dataclass(frozen=True, slots=True)
class AccessEnergy:
    """Energy of one access of a word, in units of one MAC."""

    register: Fraction
    neighbour: Fraction
    buffer: Fraction
    dram: Fraction


@dataclass(frozen=True, slots=True)
class SpatialArray:
    """Processing elements (PEs) in rows and columns, their scratchpads, and the global buffer.

    Attributes
    ----------
    kind : str
        Dataflow: one of `KINDS`.
    pe_rows, pe_columns : int
    filter_words, ifmap_words, psum_words : int
        Scratchpads of one PE.
    word_bytes : int
    map_bytes, weight_bytes : int
        Regions of the global buffer: feature maps and partial sums; weights.
    bank_bytes : int
        A feature map or a set of partial sums takes whole banks of this size.
    buffer_bytes_per_cycle, dram_bytes_per_cycle : Fraction
    frequency_hz : int
    exposed_share : Fraction
        Share of the transfer time of feature maps during which the array stands still.
    energy : AccessEnergy
    """

    kind: str
    pe_rows: int
    pe_columns: int
    filter_words: int
    ifmap_words: int
    psum_words: int
    word_bytes: int
    map_bytes: int
    weight_bytes: int
    bank_bytes: int
    buffer_bytes_per_cycle: Fraction
    dram_bytes_per_cycle: Fraction
    frequency_hz: int
    exposed_share: Fraction
    energy: AccessEnergy

    @property
    def pes(self) -> int:
        """PEs of the array."""
        return self.pe_rows * self.pe_columns
