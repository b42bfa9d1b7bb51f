"""The lowest peak: a placement is searched at falling capacities, a proof at rising ones.

Between the capacity proved too small and that of the best placement, the search asks again and
again, low capacities first (most instances fit at their load), with ever more work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from spm_opt.allocation.instance import Instance
from spm_opt.allocation.portfolio import LOOSE, TIGHT, Memory, Placement, Switches, search

#: deterministic seconds of the first question; doubled where all capacities have failed
_FIRST_SLICE: Final = 1.0
#: deterministic seconds a buffer of setting up one question, greedy placements included
_PER_BUFFER: Final = 5e-5
#: capacities above the bound that are asked before the work is doubled
_QUESTIONS: Final = 2
#: the bound itself is asked in every third round only: where it does not fit, no run is longer
_BOUND_EVERY: Final = 3


@dataclass(frozen=True, slots=True)
class Lowest:
    """The best placement, and the capacity below which there is none (in the user's units)."""

    placement: Placement
    bound: int
    effort: float


def minimise(
    at: Callable[[int], Instance],
    bound: int,
    start: Placement,
    peak: int,
    step: int,
    limit: float,
    seed: int,
    switches: Switches,
    measure: Callable[[tuple[int, ...]], int],
) -> Lowest:
    """Lower the peak of `start` until it is proved lowest or `limit` is spent.

    Parameters
    ----------
    at : callable
        The instance for a capacity.
    bound, peak : int
        A proved lower bound; the peak of `start`.
    step : int
        Peaks differ by multiples of it.
    limit : float
        Deterministic seconds.
    measure : callable
        Peak of offsets, in the user's units.
    """
    best, effort, slice_ = start, 0.0, _FIRST_SLICE
    number = len(start.offsets or ())
    asked: list[int] = []  # capacities that failed in this pass, in rising order
    rounds = 0
    memory: Memory = {}
    while bound < peak and effort < limit:
        if not asked and rounds % _BOUND_EVERY:
            asked = [bound - step]
        capacity = _next(bound, peak, step, asked) if asked else bound
        if capacity is None:
            slice_, asked, rounds = 2 * slice_, [], rounds + 1
            continue
        runs = TIGHT if capacity == bound else LOOSE
        seed += 1000  # other draws than for the question before
        work = min(slice_, limit - effort)
        found = search(at(capacity), work, seed, switches, runs, memory)
        effort += found.effort + _PER_BUFFER * number
        if found.offsets is not None:
            best, peak = found, measure(found.offsets)
        elif found.infeasible:
            bound = capacity + step
        elif found.effort:
            asked.append(capacity)
        else:  # too large for the exact searches: more of the same finds nothing new
            break
    return Lowest(best, min(bound, peak), effort)


def _next(bound: int, peak: int, step: int, asked: list[int]) -> int | None:
    """A third of the way from the bound up, then half of what is left; None after these."""
    if len(asked) > _QUESTIONS:
        return None
    steps = (peak - asked[-1]) // step
    if steps < 2:
        return None
    return asked[-1] + max(1, steps // (4 - len(asked))) * step
