"""What was asked for, checked: names resolved to indices, contradictions refused.

Rules of single buffers stand with `spm_opt.allocation.buffers`; no search is known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import lcm

from spm_opt.allocation.buffers import LIMIT, Adjacent, Alias, Buffer, InPlace, Inside, Region
from spm_opt.errors import InputError

#: (buffer, distance of its start from that of the group)
Group = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request, in the user's units.

    Attributes
    ----------
    buffers : tuple of Buffer
    alignments : tuple of int
        Of each buffer, the general one included.
    regions : tuple of Region
        Empty where there is one address space.
    groups : tuple of Group
        Buffers tied to each other by aliases; every buffer is in one group.
    nested : frozenset of (int, int)
        Pairs that may share bytes: (inner, outer).
    reuses : tuple of (int, int)
        (output, input) that may start at the same place.
    apart : tuple of (int, int)
        Pairs that must not share a region.
    """

    buffers: tuple[Buffer, ...]
    alignments: tuple[int, ...]
    regions: tuple[Region, ...]
    groups: tuple[Group, ...]
    nested: frozenset[tuple[int, int]]
    reuses: tuple[tuple[int, int], ...]
    apart: tuple[tuple[int, int], ...]

    @property
    def plain(self) -> bool:
        """Whether every buffer stands by itself: no aliases, no pairs apart."""
        return not self.reuses and not self.apart and len(self.groups) == len(self.buffers)


def make_request(
    buffers: Sequence[Buffer],
    capacity: int | None,
    alignment: int,
    regions: Sequence[Region],
    aliases: Sequence[Alias],
    apart: Sequence[tuple[str, str]],
) -> Request:
    """Check a request.

    Raises
    ------
    InputError
        For what no buffer alone can show: names used twice or unknown, aliases and fixed offsets
        that contradict each other, sums that overflow.
    """
    if alignment < 1:
        raise InputError("must be a positive whole number", field="alignment", found=alignment)
    if regions and capacity is not None:
        raise InputError("regions have capacities of their own", field="capacity", found=capacity)
    index = _unique([b.id for b in buffers], "buffers")
    _check_regions(buffers, regions)
    if sum(b.size for b in buffers) >= LIMIT:
        raise InputError("the sizes of all buffers add up to more than 63 bits", field="buffers")
    links, nested, reuses = _read_aliases(buffers, index, aliases)
    parts = {b for _, b, _ in links}
    request = Request(
        tuple(buffers),
        tuple(lcm(b.alignment, 1 if i in parts else alignment) for i, b in enumerate(buffers)),
        tuple(regions),
        _tie(len(buffers), links, buffers),
        _ancestors(nested),
        tuple(reuses),
        tuple((_find(index, a, "apart"), _find(index, b, "apart")) for a, b in apart),
    )
    _check_groups(request)
    _check_apart(request)
    _check_fixed(request, capacity)
    return request


def _unique(names: Sequence[str], field: str) -> dict[str, int]:
    index: dict[str, int] = {}
    for n, name in enumerate(names):
        if name in index:
            raise InputError("a name is used twice", field=field, found=name)
        index[name] = n
    return index


def _find(index: Mapping[str, int], name: str, field: str) -> int:
    if name not in index:
        raise InputError("no such buffer", field=field, found=name)
    return index[name]


def _check_regions(buffers: Sequence[Buffer], regions: Sequence[Region]) -> None:
    known = _unique([r.name for r in regions], "regions")
    if sum(r.capacity for r in regions) >= LIMIT:
        raise InputError("the capacities of all regions add up to more than 63 bits")
    for b in buffers:
        field = f"buffer {b.id!r}: regions"
        for name in b.regions:
            if name not in known:
                raise InputError("no such region", field=field, found=name, allowed=known or "none")
        if b.offset is not None and len(regions) > 1 and len(b.regions) != 1:
            raise InputError("a fixed offset needs exactly one region", field=field,
                             found=", ".join(b.regions) or "any")  # fmt: skip


def _read_aliases(
    buffers: Sequence[Buffer], index: Mapping[str, int], aliases: Sequence[Alias]
) -> tuple[list[tuple[int, int, int]], set[tuple[int, int]], list[tuple[int, int]]]:
    """Links (a, b, start of b less start of a), pairs that share bytes, pairs that may."""
    links: list[tuple[int, int, int]] = []
    nested: set[tuple[int, int]] = set()
    reuses: list[tuple[int, int]] = []
    for alias in aliases:
        if isinstance(alias, Adjacent):
            row = [_find(index, name, "adjacent") for name in alias.buffers]
            links += [(a, b, buffers[a].size) for a, b in pairwise(row)]
        elif isinstance(alias, Inside):
            inner, outer = (_find(index, n, "inside") for n in (alias.inner, alias.outer))
            if not 0 <= alias.at <= buffers[outer].size - buffers[inner].size:
                raise InputError(
                    f"{alias.inner!r} does not fit into {alias.outer!r} there", field="inside",
                    found=alias.at,
                )  # fmt: skip
            links.append((outer, inner, alias.at))
            nested.add((inner, outer))
        else:
            reuses.append(_read_reuse(buffers, index, alias))
    inside = {i for pair in nested for i in pair}
    for output, _ in reuses:
        if output in inside:
            raise InputError("an output in place cannot be an inner or outer buffer too",
                             field="in place", found=buffers[output].id)  # fmt: skip
    return links, nested, reuses


def _read_reuse(
    buffers: Sequence[Buffer], index: Mapping[str, int], alias: InPlace
) -> tuple[int, int]:
    o, i = _find(index, alias.output, "in place"), _find(index, alias.input, "in place")
    output, input_ = buffers[o], buffers[i]
    if not input_.lower < output.lower < input_.upper <= output.upper:
        raise InputError(
            f"{alias.output!r} must start during the life of {alias.input!r} and end no earlier",
            field="in place",
            found=(output.lower, output.upper, input_.lower, input_.upper),
        )
    return o, i


def _tie(
    number: int, links: Sequence[tuple[int, int, int]], buffers: Sequence[Buffer]
) -> tuple[Group, ...]:
    """Groups of linked buffers, each with its distance from the lowest of the group."""
    near: list[list[tuple[int, int]]] = [[] for _ in range(number)]
    for a, b, distance in links:
        near[a].append((b, distance))
        near[b].append((a, -distance))
    place: dict[int, int] = {}
    groups: list[Group] = []
    for root in range(number):
        if root in place:
            continue
        place[root] = 0
        group, n = [root], 0
        while n < len(group):
            a = group[n]
            n += 1
            for b, distance in near[a]:
                if b not in place:
                    place[b] = place[a] + distance
                    group.append(b)
                elif place[b] != place[a] + distance:
                    raise InputError("the aliases of a buffer contradict each other",
                                     field="aliases", found=buffers[b].id)  # fmt: skip
        lowest = min(place[i] for i in group)
        groups.append(tuple((i, place[i] - lowest) for i in group))
    return tuple(groups)


def _ancestors(nested: set[tuple[int, int]]) -> frozenset[tuple[int, int]]:
    """Pairs (inner, outer), through any number of others."""
    found = set(nested)
    while True:
        more = {(a, d) for a, b in found for c, d in nested if b == c} - found
        if not more:
            return frozenset(found)
        found |= more


def _check_groups(request: Request) -> None:
    """Tied buffers that would overlap wherever their group lies."""
    for group in request.groups:
        for n, (i, low) in enumerate(group):
            a = request.buffers[i]
            for j, start in group[:n]:
                b = request.buffers[j]
                apart = b.upper <= a.lower or a.upper <= b.lower
                if apart or start + b.size <= low or low + a.size <= start:
                    continue
                if {(i, j), (j, i)} & request.nested:
                    continue
                if start != low or not {(i, j), (j, i)} & set(request.reuses):
                    raise InputError(f"their aliases make {b.id!r} and {a.id!r} overlap",
                                     field="aliases", found=low - start)  # fmt: skip


def _check_apart(request: Request) -> None:
    """Tied buffers share a region: they cannot be apart."""
    home = {i: n for n, group in enumerate(request.groups) for i, _ in group}
    for a, b in request.apart:
        names = [request.buffers[i].id for i in (a, b)]
        if a == b:
            raise InputError("a buffer apart from itself", field="apart", found=names[0])
        if home[a] == home[b]:
            raise InputError(f"aliases tie {names[0]!r} to {names[1]!r}, they share a region",
                             field="apart")  # fmt: skip


def _check_fixed(request: Request, capacity: int | None) -> None:
    """Fixed offsets that cannot be: beyond the capacity, or on top of each other."""
    fixed = [(i, b) for i, b in enumerate(request.buffers) if b.offset is not None]
    rooms = {r.name: r.capacity for r in request.regions}
    alive: list[tuple[int, Buffer]] = []
    excused = {frozenset(p) for p in (*request.nested, *request.reuses)}
    for i, b in sorted(fixed, key=lambda item: item[1].lower):
        offset = b.offset or 0
        home = b.regions[0] if b.regions else next(iter(rooms), "")
        room = rooms.get(home, capacity)
        field = f"buffer {b.id!r}: offset"
        if room is not None and offset + b.size > room:
            raise InputError(f"ends at {offset + b.size}, the capacity is {room}",
                             field=field, found=offset)  # fmt: skip
        if offset % request.alignments[i]:
            raise InputError(f"is no multiple of the alignment {request.alignments[i]}",
                             field=field, found=offset)  # fmt: skip
        alive = [(j, other) for j, other in alive if other.upper > b.lower]
        for j, other in alive:
            start = other.offset or 0
            if frozenset((i, j)) in excused or (other.regions or (home,)) != (home,):
                continue
            if start < offset + b.size and offset < start + other.size:
                raise InputError(f"overlaps {other.id!r}, which is fixed at {start}",
                                 field=field, found=offset)  # fmt: skip
        alive.append((i, b))
