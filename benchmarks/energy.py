"""Energy and latency as objectives, on every catalogue model; and fronts between the two.

    python benchmarks/energy.py [--hw mobile_npu] [--models A,B] [--fronts A,B] [--csv FILE]
                                [--draw]

Neither objective may be beaten in its own figure by a plan of the other: exits 1 where one is.
Tables go to docs/results.md, where the rows of the models that were measured replace theirs, the
points of the fronts to a CSV file. `--draw` draws the fronts on the page, and measures nothing.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from datetime import date
from pathlib import Path

from page import ROOT, merged, read_section, rows_of, table, write_section

from spm_opt import solve
from spm_opt.api import load_hardware, load_network
from spm_opt.params import SolveParams
from spm_opt.planner import front, unbeaten
from spm_opt.schedule import Schedule

FRONTS = "squeezenet1_1,mobilenet_v2,resnet18"
PICTURE = ROOT / "docs" / "energy_fronts.svg"
FRONT_HEAD = ("front of", "cycles", "mJ")
HEAD = (
    "model", "least latency: cycles", "mJ", "status", "least energy: cycles", "mJ", "status",
    "energy saved", "cycles added", "seconds", "limit s", "measured",
)  # fmt: skip


def plan(model: str, objective: str, arguments: argparse.Namespace) -> Schedule:
    """One model under one objective."""
    return solve(
        model, arguments.hw, objective=objective, time_limit=arguments.time_limit,
        workers=arguments.workers, orders=arguments.orders,
    ).schedule  # fmt: skip


def energy(schedule: Schedule) -> int:
    """Its energy in femtojoules."""
    claimed = schedule.claims.energy
    return 0 if claimed is None else claimed.total_fj


def row(model: str, arguments: argparse.Namespace) -> tuple[tuple[str, ...], list[str]]:
    """One model's line of the table, and what is wrong with it."""
    began = time.monotonic()
    fast, lean = (plan(model, objective, arguments) for objective in ("latency", "energy"))
    cycles = fast.claims.latency_cycles, lean.claims.latency_cycles
    joules = energy(fast), energy(lean)
    wrong = []
    if cycles[0] > cycles[1]:
        wrong.append(f"{model}: latency {cycles[0]}, but {cycles[1]} under the objective energy")
    if joules[0] < joules[1]:
        wrong.append(f"{model}: energy {joules[1]}, but {joules[0]} under the objective latency")
    gaps = [
        (made.objective_value - made.objective_bound) / made.objective_value
        for made in (fast.provenance, lean.provenance)
    ]
    status = ["optimal" if not gap else f"gap {gap:.2%}" for gap in gaps]
    return (
        model, f"{cycles[0]:,}", f"{joules[0] / 1e12:.4f}", status[0], f"{cycles[1]:,}",
        f"{joules[1] / 1e12:.4f}", status[1], f"{1 - joules[1] / joules[0]:.2%}",
        f"{cycles[1] / cycles[0] - 1:.2%}", f"{time.monotonic() - began:.0f}",
        f"{arguments.time_limit:.0f}", date.today().isoformat(),
    ), wrong  # fmt: skip


def front_rows(model: str, arguments: argparse.Namespace) -> list[tuple[str, int, int]]:
    """The points of one model's front."""
    limit = 3 * arguments.time_limit
    points = front(
        load_network(model), load_hardware(arguments.hw), SolveParams(time_limit=limit)
    )  # fmt: skip
    return [(model, cycles, energy_fj) for cycles, energy_fj in points]


def draw() -> None:
    """The fronts on the page, one beside the other, into docs/energy_fronts.svg."""
    from matplotlib.figure import Figure

    points: dict[str, list[tuple[float, float]]] = {}
    for model, *point in rows_of(read_section("energy-fronts"), FRONT_HEAD):
        points.setdefault(model, []).append(_point(*point))
    # the ends, which a search for one objective finds best
    for model, *cells in rows_of(read_section("energy"), HEAD):
        if model in points:
            points[model] += [_point(*cells[:2]), _point(*cells[3:5])]
    figure = Figure(figsize=(4 * len(points), 3.4), layout="constrained")
    for axes, (model, front_points) in zip(
        figure.subplots(1, len(points), squeeze=False)[0], points.items(), strict=True
    ):
        shown = zip(*unbeaten(front_points), strict=True)
        axes.plot(*shown, "o-", color="#0072B2", markersize=4, drawstyle="steps-post")
        axes.set_title(model, fontsize=10)
        axes.set_xlabel("latency (million cycles)")
        axes.set_ylabel("energy (mJ)")
        axes.ticklabel_format(useOffset=False)
        axes.locator_params(nbins=5)
        axes.grid(color="#cccccc", linewidth=0.5)
    figure.savefig(PICTURE)


def _point(cycles: str, energy_mj: str) -> tuple[float, float]:
    """Million cycles and millijoules."""
    return int(cycles.replace(",", "")) / 1e6, float(energy_mj)


def main() -> int:
    """Run, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = ",".join(sorted(path.stem for path in (ROOT / "models").glob("*.yaml")))
    parser.add_argument("--hw", default="mobile_npu")
    parser.add_argument("--models", default=every)
    parser.add_argument("--fronts", default=FRONTS)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--orders", type=int, default=4)
    parser.add_argument("--no-page", action="store_true", help="leave docs/results.md alone")
    parser.add_argument("--draw", action="store_true", help="draw the fronts on the page, only")
    arguments = parser.parse_args()
    if arguments.draw:
        draw()
        return 0
    fronts = [p for m in arguments.fronts.split(",") if m for p in front_rows(m, arguments)]
    if arguments.csv:
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("model", "latency_cycles", "energy_fj"), *fronts])
    shown = [(m, f"{c:,}", f"{e / 1e12:.4f}") for m, c, e in fronts]
    for line in shown:
        print(*line, flush=True)
    rows, wrong = [], []
    for model in filter(None, arguments.models.split(",")):
        line, mistakes = row(model, arguments)
        print(*line, *mistakes, sep=" | ", flush=True)
        rows.append(line)
        wrong += mistakes
    if not arguments.no_page:
        if rows:
            write_section("energy", table(HEAD, merged("energy", HEAD, rows)))
        if shown:
            # a front is measured as a whole
            known = rows_of(read_section("energy-fronts"), FRONT_HEAD)
            kept = [row for row in known if row[0] not in {model for model, *_ in shown}]
            write_section("energy-fronts", table(FRONT_HEAD, [*kept, *shown]))
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
