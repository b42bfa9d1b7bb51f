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


def latency_bound(problem: Problem) -> int:
    """Cycles below which no plan can be: windows one after another, constants over one queue."""
    windows = shortest_cover(problem, lambda c: c.overlap.window_cycles)
    return max(windows, shortest_cover(problem, lambda c: _queue_cycles(problem, c)))


def _queue_cycles(problem: Problem, candidate: Candidate) -> int:
    own = sum(problem.weights[c].cycles for c in range(candidate.first, candidate.end))
    return candidate.overlap.queue_cycles + (0 if candidate.streams_weights else own)


def dram_bound(problem: Problem) -> int:
    """Bytes below which no plan can be."""
    return shortest_cover(problem, lambda c: c.dram_bytes)
