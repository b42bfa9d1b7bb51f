"""A search that tries every plan, and the two solvers that it judges.

The search knows nothing of labels, progress or boolean variables. It writes every plan out,
adds up what lies in the scratchpad at each step, and lets two clocks run:

- a step is a group; what it loads whole (its own constants, maps loaded again) comes first, then
  its pipeline, then the prefetches that begin there;
- constants are loaded in order of use: no prefetch begins in a step before that of an earlier
  one (constants that are streamed, or loaded at the front of their own step, begin there);
- a step that has transfers of its own waits for the prefetches begun before it;
- where prefetches may be cut, they run beside the pipeline whenever it leaves the queue idle, and
  go on beside the next step, until the step that needs them waits;
- a map is loaded again only at the front of a step that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from plan_fixture import loads
from random_worlds import World

from spm_opt.cpsat.model import JointModel, build, decision_of
from spm_opt.cpsat.search import Budget, Found, search
from spm_opt.decision import Decision
from spm_opt.dynamic import Prices, solve_dynamic
from spm_opt.layout import lay_out
from spm_opt.problem import Candidate, FeatureMap, Problem, WeightLoad, covering, led
from spm_opt.timeline import run

#: steps at which a map is in SPM, and steps at which it is loaded again
Way = tuple[set[int], set[int]]
#: (latency, DRAM bytes) for the objective latency, the other way round for the objective dram
Cost = tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """A plan written out, step by step.

    ``maps[s]`` are the maps in SPM at step s, ``reloads[s]`` those loaded whole at its front;
    ``starts`` gives, for each part whose constants are loaded whole, the step that begins it.
    """

    used: tuple[Candidate, ...]
    maps: tuple[frozenset[int], ...]
    reloads: tuple[frozenset[int], ...]
    starts: dict[int, int]

    def own_step(self, part: int) -> int:
        return next(s for s, c in enumerate(self.used) if c.first <= part < c.end)


def occupied(problem: Problem, plan: Plan, step: int) -> int:
    """Bytes in SPM at a step, each buffer counted once."""
    c = plan.used[step]
    begun = {t for t in c.keeps if problem.maps[t].birth >= c.first}
    total = c.work_bytes + sum(problem.maps[t].size_bytes for t in plan.maps[step] - begun)
    return total + sum(
        problem.weights[p].size_bytes
        for p, start in plan.starts.items()
        if start <= step <= plan.own_step(p)
    )


def latency(problem: Problem, plan: Plan) -> int:
    """End of the last step."""
    return _cut(problem, plan) if problem.cuts else _whole(problem, plan)


def _cut(problem: Problem, plan: Plan) -> int:
    """The same where prefetches fill the queue wherever a step leaves it idle."""
    own = {p: plan.own_step(p) for p in plan.starts}
    #: cycles that are left of the prefetches begun, in order of use
    under_way: dict[int, int] = {}
    time = 0
    for step, c in enumerate(plan.used):
        front = sum(
            problem.weights[p].cycles for p, s in plan.starts.items() if s == own[p] == step
        )
        front += sum(problem.maps[t].reload_cycles for t in plan.reloads[step])
        awaited = [p for p in sorted(under_way) if own[p] == step]
        time += sum(under_way.pop(p) for p in awaited) + front + c.duration_cycles
        for p in sorted(plan.starts):
            if plan.starts[p] == step < own[p]:
                under_way[p] = problem.weights[p].cycles
        idle = c.duration_cycles - c.dma_cycles
        for p in sorted(under_way):
            spent = min(idle, under_way[p])
            under_way[p], idle = under_way[p] - spent, idle - spent
    return time


def _whole(problem: Problem, plan: Plan) -> int:
    """The same where prefetches are not cut: on two clocks, engine and queue."""
    steps = range(len(plan.used))
    own = {p: plan.own_step(p) for p in plan.starts}
    front = [
        sum(problem.weights[p].cycles for p, s in plan.starts.items() if s == own[p] == step)
        + sum(problem.maps[t].reload_cycles for t in plan.reloads[step])
        for step in steps
    ]
    busy = [front[s] > 0 or plan.used[s].dma_cycles > 0 for s in steps]
    time = queue = 0
    arrives: dict[int, int] = {}
    for step in steps:
        begin = max([time, *(end for p, end in arrives.items() if busy[step] or own[p] == step)])
        time = begin + front[step] + plan.used[step].duration_cycles
        if busy[step]:
            queue = begin + front[step] + plan.used[step].dma_cycles
        for p in sorted(plan.starts):
            if plan.starts[p] == step < own[p]:
                queue = max(queue, begin) + problem.weights[p].cycles
                arrives[p] = queue
    return time


def dram_bytes(problem: Problem, plan: Plan) -> int:
    """Bytes of all transfers."""
    reloaded = sum(problem.maps[t].reload_bytes for step in plan.reloads for t in step)
    return sum(c.dram_bytes for c in plan.used) + reloaded


def plan_of(problem: Problem, decision: Decision) -> Plan:
    """A decision written out; fails where it is no plan."""
    used = tuple(problem.candidates[k] for k in decision.candidates)
    step_of = {c.first: s for s, c in enumerate(used)}
    assert [0, *(c.end for c in used)] == [*(c.first for c in used), problem.parts]
    there: list[set[int]] = [set() for _ in used]
    for t, first, end in decision.resident:
        begin = step_of[first]
        assert t in used[begin].keeps or (t, first) in decision.reloads
        for s, c in enumerate(used):
            if begin <= s and c.first < end:
                there[s].add(t)
    plan = Plan(
        used,
        tuple(frozenset(maps) for maps in there),
        tuple(frozenset(t for t, v in decision.reloads if v == c.first) for c in used),
        {p: step_of[v] for p, v in enumerate(decision.weight_starts) if v >= 0},
    )
    _check(problem, plan)
    return plan


def _check(problem: Problem, plan: Plan) -> None:
    in_dram = {t for t, m in enumerate(problem.maps) if m.in_dram}
    earliest = 0
    for s, c in enumerate(plan.used):
        assert occupied(problem, plan, s) <= problem.capacity_bytes
        assert in_dram >= {*c.streams, *plan.reloads[s]}
        assert {*c.reads, *c.keeps} <= plan.maps[s]
        assert plan.reloads[s] <= {*c.reads}
        assert all(_complete(problem, t, c.first) for t in plan.reloads[s])
        in_dram |= {*c.stores}
        for p in range(c.first, c.end):
            if problem.weights[p].size_bytes:
                assert c.streams_weights == (p not in plan.starts)
                start = plan.starts.get(p, s)
                assert earliest <= start <= s
                assert problem.prefetch or start == s
                earliest = start
    for t, m in enumerate(problem.maps):
        writers = [c for c in plan.used if any(c.first <= w < c.end for w in m.writers)]
        choices = {(t in c.keeps, t in c.stores) for c in writers}
        assert len(choices) <= 1
        # a joined map that nobody writes is no map, nor is one that is written as its pieces
        assert t in in_dram or not m.must_store or choices == {(False, False)}


def cost_of(problem: Problem, decision: Decision, objective: str) -> Cost:
    """What a decision costs by the clocks of this file; fails where it is no plan."""
    plan = plan_of(problem, decision)
    pair = latency(problem, plan), dram_bytes(problem, plan)
    return pair if objective == "latency" else pair[::-1]


@dataclass
class Best:
    """The cheapest plan (None where there is none), and how many were timed."""

    cost: Cost | None
    plan: Plan | None = None
    timed: int = 0


class TooManyPlansError(Exception):
    """The search had more to try than it was allowed to."""


def brute_force(
    problem: Problem, objective: str, at_most: Cost | None = None, patience: int = 20_000,
    accept: Callable[[Plan], bool] = lambda plan: True,
) -> Best:  # fmt: skip
    """Try every plan; prefixes that cannot fit, or are too dear whatever follows, are cut short.

    Parameters
    ----------
    at_most : (int, int), optional
        Cost that is claimed to be optimal: plans above it are of no interest.
    patience : int
        Prefixes that may be tried.
    accept : callable
        Asked of every plan, before constants are loaded: whether it counts.

    Raises
    ------
    TooManyPlansError
        Where they do not suffice.
    """
    return _Search(problem, objective, at_most, patience, accept).run()


@dataclass(frozen=True)
class _Prefix:
    """Groups chosen so far, the maps they left, and what they cost at the very least.

    ``owed`` is the loading time of all constants so far less the time that steps left for it: no
    start of a step comes before the largest such debt, ``wait``, has been waited for.
    """

    used: tuple[Candidate, ...]
    kept: frozenset[int]
    stored: frozenset[int]
    cycles: int = 0
    moved: int = 0
    owed: int = 0
    wait: int = 0


class _Search:
    def __init__(
        self, problem: Problem, objective: str, at_most: Cost | None, patience: int,
        accept: Callable[[Plan], bool],
    ) -> None:  # fmt: skip
        self.accept = accept
        self.problem, self.objective, self.patience = problem, objective, patience
        self.best = Best(None if at_most is None else (at_most[0], at_most[1] + 1))
        self.led = [[problem.candidates[k] for k in members] for members in led(problem)]
        self.covers = [[problem.candidates[k] for k in members] for members in covering(problem)]
        self.known: dict[tuple[int, frozenset[int], frozenset[int]], Cost] = {}

    def run(self) -> Best:
        inputs = frozenset(t for t, m in enumerate(self.problem.maps) if m.in_dram)
        self.descend(0, _Prefix((), frozenset(), inputs))
        return self.best if self.best.plan is not None else Best(None, None, self.best.timed)

    def order(self, cycles: int, moved: int) -> Cost:
        return (cycles, moved) if self.objective == "latency" else (moved, cycles)

    def hopeless(self, cycles: int, moved: int) -> bool:
        return self.best.cost is not None and self.order(cycles, moved) >= self.best.cost

    def descend(self, v: int, prefix: _Prefix) -> None:
        rest = self.rest(v, prefix)
        cycles, moved = rest if self.objective == "latency" else rest[::-1]
        if self.hopeless(prefix.cycles + prefix.wait + cycles, prefix.moved + moved):
            return
        self.patience -= 1
        if self.patience < 0:
            raise TooManyPlansError
        if v == self.problem.parts:
            self.complete(prefix)
            return
        for c in self.led[v]:
            if self.can_follow(prefix, c):
                self.descend(c.end, self.grown(prefix, c))

    def rest(self, v: int, prefix: _Prefix) -> Cost:
        """Least cost of all that may follow, constants and reloads left out."""
        live = frozenset(t for t, m in enumerate(self.problem.maps) if m.last_use >= v)
        state = v, prefix.kept & live, prefix.stored & live
        if v == self.problem.parts:
            return 0, 0
        if state not in self.known:
            found = [(10**9, 10**9)]
            for c in self.led[v]:
                if self.can_follow(prefix, c):
                    rest = self.rest(c.end, self.grown(prefix, c))
                    own = self.order(c.duration_cycles, c.dram_bytes)
                    found.append((own[0] + rest[0], own[1] + rest[1]))
            self.known[state] = min(found)
        return self.known[state]

    def can_follow(self, prefix: _Prefix, c: Candidate) -> bool:
        """Whether earlier groups left the maps of `c` where it looks for them, and room."""
        problem, kept, stored = self.problem, prefix.kept, prefix.stored
        if any(t not in stored for t in c.streams):
            return False
        if any(t not in kept and not self.loadable(t, stored, c.first) for t in c.reads):
            return False
        if any((t in kept, t in stored) != (t in c.keeps, t in c.stores) for t in self.begun(c)):
            return False
        there = {t for t in kept - stored if self.wanted(t, c.first)} | {*c.reads}
        space = c.work_bytes + sum(problem.maps[t].size_bytes for t in there)
        return space + sum(w.size_bytes for w in self.own(c)) <= problem.capacity_bytes

    def wanted(self, t: int, part: int) -> bool:
        """Whether somebody from `part` on can do nothing without a map."""
        return any(
            all(t in (*c.reads, *c.streams) or c.first < part for c in self.covers[r])
            for r in self.problem.maps[t].readers
            if r >= part
        )

    def loadable(self, t: int, stored: frozenset[int], part: int) -> bool:
        """Whether a map lies whole in DRAM before `part`."""
        return t in stored and self.problem.reload and _complete(self.problem, t, part)

    def begun(self, c: Candidate) -> list[int]:
        """Maps that earlier groups wrote a part of, or left alone, and `c` is to write another."""
        return [
            t
            for t, m in enumerate(self.problem.maps)
            if m.birth < c.first and any(c.first <= w < c.end for w in m.writers)
        ]

    def own(self, c: Candidate) -> tuple[WeightLoad, ...]:
        """Constants that a group needs whole."""
        return () if c.streams_weights else self.problem.weights[c.first : c.end]

    def grown(self, prefix: _Prefix, c: Candidate) -> _Prefix:
        owed = prefix.owed + sum(w.cycles for w in self.own(c))
        wait = max(prefix.wait, owed)
        if self.problem.prefetch:
            owed -= c.duration_cycles - c.dma_cycles
        return _Prefix(
            (*prefix.used, c), prefix.kept | {*c.keeps}, prefix.stored | {*c.stores},
            prefix.cycles + c.duration_cycles, prefix.moved + c.dram_bytes, owed, wait,
        )  # fmt: skip

    def complete(self, prefix: _Prefix) -> None:
        for ways in product(
            *(_ways(self.problem, prefix, t) for t in range(len(self.problem.maps)))
        ):
            cycles, moved = prefix.cycles, prefix.moved
            for t, (_, again) in enumerate(ways):
                cycles += len(again) * self.problem.maps[t].reload_cycles
                moved += len(again) * self.problem.maps[t].reload_bytes
            if not self.hopeless(cycles + prefix.wait, moved):
                self.time(prefix.used, ways)

    def time(self, used: tuple[Candidate, ...], ways: tuple[Way, ...]) -> None:
        """Time every choice of starts."""
        maps, reloads = (
            tuple(
                frozenset(t for t, way in enumerate(ways) if s in way[i]) for s in range(len(used))
            )
            for i in (0, 1)
        )
        if not self.accept(Plan(used, maps, reloads, {})):
            return
        for starts in _starts(self.problem, Plan(used, maps, reloads, {})):
            plan = Plan(used, maps, reloads, starts)
            self.best.timed += 1
            cost = self.order(latency(self.problem, plan), dram_bytes(self.problem, plan))
            if self.best.cost is None or cost < self.best.cost:
                self.best.cost, self.best.plan = cost, plan


def _complete(problem: Problem, t: int, part: int) -> bool:
    """Whether all writers of a map come before `part`."""
    return all(w < part for w in problem.maps[t].writers)


class _EnergySearch(_Search):
    """Femtojoules, leakage included, in place of bytes; nothing else is compared."""

    def order(self, cycles: int, moved: int) -> Cost:
        return self.problem.leakage_fj * cycles + moved, 0

    def rest(self, v: int, prefix: _Prefix) -> Cost:
        return 0, 0


def least_energy(problem: Problem, at_most: int, patience: int = 20_000) -> int | None:
    """Least energy of any plan, where that is no more than `at_most`; else None."""
    renamed = replace(
        problem,
        candidates=tuple(replace(c, dram_bytes=c.energy_fj) for c in problem.candidates),
        maps=tuple(replace(m, reload_bytes=m.reload_fj) for m in problem.maps),
    )
    best = _EnergySearch(renamed, "energy", (at_most, 0), patience, lambda plan: True).run()
    return None if best.cost is None else best.cost[0]


def _ways(problem: Problem, prefix: _Prefix, t: int) -> list[Way]:
    """Steps at which map t is in SPM, and those at which it is loaded again."""
    used = prefix.used
    keeps = [s for s, c in enumerate(used) if t in c.keeps]
    reads = [s for s, c in enumerate(used) if t in c.reads]
    found: list[Way] = []
    for again in product((False, True), repeat=len(reads)):
        reloads = {s for s, flag in zip(reads, again, strict=True) if flag}
        if reloads and not (t in prefix.stored and problem.reload):
            continue
        if not all(_complete(problem, t, used[s].first) for s in reloads):
            continue
        present = set(range(keeps[0], keeps[-1] + 1)) if keeps else set()
        for s in reads:
            if s in reloads:
                present.add(s)
            elif present:
                present |= set(range(max(present), s + 1))
            else:
                break
        else:
            if _held(problem.maps[t], used, present, reloads):
                found.append((present, reloads))
    return found


def _held(
    feature_map: FeatureMap, used: tuple[Candidate, ...], present: set[int], reloads: set[int]
) -> bool:
    """Whether a map that is held can stay as long as it has to; it does so in `present`."""
    steps = {s for s, c in enumerate(used) if c.first <= feature_map.held_until}
    if not present or feature_map.held_until < 0:
        return True
    present |= steps & set(range(min(present), len(used)))
    return not any(s - 1 in present for s in reloads)


def _starts(problem: Problem, bare: Plan) -> Iterator[dict[int, int]]:
    """Every order-keeping choice of steps in which loads of constants begin, where all fits."""
    streamed = {p for c in bare.used if c.streams_weights for p in range(c.first, c.end)}
    weighted = [p for p, w in enumerate(problem.weights) if w.size_bytes]
    own = {p: bare.own_step(p) for p in weighted}

    def extend(n: int, earliest: int, starts: dict[int, int]) -> Iterator[dict[int, int]]:
        if n == len(weighted):
            yield starts
            return
        p = weighted[n]
        if p in streamed:
            yield from extend(n + 1, own[p], starts)
            return
        for start in range(earliest if problem.prefetch else own[p], own[p] + 1):
            more = starts | {p: start}
            plan = Plan(bare.used, bare.maps, bare.reloads, more)
            steps = range(start, own[p] + 1)
            if all(occupied(problem, plan, s) <= problem.capacity_bytes for s in steps):
                yield from extend(n + 1, start, more)

    if all(occupied(problem, bare, s) <= problem.capacity_bytes for s in range(len(bare.used))):
        yield from extend(0, 0, {})


# --------------------------------------------------------------------------- the two solvers


def weighted(objective: str) -> Prices:
    """Prices that put the objective first and the other cost second."""
    many = 10**7
    return Prices(many, 1) if objective == "latency" else Prices(1, many)


def by_dynamic(problem: Problem, objective: str) -> tuple[Cost | None, Decision | None]:
    """Optimum by the dynamic programme, which must have followed every residency."""
    solved = solve_dynamic(problem, weighted(objective))
    assert solved.complete
    if solved.decision is None:
        return None, None
    pair = solved.latency_cycles, solved.dram_bytes
    return (pair if objective == "latency" else pair[::-1]), solved.decision


def prove(problem: Problem, objective: str, **changes: Any) -> Found:
    """Search to the end with one worker; `changes` go to `build`."""
    return finish(build(problem, objective, **changes))


def finish(joint: JointModel) -> Found:
    """Search a model to the end with one worker."""
    found = search(joint, Budget(120, None, 1, 0), lambda value, bound: None)
    assert found.proven or found.infeasible
    return found


def by_cpsat(problem: Problem, objective: str) -> tuple[Cost | None, Decision | None]:
    """Optimum by CP-SAT: the second cost is the least among the optima of the first."""
    first = prove(problem, objective)
    if first.value is None:
        return None, None
    joint = build(problem, "dram" if objective == "latency" else "latency")
    joint.limit(objective, first.value)
    second = finish(joint)
    assert second.value is not None
    assert second.values is not None
    return (first.value, second.value), decision_of(problem, second.values)


def realised(world: World, problem: Problem, decision: Decision) -> tuple[Cost, int]:
    """Latency and bytes of a decision on the machine, and the most space that it takes."""
    layout = lay_out(world.site, problem, world.recipes, decision)
    timeline = run(layout, world.site.hardware.dram)
    moved = sum(transfer.moved_bytes for transfer in timeline.transfers)
    return (timeline.latency_cycles, moved), max(loads(layout))
