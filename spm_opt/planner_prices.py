"""Weights under which the dynamic programme minimises what was asked.

Integers that no sum over a plan carries beyond 62 bits; nothing is searched here.
"""

from __future__ import annotations

from collections.abc import Callable

from spm_opt.bounds import energy_bound, latency_bound
from spm_opt.dynamic import Prices
from spm_opt.problem import Candidate, Problem


def prices(problem: Problem, objective: str) -> Prices:
    """Weights that make the objective first and the other cost second.

    Where the product would not fit 62 bits the second cost is left out. Energy has no second one.
    The product of energy and latency is no sum: its weights are those that the product has at a
    point that no plan is below (see `spm_opt.planner_edp`).
    """
    if objective == "energy":
        return Prices(problem.leakage_fj, 0, 1)
    if objective == "edp":
        return product_prices(problem, latency_bound(problem), energy_bound(problem))
    cycles = most_cycles(problem)
    most_bytes = _dearest(problem, lambda c: c.dram_bytes, [m.reload_bytes for m in problem.maps])
    fits = (most_bytes + 1) * (cycles + 1) < 2**62
    if objective == "dram":
        return Prices(1, cycles + 1) if fits else Prices(0, 1)
    return Prices(most_bytes + 1, 1) if fits else Prices(1, 0)


def product_prices(problem: Problem, cycles: int, energy_fj: int) -> Prices:
    """How fast the product of energy and latency grows at a point, as weights.

    Parameters
    ----------
    energy_fj : int
        Leakage left out.
    """
    return fitting(problem, energy_fj + 2 * problem.leakage_fj * cycles, cycles)


def fitting(problem: Problem, per_cycle: int, per_fj: int) -> Prices:
    """Weights in about this ratio with which no plan costs more than 62 bits."""
    most = per_cycle * most_cycles(problem) + per_fj * most_energy(problem)
    shift = max(0, most.bit_length() - 61)
    return Prices(max(1, per_cycle >> shift), 0, max(1, per_fj >> shift))


def most_cycles(problem: Problem) -> int:
    """Cycles that no plan exceeds."""
    return sum(weight.cycles for weight in problem.weights) + _dearest(
        problem, lambda c: c.duration_cycles, [m.reload_cycles for m in problem.maps]
    )


def most_energy(problem: Problem) -> int:
    """Energy, leakage left out, that no plan exceeds."""
    return _dearest(problem, lambda c: c.energy_fj, [m.reload_fj for m in problem.maps])


def _dearest(problem: Problem, price: Callable[[Candidate], int], reload: list[int]) -> int:
    """A sum that no plan's prices and reloads exceed."""
    worst = [0] * problem.parts
    for candidate in problem.candidates:
        total = price(candidate) + sum(reload[t] for t in candidate.reads)
        worst[candidate.first] = max(worst[candidate.first], total)
    return sum(worst)
