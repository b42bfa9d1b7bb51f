"""The allocator's figures: ``python benchmarks/alloc.py [--quick] [--seeds N] [--markdown FILE]``.

One core, CPU seconds, medians over seeds; the whole run, without options, writes the allocator's
section of docs/results.md and docs/allocator_growth.svg. Beside it in the same run: greedy first
fit, best fit, a hill climb over the order of first fit, and plain CP-SAT (one search, its default
strategy).
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from alloc_instances import guillotine, shared_instances, unrolled, variant
from alloc_page import Row, growth_svg, section
from page import ROOT, write_section

from spm_opt.allocation import Buffer, Switches, allocate
from spm_opt.allocation.greedy import RANKS, best_fit, first_fit, neighbours
from spm_opt.allocation.rectangles import Rectangle, is_placement, peak_load

SHARED = ROOT.parent / "shared" / "alloc"
PICTURE = ROOT / "docs" / "allocator_growth.svg"


def timed(call: Callable[[], str]) -> tuple[tuple[str, ...], float]:
    began = time.process_time()
    result = call()
    return (result,), time.process_time() - began


def over_seeds(seeds: int, call: Callable[[int], str]) -> tuple[tuple[str, ...], float]:
    """The results, and the median time."""
    runs = [timed(lambda seed=seed: call(seed)) for seed in range(seeds)]
    results = tuple(result for (result,), _ in runs)
    return results, statistics.median(seconds for _, seconds in runs)


def rectangles(buffers: Sequence[Buffer]) -> list[Rectangle]:
    return [Rectangle(b.lower, b.upper, b.size) for b in buffers]


def over_load(rects: Sequence[Rectangle], offsets: Sequence[int]) -> str:
    peak = max(o + r.size for o, r in zip(offsets, rects, strict=True))
    return f"+{100 * (peak / peak_load(rects) - 1):.1f} %"


def fit(buffers: Sequence[Buffer], capacity: int, limit: float, switches: Switches) -> Callable:
    def run(seed: int) -> str:
        return allocate(buffers, capacity, time_limit=limit, seed=seed, switches=switches).status

    return run


def greedy(buffers: Sequence[Buffer], place: Callable) -> str:
    """The best of all orders."""
    rects = rectangles(buffers)
    near = neighbours(rects)
    tries = [place(rects, rank, near) for rank in RANKS.values()]
    return min((over_load(rects, offsets) for offsets in tries), key=lambda t: float(t[1:-2]))


def hill_climb(buffers: Sequence[Buffer], seed: int, swaps: int = 500) -> str:
    """Swap two in the order of first fit, keep what is not worse (as TVM's allocator does)."""
    rects = rectangles(buffers)
    near = neighbours(rects)
    r = random.Random(seed)
    order = sorted(range(len(rects)), key=lambda i: (-rects[i].size, rects[i].begin))

    def place() -> list[int]:
        position = {id(rects[i]): n for n, i in enumerate(order)}
        return first_fit(rects, lambda rect: (position[id(rect)],), near)

    def peak(offsets: Sequence[int]) -> int:
        return max(o + rect.size for o, rect in zip(offsets, rects, strict=True))

    best = place()
    for _ in range(swaps):
        a, b = r.sample(range(len(order)), 2)
        order[a], order[b] = order[b], order[a]
        tried = place()
        if peak(tried) <= peak(best):
            best = tried
        else:
            order[a], order[b] = order[b], order[a]
    return over_load(rects, best)


def plain_cpsat(buffers: Sequence[Buffer], capacity: int, seconds: float) -> str:
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    rects = rectangles(buffers)
    offsets = [model.new_int_var(0, capacity - r.size, "") for r in rects]
    model.add_no_overlap_2d(
        [model.new_fixed_size_interval_var(r.begin, r.end - r.begin, "") for r in rects],
        [model.new_fixed_size_interval_var(o, r.size, "")
         for o, r in zip(offsets, rects, strict=True)],
    )  # fmt: skip
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = seconds
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return "not found"
    ok = is_placement(rects, [solver.value(o) for o in offsets], capacity)
    return "placed" if ok else "WRONG"


def hard(seeds: int, quick: bool) -> Iterator[Row]:
    """The public instances, their variants, and the same within other techniques."""
    for name, (buffers, capacity) in shared_instances(SHARED).items():
        number = len(buffers)
        result, seconds = over_seeds(seeds, fit(buffers, capacity, 20, Switches()))
        yield Row("public", name, number, "spm_opt", result, seconds)
        for label, switches in () if quick else (
            ("without deep rule", Switches(deep=False)),
            ("without CP-SAT", Switches(cpsat=False)),
            ("without tree search", Switches(tree=False)),
        ):  # fmt: skip
            result, seconds = over_seeds(seeds, fit(buffers, capacity, 4, switches))
            yield Row("public", name, number, label, result, seconds)
        yield Row(
            "public", name, number, "first fit", *timed(lambda b=buffers: greedy(b, first_fit))
        )
        yield Row("public", name, number, "best fit", *timed(lambda b=buffers: greedy(b, best_fit)))
        yield Row("public", name, number, "hill climb",
                  *over_seeds(seeds, lambda seed, b=buffers: hill_climb(b, seed)))  # fmt: skip
        if not quick:
            yield Row("public", name, number, "plain CP-SAT",
                      *timed(lambda b=buffers, c=capacity: plain_cpsat(b, c, 10)))  # fmt: skip
        for label, dropped, back in (("reversed", 0.0, True), ("thinned", 0.03, False),
                                     ("thinned, reversed", 0.03, True)):  # fmt: skip
            for draw in range(1, 2 if quick or not dropped else 4):
                changed = variant(buffers, draw, dropped, back)
                result, seconds = over_seeds(seeds, fit(changed, capacity, 20, Switches()))
                yield Row("variants", f"{name} {label} {draw}", len(changed), "spm_opt", result,
                          seconds)  # fmt: skip


def lowest(seeds: int, limit: float) -> Iterator[Row]:
    """The lowest peak of the public instances."""
    for name, (buffers, _) in shared_instances(SHARED).items():

        def run(seed: int, buffers: Sequence[Buffer] = buffers) -> str:
            found = allocate(buffers, time_limit=limit, seed=seed)
            return f"+{100 * (found.gap or 0):.2f} %"

        yield Row("lowest peak", name, len(buffers), "spm_opt", *over_seeds(seeds, run))


def packings(seeds: int, quick: bool) -> Iterator[Row]:
    """Perfect guillotine packings, and such less 4 % of their pieces."""
    for dropped, limit in ((0.0, 10.0), (0.04, 12.0 if quick else 60.0)):
        for number in (100, 200, 400) if quick else (100, 150, 200, 300, 400):
            for draw in range(1 if quick else 3):
                buffers, capacity = guillotine(number, draw, dropped)
                result, seconds = over_seeds(
                    1 if dropped else seeds, fit(buffers, capacity, limit, Switches())
                )
                group = "guillotine -4 %" if dropped else "guillotine"
                yield Row(group, f"{number} #{draw}", len(buffers), "spm_opt", result, seconds)


def networks(seeds: int, quick: bool) -> Iterator[Row]:
    """Growth: lifetimes as in unrolled networks."""
    for number in (1_000, 3_000, 10_000, 30_000, 100_000)[: 3 if quick else 5]:
        limit = number / 1000

        def run(seed: int, number: int = number, limit: float = limit) -> str:
            buffers = unrolled(number, seed)
            found = allocate(buffers, time_limit=limit)
            return f"+{100 * (found.gap or 0):.2f} %"

        yield Row("networks", str(number), number, "spm_opt", *over_seeds(seeds, run))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--markdown", type=Path, help="write the table there as well")
    parser.add_argument(
        "--only", choices=("hard", "lowest", "packings", "networks"), action="append"
    )
    options = parser.parse_args()
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "hard": lambda: hard(options.seeds, options.quick),
        "lowest": lambda: lowest(options.seeds, 10.0),
        "packings": lambda: packings(options.seeds, options.quick),
        "networks": lambda: networks(options.seeds, options.quick),
    }
    heads = ("group", "instance", "buffers", "method", "result", "CPU s")
    lines = ["| " + " | ".join(heads) + " |", "|---|---|--:|---|---|--:|"]
    print("\n".join(lines), flush=True)
    rows: list[Row] = []
    for name in options.only or parts:
        for row in parts[name]():
            rows.append(row)
            lines.append("| " + " | ".join(row.cells()) + " |")
            print(lines[-1], flush=True)
    if options.markdown:
        options.markdown.write_text("\n".join([*lines, ""]), encoding="utf-8")
    if not options.quick and not options.only:
        PICTURE.write_text(growth_svg(rows), encoding="utf-8")
        load = f"{os.getloadavg()[1]:.1f} ({os.cpu_count()} cores)"
        busy = f"Load average of the machine at the end: {load}."
        write_section("allocator", f"{section(rows)}\n\n{busy}")


if __name__ == "__main__":
    main()
