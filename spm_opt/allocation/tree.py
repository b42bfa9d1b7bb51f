"""Exact placement by a tree search from the bottom up; its exhausted tree is a proof.

Every placement can be pushed down until each rectangle lies on the floor or on another one. The
search builds such placements: in a section (a stretch of time, see `spm_opt.allocation.sections`)
it decides which rectangle lies lowest, or that nothing starts at the lowest possible height there.
With domains, pushing down ends at the lowest legal start above what lies beneath; all else holds
as it stands, so that the search stays complete with alignment, forbidden and fixed offsets.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spm_opt.allocation.domains import NEVER, Domain
from spm_opt.allocation.greedy import neighbours
from spm_opt.allocation.rectangles import Rectangle
from spm_opt.allocation.sections import Sections, cut_time

_WEIGHT_DECAY: Final = 0.7
#: work of looking at a section, beside one for each rectangle unplaced there
_VISIT: Final = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """Offsets, or a proof that there are none, or neither."""

    offsets: tuple[int, ...] | None
    infeasible: bool
    nodes: int
    work: int


#: score of a section: candidates, slack, weight, lowest height -> the least is branched on
_RULES: Final[dict[str, Callable[[int, int, float, int], float]]] = {
    "nk": lambda m, slack, w, f: m + (0.5 if slack else 0.0) + 1e-4 * slack,
    "wdeg": lambda m, slack, w, f: (m + (0.5 if slack else 0.0) + 1e-4 * slack) / w,
    "slack": lambda m, slack, w, f: (slack + 1) * m / w,
    "low": lambda m, slack, w, f: f + 1e-3 * m + 1e-6 * slack,
}

#: static ranks of rectangles: the first is tried first
_RANKS: Final[dict[str, Callable[[Rectangle], tuple[int, ...]]]] = {
    "length": lambda r: (r.begin - r.end, -r.size * (r.end - r.begin)),
    "area": lambda r: (-r.size * (r.end - r.begin),),
    "size": lambda r: (-r.size, r.begin - r.end),
    "start": lambda r: (r.begin, r.begin - r.end),
}


class Tree:
    """The state of one search; `run` may be called again and again, weights are kept."""

    def __init__(
        self,
        rectangles: Sequence[Rectangle],
        capacity: int,
        domains: Sequence[Domain | None] = (),
    ) -> None:
        self.domains = tuple(domains) or (None,) * len(rectangles)
        self.rectangles = tuple(rectangles)
        self.capacity = capacity
        self.sections: Sections = cut_time(rectangles)
        members = self.sections.members
        self.members = members
        self.span = [
            range(a, b + 1) for a, b in zip(self.sections.first, self.sections.last, strict=True)
        ]
        self.span_keys = [dict.fromkeys(span) for span in self.span]
        self.size = [r.size for r in rectangles]
        self.meets = [sorted(others) for others in neighbours(rectangles)]
        self.weight = [1.0] * len(members)
        self.trouble = [0.0] * len(rectangles)

    def run(
        self,
        rule: str,
        rank: str,
        *,
        deep: bool = False,
        node_limit: int,
        work_limit: int = NEVER,
        seed: int = 0,
    ) -> Outcome:
        """Search from the root until a limit is reached.

        Parameters
        ----------
        rule : str
            How the section to branch on is chosen: nk, wdeg, slack or low.
        rank : str
            Which rectangle is tried first: length, area, size or start.
        deep : bool
            Whether bounds are raised by the stronger, slower rule.
        node_limit, work_limit : int
            Decisions taken; sections and rectangles looked at while bounds are raised.
        """
        self._reset(rule, rank, seed)
        self.deep = deep
        self.work_limit = work_limit
        if not self._propagate(dict.fromkeys(range(len(self.members)))):
            return self._failure()
        return self._descend(node_limit)

    def _failure(self) -> Outcome:
        """A proof, unless bounds were left as they were for want of work."""
        return Outcome(None, self.work < self.work_limit, self.nodes, self.work)

    def _reset(self, rule: str, rank: str, seed: int) -> None:
        number, members = len(self.size), self.members
        self.low = [
            self._legal(i, 0) for i in range(number)
        ]  # lowest possible offset of each rectangle
        self.base = [0] * number  # highest top beneath it
        self.placed = [0] * number
        # lists are replaced, never changed: the trail keeps the old ones
        self.alive = [list(alive) for alive in members]  # unplaced in each section, in order
        self.rest = [sum(self.size[i] for i in alive) for alive in members]
        self.least = [0] * len(members)  # lowest `low` in each section
        self.count = [len(alive) for alive in members]  # rectangles as low as that
        self.crossing = [
            sum(self.sections.last[i] > k for i in alive) for k, alive in enumerate(members)
        ]
        self.trail: list[tuple[list[Any], int, Any]] = []
        self.nodes = 0
        self.work = 0
        self.score = _RULES[rule]
        draw = random.Random(seed)
        order = sorted(range(number), key=lambda i: (*_RANKS[rank](self.rectangles[i]), i))
        self.rank = [0.0] * number
        for position, i in enumerate(order):
            self.rank[i] = position / number + 0.1 * draw.random()
        self.weight = [1.0 + (w - 1.0) * _WEIGHT_DECAY for w in self.weight]
        self.trouble = [t * _WEIGHT_DECAY for t in self.trouble]

    def _descend(self, node_limit: int) -> Outcome:
        stack = [self._frame((0, len(self.members) - 1))]
        while stack:
            frame = stack[-1]
            self._undo(frame.mark)
            if not frame.children:
                self._jump(stack)
                continue
            if self.nodes >= node_limit or self.work >= self.work_limit:
                return Outcome(None, False, self.nodes, self.work)
            self.nodes += 1
            if not self._take(*frame.children.pop()):
                continue
            region = self._next_region(frame.region)
            if region is None:
                return Outcome(tuple(self.low), False, self.nodes, self.work)
            stack.append(self._frame(region))
        return self._failure()

    def _jump(self, stack: list[_Frame]) -> None:
        """Back to the last decision that could have caused the failure of this part."""
        begin, end = stack.pop().region
        while stack and not (stack[-1].region[0] <= begin and end <= stack[-1].region[1]):
            stack.pop()

    def _next_region(self, region: tuple[int, int]) -> tuple[int, int] | None:
        """Part to go on with: inside `region` if any is left there."""
        return self._part(*region) or self._part(0, len(self.members) - 1)

    def _part(self, begin: int, end: int) -> tuple[int, int] | None:
        """A run of sections that unplaced rectangles tie together."""
        rest, crossing = self.rest, self.crossing
        best, width = None, NEVER
        k = begin
        while k <= end:
            if not rest[k]:
                k += 1
                continue
            start = k
            while crossing[k]:
                k += 1
            if k - start < width:
                best, width = (start, k), k - start
            k += 1
        return best

    def _frame(self, region: tuple[int, int]) -> _Frame:
        k = self._branching_section(region)
        height = self.least[k]
        low, base = self.low, self.base
        lowest = [i for i in self.alive[k] if low[i] == height]
        worst = max(1e-9, max(self.trouble[i] for i in lowest))
        trouble, rank = self.trouble, self.rank
        tries = [i for i in lowest if self._legal(i, base[i]) == height]
        tries.sort(key=lambda i: 0.5 * trouble[i] / worst - rank[i])
        children = [(k, i) for i in tries]
        if self.capacity - self.rest[k] > height:
            children.insert(0, (k, -1))
        return _Frame(len(self.trail), children, region)

    def _branching_section(self, region: tuple[int, int]) -> int:
        rest, least, count, weight = self.rest, self.least, self.count, self.weight
        score, capacity = self.score, self.capacity
        ranked = sorted(
            (score(count[k], capacity - rest[k] - least[k], weight[k], least[k]), k)
            for k in range(region[0], region[1] + 1)
            if rest[k]
        )
        for _, k in ranked:
            if self._eligible(k):
                return k
        return min((least[k], k) for _, k in ranked)[1]

    def _eligible(self, k: int) -> bool:
        """Whether nothing can come to lie beneath the lowest rectangles of section k."""
        height, least, low = self.least[k], self.least, self.low
        for i in self.alive[k]:
            if low[i] == height:
                for m in self.span[i]:
                    if least[m] < height:
                        return False
        return True

    def _take(self, k: int, i: int) -> bool:
        return self._put(i) if i >= 0 else self._lift(k)

    def _put(self, i: int) -> bool:
        """Place rectangle i at its lowest offset."""
        low, base, placed, trail = self.low, self.base, self.placed, self.trail
        rest, alive, size = self.rest, self.alive, self.size[i]
        top = low[i] + size
        trail.append((placed, i, 0))
        placed[i] = 1
        dirty = dict(self.span_keys[i])
        for k in self.span[i]:
            trail.append((rest, k, rest[k]))
            rest[k] -= size
            trail.append((alive, k, alive[k]))
            alive[k] = [j for j in alive[k] if j != i]
        crossing = self.crossing
        for k in self.span[i][:-1]:
            trail.append((crossing, k, crossing[k]))
            crossing[k] -= 1
        for j in self.meets[i]:
            if placed[j]:
                continue
            if base[j] < top:
                trail.append((base, j, base[j]))
                base[j] = top
            if low[j] < top and not self._raise(j, top, self.sections.first[j], dirty):
                return False
        return self._propagate(dirty)

    def _lift(self, k: int) -> bool:
        """Nothing starts at the lowest height of section k."""
        low, placed, size = self.low, self.placed, self.size
        height = self.least[k]
        lowest = [i for i in self.alive[k] if low[i] == height]
        rests_on = [
            min((low[j] + size[j] for j in self.meets[i] if not placed[j]), default=NEVER)
            for i in lowest
        ]
        dirty: dict[int, None] = {}
        for i, value in zip(lowest, rests_on, strict=True):
            if not self._raise(i, max(height + 1, value), k, dirty):
                return False
        return self._propagate(dirty)

    def _propagate(self, dirty: dict[int, None]) -> bool:
        """Raise lowest offsets to a fixpoint; False where a section cannot be filled."""
        tighten = self._tighten_deeply if self.deep else self._tighten
        weight = self.weight
        while dirty:
            changed: dict[int, None] = {}
            # sections that failed before are likely to fail again: ask them first
            for k in sorted(dirty, key=lambda k: -weight[k]):
                changed.pop(k, None)
                if self.rest[k]:
                    self.work += _VISIT + len(self.alive[k])
                    if not tighten(k, changed):
                        return False
            if self.work >= self.work_limit:
                return False  # not a failure: whoever asks next sees that the work is spent
            dirty = changed
        return True

    def _tighten(self, k: int, dirty: dict[int, None]) -> bool:
        """Not-first rule: what is too high to lie lowest lies above the first that may."""
        low, size, alive = self.low, self.size, self.alive[k]
        heights = [low[i] for i in alive]
        height, bound = min(heights), self.capacity - self.rest[k]
        if height > bound:
            return self._blame(k, alive)
        self._note(k, height, heights.count(height))
        if max(heights) <= bound:
            return True
        lifted = min(low[i] + size[i] for i in alive if low[i] <= bound)
        late = [i for i in alive if bound < low[i] < lifted]
        return all(self._raise(i, lifted, k, dirty) for i in late)

    def _tighten_deeply(self, k: int, dirty: dict[int, None]) -> bool:
        """Not-first rule for every set of the rectangles that start at some height or above."""
        low, size, alive = self.low, self.size, self.alive[k]
        heights = [low[i] for i in alive]
        height, highest = min(heights), max(heights)
        self._note(k, height, heights.count(height))
        bound = self.capacity - self.rest[k]
        if highest <= bound:
            return True
        alive = sorted(alive, key=low.__getitem__)
        heights.sort()
        # of those from p on, the ones before q may lie lowest; the first of them ends at `lifted`
        q, lifted, first = 0, NEVER, -1
        for p, value in enumerate(heights):
            if value > bound:
                return self._blame(k, alive[p:])
            if highest <= bound:
                return True
            if p == 0 or value != heights[p - 1]:
                if first < p:
                    q, lifted = p, NEVER
                while heights[q] <= bound:
                    top = heights[q] + size[alive[q]]
                    if top <= lifted:
                        lifted, first = top, q
                    q += 1
                if heights[q] < lifted:  # section k is dirty again: it comes back for other sets
                    late = [i for i in alive[q:] if low[i] < lifted]
                    return all(self._raise(j, lifted, k, dirty) for j in late)
            bound += size[alive[p]]
        return True

    def _note(self, k: int, height: int, number: int) -> None:
        if self.least[k] != height:
            self.trail.append((self.least, k, self.least[k]))
            self.least[k] = height
        if self.count[k] != number:
            self.trail.append((self.count, k, self.count[k]))
            self.count[k] = number

    def _raise(self, i: int, value: int, k: int, dirty: dict[int, None]) -> bool:
        domain = self.domains[i]
        if domain is not None:
            value = domain.first_from(value)
        self.trail.append((self.low, i, self.low[i]))
        self.low[i] = value
        if value + self.size[i] > self.capacity:
            return self._blame(k, [i])
        dirty.update(self.span_keys[i])
        return True

    def _legal(self, i: int, start: int) -> int:
        domain = self.domains[i]
        return start if domain is None else domain.first_from(start)

    def _blame(self, k: int, culprits: list[int]) -> bool:
        self.weight[k] += 1.0
        for i in culprits:
            self.trouble[i] += 1.0
        return False

    def _undo(self, mark: int) -> None:
        trail = self.trail
        while len(trail) > mark:
            values, index, old = trail.pop()
            values[index] = old


@dataclass(slots=True)
class _Frame:
    """A decision: what is left to try, from which state, in which run of sections."""

    mark: int
    children: list[tuple[int, int]]
    region: tuple[int, int]
