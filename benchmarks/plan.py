"""How fast a plan comes: MobileNetV2 int8 at 512 KiB, ResNet-50 int8 at 1 MiB.

    python benchmarks/plan.py [--runs 3] [--json]

Each run is a fresh process (so peak memory is that of one solve); the table shows medians, and the
bar that each is held to. ``spm-opt --help`` is timed too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from page import write_section

HERE = Path(__file__).resolve()
CASES = (("mobilenet_v2", "512 KiB"), ("resnet50", "1 MiB"))
#: column, title, bar
COLUMNS = (
    ("candidates_seconds", "candidates s", 3.0),
    ("first_seconds", "first verified s", 5.0),
    ("near_seconds", "within 1 % s", 60.0),
    ("proven_seconds", "proven s", 180.0),
    ("peak_mib", "peak MiB", 2048.0),
)
HELP_BAR_SECONDS = 0.5


def measure(model: str, capacity: str) -> dict[str, float | int | str | None]:
    """One solve in this process, from the model's name to the checked schedule."""
    began = time.monotonic()
    from spm_opt import api
    from spm_opt.fusion import make_candidates
    from spm_opt.params import Progress
    from spm_opt.parts import distinct_orders
    from spm_opt.site import make_site

    imported = time.monotonic() - began
    overrides = {"spm.capacity": capacity}
    seen: list[tuple[float, Progress]] = []

    def told(record: Progress) -> None:
        seen.append((time.monotonic() - began, record))

    result = api.solve(
        model, "mobile_npu", overrides=overrides, dtype="int8", time_limit=300, orders=1,
        progress=told,
    )  # fmt: skip
    total = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    first = next(at for at, record in seen if record.incumbent is not None)
    bound = result.schedule.provenance.objective_bound
    near = next(
        (
            at
            for at, record in seen
            if record.incumbent is not None and record.incumbent - bound <= 0.01 * record.incumbent
        ),
        None,
    )
    checking = time.monotonic()
    api.check(result)
    checking = time.monotonic() - checking
    network = result.schedule.network
    site = make_site(network, result.schedule.hardware, distinct_orders(network, 1)["source"])
    proposing = time.monotonic()
    candidates = make_candidates(site).candidates
    return {
        "import_seconds": imported,
        "candidates_seconds": time.monotonic() - proposing,
        "candidates": len(candidates),
        # a schedule counts when the checker has passed it
        "first_seconds": first + checking,
        "near_seconds": None if near is None else near + checking,
        "proven_seconds": total if result.status == "optimal" else None,
        "total_seconds": total,
        "peak_mib": peak,
        "status": result.status,
        "gap": result.gap,
        "latency_cycles": result.latency_cycles,
    }


def help_seconds() -> float:
    """Wall clock of ``spm-opt --help``."""
    began = time.monotonic()
    command = "import sys; from spm_opt.cli import main; sys.exit(main(['--help']))"
    subprocess.run([sys.executable, "-c", command], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def median_of(runs: list[dict], key: str) -> float | None:
    values = [run[key] for run in runs]
    return None if None in values else statistics.median(values)


def fresh_run(model: str, capacity: str) -> dict:
    command = [sys.executable, str(HERE), "--one", model, capacity]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def summarise(model: str, capacity: str, runs: list[dict]) -> dict:
    last = {key: runs[-1][key] for key in ("candidates", "status", "gap", "latency_cycles")}
    medians = {key: median_of(runs, key) for key, _, _ in COLUMNS}
    met = {key: medians[key] is not None and medians[key] <= bar for key, _, bar in COLUMNS}
    return {"model": model, "capacity": capacity, **medians, **last, "met": met}


def table(cases: list[dict], helped: float) -> str:
    """The figures as a Markdown table."""
    heads = [f"{title} (<= {bar:g})" for _, title, bar in COLUMNS]
    lines = [
        "| network | SPM | " + " | ".join(heads) + " | candidates | cycles | status |",
        "|---|---|" + "--:|" * (len(COLUMNS) + 2) + "---|",
    ]
    for case in cases:
        values = ["-" if case[k] is None else f"{case[k]:.2f}" for k, _, _ in COLUMNS]
        lines.append(
            f"| {case['model']} | {case['capacity']} | {' | '.join(values)} "
            f"| {case['candidates']:,} | {case['latency_cycles']:,} | {case['status']} |"
        )
    return "\n".join([*lines, "", f"`spm-opt --help`: {helped:.2f} s (<= {HELP_BAR_SECONDS} s)"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "CAPACITY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
        return 0
    cases = [
        summarise(model, capacity, [fresh_run(model, capacity) for _ in range(arguments.runs)])
        for model, capacity in CASES
    ]
    helped = statistics.median(help_seconds() for _ in range(arguments.runs))
    if arguments.json:
        print(json.dumps({"cores": os.cpu_count(), "help_seconds": helped, "cases": cases}))
    else:
        print(table(cases, helped))
        write_section("plan", table(cases, helped))
    return 0 if helped <= HELP_BAR_SECONDS and all(all(c["met"].values()) for c in cases) else 1


if __name__ == "__main__":
    raise SystemExit(main())
