"""Live bytes of one tensor at every tile, for many choices at once: products over the loops.

At a tile, an element is live if it is needed there, or if a later tile finds what an earlier one
left. Sort the elements by the outermost loop in which they are not needed at the tile's index:
outside that loop they are needed here, and it matters only whether an earlier tile of a loop of
reuse left them (*left*), and whether the next tile outside that needs them will find them as they
are (*wanted*). Four counts are carried from the outermost loop
inwards for these two facts, and each loop adds what is kept across it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spm_opt.boxes import Ints
from spm_opt.mapping_lines import Profile


@dataclass(frozen=True, slots=True)
class Level:
    """One loop, for some choices: arrays that broadcast to choices and tiles of all loops.

    Attributes
    ----------
    need, before, after, both, gap, gone, ahead : int64 array
        As in `Profile`.
    union : int64 array
        Indices that any tile of the loop needs.
    reuse : int64 array
        1 where what the loop's earlier tiles needed is kept, else 0.
    """

    need: Ints
    before: Ints
    after: Ints
    both: Ints
    gap: Ints
    gone: Ints
    ahead: Ints
    union: Ints
    reuse: Ints


def level(profiles: Sequence[Profile], reuse: Sequence[bool], at: int, of: int) -> Level:
    """The level of loop `at` of `of`, for some choices.

    Arrays have ``2 * of`` axes: choices of each loop, then tiles of each loop.
    """

    def placed(rows: Sequence[Ints]) -> Ints:
        values = np.array(rows, dtype=np.int64).reshape(len(rows), -1)
        shape = [1] * (2 * of)
        shape[at], shape[of + at] = values.shape
        return values.reshape(shape)

    return Level(
        placed([p.need for p in profiles]),
        placed([p.before for p in profiles]),
        placed([p.after for p in profiles]),
        placed([p.both for p in profiles]),
        placed([p.gap for p in profiles]),
        placed([p.gone for p in profiles]),
        placed([p.ahead for p in profiles]),
        placed([np.array([p.union]) for p in profiles]),
        placed([np.array([int(r)]) for r in reuse]),
    )


def live(unbound_bytes: int, levels: Sequence[Level]) -> Ints:
    """Live bytes of a tensor, the outermost loop first.

    Parameters
    ----------
    unbound_bytes : int
        Bytes at one index of every loop.
    levels : sequence of Level

    Returns
    -------
    int64 array (choices of each loop, tiles of each loop)
    """
    none: Ints = np.array(unbound_bytes, dtype=np.int64)
    left = wanted = both = np.array(0, dtype=np.int64)
    total: Ints = np.array(0, dtype=np.int64)
    for at in levels:
        across = (
            none * (at.gap * at.reuse)
            + left * (at.gap + at.ahead)
            + wanted * (at.gap * at.reuse + at.gone)
            + both * (at.gap + at.gone + at.ahead)
        )
        total = total * at.union + across
        none, left, wanted, both = _inside(at, none, left, wanted, both)
    return total + none + left + wanted + both


def _inside(
    at: Level, none: Ints, left: Ints, wanted: Ints, both: Ints
) -> tuple[Ints, Ints, Ints, Ints]:
    """The four counts of elements that are needed at the tile's index of this loop too."""
    twice = at.both * at.reuse
    earlier, later = at.before * at.reuse - twice, at.after * at.reuse - twice
    plain = at.need - twice - earlier - later
    # moved or computed again at a later tile of this loop, unless an outer loop has left it
    again = at.after * (1 - at.reuse)
    return (
        none * plain + wanted * again,
        left * (earlier + plain - again) + none * earlier,
        wanted * (later + plain - again) + none * later,
        both * at.need + left * (twice + later + again) + wanted * (twice + earlier) + none * twice,
    )
