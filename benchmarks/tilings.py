"""What bands of columns are worth: stripes alone beside all tilings, into docs/results.md.

    python benchmarks/tilings.py [--hw mobile_npu] [--models A,B] [--capacities 128,512]
                                 [--time-limit S]

The catalogue at several capacities, and the networks of camera size at 512 KiB, where stripes alone
may not fit. Every solve runs in a fresh process, two at a time. A latency that more tilings made
worse is an error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from page import ROOT, write_section

CAPACITIES = (128, 256, 512, 2048)
CAMERA = ("fsrcnn_1080p", "linknet_4k")


def solve(model: str, capacity: int, tilings: str, arguments: argparse.Namespace) -> dict | None:
    """Figures of one solve; None where the network does not fit."""
    command = [
        sys.executable, "-c", "import sys; from spm_opt.cli import main; sys.exit(main())",
        "solve", model, "--hw", arguments.hw, "--tilings", tilings, "--json", "--workers", "1",
        "--set", f"spm.capacity={capacity} KiB", "--time-limit", str(arguments.time_limit),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout)
    if "does not fit the scratchpad" in done.stderr:
        return None
    raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def cell(rows: dict | None, both: dict | None) -> str:
    """Both latencies, their ratio, and how far the second is from its bound."""
    if both is None:
        return "does not fit"
    latency = both["latency_cycles"]
    tail = f"{latency:,}, {both['gap']:.2%}, {both['dram_bytes'] / 1e6:.2f} MB"
    if rows is None:
        return f"does not fit, {tail}"
    return f"{rows['latency_cycles']:,}, {latency / rows['latency_cycles']:.4f} of it: {tail}"


def row(model: str, capacities: list[int], arguments: argparse.Namespace) -> tuple[list[str], bool]:
    """One model's line, and whether more tilings never hurt."""
    cells, fine = [model.rpartition("/")[2].removesuffix(".yaml")], True
    for capacity in capacities:
        rows, both = (solve(model, capacity, word, arguments) for word in ("rows", "all"))
        if rows is not None:
            fine &= both is not None and both["latency_cycles"] <= rows["latency_cycles"]
        cells.append(cell(rows, both))
    print(" | ".join(cells), file=sys.stderr, flush=True)
    return cells, fine


def table(rows: list[list[str]], capacities: list[int]) -> str:
    """Lines of a table in Markdown."""
    head = ["model", *(f"{capacity} KiB: rows, all tilings, gap, DRAM" for capacity in capacities)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * len(capacities)]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in rows)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hw", default="mobile_npu")
    parser.add_argument("--models", help="names or paths with commas; the catalogue by default")
    parser.add_argument("--capacities", default=",".join(map(str, CAPACITIES)), help="KiB")
    parser.add_argument("--time-limit", type=float, default=60.0)
    arguments = parser.parse_args()
    names = sorted(path.stem for path in (ROOT / "models").glob("*.yaml"))
    if arguments.models:
        names = arguments.models.split(",")
    capacities = [int(text) for text in arguments.capacities.split(",")]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda name: row(name, capacities, arguments), names))
        text = table([cells for cells, _ in found], capacities)
        if not arguments.models:
            paths = [str(ROOT / "models" / "camera" / f"{name}.yaml") for name in CAMERA]
            camera = list(pool.map(lambda path: row(path, [512], arguments), paths))
            text += "\n\n" + table([cells for cells, _ in camera], [512])
            found += camera
    text = f"`joint` on `{arguments.hw}`.\n\n{text}\n"
    print(text)
    if not arguments.models:
        write_section("tilings", text)
    return int(not all(fine for _, fine in found))


if __name__ == "__main__":
    raise SystemExit(main())
