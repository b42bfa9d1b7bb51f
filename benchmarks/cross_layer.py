"""What planning across layers would give Eyeriss: its networks with joint pin and fuse in 100 KiB.

    python benchmarks/cross_layer.py [--net alexnet|vgg16] [--time-limit S] [--prices] [--write]

The convolutions and pools of the networks that the chip was measured on, in its batches, on the
planner's model of the chip (hw/eyeriss.yaml, row-stationary), its run-length code and the
measured zeros. ``--prices``: energy with and without fusion where a word of DRAM, buffer and
register costs 250 : 4 : 1. ``--write`` puts the table into docs/silicon.md.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import Any

import yaml
from eyeriss import FACTS, measured
from page import ROOT, write_section

import spm_opt
from spm_opt.graph.builder import Handle, NetworkBuilder
from spm_opt.graph.network import MILLION

STRATEGIES = ("layerwise", "pin", "fuse", "joint")
#: kernel and stride of the pools between convolutions
POOLS = {"alexnet": (3, 2), "vgg16": (2, 2)}
CHIP = {
    "spm.capacity": "100 KiB", "dram.compression": "run_length", "energy.zero_gating": "true",
}  # fmt: skip
#: energies of a 16-bit word in picojoules: DRAM 250, buffer 4, register 1; of a MAC 1
PRICES = {
    "energy.dram": "125 pJ/B", "energy.spm": "2 pJ/B", "energy.register_file": "500 fJ/B",
    "energy.mac": "1 pJ",
}  # fmt: skip


def network(net: str, facts: dict[str, Any]) -> NetworkBuilder:
    """The convolutions of a network, with the pools between them, and the measured densities."""
    b = NetworkBuilder(f"{net}_convolutions", dtype="int16")
    layers = facts["layers"]
    zeros = [row[4] for row in facts["measured"].values()]
    first, kernel = next(iter(layers.values())), POOLS[net]
    padded = first["rows_in"] - (0 if net == "alexnet" else 2)
    x = b.input("input", (facts["batch"], first["channels"] * first["groups"], padded, padded))
    b.density(x, density(zeros[0]))
    for (name, layer), after in zip(layers.items(), [*zeros[1:], zeros[-1]], strict=True):
        if layer["rows_in"] < x.shape[2]:
            before = zeros[list(layers).index(name)]
            x = sparse(b, b.max_pool(x, kernel[0], stride=kernel[1], name=f"pool_{name}"), before)
        x = sparse(b, convolution(b, x, name, layer), after)
    b.output(x)
    return b


def convolution(b: NetworkBuilder, x: Handle, name: str, layer: dict[str, int]) -> Handle:
    """A layer of the facts, padded as they say."""
    padding = (layer["rows_in"] - x.shape[2]) // 2
    return b.conv(
        x, layer["filters"] * layer["groups"], layer["kernel"], stride=layer["stride"],
        padding=padding, groups=layer["groups"], activation="relu", name=name,
    )  # fmt: skip


def sparse(b: NetworkBuilder, x: Handle, zeros: float) -> Handle:
    """A map, expected to be as sparse as measured."""
    b.density(x, density(zeros))
    return x


def density(zeros: float) -> int:
    """Elements per million that are not zero, of a percentage of zeros."""
    return int((1 - Fraction(str(zeros)) / 100) * MILLION)


def plans(net: str, facts: dict[str, Any], arguments: argparse.Namespace, **options: Any) -> Any:
    """Verified plans of every strategy."""
    found = spm_opt.compare(
        network(net, facts), "eyeriss", time_limit=arguments.time_limit, **options
    )
    assert all(plan.verified for plan in found)
    return found


def energy_mj(plan: spm_opt.Result) -> float:
    """All levels, at the prices of the hardware."""
    claimed = plan.schedule.claims.energy
    return 0.0 if claimed is None else claimed.total_fj / 1e12


def compared(net: str, facts: dict[str, Any], arguments: argparse.Namespace) -> str:
    """The chip's measurements above the planner's strategies, for two objectives."""
    chip = measured(facts["total"])
    lines = [
        "| plan | objective | DRAM MB | latency ms | energy mJ at 1 pJ a MAC | gap |",
        "|---|---|--:|--:|--:|--:|",
        f"| the chip, measured | | {chip.dram_mb} | {facts['total'][1]} | | |",
    ]
    for objective in ("latency", "dram"):
        for plan in plans(
            net, facts, arguments, strategies=STRATEGIES, objective=objective, overrides=CHIP
        ):
            claims = plan.schedule.claims
            milliseconds = 1000 * claims.latency_cycles / plan.schedule.hardware.frequency_hz
            lines.append(
                f"| {plan.strategy} | {objective} | {claims.dram_bytes / 1e6:.1f} | "
                f"{milliseconds:.1f} | {energy_mj(plan):.2f} | {plan.gap:.1%} |"
            )
    return "\n".join(lines)


def priced(net: str, facts: dict[str, Any], arguments: argparse.Namespace) -> str:
    """Energy without and with fusion, by level, where DRAM : buffer : register is 250 : 4 : 1."""
    lines = [
        "| plan | DRAM mJ | buffer mJ | registers mJ | MACs mJ | total mJ | of layerwise | gap |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    found = plans(
        net, facts, arguments, strategies=("layerwise", "fuse", "joint"), objective="energy",
        overrides={"spm.capacity": "108 KiB", **PRICES},
    )  # fmt: skip
    for plan in found:
        levels = plan.schedule.claims.energy
        figures = (
            levels.dram_fj, levels.spm_fj, levels.register_file_fj, levels.mac_fj, levels.total_fj
        )  # fmt: skip
        cells = " | ".join(f"{value / 1e12:.2f}" for value in figures)
        share = energy_mj(plan) / energy_mj(found[0])
        lines.append(f"| {plan.strategy} | {cells} | {share:.3f} | {plan.gap:.1%} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--net", choices=sorted(POOLS), default="alexnet")
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--prices", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    facts = yaml.safe_load(FACTS.read_text(encoding="utf-8"))[arguments.net]
    text = (priced if arguments.prices else compared)(arguments.net, facts, arguments)
    print(text)
    if arguments.write:
        section = f"{'node-energy' if arguments.prices else 'cross-layer'}-{arguments.net}"
        write_section(section, text, ROOT / "docs" / "silicon.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
