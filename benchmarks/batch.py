"""What a tile axis over images, then rows, is worth: batches with it and without, into the results.

    python benchmarks/batch.py [--hw mobile_npu] [--batch 4] [--models A,B] [--time-limit S]

Without it a row holds the images of the whole batch, so that every stripe has rows of all of them.
A batch that the axis made slower is an error.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from page import write_section

from spm_opt.api import load_hardware, load_network
from spm_opt.errors import SpmTooSmallError
from spm_opt.graph.images import in_images
from spm_opt.params import SolveParams
from spm_opt.planner import plan
from spm_opt.schedule import Schedule
from spm_opt.verify import verify

MODELS = "mobilenet_v2,resnet18,squeezenet1_1"
CAPACITIES = ("256 KiB", "512 KiB")
WAYS = ("alone", "together", "apart")
HEAD = (
    "model", "SPM", "one image, times the batch: cycles", "rows of all images: cycles",
    "image by image: cycles", "ratio", "gap", "maps moved: all images", "image by image",
)  # fmt: skip

Job = tuple[str, str, str, argparse.Namespace]


def solve(job: Job) -> Schedule | None:
    """One image, or the batch with rows that hold all images, or image by image.

    None where it does not fit.
    """
    model, capacity, way, arguments = job
    network = load_network(model, batch=1 if way == "alone" else arguments.batch)
    if way == "together":
        network = in_images(network, (), 1)
    machine = load_hardware(arguments.hw, {"spm.capacity": capacity})
    try:
        schedule = plan(network, machine, SolveParams(time_limit=arguments.time_limit, workers=1))
    except SpmTooSmallError:
        return None
    violations = verify(schedule)
    if violations:
        raise SystemExit(f"{model}, {capacity}, {way}: {violations[0]}")
    return schedule


def row(model: str, capacity: str, found: list[Schedule | None], batch: int) -> list[str]:
    """One line of the table."""
    alone, together, apart = found
    before, after = cycles(together), cycles(apart)
    bound = 0 if apart is None else apart.provenance.latency_lower_bound_cycles
    return [
        model, capacity, shown(batch * cycles(alone)), shown(before), shown(after),
        f"{after / before:.3f}" if before else "", f"{1 - bound / after:.2%}" if after else "",
        maps_bytes(together), maps_bytes(apart),
    ]  # fmt: skip


def cycles(schedule: Schedule | None) -> int:
    """Latency; 0 where there is no plan."""
    return 0 if schedule is None else schedule.claims.latency_cycles


def shown(number: int) -> str:
    return f"{number:,}" if number else "does not fit"


def maps_bytes(schedule: Schedule | None) -> str:
    """DRAM traffic of feature maps."""
    if schedule is None:
        return ""
    return f"{sum(t.moved_bytes for t in schedule.transfers if t.role == 'map'):,} B"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hw", default="mobile_npu")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--time-limit", type=float, default=60.0)
    arguments = parser.parse_args()
    cases = [(m, c) for m in arguments.models.split(",") for c in CAPACITIES]
    jobs = [(m, c, way, arguments) for m, c in cases for way in WAYS]
    # solvers have threads of their own, which a fork does not survive
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(solve, jobs))
    lines = ["| " + " | ".join(HEAD) + " |", "|---|---|" + "--:|" * (len(HEAD) - 2)]
    slower = 0
    for i, (model, capacity) in enumerate(cases):
        three = found[3 * i : 3 * i + 3]
        slower += 0 < cycles(three[1]) < cycles(three[2])
        lines.append("| " + " | ".join(row(model, capacity, three, arguments.batch)) + " |")
    text = f"`joint` on `{arguments.hw}`, batch {arguments.batch}.\n\n" + "\n".join(lines) + "\n"
    print(text)
    if arguments.models == MODELS:
        write_section("batch", text)
    print(f"{slower} of {len(cases)} became slower", file=sys.stderr)
    return int(slower > 0)


if __name__ == "__main__":
    raise SystemExit(main())
