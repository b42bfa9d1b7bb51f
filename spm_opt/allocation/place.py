"""Place rectangles within a capacity: bound, greedy, then tree search and CP-SAT in turns.

Every limit is counted in work done, never in seconds, so that a run repeats on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from spm_opt.allocation.greedy import greedy_offsets
from spm_opt.allocation.rectangles import Rectangle, is_placement, peak_load
from spm_opt.allocation.sections import split_in_time
from spm_opt.allocation.tree import Tree
from spm_opt.errors import SolverError

#: deterministic seconds that the exact searches may take
EXACT_LIMIT: Final = 6.0
#: tree work (rectangles looked at) in a deterministic second
_WORK_PER_SECOND: Final = 5_000_000
#: the runs of one round: rule that chooses the section / rank that chooses the rectangle
_RUNS: Final = (
    "nk/length", "nk/area", "nk/size", "slack/length", "slack/area",
    "wdeg/area", "wdeg/size", "low/length", "low/start", "slack/start",
)  # fmt: skip
#: rounds before CP-SAT joins: most instances are done by then, and its import alone is long
_TREE_ROUNDS: Final = 3
_SLICE: Final = 0.35


@dataclass(frozen=True, slots=True)
class Placement:
    """What a search found.

    Attributes
    ----------
    offsets : tuple of int or None
        An offset for each rectangle, where they were found.
    infeasible : bool
        Whether it is proved that no offsets exist.
    effort : float
        Deterministic seconds spent on exact searches.
    """

    offsets: tuple[int, ...] | None
    infeasible: bool
    effort: float = 0.0


def place(
    rectangles: Sequence[Rectangle],
    capacity: int,
    *,
    exact_limit: float = EXACT_LIMIT,
    seed: int = 0,
) -> tuple[int, ...] | None:
    """Offsets of all rectangles within `capacity`, or None where none were found.

    See `find_placement`, which also tells whether there are none.
    """
    return find_placement(rectangles, capacity, exact_limit=exact_limit, seed=seed).offsets


def find_placement(
    rectangles: Sequence[Rectangle],
    capacity: int,
    *,
    exact_limit: float = EXACT_LIMIT,
    seed: int = 0,
) -> Placement:
    """Place `rectangles` within `capacity`, or prove that it cannot be, or give up.

    Parameters
    ----------
    rectangles : sequence of Rectangle
    capacity : int
    exact_limit : float
        Deterministic seconds for the exact searches; 0 to try the greedy orders only.
    seed : int

    Raises
    ------
    SolverError
        Where a search returns offsets that are no placement.
    """
    if peak_load(rectangles) > capacity:
        return Placement(None, True)
    unit = math.gcd(*(r.size for r in rectangles)) or 1
    offsets = [0] * len(rectangles)
    effort = 0.0
    for part in split_in_time(rectangles):
        scaled = [
            Rectangle(rectangles[i].begin, rectangles[i].end, rectangles[i].size // unit)
            for i in part
        ]
        found = _place_part(scaled, capacity // unit, exact_limit - effort, seed)
        effort += found.effort
        if found.offsets is None:
            return Placement(None, found.infeasible, effort)
        for i, offset in zip(part, found.offsets, strict=True):
            offsets[i] = offset * unit
    return Placement(tuple(offsets), False, effort)


def _place_part(
    rectangles: Sequence[Rectangle], capacity: int, limit: float, seed: int
) -> Placement:
    greedy = greedy_offsets(rectangles)
    if is_placement(rectangles, greedy, capacity):
        return Placement(tuple(greedy), False)
    if limit <= 0:
        return Placement(None, False)
    found = _search(rectangles, capacity, limit, seed)
    if found.offsets is not None and not is_placement(rectangles, found.offsets, capacity):
        raise SolverError("the placement that a search returned overlaps: this is a bug")
    return found


def _search(rectangles: Sequence[Rectangle], capacity: int, limit: float, seed: int) -> Placement:
    tree = Tree(rectangles, capacity)
    effort = 0.0
    for number, (slice_, rule, rank, size) in enumerate(_schedule(len(rectangles))):
        if effort >= limit:
            return Placement(None, False, effort)
        if slice_ is None:
            work = min(size * 10**9, int((limit - effort) * _WORK_PER_SECOND) + 1)
            outcome = tree.run(
                rule, rank, deep=bool(size & 1), node_limit=size, work_limit=work,
                seed=seed + number,
            )  # fmt: skip
            effort += outcome.work / _WORK_PER_SECOND
            offsets, infeasible = outcome.offsets, outcome.infeasible
        else:
            from spm_opt.allocation.exact import pack

            packing = pack(rectangles, capacity, slice_, min(_SLICE * size, limit - effort), seed)
            effort += packing.effort
            offsets, infeasible = packing.offsets, packing.infeasible
        if offsets is not None or infeasible:
            return Placement(offsets, infeasible, effort)
    return Placement(None, False, effort)


def _schedule(number: int) -> Iterator[tuple[int | None, str, str, int]]:
    """Runs of the portfolio, without end: (order of a CP-SAT slice, rule, rank, size)."""
    for step in count():
        for n, run in enumerate(_RUNS):
            rule, _, rank = run.partition("/")
            yield None, rule, rank, max(200, 2 * number) << step
            if step >= _TREE_ROUNDS and n % 2:
                yield (step * len(_RUNS) + n) // 2, "", "", 1 << (step - _TREE_ROUNDS)
