"""`allocate`: from buffers to checked offsets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from operator import index

from spm_opt.allocation.bounds import crowd, lowest_peak, misfit
from spm_opt.allocation.buffers import (
    Alias,
    Allocation,
    Buffer,
    InPlace,
    Region,
    room,
    whole,
)
from spm_opt.allocation.instance import Instance, bases, reduce
from spm_opt.allocation.minimise import Lowest, minimise
from spm_opt.allocation.portfolio import (
    ALL,
    GREEDY_SECONDS,
    Placement,
    Switches,
    greedy,
    search,
)
from spm_opt.allocation.request import Request, make_request
from spm_opt.allocation.validate import violations
from spm_opt.errors import InputError, SolverError

#: share of the limit that goes into the best peak where the capacity was not met
_AFTERTHOUGHT = 0.15


def allocate(
    buffers: Sequence[Buffer],
    capacity: int | None = None,
    *,
    alignment: int = 1,
    regions: Sequence[Region] = (),
    aliases: Sequence[Alias] = (),
    apart: Sequence[tuple[str, str]] = (),
    time_limit: float = 60.0,
    seed: int = 0,
    switches: Switches = ALL,
) -> Allocation:
    """Give every buffer an offset: within `capacity`, or with the lowest peak.

    Parameters
    ----------
    buffers : sequence of Buffer
    capacity : int, optional
        A placement within it, a proof that there is none, or neither is returned. Without it (and
        without regions) the peak is minimised.
    alignment : int
        Every offset is a multiple of it (and of the buffer's own alignment), but for those that an
        alias fixes: later members of `Adjacent`, inner buffers of `Inside`.
    regions : sequence of Region
        Address spaces, each with a capacity of its own.
    aliases : sequence of Adjacent, Inside or InPlace
    apart : sequence of (str, str)
        Pairs that must not share a region.
    time_limit : float
        Seconds for the searches, counted in work done and not by the clock, so that the same input
        and seed give the same offsets on any machine; about seconds of one present core.
    seed : int
    switches : Switches
        Techniques that may be left out.

    Returns
    -------
    Allocation
        Checked by `spm_opt.allocation.validate`.

    Raises
    ------
    InputError
        Where the request is wrong or contradicts itself.
    SolverError
        Where the searches contradict the checker: a bug.
    """
    if not time_limit >= 0:
        raise InputError("must not be negative", field="time_limit", found=time_limit)
    alignment, seed = whole(alignment, "alignment"), index(seed)
    capacity = None if capacity is None else room(capacity, "capacity")
    request = make_request(buffers, capacity, alignment, regions, aliases, apart)
    call = _Call(request, capacity, alignment, tuple(aliases), time_limit, seed, switches)
    allocation = call.within() if regions or capacity is not None else call.lowest()
    if allocation.placed:
        wrong = violations(
            buffers,
            allocation.offsets or (),
            capacity=capacity,
            alignment=alignment,
            regions=regions,
            placed_in=allocation.regions,
            aliases=aliases,
            apart=apart,
        )
        if wrong:
            raise SolverError("the placement found is wrong, this is a bug: " + "; ".join(wrong))
    return allocation


class _Call:
    """One call of `allocate`."""

    def __init__(
        self,
        request: Request,
        capacity: int | None,
        alignment: int,
        aliases: tuple[Alias, ...],
        limit: float,
        seed: int,
        switches: Switches,
    ) -> None:
        self.request = request
        self.capacity = capacity
        self.aliases = aliases
        self.limit, self.seed, self.switches = limit, seed, switches
        self.starts = bases(request)
        self.free = reduce(request, None)
        self.crowd = crowd(request, self.free)
        self.bound = lowest_peak(request, self.free, self.crowd.load)
        padded = any(b.size % self.free.unit for b in request.buffers)
        self.step = 1 if padded else self.free.unit
        if not request.regions:
            self.bound = -(-self.bound // self.step) * self.step

    def within(self) -> Allocation:
        """A placement within the capacity, or a proof, or neither."""
        rooms = [r.capacity for r in self.request.regions] or [self.capacity or 0]
        instance = reduce(self.request, self.capacity)
        if self.bound > sum(rooms):
            found = Placement(None, True, method="load")
        else:
            share = 1.0 if self.request.regions else 1.0 - _AFTERTHOUGHT
            found = search(instance, share * self.limit, self.seed, self.switches)
        if found.offsets is not None:
            return self._allocation("placed", instance, found, self.bound, found.effort)
        status = "infeasible" if found.infeasible else "not found"
        if self.request.regions:
            return self._allocation(status, instance, found, self.bound, found.effort)
        bound = self.bound
        if found.infeasible:
            bound = max(bound, ((self.capacity or 0) // self.step + 1) * self.step)
        limit = _AFTERTHOUGHT * self.limit
        start = self._start(limit)
        if start.offsets is None:
            return self._allocation(status, instance, found, bound, found.effort + start.effort)
        best = self._minimise(start, start.offsets, bound, limit)
        effort = found.effort + best.effort
        method = found.method or best.placement.method
        placement = replace(best.placement, method=method)
        return self._allocation(status, self.free, placement, best.bound, effort)

    def lowest(self) -> Allocation:
        """A placement with the lowest peak that is found."""
        start = self._start(self.limit)
        if start.offsets is None:
            status = "infeasible" if start.infeasible else "not found"
            return self._allocation(status, self.free, start, self.bound, start.effort)
        best = self._minimise(start, start.offsets, self.bound, self.limit)
        return self._allocation("placed", self.free, best.placement, best.bound, best.effort)

    def _start(self, limit: float) -> Placement:
        """Any placement; fixed offsets and aliases may leave none, or none that is easy to see."""
        offsets = greedy(self.free)
        if offsets is not None:
            plain = self.free.plain and not any(self.free.domains)
            effort = 0.0 if plain else GREEDY_SECONDS * len(offsets) ** 2
            return Placement(offsets, False, effort, "greedy")
        return search(self.free, limit, self.seed, self.switches)

    def _minimise(
        self, start: Placement, offsets: tuple[int, ...], bound: int, limit: float
    ) -> Lowest:
        best = minimise(
            lambda capacity: reduce(self.request, capacity),
            bound,
            start,
            self._peak(offsets),
            self.step,
            limit - start.effort,
            self.seed,
            self.switches,
            self._peak,
        )
        return replace(best, effort=best.effort + start.effort)

    def _peak(self, offsets: Sequence[int]) -> int:
        ends = (
            o * self.free.unit + b.size for o, b in zip(offsets, self.request.buffers, strict=True)
        )
        return max(ends, default=0)

    def _allocation(
        self, status: str, instance: Instance, found: Placement, bound: int, effort: float
    ) -> Allocation:
        buffers, names = self.request.buffers, [r.name for r in self.request.regions]
        offsets: tuple[int, ...] | None = None
        homes: list[int] = []
        peak: int | None = None
        if found.offsets is not None:
            absolute = [offset * instance.unit for offset in found.offsets]
            homes = [bisect_right(self.starts, a) - 1 for a in absolute]
            offsets = tuple(a - self.starts[h] for a, h in zip(absolute, homes, strict=True))
            tops = dict.fromkeys(homes, 0)
            for b, offset, home in zip(buffers, offsets, homes, strict=True):
                tops[home] = max(tops[home], offset + b.size)
            peak = sum(tops.values())
        tightest = self.crowd
        if names and status != "placed":
            tightest = misfit(self.request, self.free)
        return Allocation(
            status=status,
            offsets=offsets,
            regions=tuple(names[h] for h in homes) if names else (),
            peak=peak,
            bound=bound,
            capacity=self.capacity,
            in_place=self._in_place(offsets, homes),
            crowd=tightest,
            method=found.method,
            effort=effort,
        )

    def _in_place(
        self, offsets: tuple[int, ...] | None, homes: Sequence[int]
    ) -> tuple[InPlace, ...]:
        if offsets is None:
            return ()
        places = zip(homes, offsets, strict=True)
        at = {b.id: place for b, place in zip(self.request.buffers, places, strict=True)}
        return tuple(
            a for a in self.aliases if isinstance(a, InPlace) and at[a.output] == at[a.input]
        )
