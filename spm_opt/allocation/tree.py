"""Exact placement by a tree search from the bottom up; its exhausted tree is a proof.

Every placement can be pushed down until each rectangle lies on the floor or on another one. The
search builds such placements: in a section (a stretch of time, see `spm_opt.allocation.sections`)
it decides which rectangle lies lowest, or that nothing starts at the lowest possible height there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from spm_opt.allocation.rectangles import Rectangle
from spm_opt.allocation.sections import Sections, cut_time

_NEVER: Final = 1 << 62
_WEIGHT_DECAY: Final = 0.7


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

    def __init__(self, rectangles: Sequence[Rectangle], capacity: int) -> None:
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
        met: list[set[int]] = [set() for _ in rectangles]
        for alive in members:
            for i in alive:
                met[i].update(alive)
        self.meets = [sorted(others - {i}) for i, others in enumerate(met)]
        self.weight = [1.0] * len(members)
        self.trouble = [0.0] * len(rectangles)

    def run(
        self, rule: str, rank: str, *, node_limit: int, work_limit: int = _NEVER, seed: int = 0
    ) -> Outcome:
        """Search from the root until a limit is reached.

        Parameters
        ----------
        rule : str
            How the section to branch on is chosen: nk, wdeg, slack or low.
        rank : str
            Which rectangle is tried first: length, area, size or start.
        node_limit, work_limit : int
            Decisions taken; rectangles looked at while bounds are raised.
        """
        self._reset(rule, rank, seed)
        if not self._propagate(dict.fromkeys(range(len(self.members)))):
            return Outcome(None, True, 0, self.work)
        return self._descend(node_limit, work_limit)

    def _reset(self, rule: str, rank: str, seed: int) -> None:
        number, members = len(self.size), self.members
        self.low = [0] * number  # lowest possible offset of each rectangle
        self.base = [0] * number  # highest top beneath it
        self.placed = [0] * number
        self.rest = [sum(self.size[i] for i in alive) for alive in members]
        self.least = [0] * len(members)  # lowest `low` in each section
        self.count = [len(alive) for alive in members]  # rectangles as low as that
        self.crossing = [
            sum(self.sections.last[i] > k for i in alive) for k, alive in enumerate(members)
        ]
        self.trail: list[tuple[list[int], int, int]] = []
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

    def _descend(self, node_limit: int, work_limit: int) -> Outcome:
        stack = [self._frame((0, len(self.members) - 1))]
        while stack:
            frame = stack[-1]
            self._undo(frame.mark)
            if not frame.children:
                self._jump(stack)
                continue
            if self.nodes >= node_limit or self.work >= work_limit:
                return Outcome(None, False, self.nodes, self.work)
            self.nodes += 1
            if not self._take(*frame.children.pop()):
                continue
            region = self._next_region(frame.region)
            if region is None:
                return Outcome(tuple(self.low), False, self.nodes, self.work)
            stack.append(self._frame(region))
        return Outcome(None, True, self.nodes, self.work)

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
        best, width = None, _NEVER
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
        low, base, placed = self.low, self.base, self.placed
        lowest = [i for i in self.members[k] if not placed[i] and low[i] == height]
        worst = max(1e-9, max(self.trouble[i] for i in lowest))
        trouble, rank = self.trouble, self.rank
        tries = [i for i in lowest if base[i] == height]
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
        height, least, placed, low = self.least[k], self.least, self.placed, self.low
        for i in self.members[k]:
            if low[i] == height and not placed[i]:
                for m in self.span[i]:
                    if least[m] < height:
                        return False
        return True

    def _take(self, k: int, i: int) -> bool:
        return self._put(i) if i >= 0 else self._lift(k)

    def _put(self, i: int) -> bool:
        """Place rectangle i at its lowest offset."""
        low, base, placed, trail = self.low, self.base, self.placed, self.trail
        rest, size = self.rest, self.size[i]
        top = low[i] + size
        trail.append((placed, i, 0))
        placed[i] = 1
        dirty = dict(self.span_keys[i])
        for k in self.span[i]:
            trail.append((rest, k, rest[k]))
            rest[k] -= size
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
            if low[j] < top:
                trail.append((low, j, low[j]))
                low[j] = top
                dirty.update(self.span_keys[j])
        return self._propagate(dirty)

    def _lift(self, k: int) -> bool:
        """Nothing starts at the lowest height of section k."""
        low, placed, size = self.low, self.placed, self.size
        height = self.least[k]
        lowest = [i for i in self.members[k] if not placed[i] and low[i] == height]
        raised = []
        for i in lowest:
            rests_on = min(
                (low[j] + size[j] for j in self.meets[i] if not placed[j]), default=_NEVER
            )
            raised.append(max(height + 1, rests_on))
        dirty: dict[int, None] = {}
        for i, value in zip(lowest, raised, strict=True):
            if value + size[i] > self.capacity:
                return False
            self.trail.append((low, i, height))
            low[i] = value
            dirty.update(self.span_keys[i])
        return self._propagate(dirty)

    def _propagate(self, dirty: dict[int, None]) -> bool:
        """Raise lowest offsets to a fixpoint; False where a section cannot be filled."""
        low, placed, size, rest = self.low, self.placed, self.size, self.rest
        least, count, trail, members = self.least, self.count, self.trail, self.members
        capacity = self.capacity
        while dirty:
            k, _ = dirty.popitem()
            self.work += len(members[k])
            if not rest[k]:
                continue
            bound = capacity - rest[k]
            height = lifted = _NEVER
            number = 0
            late = []
            for i in members[k]:
                if placed[i]:
                    continue
                value = low[i]
                if value < height:
                    height, number = value, 1
                elif value == height:
                    number += 1
                if value > bound:
                    late.append(i)
                elif value + size[i] < lifted:
                    lifted = value + size[i]
            if height > bound:
                self.weight[k] += 1.0
                for i in late:
                    self.trouble[i] += 1.0
                return False
            if least[k] != height:
                trail.append((least, k, least[k]))
                least[k] = height
            if count[k] != number:
                trail.append((count, k, count[k]))
                count[k] = number
            for i in late:
                if low[i] < lifted:
                    trail.append((low, i, low[i]))
                    low[i] = lifted
                    if lifted + size[i] > capacity:
                        self.weight[k] += 1.0
                        self.trouble[i] += 1.0
                        return False
                    dirty.update(self.span_keys[i])
        return True

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
