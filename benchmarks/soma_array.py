"""How well the array model of `soma_edge` reproduces SoMa's published cycles, row by row.

    python benchmarks/soma_array.py [--tables DIR]

Each row of ``NET_tiles.csv`` is a tile of given extents: the least over the array's unrollings of
the product of rounded-up extents, or the time to read the tile's operands, whichever is longer.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import replace
from math import ceil
from pathlib import Path

from page import ROOT, write_section
from soma_tables import TableRow, images, read_rows

from spm_opt.api import load_hardware
from spm_opt.hardware import LOOP_DIMENSIONS, Hardware

TABLES = ROOT.parent / "shared" / "soma"
WITHIN = (0.0, 0.01, 0.02, 0.05, 0.10)


def tile_cycles(row: TableRow, tile: dict[str, str], hardware: Hardware) -> int:
    """Cycles of one tile by the array model."""
    batch, channels, rows, columns = (int(tile[f"tile_{axis}"]) for axis in "bchw")
    loops = row.loops
    share = (
        batch
        * channels
        * rows
        * columns
        / (images(row) * row["ofm_c"] * row["ofm_h"] * row["ofm_w"])
    )
    if loops is None:
        return ceil(row["ops"] * share / hardware.compute.vector_lanes)
    per_group = ceil(channels / loops.g) if loops.g > 1 else channels
    nest = replace(loops, b=batch, k=per_group, oy=rows, ox=columns)
    best = min(
        _product(
            ceil(getattr(nest, dimension) / unrolling.factors.get(dimension, 1))
            for dimension in LOOP_DIMENSIONS
        )
        for unrolling in hardware.compute.unrollings
    )
    weights = row["weight_bytes"] * channels // row["ofm_c"]
    read = int(tile["ifm_tile_bytes"]) + weights
    return max(best, ceil(read / hardware.spm.bytes_per_cycle))


def _product(factors: object) -> int:
    total = 1
    for factor in factors:  # type: ignore[attr-defined]
        total *= factor
    return total


def errors(folder: Path, net: str, hardware: Hardware) -> list[float]:
    """Relative errors of all rows, in absolute terms."""
    rows = {row.id: row for row in read_rows(folder, net)}
    with (folder / f"{net}_tiles.csv").open(newline="", encoding="utf-8") as file:
        tiles = list(csv.DictReader(file))
    found = []
    for tile in tiles:
        published = int(tile["cycles_per_tile"])
        found.append(abs(tile_cycles(rows[tile["id"]], tile, hardware) / published - 1))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", type=Path, default=TABLES)
    folder = parser.parse_args().tables
    hardware = load_hardware("soma_edge", {})
    head = ("table", "rows", *(f"within {limit:.0%}" for limit in WITHIN), "largest error")
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    worst = 1.0
    for path in sorted(folder.glob("*_tiles.csv")):
        found = errors(folder, path.name.removesuffix("_tiles.csv"), hardware)
        shares = [sum(error <= limit for error in found) / len(found) for limit in WITHIN]
        worst = min(worst, shares[WITHIN.index(0.02)])
        cells = (path.stem, str(len(found)), *(f"{s:.1%}" for s in shares), f"{max(found):.1%}")
        lines.append("| " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    write_section("soma-array", text)
    print(f"least share within 2 %: {worst:.1%}", file=sys.stderr)
    return int(worst < 0.9)


if __name__ == "__main__":
    raise SystemExit(main())
