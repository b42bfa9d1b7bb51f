"""Helpers of the solvers' tests: random networks, chips and problems, and a search that tries all.

The search knows nothing of labels, progress or boolean variables. It writes every plan out,
adds up what lies in the scratchpad at each step, and lets two clocks run:

- a step is a group; what it loads whole (its own constants, maps loaded again) comes first, then
  its pipeline, then the prefetches that begin there;
- constants are loaded in order of use: no prefetch begins in a step before that of an earlier
  one (constants that are streamed, or loaded at the front of their own step, begin there);
- a step that has transfers of its own waits for the prefetches begun before it;
- a map is loaded again only at the front of a step that reads it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

from spm_opt.cpsat.model import JointModel, build, decision_of
from spm_opt.cpsat.search import Budget, Found, search
from spm_opt.decision import Decision
from spm_opt.dynamic import Prices, solve_dynamic
from spm_opt.fusion import Recipe, make_candidates
from spm_opt.graph.builder import Handle, NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.hardware import ComputeArray, Dram, Hardware, Scratchpad, Unrolling
from spm_opt.layout import lay_out
from spm_opt.parts import source_order
from spm_opt.problem import Candidate, FeatureMap, Problem, WeightLoad, led
from spm_opt.site import Site, feature_maps, make_site, weight_loads
from spm_opt.timeline import run

#: steps at which a map is in SPM, and steps at which it is loaded again
Way = tuple[set[int], set[int]]
#: (latency, DRAM bytes) for the objective latency, the other way round for the objective dram
Cost = tuple[int, int]

# --------------------------------------------------------------------------- networks and chips


def random_network(rng: random.Random, layers: int = 5) -> Network:
    """A small DAG of up to `layers` layers of every sort; deterministic for a state of `rng`."""
    b = NetworkBuilder("random")
    maps = [b.input("x", (1, rng.choice([2, 4]), rng.choice([3, 4, 5, 6, 7]), rng.choice([3, 4])))]
    if rng.random() < 0.2:
        maps.append(b.input("z", maps[0].shape))
    for _ in range(rng.randint(2, layers)):
        maps.append(_random_layer(rng, b, maps))
    b.output(maps[-1])
    if rng.random() < 0.3 and len(maps) > 3:
        b.output(maps[-2])
    used = {name for record in b.records for name in record.inputs} | set(b.outputs)
    b.output(*(m for m in maps[1:-1] if m.name not in used))
    return b.build()


def _random_layer(rng: random.Random, b: NetworkBuilder, maps: list[Handle]) -> Handle:
    x = rng.choice(maps[-2:])
    height, width = x.shape[2], x.shape[3]
    kind = rng.choice(["conv", "conv", "big", "depthwise", "strided", "pool", "add", "concat"])
    twins = [m for m in maps if m.shape == x.shape]
    same_size = [m for m in maps if m.shape[2:] == x.shape[2:]]
    if kind == "big":
        return b.conv(x, rng.choice([12, 16]), 3, padding=1)
    if kind == "depthwise":
        return b.conv(x, x.shape[1], 3, padding=1, groups=x.shape[1])
    if kind == "strided" and min(height, width) >= 3:
        return b.conv(x, rng.choice([2, 4]), 3, stride=2, padding=rng.choice([0, 1]))
    if kind == "pool" and min(height, width) >= 2:
        return b.max_pool(x, 2, stride=rng.choice([1, 2]))
    if kind == "add":
        return b.add(x, rng.choice(twins))
    if kind == "concat" and x.shape[1] <= 8:
        return b.concat([rng.choice(same_size), x], axis=1)
    return b.conv(x, rng.choice([2, 4, 8]), rng.choice([1, 3]), padding="same")


def random_chip(rng: random.Random) -> Hardware:
    """A chip so small that everything binds."""
    capacity = rng.choice([192, 256, 320, 384, 512, 640, 768, 1024, 1536])
    return Hardware(
        "chip", 10**9, Scratchpad(capacity, rng.choice([8, 16]), Fraction(16)),
        Dram(Fraction(rng.choice([1, 2, 4])), rng.choice([0, 10, 30]), 8),
        ComputeArray((Unrolling("all", {"k": 2, "c": 2}),), 4,
                     tile_overhead_cycles=rng.choice([0, 3])),
    )  # fmt: skip


@dataclass(frozen=True)
class World:
    """A network laid out on a chip: the pruned problem, and one with every candidate."""

    site: Site
    problem: Problem
    recipes: tuple[Recipe, ...]
    everything: Problem


def make_world(network: Network, chip: Hardware, prefetch: bool, halos: tuple[str, ...]) -> World:
    """Raises SpmTooSmallError where a layer does not fit."""
    site = make_site(network, chip, source_order(network))
    found = []
    for prune in (True, False):
        candidates, recipes = make_candidates(site, halos, prune)
        found.append((candidates, recipes))
    problems = [
        Problem(
            len(site.parts), chip.spm.capacity_bytes, feature_maps(site), weight_loads(site),
            candidates, prefetch,
        )
        for candidates, _ in found
    ]  # fmt: skip
    return World(site, problems[0], found[0][1], problems[1])


# --------------------------------------------------------------------------- abstract problems


def random_problem(rng: random.Random, prefetch: bool = True) -> Problem:
    """A problem of small integers that no network need have: prices are independent."""
    layers = rng.randint(2, 4)
    slices = [2 if rng.random() < 0.2 else 1 for _ in range(layers)]
    begins = [sum(slices[:i]) for i in range(layers + 1)]
    reads = [{rng.randint(max(-1, i - 3), i - 1) for _ in range(rng.choice([1, 1, 2]))} if i else
             {-1} for i in range(layers)]  # fmt: skip
    maps = [_random_map(rng, begins, reads, i) for i in range(-1, layers)]
    sizes = [rng.choice([0, 1, 2, 3, 4]) for _ in range(begins[-1])]
    weights = tuple(WeightLoad(s, s and rng.randint(1, 9), s) for s in sizes)
    candidates: list[Candidate] = []
    for first in range(layers):
        for end in range(first + 1, layers + 1):
            inner = range(first, end - 1)
            if all(any(i in reads[j] for j in range(i + 1, end)) for i in inner):
                spans = [(begins[first], begins[end])]
                if end == first + 1:
                    spans = [(p, p + 1) for p in range(begins[first], begins[end])]
                for span in spans:
                    candidates += _random_group(
                        rng, maps, weights, reads, begins, (first, end), span, len(candidates)
                    )
    return Problem(
        begins[-1], rng.randint(5, 12), tuple(maps), weights, tuple(candidates), prefetch,
        rng.random() < 0.8,
    )  # fmt: skip


def _random_map(rng: random.Random, begins: list[int], reads: list[set[int]], i: int) -> FeatureMap:
    readers = [p for j, read in enumerate(reads) if i in read for p in range(*begins[j : j + 2])]
    size = rng.randint(1, 4)
    return FeatureMap(
        size, tuple(range(*begins[i : i + 2])) if i >= 0 else (), tuple(readers), i < 0,
        i >= 0 and (not readers or rng.random() < 0.15), rng.randint(1, 6), size,
    )  # fmt: skip


def _random_group(
    rng: random.Random, maps: list[FeatureMap], weights: tuple[WeightLoad, ...],
    reads: list[set[int]], begins: list[int], group: tuple[int, int], span: tuple[int, int],
    recipe: int,
) -> list[Candidate]:  # fmt: skip
    """Candidates of layers ``group``, parts ``span``; map i is the output of layer i - 1."""
    inward = sorted({i + 1 for j in range(*group) for i in reads[j] if i < group[0]})
    outward = [
        j + 1 for j in range(*group)
        if maps[j + 1].must_store or any(r >= begins[group[1]] for r in maps[j + 1].readers)
    ]  # fmt: skip
    uses = [["keep", "store", "both"] if not maps[t].must_store else ["store", "both"]
            for t in outward]  # fmt: skip
    found: list[Candidate] = []
    streaming = (
        (False, True) if span[1] == span[0] + 1 and weights[span[0]].size_bytes else (False,)
    )
    for ins in product(["read", "stream"], repeat=len(inward)):
        for outs in product(*uses):
            for streams_weights in streaming:
                for _ in range(rng.choice([1, 1, 2])):
                    found.append(_random_candidate(
                        rng, maps, weights, span, dict(zip(inward, ins, strict=True)),
                        dict(zip(outward, outs, strict=True)), streams_weights,
                        recipe + len(found),
                    ))  # fmt: skip
    return found


def _random_candidate(
    rng: random.Random, maps: list[FeatureMap], weights: tuple[WeightLoad, ...],
    span: tuple[int, int], ins: dict[int, str], outs: dict[int, str], streams_weights: bool,
    recipe: int,
) -> Candidate:  # fmt: skip
    streams = tuple(t for t, use in ins.items() if use == "stream")
    keeps = tuple(t for t, use in outs.items() if use != "store")
    stores = tuple(t for t, use in outs.items() if use != "keep")
    duration = rng.randint(1, 12)
    busy = streams or stores or streams_weights
    begun = sum(maps[t].size_bytes for t in keeps if maps[t].birth >= span[0])
    moved = sum(w.moved_bytes for w in weights[span[0] : span[1]])
    moved += sum(rng.randint(1, 4) for _ in (*streams, *stores))
    return Candidate(
        *span, tuple(t for t, use in ins.items() if use == "read"), streams, keeps, stores,
        streams_weights, duration, rng.randint(1, duration) if busy else 0, duration,
        rng.randint(0, 4) + begun, moved, recipe,
    )  # fmt: skip


# --------------------------------------------------------------------------- the search


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
    """End of the last step on two clocks, engine and queue."""
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


@dataclass
class Best:
    """The cheapest plan (None where there is none), and how many were timed."""

    cost: Cost | None
    plan: Plan | None = None
    timed: int = 0


class TooManyPlansError(Exception):
    """The search had more to try than it was allowed to."""


def brute_force(
    problem: Problem, objective: str, at_most: Cost | None = None, patience: int = 20_000
) -> Best:
    """Try every plan; prefixes that cannot fit, or are too dear whatever follows, are cut short.

    Parameters
    ----------
    at_most : (int, int), optional
        Cost that is claimed to be optimal: plans above it are of no interest.
    patience : int
        Prefixes that may be tried.

    Raises
    ------
    TooManyPlansError
        Where they do not suffice.
    """
    return _Search(problem, objective, at_most, patience).run()


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
        self, problem: Problem, objective: str, at_most: Cost | None, patience: int
    ) -> None:
        self.problem, self.objective, self.patience = problem, objective, patience
        self.best = Best(None if at_most is None else (at_most[0], at_most[1] + 1))
        self.led = [[problem.candidates[k] for k in members] for members in led(problem)]
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
        if any(t not in kept and not (t in stored and problem.reload) for t in c.reads):
            return False
        begun = {t for t in (*c.keeps, *c.stores) if problem.maps[t].birth < c.first}
        if any((t in kept, t in stored) != (t in c.keeps, t in c.stores) for t in begun):
            return False
        there = {t for t in kept - stored if problem.maps[t].last_use >= c.first} | {*c.reads}
        space = c.work_bytes + sum(problem.maps[t].size_bytes for t in there)
        return space + sum(w.size_bytes for w in self.own(c)) <= problem.capacity_bytes

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
        for starts in _starts(self.problem, Plan(used, maps, reloads, {})):
            plan = Plan(used, maps, reloads, starts)
            self.best.timed += 1
            cost = self.order(latency(self.problem, plan), dram_bytes(self.problem, plan))
            if self.best.cost is None or cost < self.best.cost:
                self.best.cost, self.best.plan = cost, plan


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
        present = set(range(keeps[0], keeps[-1] + 1)) if keeps else set()
        for s in reads:
            if s in reloads:
                present.add(s)
            elif present:
                present |= set(range(max(present), s + 1))
            else:
                break
        else:
            found.append((present, reloads))
    return found


def _starts(problem: Problem, bare: Plan) -> Iterator[dict[int, int]]:
    """Every order-keeping choice of steps in which loads of constants begin, where all fits."""
    streamed = {c.first for c in bare.used if c.streams_weights}
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
    timeline = run(layout)
    alive = [
        sum(b.size_bytes for b in layout.buffers if b.first_step <= step < b.end_step)
        for step in range(len(layout.programs))
    ]
    moved = sum(transfer.moved_bytes for transfer in timeline.transfers)
    return (timeline.latency_cycles, moved), max(alive)
