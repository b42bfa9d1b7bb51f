"""The model of row-stationary execution beside the published measurements of Eyeriss.

    python benchmarks/eyeriss.py [--net alexnet|vgg16] [--json] [--write]
    python benchmarks/eyeriss.py --dataflows [--json] [--write]

AlexNet with its published mapping, VGG-16 with the model's own of least energy. Exit code 1 where
the model is further from the chip than the limits below. ``--write`` puts the table into
docs/silicon.md. Energy: measured mJ of the chip without DRAM; modelled 10^9 MAC energies, likewise.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import dataflows
import yaml
from page import ROOT, write_section

from spm_opt.cost.row_stationary import RowMapping, best_mapping, mapped
from spm_opt.cost.spatial import ConvNest, LayerCost, Sparsity, energies, layer_cost
from spm_opt.dataflow import SpatialArray
from spm_opt.formats.dataflow_yaml import read_dataflow

FACTS = Path(__file__).with_suffix(".yaml")
COLUMNS = ("active_pes", "processing_ms", "exposed_ms", "dram_mb", "buffer_mb", "energy")
#: largest relative error: column to (per layer, in total); None where there is no limit
LIMITS: dict[str, dict[str, tuple[float | None, float | None]]] = {
    "alexnet": {
        "active_pes": (0, None),
        "processing_ms": (0.15, 0.10),
        "exposed_ms": (None, 0.20),
        "dram_mb": (0.13, 0.06),
        "buffer_mb": (None, 0.20),
    },
    "vgg16": {"processing_ms": (None, 0.20), "dram_mb": (None, 0.20)},
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What the benchmark prints of a layer or a network."""

    active_pes: float
    processing_ms: float
    exposed_ms: float
    dram_mb: float
    buffer_mb: float
    energy: float


@dataclass(frozen=True, slots=True)
class Row:
    """A layer, measured and modelled."""

    layer: str
    measured: Figures
    modelled: Figures
    mapping: RowMapping


def measured(published: list[float]) -> Figures:
    """Figures of a published row."""
    power, total, busy, active, _, buffered, dram = published
    return Figures(active, busy, round(total - busy, 1), dram, buffered, power * total / 1000)


def figures(cost: LayerCost, chip: SpatialArray) -> Figures:
    """Figures of a modelled layer."""
    per_ms = chip.frequency_hz / 1000
    counts = cost.accesses
    return Figures(
        active_pes=counts.active_pes,
        processing_ms=cost.cycles / per_ms,
        exposed_ms=cost.exposed_cycles / per_ms,
        dram_mb=cost.dram_bytes / 1e6,
        buffer_mb=counts.buffer_map_words * chip.word_bytes / 1e6,
        energy=float(cost.chip_energy) / 1e9,
    )


def sparsities(rows: dict[str, list[float]]) -> list[Sparsity]:
    """Zeros of every layer's input, and of its output: those of the next layer's input.

    Of the last layer's output nothing is published: taken to be as sparse as its input.
    """
    zeros = [Fraction(str(row[4])) / 100 for row in rows.values()]
    return [Sparsity(z, after) for z, after in zip(zeros, [*zeros[1:], zeros[-1]], strict=True)]


def compare(net: str, chip: SpatialArray) -> tuple[list[Row], Row]:
    """All layers of a network, and their total."""
    facts = yaml.safe_load(FACTS.read_text(encoding="utf-8"))[net]
    rows = []
    for name, sparsity in zip(facts["layers"], sparsities(facts["measured"]), strict=True):
        nest = ConvNest(images=facts["batch"], **facts["layers"][name])
        given = facts["mappings"].get(name)
        mapping = RowMapping(**given) if given else best_mapping(nest, chip, sparsity, energies)
        cost = layer_cost(nest, mapped(nest, mapping), chip, sparsity)
        rows.append(Row(name, measured(facts["measured"][name]), figures(cost, chip), mapping))
    return rows, Row("total", measured(facts["total"]), total(rows), rows[0].mapping)


def total(rows: list[Row]) -> Figures:
    """Sums of the modelled layers; active PEs weighted by time, as published."""
    sums = {name: sum(getattr(row.modelled, name) for row in rows) for name in COLUMNS}
    busy = sum(row.modelled.active_pes * row.modelled.processing_ms for row in rows)
    return Figures(**{**sums, "active_pes": busy / sums["processing_ms"]})


def error(row: Row, column: str) -> float:
    """Relative error of the model."""
    return float(getattr(row.modelled, column) / getattr(row.measured, column) - 1)


def outside(net: str, rows: list[Row], whole: Row) -> list[str]:
    """Every figure that is further from the chip than its limit."""
    found = []
    for column, (per_layer, in_total) in LIMITS[net].items():
        pairs = [(row, per_layer) for row in rows] + [(whole, in_total)]
        found += [
            f"{row.layer} {column}: {error(row, column):+.1%}, limit {limit:.0%}"
            for row, limit in pairs
            if limit is not None and abs(error(row, column)) > limit
        ]
    return found


def table(rows: list[Row], whole: Row) -> str:
    """Measured / modelled, and the error, as Markdown."""
    lines = ["| layer | " + " | ".join(COLUMNS) + " | m n e p q r t |"]
    lines.append("|---|" + "--:|" * len(COLUMNS) + "---|")
    for row in [*rows, whole]:
        cells = [_cell(row, column) for column in COLUMNS]
        choice = "" if row is whole else " ".join(str(v) for v in asdict(row.mapping).values())
        lines.append(f"| {row.layer} | " + " | ".join(cells) + f" | {choice} |")
    return "\n".join(lines)


def _cell(row: Row, column: str) -> str:
    pair = (getattr(row.measured, column), getattr(row.modelled, column))
    if column == "active_pes":
        return f"{pair[0]:.0f} / {pair[1]:.0f}"
    both = f"{pair[0]:.1f} / {pair[1]:.1f}"
    # the two energies have different units: only their shares can be compared
    return both if column == "energy" else f"{both} ({error(row, column):+.1%})"


def record(net: str, rows: list[Row], whole: Row, failures: list[str]) -> dict[str, object]:
    """Everything, for ``--json``."""
    return {
        "net": net,
        "layers": [asdict(row) for row in rows],
        "total": {"measured": asdict(whole.measured), "modelled": asdict(whole.modelled)},
        "outside": failures,
    }


def show_dataflows(chip: SpatialArray, options: argparse.Namespace) -> int:
    """The comparison of dataflows, once for each ratio of areas; no limit."""
    found = {ratio: dataflows.compare(chip, ratio) for ratio in dataflows.AREA_RATIOS}
    texts = [
        f"A byte of registers takes the area of {float(ratio)} bytes of buffer:\n\n"
        + dataflows.table(shares)
        for ratio, shares in found.items()
    ]
    records = [
        {"area_ratio": float(ratio), **asdict(share), "total": share.total}
        for ratio, shares in found.items()
        for share in shares
    ]
    print(json.dumps(records) if options.json else "\n\n".join(texts))
    if options.write:
        write_section("eyeriss-dataflows", "\n\n".join(texts), ROOT / "docs" / "silicon.md")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--net", choices=tuple(LIMITS), default="alexnet")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--dataflows", action="store_true")
    options = parser.parse_args(arguments)
    chip = read_dataflow(ROOT / "hw" / "eyeriss.yaml")
    if options.dataflows:
        return show_dataflows(chip, options)
    rows, whole = compare(options.net, chip)
    failures = outside(options.net, rows, whole)
    text = table(rows, whole)
    print(json.dumps(record(options.net, rows, whole, failures)) if options.json else text)
    if not options.json:
        print("\n".join(["", *failures] if failures else ["", "within all limits"]))
    if options.write:
        write_section(f"eyeriss-{options.net}", text, ROOT / "docs" / "silicon.md")
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main())
