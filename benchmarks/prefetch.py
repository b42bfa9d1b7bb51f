"""The catalogue with and without prefetching, at several DRAM bandwidths, into docs/results.md.

    python benchmarks/prefetch.py [--hw mobile_npu] [--models A,B] [--time-limit S]

Every solve runs in a fresh process, two at a time. A latency that prefetching made worse is an
error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from page import ROOT, write_section

BANDWIDTHS = (4, 8, 16, 32)
HEAD = ("model", *(f"{b} GB/s: without, with, ratio, over roofline, gap" for b in BANDWIDTHS))


def solve(model: str, bandwidth: int, prefetch: str, arguments: argparse.Namespace) -> dict:
    """Figures of one solve."""
    command = [
        sys.executable, "-c", "import sys; from spm_opt.cli import main; sys.exit(main())",
        "solve", model, "--hw", arguments.hw, "--prefetch", prefetch, "--json", "--workers", "1",
        "--set", f"dram.bandwidth={bandwidth} GB/s", "--time-limit", str(arguments.time_limit),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def cell(without: dict, with_: dict) -> str:
    """Both latencies and how far the second is from its limits."""
    latency = with_["latency_cycles"]
    return (
        f"{without['latency_cycles']:,}, {latency:,}, "
        f"{latency / without['latency_cycles']:.3f}, {latency / with_['roofline_cycles']:.2f}, "
        f"{with_['gap']:.2%}"
    )


def row(model: str, arguments: argparse.Namespace) -> tuple[list[str], bool]:
    """One model's line, and whether prefetching never hurt."""
    cells, fine = [model], True
    for bandwidth in BANDWIDTHS:
        without, with_ = (solve(model, bandwidth, word, arguments) for word in ("off", "on"))
        fine &= with_["latency_cycles"] <= without["latency_cycles"]
        cells.append(cell(without, with_))
    print(" | ".join(cells), file=sys.stderr, flush=True)
    return cells, fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hw", default="mobile_npu")
    parser.add_argument("--models", help="names with commas; all by default")
    parser.add_argument("--time-limit", type=float, default=60.0)
    arguments = parser.parse_args()
    names = sorted(path.stem for path in (ROOT / "models").glob("*.yaml"))
    if arguments.models:
        names = arguments.models.split(",")
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(lambda name: row(name, arguments), names))
    lines = ["| " + " | ".join(HEAD) + " |", "|---|" + "--:|" * len(BANDWIDTHS)]
    lines += ["| " + " | ".join(cells) + " |" for cells, _ in rows]
    text = f"`joint` on `{arguments.hw}`.\n\n" + "\n".join(lines) + "\n"
    print(text)
    if not arguments.models:
        write_section("prefetch", text)
    return int(not all(fine for _, fine in rows))


if __name__ == "__main__":
    raise SystemExit(main())
