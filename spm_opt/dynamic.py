"""Exact dynamic programming over step boundaries: the fast way to a proven optimum.

Between two steps all that matters of the past is (a) which live maps lie in SPM, in DRAM or in
both, and (b) how far the loads of constants are ahead, a single number, since they keep the order
of use. A *label* is a pair (cost, progress) for one boundary and one residency of the live maps;
a candidate that begins there moves it to the boundary where it ends.

Three facts keep labels few, and lose nothing:

- *Truncation is free.* A prefetch that a later step has no space for is taken back: it was never
  made. So no label decides how much to prefetch; each carries all that time allows.
- *Waiting is a move.* A label can wait until it has loaded what another has ahead; one that is
  cheaper even so makes the other superfluous.
- *A stream finds the queue free.* Where a step has transfers of its own, a prefetch under way is
  either finished first or was not begun: two labels.

The number of residencies grows with the maps alive at once, not with the depth of the network. It
is limited: beyond `max_states` only the cheapest go on, and the result is a schedule without a
proof. This room decides without OR-tools; the CP-SAT model states the same problem, and each tests
the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spm_opt.decision import Decision
from spm_opt.problem import Candidate, Problem

Ints = NDArray[np.int64]
#: (map, mode) of every live map, by map; modes are sums of `IN_SPM` and `IN_DRAM`
Residency: TypeAlias = tuple[tuple[int, int], ...]

IN_SPM, IN_DRAM = 1, 2

_FIELDS = ("cost", "progress", "parent", "candidate", "move", "finish")


@dataclass(frozen=True, slots=True)
class Prices:
    """Weights of the two costs in the sum that is minimised."""

    per_cycle: int
    per_byte: int


@dataclass(frozen=True, slots=True)
class Solved:
    """Outcome of the dynamic programme.

    Attributes
    ----------
    decision : Decision or None
        None where no plan exists (or, truncated, none was found).
    latency_cycles, dram_bytes : int
    complete : bool
        Whether every residency was followed: then the decision is optimal.
    """

    decision: Decision | None
    latency_cycles: int
    dram_bytes: int
    complete: bool


@dataclass(frozen=True, slots=True)
class _Family:
    """Candidates that begin and end together under one residency pattern, as arrays."""

    end: int
    sample: Candidate
    index: Ints
    duration: Ints
    dma: Ints
    work: Ints
    dram: Ints


@dataclass(frozen=True, slots=True)
class _Move:
    """What a family does to one residency."""

    pinned_bytes: int
    reloads: tuple[int, ...]
    after: tuple[Residency, ...]


@dataclass(slots=True)
class _Labels:
    """Labels of one boundary and residency, as parallel arrays; `parent` is a global number."""

    cost: Ints
    progress: Ints
    parent: Ints
    candidate: Ints
    move: Ints
    finish: Ints


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of the best path.

    ``progress`` is what the label had loaded at its end; ``finishes`` says that a prefetch under
    way at its start was waited for.
    """

    candidate: int
    reloads: tuple[int, ...]
    pinned_bytes: int
    progress: int
    finishes: bool


class _Table:
    """Everything that the moves read, and the labels kept so far."""

    def __init__(self, problem: Problem, prices: Prices) -> None:
        self.problem, self.prices = problem, prices
        zero = np.zeros(1, dtype=np.int64)
        cycles = [w.cycles if w.size_bytes else 0 for w in problem.weights]
        sizes = [w.size_bytes for w in problem.weights]
        self.ready = np.concatenate((zero, np.cumsum(cycles, dtype=np.int64)))
        self.space = np.concatenate((zero, np.cumsum(sizes, dtype=np.int64)))
        self.families = _families(problem)
        #: every kept label
        self.kept: list[_Labels] = []
        self.count = 0
        #: every move that was made, by the number that labels carry
        self.moves: list[_Move] = []

    def keep(self, labels: _Labels) -> Ints:
        """Record labels; returns their global numbers."""
        self.kept.append(labels)
        first, self.count = self.count, self.count + len(labels.cost)
        return np.arange(first, self.count, dtype=np.int64)


def solve_dynamic(
    problem: Problem,
    prices: Prices,
    max_states: int = 3000,
    stopped: Callable[[], bool] = lambda: False,
) -> Solved:
    """Minimise ``per_cycle * latency + per_byte * DRAM bytes`` over all plans.

    Parameters
    ----------
    max_states : int
        Residencies followed from any boundary.
    stopped : callable
        Asked between boundaries; True ends the search without a plan.
    """
    table = _Table(problem, prices)
    zero = np.zeros(1, dtype=np.int64)
    start = _Labels(zero, zero, zero - 1, zero - 1, zero - 1, zero)
    open_: list[dict[Residency, list[_Labels]]] = [{} for _ in range(problem.parts + 1)]
    open_[0][_first_residency(problem)] = [start]
    complete = True
    for v in range(problem.parts):
        if stopped():
            return Solved(None, 0, 0, False)
        states = {state: _prune(found, prices) for state, found in open_[v].items()}
        open_[v] = {}
        if len(states) > max_states:
            complete = False
            best = sorted(states, key=lambda state: (int(states[state].cost[0]), state))
            states = {state: states[state] for state in best[:max_states]}
        for state, labels in states.items():
            numbers = table.keep(labels)
            _expand(table, v, state, labels, numbers, open_)
    return _result(table, open_[problem.parts], complete)


def _families(problem: Problem) -> list[list[_Family]]:
    groups: list[dict[tuple[object, ...], list[int]]] = [{} for _ in range(problem.parts)]
    for k, c in enumerate(problem.candidates):
        key = (c.end, c.reads, c.streams, c.keeps, c.stores, c.streams_weights)
        groups[c.first].setdefault(key, []).append(k)
    return [[_family(problem, members) for members in group.values()] for group in groups]


def _family(problem: Problem, members: list[int]) -> _Family:
    used = [problem.candidates[k] for k in members]
    columns = np.array(
        [(c.duration_cycles, c.dma_cycles, c.work_bytes, c.dram_bytes) for c in used],
        dtype=np.int64,
    ).T
    return _Family(used[0].end, used[0], np.array(members, dtype=np.int64), *columns)


def _first_residency(problem: Problem) -> Residency:
    return tuple((t, IN_DRAM) for t, m in enumerate(problem.maps) if m.in_dram and m.readers)


def _prune(found: list[_Labels], prices: Prices) -> _Labels:
    """Labels that no other one, waiting if it must, makes superfluous."""
    merged = _Labels(
        *(np.concatenate([getattr(labels, field) for labels in found]) for field in _FIELDS)
    )
    order = np.lexsort((-merged.progress, merged.cost))
    potential = (merged.cost - prices.per_cycle * merged.progress)[order]
    best = np.minimum.accumulate(potential)
    kept = order[np.concatenate((np.ones(1, dtype=bool), potential[1:] < best[:-1]))]
    return _Labels(*(getattr(merged, field)[kept] for field in _FIELDS))


def _expand(
    table: _Table,
    v: int,
    state: Residency,
    labels: _Labels,
    numbers: Ints,
    open_: list[dict[Residency, list[_Labels]]],
) -> None:
    modes = dict(state)
    for family in table.families[v]:
        move = _move(table.problem, modes, family, v)
        if move is None:
            continue
        room = table.problem.capacity_bytes - move.pinned_bytes - family.work
        fits = room >= _own_space(table, family, v)
        if not fits.any():
            continue
        table.moves.append(move)
        for cost, progress, number in zip(
            labels.cost.tolist(), labels.progress.tolist(), numbers.tolist(), strict=True
        ):
            moved = _advance(table, v, family, move, room, fits, cost, progress, number)
            for after in move.after:
                open_[family.end].setdefault(after, []).append(moved)


def _own_space(table: _Table, family: _Family, v: int) -> int:
    if family.sample.streams_weights:
        return 0
    return int(table.space[family.end] - table.space[v])


def _move(problem: Problem, modes: dict[int, int], family: _Family, v: int) -> _Move | None:
    """Whether a family can run in a residency, what it loads for that, and what it leaves."""
    candidate, maps = family.sample, problem.maps
    reloads = tuple(t for t in candidate.reads if not modes[t] & IN_SPM)
    if reloads and not problem.reload:
        return None
    if any(not modes[t] & IN_DRAM for t in (*candidate.streams, *reloads)):
        return None
    after = dict(modes) | {t: IN_SPM | IN_DRAM for t in reloads}
    pinned = sum(maps[t].size_bytes for t, mode in after.items() if mode & IN_SPM)
    for t in {*candidate.keeps, *candidate.stores}:
        mode = IN_SPM * (t in candidate.keeps) + IN_DRAM * (t in candidate.stores)
        if maps[t].birth < v and modes[t] != mode:
            return None  # slices of one map share one choice
        after[t] = mode
    live = sorted((t, mode) for t, mode in after.items() if maps[t].last_use >= family.end)
    return _Move(pinned, reloads, _drops(problem, live, family.end))


def _drops(problem: Problem, live: list[tuple[int, int]], end: int) -> tuple[Residency, ...]:
    """The residency itself, and those in which maps that DRAM holds too leave SPM."""
    options = [
        ((t, mode), (t, IN_DRAM))
        if mode == IN_SPM | IN_DRAM and max(problem.maps[t].writers, default=-1) < end
        else ((t, mode),)
        for t, mode in live
    ]
    return tuple(product(*options))


def _advance(
    table: _Table, v: int, family: _Family, move: _Move, room: Ints, fits: NDArray[np.bool_],
    cost: int, progress: int, number: int,
) -> _Labels:  # fmt: skip
    """Labels at the end of a family's steps, from one label at their start."""
    problem, prices, ready = table.problem, table.prices, table.ready
    end, streamed = family.end, family.sample.streams_weights
    base = end if streamed else v
    own = int(ready[end])
    # constants that fit beside the step; what was prefetched beyond them is taken back
    reach = np.searchsorted(table.space, table.space[base] + room[fits], side="right") - 1
    limit = ready[np.maximum(reach, end)]
    before = np.minimum(int(ready[v]) if streamed else progress, limit)
    wait = np.zeros_like(before) if streamed else np.maximum(own - before, 0)
    at_start = np.maximum(before, own)
    duration, dma = family.duration[fits], family.dma[fits]
    spent = wait + duration + sum(problem.maps[t].reload_cycles for t in move.reloads)
    moved = family.dram[fits] + sum(problem.maps[t].reload_bytes for t in move.reloads)
    total = cost + prices.per_cycle * spent + prices.per_byte * moved
    slack = duration - dma
    if not problem.prefetch:
        slack, limit = np.zeros_like(slack), np.full_like(limit, own)
        at_start = np.full_like(at_start, own)
    index = family.index[fits]
    frontier = np.searchsorted(ready, at_start)
    rest = ready[frontier] - at_start
    busy = (rest > 0) & ((dma > 0) | bool(move.reloads))
    begun = np.where(busy, ready[np.maximum(frontier - 1, end)], at_start)
    totals = [total, (total + prices.per_cycle * rest)[busy]]
    after = [np.minimum(begun + slack, limit), np.minimum(ready[frontier] + slack, limit)[busy]]
    size = len(index) + int(busy.sum())
    return _Labels(
        np.concatenate(totals), np.concatenate(after), np.full(size, number, dtype=np.int64),
        np.concatenate((index, index[busy])), np.full(size, len(table.moves) - 1, dtype=np.int64),
        np.concatenate((np.zeros_like(index), np.ones_like(index[busy]))),
    )  # fmt: skip


def _result(table: _Table, ends: dict[Residency, list[_Labels]], complete: bool) -> Solved:
    if not ends:
        return Solved(None, 0, 0, complete)
    last = _prune([labels for found in ends.values() for labels in found], table.prices)
    path = _path(table, last)
    decision = _decision(table, path)
    dram = sum(_step_bytes(table.problem, step) for step in path)
    latency = (int(last.cost[0]) - table.prices.per_byte * dram) // table.prices.per_cycle
    return Solved(decision, latency, dram, complete)


def _step_bytes(problem: Problem, step: _Step) -> int:
    reloaded = sum(problem.maps[t].reload_bytes for t in step.reloads)
    return problem.candidates[step.candidate].dram_bytes + reloaded


def _path(table: _Table, last: _Labels) -> list[_Step]:
    """The steps that lead to the cheapest label, first to last."""
    number = int(table.keep(last)[0])
    joined = {field: np.concatenate([getattr(x, field) for x in table.kept]) for field in _FIELDS}
    path: list[_Step] = []
    while joined["parent"][number] >= 0:
        move = table.moves[int(joined["move"][number])]
        path.append(_Step(
            int(joined["candidate"][number]), move.reloads, move.pinned_bytes,
            int(joined["progress"][number]), bool(joined["finish"][number]),
        ))  # fmt: skip
        number = int(joined["parent"][number])
    return path[::-1]


def _decision(table: _Table, path: list[_Step]) -> Decision:
    used = [table.problem.candidates[step.candidate] for step in path]
    resident, reloads = residencies(used, [step.reloads for step in path])
    return Decision(
        tuple(step.candidate for step in path), resident, reloads,
        tuple(_weight_starts(table, used, path)),
    )  # fmt: skip


def residencies(
    used: list[Candidate], reloads: list[tuple[int, ...]]
) -> tuple[tuple[tuple[int, int, int], ...], tuple[tuple[int, int], ...]]:
    """Stretches of steps for which maps stay in SPM, from the steps' own uses and reloads."""
    resident: list[tuple[int, int, int]] = []
    loaded: list[tuple[int, int]] = []
    since: dict[int, list[int]] = {}
    for candidate, fresh in zip(used, reloads, strict=True):
        for t in fresh:
            if t in since:
                resident.append((t, since[t][0], since[t][1] + 1))
            since[t] = [candidate.first, candidate.first]
            loaded.append((t, candidate.first))
        for t in (*candidate.reads, *candidate.keeps):
            since.setdefault(t, [candidate.first, candidate.first])[1] = candidate.first
    resident += [(t, first, last + 1) for t, (first, last) in since.items()]
    return tuple(sorted(resident)), tuple(sorted(loaded))


def _weight_starts(table: _Table, used: list[Candidate], path: list[_Step]) -> list[int]:
    """First step in which each part's constants are loaded, once truncations are taken back."""
    problem, ready = table.problem, table.ready
    actual, limit = [0] * len(used), int(ready[-1])
    for s in reversed(range(len(used))):
        actual[s] = min(path[s].progress, limit)
        before = path[s - 1].progress if s else 0
        limit = min(limit, _before_limit(table, used[s], path[s], before))
    starts = [-1] * problem.parts
    for leader in used:
        for c in range(leader.first, leader.end):
            if problem.weights[c].size_bytes and not leader.streams_weights:
                early = (u.first for u, g in zip(used, actual, strict=True) if g > ready[c])
                starts[c] = min(next(early, leader.first), leader.first)
    return starts


def _before_limit(table: _Table, candidate: Candidate, step: _Step, before: int) -> int:
    """Progress beyond which nothing may have been loaded before a step begins."""
    ready = table.ready
    if candidate.streams_weights:
        return int(ready[candidate.first])
    room = table.problem.capacity_bytes - step.pinned_bytes - candidate.work_bytes
    reach = int(np.searchsorted(table.space, table.space[candidate.first] + room, "right")) - 1
    limit = int(ready[max(reach, candidate.end)])
    if not step.finishes and (candidate.dma_cycles or step.reloads):
        at_start = max(min(before, limit), int(ready[candidate.end]))
        frontier = int(np.searchsorted(ready, at_start))
        if ready[frontier] > at_start:
            limit = int(ready[max(frontier - 1, candidate.end)])
    return limit
