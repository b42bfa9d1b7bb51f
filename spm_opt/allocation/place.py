"""Place rectangles within a capacity: bound first, then greedy, then exact search."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spm_opt.allocation.greedy import greedy_offsets
from spm_opt.allocation.rectangles import Rectangle, is_placement, peak_load
from spm_opt.errors import SolverError

#: CP-SAT deterministic seconds that an exact search may take
EXACT_LIMIT = 6.0


def place(
    rectangles: Sequence[Rectangle],
    capacity: int,
    *,
    exact_limit: float = EXACT_LIMIT,
    seed: int = 0,
) -> tuple[int, ...] | None:
    """Offsets of all rectangles within `capacity`, or None where none were found.

    Parameters
    ----------
    rectangles : sequence of Rectangle
    capacity : int
    exact_limit : float
        CP-SAT deterministic time for the exact search; 0 to try the greedy orders only.

    Raises
    ------
    SolverError
        Where a search returns offsets that are no placement.
    """
    if peak_load(rectangles) > capacity:
        return None
    unit = math.gcd(*(r.size for r in rectangles)) or 1
    scaled = [Rectangle(r.begin, r.end, r.size // unit) for r in rectangles]
    room = capacity // unit
    offsets: Sequence[int] | None = greedy_offsets(scaled)
    if offsets is not None and not is_placement(scaled, offsets, room):
        offsets = None
        if exact_limit > 0:
            from spm_opt.allocation.exact import pack

            offsets = pack(scaled, room, exact_limit, seed).offsets
            if offsets is not None and not is_placement(scaled, offsets, room):
                raise SolverError("the packing that CP-SAT returned overlaps: this is a bug")
    return None if offsets is None else tuple(offset * unit for offset in offsets)
