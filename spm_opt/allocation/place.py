"""Place plain rectangles within a capacity: what the planner asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from spm_opt.allocation.instance import Instance
from spm_opt.allocation.portfolio import Placement, search
from spm_opt.allocation.rectangles import Rectangle, is_placement
from spm_opt.errors import SolverError

#: deterministic seconds that the exact searches may take
EXACT_LIMIT: Final = 6.0


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

    Offsets are multiples of the greatest common divisor of the sizes.

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
    unit = math.gcd(*(r.size for r in rectangles)) or 1
    scaled = tuple(Rectangle(r.begin, r.end, r.size // unit) for r in rectangles)
    instance = Instance(scaled, (None,) * len(scaled), capacity // unit, unit)
    found = search(instance, exact_limit, seed)
    if found.offsets is None:
        return found
    offsets = tuple(offset * unit for offset in found.offsets)
    if not is_placement(rectangles, offsets, capacity):
        raise SolverError("the placement that a search returned overlaps: this is a bug")
    return replace(found, offsets=offsets)
