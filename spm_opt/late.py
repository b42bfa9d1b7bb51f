"""The same plan with later claims: constants are loaded as late as costs no cycle.

Space that is claimed later is free for longer, so the buffers of the plan are easier to place. The
cost of a decision does not change here, only the steps in which its prefetches start.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import accumulate

from spm_opt.decision import Decision
from spm_opt.problem import Candidate, Problem


@dataclass(frozen=True, slots=True)
class _Passage:
    """How the prefetch queue stands around one step, in cycles of constants loaded.

    Attributes
    ----------
    before : int
        Loaded when the step begins.
    own : int
        Needed for the step itself.
    slack : int
        What the step can load besides.
    busy : bool
        Whether the step has transfers of its own, for which prefetches cannot be cut.
    """

    before: int
    own: int
    slack: int
    busy: bool


def claim_late(problem: Problem, decision: Decision) -> Decision:
    """`decision` with every prefetch started as late as costs nothing."""
    if not decision.candidates:
        return decision
    cycles = [w.cycles if w.size_bytes else 0 for w in problem.weights]
    ready = [0, *accumulate(cycles)]
    used = [problem.candidates[k] for k in decision.candidates]
    needed = _needed(ready, _passages(ready, used, decision, problem.cuts))
    starts = list(decision.weight_starts)
    step = 0
    for c, start in enumerate(starts):
        while needed[step] <= ready[c] and used[step].end <= c:
            step += 1
        if start >= 0:
            starts[c] = used[step].first
    return replace(decision, weight_starts=tuple(starts))


def _passages(
    ready: list[int], used: list[Candidate], decision: Decision, cuts: bool
) -> list[_Passage]:
    """The queue around every step of the decision as it stands."""
    reloaded = {part for _, part in decision.reloads}
    claimed = _claimed(ready, used, decision)
    found: list[_Passage] = []
    progress = 0
    for candidate, limit in zip(used, claimed, strict=True):
        own, moves = ready[candidate.end], bool(candidate.dma_cycles) or candidate.first in reloaded
        busy = moves and not cuts
        slack = candidate.duration_cycles - candidate.dma_cycles
        found.append(_Passage(progress, own, slack, busy))
        at_start = max(progress, own)
        if busy:
            at_start = ready[bisect_left(ready, at_start)]
        progress = max(at_start, min(at_start + slack, ready[limit]))
    return found


def _claimed(ready: list[int], used: list[Candidate], decision: Decision) -> list[int]:
    """Parts whose loads have started by the end of each step, as a frontier."""
    frontier: list[int] = []
    part, starts = 0, decision.weight_starts
    for candidate in used:
        part = max(part, candidate.end)
        while part < len(starts) and (
            ready[part] == ready[part + 1] or 0 <= starts[part] <= candidate.first
        ):
            part += 1
        frontier.append(part)
    return frontier


def _needed(ready: list[int], passages: list[_Passage]) -> list[int]:
    """Least progress at the end of every step that keeps all later costs."""
    needed = [0] * len(passages)
    for s in reversed(range(1, len(passages))):
        passage = passages[s]
        least = min(passage.own, passage.before)
        if needed[s] > passage.own + passage.slack:
            least = max(least, needed[s] - passage.slack)
        if passage.busy and least > passage.own:
            # nothing may be under way when the step begins, or it is waited for as before
            least = min(ready[bisect_left(ready, least)], passage.before)
        needed[s - 1] = least
    return needed
