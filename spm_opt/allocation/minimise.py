"""The lowest peak: a placement is searched at falling capacities, a proof at rising ones.

Between the capacity proved too small and that of the best placement, the search asks again and
again, low capacities first (most instances fit at their load), with ever more work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from spm_opt.allocation.instance import Instance
from spm_opt.allocation.portfolio import Placement, Switches, search

#: deterministic seconds of the first question; doubled where all capacities have failed
_FIRST_SLICE: Final = 0.25
#: deterministic seconds a buffer of setting up one question, greedy placements included
_PER_BUFFER: Final = 5e-5


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
    hopeless: int | None = None  # highest capacity that failed in this pass
    while bound < peak and effort < limit:
        capacity = bound if hopeless is None else _between(hopeless, peak, step)
        if capacity is None:
            slice_, hopeless = 2 * slice_, None
            continue
        found = search(at(capacity), min(slice_, limit - effort), seed, switches)
        effort += found.effort + _PER_BUFFER * number
        if found.offsets is not None:
            best, peak = found, measure(found.offsets)
        elif found.infeasible:
            bound, hopeless = capacity + step, capacity
        elif found.effort:
            hopeless = capacity
        else:  # too large for the exact searches: more of the same finds nothing new
            break
    return Lowest(best, min(bound, peak), effort)


def _between(low: int, high: int, step: int) -> int | None:
    """A capacity between one that failed and one that fits, or None where none is left."""
    steps = (high - low) // step
    if steps < 2:
        return None
    return low + max(1, steps // 3) * step
