"""What each cut of the joint model is worth: time to the proof with it and without it.

    python benchmarks/cuts.py [--seeds 3] [--limit 120] [--json]

Every problem is solved by CP-SAT alone, one worker, from nothing; times are those of the
processor, which other work on the machine disturbs little. The table shows medians over seeds in
seconds, and in brackets the ratio to the model with all cuts in the same run: a cut earns its
place where the model without it is slower. Runs that end at the limit count as the limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from spm_opt import api
from spm_opt.cpsat.constraints import Rule
from spm_opt.cpsat.model import build
from spm_opt.cpsat.search import Budget, search
from spm_opt.cpsat.strengthen import CUTS
from spm_opt.fusion_dominance import essential
from spm_opt.params import SolveParams
from spm_opt.parts import source_order
from spm_opt.planner import make_world
from spm_opt.problem import Problem

CASES = (("mobilenet_v1", "512 KiB"), ("squeezenet1_1", "512 KiB"), ("alexnet", "512 KiB"))


def variants() -> dict[str, tuple[Rule, ...]]:
    """Sets of cuts by name: all, all but one, none."""
    found: dict[str, tuple[Rule, ...]] = {"all": CUTS}
    for cut in CUTS:
        found[f"without {cut.__name__}"] = tuple(other for other in CUTS if other is not cut)
    return found | {"none": ()}


def problem_of(model: str, capacity: str) -> Problem:
    """What CP-SAT is given for a model of the catalogue."""
    network = api.load_network(model, dtype="int8")
    hardware = api.load_hardware("mobile_npu", {"spm.capacity": capacity})
    world = make_world(network, hardware, SolveParams(), "source", source_order(network))
    return essential(world.problem)


def seconds_to_proof(problem: Problem, cuts: tuple[Rule, ...], seed: int, limit: float) -> float:
    """Processor seconds of one search, at most `limit`."""
    joint = build(problem, "latency", cuts=cuts)
    began = time.process_time()
    found = search(joint, Budget(limit, None, 1, seed), lambda value, bound: None)
    return min(limit, time.process_time() - began) if found.proven else limit


def measure(seeds: int, limit: float) -> list[dict[str, object]]:
    """One row a model: median seconds of every variant."""
    rows: list[dict[str, object]] = []
    for model, capacity in CASES:
        problem = problem_of(model, capacity)
        row: dict[str, object] = {
            "model": model, "capacity": capacity, "candidates": len(problem.candidates),
        }  # fmt: skip
        for name, cuts in variants().items():
            times = [seconds_to_proof(problem, cuts, seed, limit) for seed in range(seeds)]
            row[name] = round(statistics.median(times), 1)
        rows.append(row)
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """The rows as Markdown, ratios to all cuts in brackets."""
    names = list(variants())
    lines = ["| model | SPM | candidates | " + " | ".join(names) + " |"]
    lines.append("|---|---|--:|" + "--:|" * len(names))
    for row in rows:
        times = [float(str(row[name])) for name in names]
        cells = [f"{t} ({t / max(times[0], 0.1):.2f})" for t in times]
        head = f"| {row['model']} | {row['capacity']} | {row['candidates']} | "
        lines.append(head + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.seeds, options.limit)
    print(json.dumps(rows, indent=2) if options.json else table(rows))


if __name__ == "__main__":
    main()
