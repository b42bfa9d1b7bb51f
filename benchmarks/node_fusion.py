"""Fusion on a small chip: DRAM bytes of AlexNet's convolutions, layer by layer and planned.

    python benchmarks/node_fusion.py [--model alexnet] [--hw eyeriss] [--dtype int16]
                                     [--time-limit S] [--write]

Prints a table of docs/fusion.md; with --write puts it there. Each strategy moves as few bytes as it
can. Maps count for the layer that loads or stores them: what a fused layer hands on costs nothing.
"""

from __future__ import annotations

import argparse
import csv
import io

from page import ROOT, write_section

import spm_opt
from spm_opt.formats.tables import layers_csv

STRATEGIES = ("layerwise", "fuse", "joint")
#: columns of one strategy
PARTS = ("dram_weight_bytes", "dram_feature_map_bytes")


def booked(result: spm_opt.Result) -> dict[str, tuple[int, int]]:
    """Bytes of weights and of maps of each layer up to the last convolution and its pool.

    The bands of a layer count for it.
    """
    rows = list(csv.DictReader(io.StringIO(layers_csv(result.schedule))))
    last = max(n for n, row in enumerate(rows) if row["op"] == "conv")
    pooled = last + 1 < len(rows) and rows[last + 1]["op"] == "pool"
    found: dict[str, tuple[int, int]] = {}
    for row in rows[: last + 1 + pooled]:
        layer = layer_of(row["layer"])
        weights, maps = found.get(layer, (0, 0))
        found[layer] = weights + int(row[PARTS[0]]), maps + int(row[PARTS[1]])
    return found


def layer_of(name: str) -> str:
    """The layer that a band of columns is one of; other names as they are."""
    return name.partition("#")[0]


def groups(result: spm_opt.Result, layers: list[str]) -> str:
    """Which of `layers` run together."""
    steps = ([layer_of(name) for name in step.layers] for step in result.schedule.steps)
    kept = (tuple(dict.fromkeys(n for n in names if n in layers)) for names in steps)
    fused = [" + ".join(names) for names in dict.fromkeys(kept) if len(names) > 1]
    return ", ".join(fused) or "none"


def table(results: dict[str, spm_opt.Result]) -> str:
    """One row a layer: maps and weights, a column a strategy."""
    known = {name: booked(result) for name, result in results.items()}
    layers = list(known["layerwise"])
    lines = [
        "| layer | " + " | ".join(f"{name}: weights | maps" for name in known) + " |",
        "|---|" + "--:|--:|" * len(known),
    ]
    for layer in [*layers, "total"]:
        cells = []
        for bytes_of in known.values():
            own = list(bytes_of.values()) if layer == "total" else [bytes_of.get(layer, (0, 0))]
            cells += [f"{sum(part):,}" for part in zip(*own, strict=True)]
        lines.append(f"| {layer} | " + " | ".join(cells) + " |")
    lines.append("")
    for name, result in results.items():
        lines.append(
            f"- {name}: {result.status}, gap {result.gap:.2%}, verified {result.verified}; "
            f"fused: {groups(result, layers)}"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="alexnet")
    parser.add_argument("--hw", default="eyeriss")
    parser.add_argument("--dtype", default="int16")
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    results = {
        result.strategy: result
        for result in spm_opt.compare(
            arguments.model, arguments.hw, dtype=arguments.dtype, objective="dram",
            strategies=STRATEGIES, time_limit=arguments.time_limit,
        )
    }  # fmt: skip
    text = f"{arguments.model} on `{arguments.hw}`, {arguments.dtype}.\n\n{table(results)}"
    print(text)
    if arguments.write:
        write_section("node-fusion", text, ROOT / "docs" / "fusion.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
