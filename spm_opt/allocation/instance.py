"""The integer problem that searches see: one address space, rectangles and where they may start.

Regions are laid out one after the other in one space, a gap between them; alignment, forbidden
ranges, fixed offsets and regions become sets of legal starts; all is divided by a common unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, lcm

from spm_opt.allocation.domains import Domain, merge
from spm_opt.allocation.rectangles import Rectangle
from spm_opt.allocation.request import Group, Request
from spm_opt.units import align_up, ceil_div

#: pairs of fixed and other buffers above which fixed ones cut no holes (the search still sees them)
_MANY = 2_000_000


@dataclass(frozen=True, slots=True)
class Instance:
    """Rectangles in units of `unit`; see `Request` for groups, nested, reuses and apart.

    Attributes
    ----------
    rectangles : tuple of Rectangle
    domains : tuple of Domain or None
        Legal starts; None for all that end within the capacity.
    capacity : int
        No rectangle ends above it.
    unit : int
        User's units in one unit of space.
    banks : tuple of (int, int)
        The regions, one after the other.
    """

    rectangles: tuple[Rectangle, ...]
    domains: tuple[Domain | None, ...]
    capacity: int
    unit: int = 1
    banks: tuple[tuple[int, int], ...] = ()
    groups: tuple[Group, ...] = ()
    nested: frozenset[tuple[int, int]] = frozenset()
    reuses: tuple[tuple[int, int], ...] = ()
    apart: tuple[tuple[int, int], ...] = ()

    @property
    def plain(self) -> bool:
        """Whether rectangles are free of each other but for overlaps."""
        return not self.reuses and not self.apart and len(self.groups) in (0, len(self.rectangles))

    def part(self, indices: Sequence[int]) -> Instance:
        """Some rectangles of a plain instance."""
        return Instance(
            tuple(self.rectangles[i] for i in indices),
            tuple(self.domains[i] for i in indices),
            self.capacity,
            self.unit,
            self.banks,
        )


def bases(request: Request) -> tuple[int, ...]:
    """Where each region begins in the common address space (at least one unit apart)."""
    step = lcm(*request.alignments)
    starts, end = [], 0
    for region in request.regions:
        starts.append(end)
        end = align_up(end + region.capacity + 1, step)
    return tuple(starts) or (0,)


def reduce(request: Request, capacity: int | None) -> Instance:
    """The integer problem of a request, for a capacity (None: everything fits)."""
    sizes = _rounded_sizes(request)
    starts = bases(request)
    rooms = [r.capacity for r in request.regions] or [capacity or _roomy(request)]
    holes = _fixed_holes(request, starts)
    domains = [_domain(request, i, starts, rooms, holes.get(i, [])) for i in range(len(sizes))]
    unit = _unit(request, sizes, domains)
    scaled = [_scale(domain, unit) for domain in domains]
    units = [size // unit for size in sizes]
    top = max((d.last + s for d, s in zip(scaled, units, strict=True)), default=0)
    return Instance(
        tuple(Rectangle(b.lower, b.upper, s) for b, s in zip(request.buffers, units, strict=True)),
        tuple(
            None if d.alignment == 1 and not d.holes and d.last + s >= top else d
            for d, s in zip(scaled, units, strict=True)
        ),
        top,
        unit,
        tuple((b // unit, (b + room) // unit) for b, room in zip(starts, rooms, strict=True)),
        tuple(tuple((i, d // unit) for i, d in group) for group in request.groups),
        request.nested,
        request.reuses,
        request.apart,
    )


def _roomy(request: Request) -> int:
    """A capacity that a placement fits if it fits any: all stacked above all fixed ends."""
    pairs = zip(request.buffers, request.alignments, strict=True)
    # twice, for the gaps that a group of tied buffers may hold
    stacked = 2 * sum(b.size + alignment for b, alignment in pairs)
    # members of a group are aligned together only once in so many starts
    stacked += sum(
        lcm(*(request.alignments[i] for i, _ in group)) - 1 for group in request.groups if group[1:]
    )
    ends = [end for b in request.buffers for _, end in b.forbidden]
    ends += [b.offset + b.size for b in request.buffers if b.offset is not None]
    return stacked + max(ends, default=0)


def _rounded_sizes(request: Request) -> list[int]:
    """Sizes up to where the next buffer can start at all."""
    step = 0
    if request.plain:
        fixed = (b.offset for b in request.buffers if b.offset is not None)
        step = gcd(*request.alignments, *fixed)
    return [align_up(b.size, step or 1) for b in request.buffers]


def _domain(
    request: Request, i: int, starts: Sequence[int], rooms: Sequence[int],
    holes: list[tuple[int, int]],
) -> Domain:  # fmt: skip
    """Legal starts of buffer i, in the user's units."""
    b = request.buffers[i]
    allowed = [
        n
        for n in range(len(starts))
        if not b.regions or not request.regions or request.regions[n].name in b.regions
    ]
    cut, end = list(holes), 0
    for n in allowed:
        cut.append((end, starts[n]))
        end = max(end, starts[n] + rooms[n] - b.size + 1)
        cut += [
            (starts[n] + low - b.size + 1, starts[n] + min(high, rooms[n]))
            for low, high in b.forbidden
            if low < rooms[n]
        ]
    last = end - 1
    if b.offset is not None:
        start = starts[allowed[0]] + b.offset
        cut.append((0, start))
        last = min(last, start)
    merged = merge((max(0, low), high) for low, high in cut)
    return Domain(request.alignments[i], last, tuple(h for h in merged if h[0] <= last))


def _fixed_holes(request: Request, starts: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
    """Starts that fixed buffers take from those that live beside them."""
    names = [r.name for r in request.regions]
    fixed = [(i, b) for i, b in enumerate(request.buffers) if b.offset is not None]
    holes: dict[int, list[tuple[int, int]]] = {}
    if not request.plain or len(fixed) * len(request.buffers) > _MANY:
        return holes
    for i, f in fixed:
        low = (f.offset or 0) + (starts[names.index(f.regions[0])] if f.regions else starts[0])
        for j, b in enumerate(request.buffers):
            if j != i and b.lower < f.upper and f.lower < b.upper:
                holes.setdefault(j, []).append((low - b.size + 1, low + f.size))
    return holes


def _unit(request: Request, sizes: Sequence[int], domains: Sequence[Domain]) -> int:
    """A unit of which every start of a placement pushed down is a multiple."""
    distances = (d for group in request.groups for _, d in group)
    # fixed buffers and holes end where another may start
    ends = (end for domain in domains for _, end in domain.holes)
    unit = gcd(*sizes, *distances, *ends) or 1
    while True:
        odd = [d.alignment for d in domains if unit % d.alignment]
        finer = gcd(unit, *odd)
        if finer == unit:
            return unit
        unit = finer


def _scale(domain: Domain, unit: int) -> Domain:
    alignment = domain.alignment // unit if unit % domain.alignment else 1
    return Domain(
        alignment,
        domain.last // unit,
        merge((ceil_div(low, unit), ceil_div(high, unit)) for low, high in domain.holes),
    )
