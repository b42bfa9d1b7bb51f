"""The catalogue planned with and without aliases, into docs/results.md.

    python benchmarks/aliases.py [--hw mobile_npu] [--strategy joint] [--models A,B]

Every solve runs in a fresh process. A latency that got worse is an error.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys

from page import ROOT, write_section

HEAD = (
    "model", "cycles without", "with", "ratio", "DRAM MB without", "with", "peak / load without",
    "with", "in place KiB", "not copied KiB", "status",
)  # fmt: skip


def solve(model: str, aliases: str, arguments: argparse.Namespace) -> dict:
    """Figures of one solve."""
    command = [
        sys.executable, "-c", "import sys; from spm_opt.cli import main; sys.exit(main())",
        "solve", model, "--hw", arguments.hw, "--strategy", arguments.strategy, "--json",
        "--aliases", aliases, "--time-limit", str(arguments.time_limit),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def over_load(figures: dict) -> str:
    """High-water mark over the load of the plan's own buffers."""
    return f"{figures['spm_peak_bytes'] / figures['spm_load_bytes']:.3f}"


def row(without: dict, with_: dict) -> tuple[str, ...]:
    """One model's line of the table."""
    pair = without, with_
    saved = with_["aliased_bytes"]
    return (
        with_["model"],
        *(f"{f['latency_cycles']:,}" for f in pair),
        f"{with_['latency_cycles'] / without['latency_cycles']:.4f}",
        *(f"{f['dram_bytes']['total'] / 1e6:.2f}" for f in pair),
        *(over_load(f) for f in pair),
        *(f"{saved[kind] / 1024:,.0f}" for kind in ("in_place", "not_copied")),
        " / ".join(f["status"] for f in pair),
    )


def table(rows: list[tuple[dict, dict]]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|---|" + "--:|" * (len(HEAD) - 2) + "---|"]
    lines += ["| " + " | ".join(row(*pair)) + " |" for pair in rows]
    ratios = [b["latency_cycles"] / a["latency_cycles"] for a, b in rows]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    lines.append(f"| geometric mean | | | {mean:.4f} |" + " |" * (len(HEAD) - 4))
    return "\n".join(lines) + "\n"


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hw", default="mobile_npu")
    parser.add_argument("--strategy", default="joint")
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
        rows.append((solve(name, "off", arguments), solve(name, "on", arguments)))
        print(" ".join(row(*rows[-1])), file=sys.stderr, flush=True)
    text = f"`{arguments.strategy}` on `{arguments.hw}`.\n\n{table(rows)}"
    print(text)
    if not arguments.models:
        write_section("aliases" if arguments.strategy == "joint" else "aliases-pin", text)
    return int(any(b["latency_cycles"] > a["latency_cycles"] for a, b in rows))


if __name__ == "__main__":
    raise SystemExit(main())
