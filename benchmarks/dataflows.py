"""Energy of AlexNet under four dataflows on the same area, for ``benchmarks/eyeriss.py``.

256 PEs, batch 16, raw feature maps, every layer under the mapping of least energy of its dataflow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from spm_opt.cost.row_stationary import best_mapping, mapped
from spm_opt.cost.spatial import ConvNest, LayerCost, Sparsity, energies, layer_cost
from spm_opt.cost.stationary import best_stationary
from spm_opt.dataflow import KINDS, SpatialArray

# ISCA 2016: 256 PEs; storage of row-stationary is 512 bytes a PE and 512 bytes a PE of buffer
SIDE, PE_BYTES = 16, 512
#: chosen: area of a byte of registers in bytes of buffer; what a dataflow without large
#: scratchpads gets for them. The two values bracket plausible memories.
AREA_RATIOS = (Fraction(1), Fraction(8, 5))
BATCH = 16
CONV = {
    "CONV1": ConvNest(BATCH, 1, 96, 3, 227, 11, 4),
    "CONV2": ConvNest(BATCH, 2, 128, 48, 31, 5),
    "CONV3": ConvNest(BATCH, 1, 384, 256, 15, 3),
    "CONV4": ConvNest(BATCH, 2, 192, 192, 15, 3),
    "CONV5": ConvNest(BATCH, 2, 128, 192, 15, 3),
}
CONNECTED = {
    "FC6": ConvNest(BATCH, 1, 4096, 256, 6, 6),
    "FC7": ConvNest(BATCH, 1, 4096, 4096, 1, 1),
    "FC8": ConvNest(BATCH, 1, 1000, 4096, 1, 1),
}
#: published: row-stationary costs at least this factor less in conv and in FC layers, and at most
PUBLISHED = {"conv": (1.4, 2.5), "fc": (1.3, None)}


@dataclass(frozen=True, slots=True)
class Share:
    """Energy of one dataflow for all conv or all FC layers, per MAC, in MACs."""

    kind: str
    layers: str
    mac: float
    register: float
    neighbour: float
    buffer: float
    dram: float

    @property
    def total(self) -> float:
        return self.mac + self.register + self.neighbour + self.buffer + self.dram


def chip_for(kind: str, base: SpatialArray, ratio: Fraction) -> SpatialArray:
    """A chip of the common area: what scratchpads do not take, the buffer does."""
    buffer = SIDE**2 * PE_BYTES
    chip = replace(base, kind=kind, pe_rows=SIDE, pe_columns=SIDE)
    if kind == "row_stationary":
        return replace(chip, map_bytes=buffer - chip.weight_bytes)
    return replace(chip, map_bytes=int(buffer * (1 + ratio)))


def best_cost(nest: ConvNest, chip: SpatialArray) -> LayerCost:
    """A layer under the mapping of least energy."""
    raw = Sparsity()
    if chip.kind == "row_stationary":
        counts = mapped(nest, best_mapping(nest, chip, raw, energies))
    else:
        counts = best_stationary(nest, chip, raw, energies).accesses
    return layer_cost(nest, counts, chip, raw)


def share(kind: str, layers: str, chip: SpatialArray, nests: list[ConvNest]) -> Share:
    """Energy by level of several layers together."""
    price, macs = chip.energy, sum(nest.macs for nest in nests)
    found = [best_cost(nest, chip).accesses for nest in nests]
    buffered = sum(a.buffer_map_words + a.buffer_weight_words for a in found)
    moved = sum(a.dram_weight_words + a.dram_ifmap_words + a.dram_ofmap_words for a in found)
    return Share(
        kind,
        layers,
        1.0,
        float(price.register * sum(a.register_words for a in found) / macs),
        float(price.neighbour * sum(a.neighbour_words for a in found) / macs),
        float(price.buffer * buffered / macs),
        float(price.dram * moved / macs),
    )


def compare(base: SpatialArray, ratio: Fraction) -> list[Share]:
    """All dataflows, conv then FC layers."""
    return [
        share(kind, layers, chip_for(kind, base, ratio), list(nests.values()))
        for layers, nests in (("conv", CONV), ("fc", CONNECTED))
        for kind in KINDS
    ]


def ratios(shares: list[Share]) -> dict[tuple[str, str], float]:
    """Energy over that of row-stationary."""
    of = {(share.layers, share.kind): share.total for share in shares}
    return {key: total / of[key[0], "row_stationary"] for key, total in of.items()}


def table(shares: list[Share]) -> str:
    """Energy per MAC by level, as Markdown."""
    head = ("layers", "dataflow", "MAC", "registers", "neighbours", "buffer", "DRAM", "total",
            "over row-stationary", "published")  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "--:|" * (len(head) - 2)]
    over = ratios(shares)
    for one in shares:
        least, most = PUBLISHED[one.layers]
        claim = f"{least} to {most}" if most else f"at least {least}"
        parts = (one.mac, one.register, one.neighbour, one.buffer, one.dram, one.total)
        cells = [f"{part:.2f}" for part in (*parts, over[one.layers, one.kind])]
        cells.append("" if one.kind == "row_stationary" else claim)
        lines.append(f"| {one.layers} | {one.kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
