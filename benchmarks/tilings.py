"""What tilings are worth: stripes alone beside all tilings, into docs/results.md.

    python benchmarks/tilings.py [--hw mobile_npu] [--models A,B] [--capacities 128,512]
                                 [--time-limit S] [--jobs N] [--no-page]

The catalogue at several capacities, and the networks of camera size at 512 KiB, where stripes alone
may not fit. Every solve runs in a fresh process of one worker, `--jobs` at a time. With `--models`
the rows of these alone are measured, and take the place of theirs on the page. A latency that more
tilings made worse is an error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from page import ROOT, merged, table, write_section

CAPACITIES = (128, 256, 512, 2048)
CAMERA = ("fsrcnn_1080p", "linknet_4k")
#: KiB
CAMERA_CAPACITY = 512


def path_of(model: str) -> str:
    """A model's name, or the file of one of camera size."""
    return str(ROOT / "models" / "camera" / f"{model}.yaml") if model in CAMERA else model


def solve(model: str, capacity: int, tilings: str, arguments: argparse.Namespace) -> dict | None:
    """Figures of one solve; None where the network does not fit."""
    command = [
        sys.executable, "-c", "import sys; from spm_opt.cli import main; sys.exit(main())",
        "solve", path_of(model), "--hw", arguments.hw, "--tilings", tilings, "--json",
        "--workers", "1", "--set", f"spm.capacity={capacity} KiB",
        "--time-limit", str(arguments.time_limit),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout)
    if "does not fit the scratchpad" in done.stderr:
        return None
    raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def row(model: str, capacity: int, arguments: argparse.Namespace) -> tuple[list[str], bool]:
    """One line of the table, and whether more tilings did not hurt."""
    rows, both = (solve(model, capacity, word, arguments) for word in ("rows", "all"))
    cells = [model, f"{capacity:,}", *(_cells(rows)), *(_cells(both)), _ratio(rows, both)]
    cells += [f"{arguments.time_limit:.0f}", date.today().isoformat()]
    print(" | ".join(cells), file=sys.stderr, flush=True)
    worse = rows is not None and (both is None or both["latency_cycles"] > rows["latency_cycles"])
    return cells, not worse


def _cells(solved: dict | None) -> list[str]:
    """Cycles, how far they may be off, and MB of DRAM."""
    if solved is None:
        return ["does not fit", "", ""]
    dram = solved["dram_bytes"]["total"]
    return [f"{solved['latency_cycles']:,}", f"{solved['gap']:.2%}", f"{dram / 1e6:.2f}"]


def _ratio(rows: dict | None, both: dict | None) -> str:
    if rows is None or both is None:
        return ""
    return f"{both['latency_cycles'] / rows['latency_cycles']:.4f}"


HEAD = [
    "model", "KiB", "rows: cycles", "gap", "MB", "all tilings: cycles", "gap", "MB", "of rows",
    "limit s", "measured",
]  # fmt: skip


def jobs_of(models: list[str], capacities: list[int]) -> list[tuple[str, int]]:
    """What is measured, in order."""
    return [
        (model, capacity)
        for model in models
        for capacity in ([CAMERA_CAPACITY] if model in CAMERA else capacities)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hw", default="mobile_npu")
    parser.add_argument("--models", help="names with commas; all by default")
    parser.add_argument("--capacities", default=",".join(map(str, CAPACITIES)), help="KiB")
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-page", action="store_true", help="print only")
    arguments = parser.parse_args()
    every = [*sorted(path.stem for path in Path(ROOT / "models").glob("*.yaml")), *CAMERA]
    models = arguments.models.split(",") if arguments.models else every
    jobs = jobs_of(models, [int(text) for text in arguments.capacities.split(",")])
    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = list(pool.map(lambda job: row(*job, arguments), jobs))
    lines = [cells for cells, _ in found]
    if arguments.no_page:
        print(table(HEAD, lines))
    else:
        order = [(model, f"{capacity:,}") for model, capacity in jobs_of(every, list(CAPACITIES))]
        known = {(cells[0], cells[1]): cells for cells in merged("tilings", HEAD, lines, 2)}
        left = [known[key] for key in order if key in known]
        write_section("tilings", f"`joint` on `{arguments.hw}`.\n\n{table(HEAD, left)}\n")
    return int(not all(fine for _, fine in found))


if __name__ == "__main__":
    raise SystemExit(main())
