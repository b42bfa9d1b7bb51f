"""Bounds that hold for every plan of a problem, cheaply: shortest paths over candidates."""

from __future__ import annotations

from collections.abc import Callable

from spm_opt.problem import Candidate, Problem


def shortest_cover(problem: Problem, price: Callable[[Candidate], int]) -> int:
    """Least sum of `price` over candidates that cover every part once."""
    best: list[int | None] = [None] * (problem.parts + 1)
    best[0] = 0
    for candidate in sorted(problem.candidates, key=lambda c: c.first):
        begin = best[candidate.first]
        if begin is not None:
            total, known = begin + price(candidate), best[candidate.end]
            best[candidate.end] = total if known is None else min(total, known)
    return best[problem.parts] or 0


def small_maps(problem: Problem, most: int) -> set[int]:
    """The smallest maps without which no more than `most` are alive at any boundary."""
    gone: set[int] = set()
    for boundary in range(1, problem.parts):
        alive = [
            t
            for t, m in enumerate(problem.maps)
            if t not in gone and m.birth < boundary <= m.last_use
        ]
        alive.sort(key=lambda t: (problem.maps[t].size_bytes, t))
        gone.update(alive[: max(0, len(alive) - most)])
    return gone


def latency_bound(problem: Problem) -> int:
    """Cycles below which no plan can be: windows one after another, constants over one queue."""
    windows = shortest_cover(problem, lambda c: c.overlap.window_cycles)
    return max(windows, shortest_cover(problem, lambda c: _queue_cycles(problem, c)))


def _queue_cycles(problem: Problem, candidate: Candidate) -> int:
    own = sum(problem.weights[c].cycles for c in range(candidate.first, candidate.end))
    return candidate.overlap.queue_cycles + (0 if candidate.streams_weights else own)


def energy_bound(problem: Problem) -> int:
    """Femtojoules, leakage left out, below which no plan can be."""
    return shortest_cover(problem, lambda c: c.energy_fj)


def dram_bound(problem: Problem) -> int:
    """Bytes below which no plan can be."""
    return shortest_cover(problem, lambda c: c.dram_bytes)


def easy_bound(problem: Problem, objective: str, least_cycles: int) -> int:
    """Value of an objective that no plan is below, where none takes fewer than `least_cycles`."""
    if objective == "dram":
        return dram_bound(problem)
    cycles = max(latency_bound(problem), least_cycles)
    if objective == "latency":
        return cycles
    energy = energy_bound(problem) + problem.leakage_fj * cycles
    return energy * cycles if objective == "edp" else energy
