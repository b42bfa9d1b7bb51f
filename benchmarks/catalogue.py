"""Every catalogue model on one accelerator, every strategy; all of them go to docs/results.md.

    python benchmarks/catalogue.py [--hw mobile_npu] [--set FIELD=VALUE ...] [--models A,B]

Each model is compared by the command line in a fresh process. A model that fails is a row too.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time

from page import ROOT, write_section

BASELINES = ("fuse", "pin", "greedy", "layerwise")
HEAD = (
    "model", "layers", "status", "gap", "cycles", "over roofline", "DRAM MB", "maps MB",
    *(f"/ {name}" for name in BASELINES), "maps / best", "seconds",
)  # fmt: skip


def run(model: str, arguments: argparse.Namespace) -> dict:
    """``spm-opt compare --json`` of one model, with its wall clock."""
    command = [
        sys.executable, "-c", "import sys; from spm_opt.cli import main; sys.exit(main())",
        "compare", model, "--hw", arguments.hw, "--json", "--time-limit", str(arguments.time_limit),
    ]  # fmt: skip
    for override in arguments.set:
        command += ["--set", override]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        return {"model": model, "error": done.stderr.strip().splitlines()[-1], "seconds": seconds}
    return {**json.loads(done.stdout), "seconds": seconds}


def row(found: dict) -> tuple[str, ...]:
    """One model's line of the table."""
    if "error" in found:
        return (found["model"], found["error"], *[""] * (len(HEAD) - 3), f"{found['seconds']:.0f}")
    of = {solved["strategy"]: solved for solved in found["strategies"]}
    joint, best = of["joint"], of[found["best_baseline"]]
    maps, others = joint["dram_bytes"]["feature_maps"], best["dram_bytes"]["feature_maps"]
    return (
        joint["model"],
        str(joint["layers"]),
        joint["status"],
        f"{joint['gap']:.2%}",
        f"{joint['latency_cycles']:,}",
        f"{joint['latency_cycles'] / joint['roofline_cycles']:.2f}",
        f"{joint['dram_bytes']['total'] / 1e6:.2f}",
        f"{maps / 1e6:.2f}",
        *(f"{joint['latency_cycles'] / of[name]['latency_cycles']:.3f}" for name in BASELINES),
        f"{maps / others:.3f}",
        f"{found['seconds']:.0f}",
    )


def mean_row(rows: list[dict]) -> tuple[str, ...]:
    """Geometric means of the ratios."""
    solved = [found for found in rows if "error" not in found]

    def mean(ratio: str, name: str) -> str:
        values = []
        for found in solved:
            of = {s["strategy"]: s for s in found["strategies"]}
            other = of[found["best_baseline"] if name == "best" else name]
            pair = [
                s["latency_cycles"] if ratio == "latency" else s["dram_bytes"]["feature_maps"]
                for s in (of["joint"], other)
            ]
            values.append(math.log(pair[0] / pair[1]))
        return f"{math.exp(sum(values) / len(values)):.3f}" if values else ""

    ratios = tuple(mean("latency", name) for name in BASELINES)
    return ("geometric mean", *[""] * 7, *ratios, mean("maps", "best"), "")


def table(rows: list[dict]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|---|--:|---|" + "--:|" * (len(HEAD) - 3)]
    for cells in (*map(row, rows), mean_row(rows)):
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hw", default="mobile_npu")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--models", help="names with commas; all by default")
    parser.add_argument("--time-limit", type=float, default=60.0)
    return parser.parse_args(words)


def main() -> int:
    arguments = parse(sys.argv[1:])
    names = sorted(path.stem for path in (ROOT / "models").glob("*.yaml"))
    if arguments.models:
        names = arguments.models.split(",")
    rows = []
    for name in names:
        rows.append(run(name, arguments))
        print(" ".join(row(rows[-1])), file=sys.stderr, flush=True)
    text = (
        f"On {', '.join(f'`{word}`' for word in (arguments.hw, *arguments.set))}.\n\n{table(rows)}"
    )
    print(text)
    if not arguments.models:
        write_section("catalogue", text)
    return 1 if any("error" in found for found in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
