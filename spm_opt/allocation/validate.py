"""Whether offsets keep every rule: asked after every search, and shares nothing with any.

Only the records of `spm_opt.allocation.buffers` are known here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import lcm

from spm_opt.allocation.buffers import Adjacent, Alias, Buffer, InPlace, Inside, Region


def violations(
    buffers: Sequence[Buffer],
    offsets: Sequence[int],
    *,
    capacity: int | None = None,
    alignment: int = 1,
    regions: Sequence[Region] = (),
    placed_in: Sequence[str] = (),
    aliases: Sequence[Alias] = (),
    apart: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """Every rule that `offsets` break, one sentence each.

    Parameters
    ----------
    placed_in : sequence of str
        Region of each buffer, where there are several.
    others
        As for `spm_opt.allocate`.
    """
    if len(offsets) != len(buffers):
        return [f"{len(offsets)} offsets for {len(buffers)} buffers"]
    home = dict(zip((b.id for b in buffers), placed_in or [""] * len(buffers), strict=True))
    at = {b.id: offset for b, offset in zip(buffers, offsets, strict=True)}
    rooms: dict[str, int | None] = {r.name: r.capacity for r in regions} or {"": capacity}
    return [
        *_bounds(buffers, at, home, rooms),
        *_alignment(buffers, at, alignment, aliases),
        *_own_rules(buffers, at, home),
        *_overlaps(buffers, at, home, aliases),
        *_aliases({b.id: b for b in buffers}, at, home, aliases),
        *(f"{a} and {b} share {home[a]}" for a, b in apart if home[a] == home[b]),
    ]


def _bounds(
    buffers: Sequence[Buffer], at: dict[str, int], home: dict[str, str],
    rooms: dict[str, int | None],
) -> Iterator[str]:  # fmt: skip
    for b in buffers:
        if home[b.id] not in rooms:
            yield f"{b.id} lies in no region"
            continue
        room = rooms[home[b.id]]
        if at[b.id] < 0:
            yield f"{b.id} starts at {at[b.id]}"
        if room is not None and at[b.id] + b.size > room:
            yield f"{b.id} ends at {at[b.id] + b.size}, the capacity is {room}"


def _alignment(
    buffers: Sequence[Buffer], at: dict[str, int], alignment: int, aliases: Sequence[Alias]
) -> Iterator[str]:
    # the general alignment is that of memory blocks: a part of one lies where it must
    parts = {name for a in aliases if isinstance(a, Adjacent) for name in a.buffers[1:]}
    parts |= {a.inner for a in aliases if isinstance(a, Inside)}
    for b in buffers:
        wanted = b.alignment if b.id in parts else lcm(b.alignment, alignment)
        if at[b.id] % wanted:
            yield f"{b.id} starts at {at[b.id]}, its alignment is {wanted}"


def _own_rules(
    buffers: Sequence[Buffer], at: dict[str, int], home: dict[str, str]
) -> Iterator[str]:
    for b in buffers:
        start, end = at[b.id], at[b.id] + b.size
        if b.offset is not None and start != b.offset:
            yield f"{b.id} starts at {start}, it is fixed at {b.offset}"
        for low, high in b.forbidden:
            if start < high and low < end:
                yield f"{b.id} [{start}, {end}) touches the forbidden [{low}, {high})"
        if b.regions and home[b.id] not in b.regions:
            yield f"{b.id} lies in {home[b.id]!r}, it is allowed in {', '.join(b.regions)}"


def _overlaps(
    buffers: Sequence[Buffer], at: dict[str, int], home: dict[str, str], aliases: Sequence[Alias]
) -> Iterator[str]:
    """Sweep over time: each buffer against those alive when it starts."""
    if not any(isinstance(a, (Inside, InPlace)) for a in aliases) and _apart(buffers, at, home):
        return
    outers: dict[str, list[str]] = {}
    for a in aliases:
        if isinstance(a, Inside):
            outers.setdefault(a.inner, []).append(a.outer)
    shared = {frozenset((inner, outer)) for inner in outers for outer in _above(inner, outers)}
    reused = {frozenset((a.output, a.input)) for a in aliases if isinstance(a, InPlace)}
    alive: dict[str, Buffer] = {}
    events = sorted(
        [(b.lower, 1, n) for n, b in enumerate(buffers)]
        + [(b.upper, 0, n) for n, b in enumerate(buffers)]
    )
    for _, starts, n in events:
        b = buffers[n]
        if not starts:
            alive.pop(b.id, None)
            continue
        low, high = at[b.id], at[b.id] + b.size
        for other in alive.values():
            start = at[other.id]
            if start >= high or low >= start + other.size or home[other.id] != home[b.id]:
                continue
            pair = frozenset((b.id, other.id))
            if pair in shared or (pair in reused and start == low):
                continue
            yield (
                f"{other.id} [{start}, {start + other.size}) and {b.id} [{low}, {high}) overlap "
                f"while both live"
            )
        alive[b.id] = b


def _apart(buffers: Sequence[Buffer], at: dict[str, int], home: dict[str, str]) -> bool:
    """Whether no two overlap: the quick way, for many alive at once and no byte shared.

    As long as nothing overlaps, only the next buffers above and below can be met.
    """
    events = sorted(
        [(b.lower, 1, n) for n, b in enumerate(buffers)]
        + [(b.upper, 0, n) for n, b in enumerate(buffers)]
    )
    alive: dict[str, list[tuple[int, int]]] = {}
    for _, starts, n in events:
        b = buffers[n]
        span = at[b.id], at[b.id] + b.size
        row = alive.setdefault(home[b.id], [])
        place = bisect_left(row, span)
        if not starts:
            del row[place]
            continue
        if (place and row[place - 1][1] > span[0]) or (
            place < len(row) and row[place][0] < span[1]
        ):
            return False
        row.insert(place, span)
    return True


def _above(inner: str, outers: dict[str, list[str]]) -> set[str]:
    """Every buffer that holds `inner`, through others too."""
    found: set[str] = set()
    waiting = [inner]
    while waiting:
        new = set(outers.get(waiting.pop(), ())) - found
        found |= new
        waiting += sorted(new)
    return found


def _aliases(
    by_id: dict[str, Buffer], at: dict[str, int], home: dict[str, str], aliases: Sequence[Alias]
) -> Iterator[str]:
    for alias in aliases:
        if isinstance(alias, Adjacent):
            for a, b in pairwise(alias.buffers):
                if at[b] != at[a] + by_id[a].size or home[a] != home[b]:
                    yield f"{b} does not follow {a}"
        elif isinstance(alias, Inside):
            outer, inner = alias.outer, alias.inner
            if at[inner] != at[outer] + alias.at or home[inner] != home[outer]:
                yield f"{inner} does not lie {alias.at} above the start of {outer}"
