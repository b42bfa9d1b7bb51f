"""The lowest peak: a placement is searched at falling capacities, a proof at rising ones.

Between the capacity proved too small and that of the best placement, rungs are asked again and
again, low ones first (most instances fit at their load), with ever more work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from spm_opt.allocation.instance import Instance
from spm_opt.allocation.portfolio import (
    LOOSE,
    NARROW,
    TIGHT,
    Memory,
    Placement,
    Runs,
    Switches,
    search,
)

#: deterministic seconds of the first question; doubled where all capacities have failed
_FIRST_SLICE: Final = 1.25
#: no first question takes more than one part in so many of the limit
_SLICES: Final = 8
#: deterministic seconds a buffer of setting up one question, greedy placements included
_PER_BUFFER: Final = 5e-5
#: the lowest rung lies this part of the bound above it, each other one twice as far
_LOW_RUNG: Final = 80
_SPREAD: Final = 2
#: what the lowest rung is worth beside the others
_LOW_SHARE: Final = 5
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
    best, effort = start, 0.0
    slice_ = min(_FIRST_SLICE, limit / _SLICES)  # a short limit leaves time for higher rungs, too
    number = len(start.offsets or ())
    waiting: list[_Question] = []
    # what one way of searching has learned misleads the other
    placed: dict[int, tuple[int, ...] | None] = {}
    too_low: dict[int, int] = {}
    memories = {runs: Memory(placed=placed, too_low=too_low) for runs in (TIGHT, NARROW, LOOSE)}
    for rounds in count():
        waiting = _questions(bound, peak, step, slice_, with_bound=rounds % _BOUND_EVERY == 0)
        while waiting and bound < peak and effort < limit:
            question = waiting.pop(0)
            if not bound <= question.capacity < peak:
                continue
            seed += 1000  # other draws than for the question before
            work = min(question.work, limit - effort)
            runs = question.runs
            found = search(at(question.capacity), work, seed, switches, runs, memories[runs])
            effort += found.effort + _PER_BUFFER * number
            if found.offsets is not None:
                best, peak = found, measure(found.offsets)
                waiting = _questions(bound, peak, step, slice_, with_bound=False)
            elif found.infeasible:
                bound = question.capacity + step
            elif not found.effort:  # too large for the exact searches: more finds nothing new
                return Lowest(best, min(bound, peak), effort)
        if bound >= peak or effort >= limit:
            break
        slice_ *= 2
    return Lowest(best, min(bound, peak), effort)


@dataclass(frozen=True, slots=True)
class _Question:
    """Does all fit `capacity`? Asked for `work` deterministic seconds."""

    capacity: int
    work: float
    runs: Runs = TIGHT


def _questions(
    bound: int, peak: int, step: int, slice_: float, *, with_bound: bool
) -> list[_Question]:
    """The bound, then a rung a little above it, then rungs twice as far, up to the peak.

    The low rung gets most of the work: less room helps the search as much as it binds it, since
    what cannot be is seen earlier.
    """
    rung = max(1, bound // (_LOW_RUNG * step))
    while rung > 1 and bound + rung * step >= peak:
        rung = max(1, rung // _SPREAD)
    asked = [_Question(bound, slice_)] if with_bound or bound + step >= peak else []
    if bound + rung * step < peak:
        asked.append(_Question(bound + rung * step, _LOW_SHARE * slice_, NARROW))
    while bound + _SPREAD * rung * step < peak:
        rung *= _SPREAD
        asked.append(_Question(bound + rung * step, slice_, LOOSE))
    return asked
