"""What no placement can do without: the load, and the time at which it peaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spm_opt.allocation.buffers import Buffer, Crowd
from spm_opt.allocation.instance import Instance
from spm_opt.allocation.pieces import Piece, solid_pieces
from spm_opt.allocation.request import Request


def crowd(request: Request, instance: Instance) -> Crowd:
    """Where most space is alive; bytes that may be shared count once."""
    return _crowd(request, instance, [*_solid(instance), *_reusing(instance)], ())


def misfit(request: Request, instance: Instance) -> Crowd:
    """Where most is missing: in some regions that buffers must share, or in all space together."""
    pieces = [*_solid(instance), *_reusing(instance)]
    rooms = {region.name: region.capacity for region in request.regions}
    worst, most = _crowd(request, instance, pieces, ()), 0
    for names in sorted({tuple(sorted(set(b.regions))) for b in request.buffers if b.regions}):
        own = [p for p in pieces if _is_confined(request.buffers[p.index], names)]
        found = _crowd(request, instance, own, names)
        missing = found.load - sum(rooms[name] for name in names)
        if missing > most:
            worst, most = found, missing
    return worst


def _crowd(
    request: Request, instance: Instance, pieces: Sequence[Piece], regions: tuple[str, ...]
) -> Crowd:
    events: dict[int, int] = {}
    for piece in pieces:
        events[piece.begin] = events.get(piece.begin, 0) + piece.size
        events[piece.end] = events.get(piece.end, 0) - piece.size
    load = peak = 0
    moment = min(events, default=0)
    for time in sorted(events):
        load += events[time]
        if load > peak:
            peak, moment = load, time
    alive = (
        b
        for b in request.buffers
        if b.lower <= moment < b.upper and (not regions or _is_confined(b, regions))
    )
    names = sorted(alive, key=lambda b: -b.size)
    return Crowd(moment, peak * instance.unit, tuple(b.id for b in names), regions)


def _is_confined(buffer: Buffer, regions: tuple[str, ...]) -> bool:
    """Whether a buffer must lie in one of some regions."""
    return bool(buffer.regions) and {*buffer.regions} <= {*regions}


def lowest_peak(request: Request, instance: Instance, load: int) -> int:
    """A peak that no placement goes below: the load, less what the topmost buffer need not pad."""
    pads = (
        r.size * instance.unit - b.size
        for r, b in zip(instance.rectangles, request.buffers, strict=True)
    )
    ends = (b.offset + b.size for b in request.buffers if b.offset is not None)
    sizes = (b.size for b in request.buffers)
    if request.regions:
        # each region has a topmost buffer of its own
        return load - sum(sorted(pads, reverse=True)[: len(request.regions)])
    return max(load - max(pads, default=0), *ends, *sizes, 0, 0)


def _solid(instance: Instance) -> Iterator[Piece]:
    return solid_pieces(instance, {output for output, _ in instance.reuses})


def _reusing(instance: Instance) -> Iterator[Piece]:
    """Outputs that may lie in place: until their inputs are dead, only what sticks out counts."""
    rectangles = instance.rectangles
    for output in sorted({output for output, _ in instance.reuses}):
        inputs = [rectangles[i] for o, i in instance.reuses if o == output]
        r = rectangles[output]
        shared, dead = max(i.size for i in inputs), max(i.end for i in inputs)
        if r.size > shared:
            yield Piece(output, r.begin, dead, shared, r.size - shared)
        yield Piece(output, dead, r.end, 0, r.size)
