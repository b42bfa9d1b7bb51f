"""From network and machine to a placed plan: orders, candidates, the optimum, addresses.

Each order of the layers gives a problem. Its optimum (see `spm_opt.dynamic`) relaxes only one
thing: addresses. If its buffers can be placed, it is the optimum with addresses too. If not, the
scratchpad is made a little smaller for the relaxation, until the optimum of that can be placed;
where it costs no more, the optimum is proven all the same, and otherwise the gap is reported.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version

from spm_opt.allocation.place import place
from spm_opt.allocation.rectangles import Rectangle
from spm_opt.assemble import Placed, assemble
from spm_opt.baselines import RESTRICTIONS
from spm_opt.bounds import dram_bound, latency_bound
from spm_opt.decision import Decision
from spm_opt.dynamic import Prices, Solved, solve_dynamic
from spm_opt.errors import SolverError, SpmTooSmallError
from spm_opt.fusion import MAX_GROUP_LAYERS, Recipe, make_candidates, minimum_spm_bytes
from spm_opt.graph.network import Network
from spm_opt.hardware import Hardware
from spm_opt.late import claim_late
from spm_opt.layout import lay_out
from spm_opt.params import Progress, SolveParams
from spm_opt.parts import distinct_orders
from spm_opt.peak import least_spill_free, spill_free
from spm_opt.problem import Candidate, Problem
from spm_opt.schedule import Provenance, Schedule
from spm_opt.site import Site, feature_maps, make_site, weight_loads
from spm_opt.timeline import run

__all__ = ["minimum_peak_bytes", "minimum_spm_bytes", "plan", "plan_all"]

#: shares of the capacity, in thousandths, that the relaxation is given, until a placement is found
SHRINKING = (
    998, 995, 990, 985, 980, 970, 960, 940, 920, 900, 870, 840, 800, 750, 700, 600, 500,
)  # fmt: skip
#: deterministic seconds for one placement, at first and when only the proof is missing
QUICK_LIMIT, PATIENT_LIMIT = 2.0, 20.0
#: residencies that the dynamic programme follows from a boundary: at first, and if time is left
STATES = (24, 240, 2400)
#: least wall clock that is worth a CP-SAT search
CPSAT_SECONDS = 5.0
#: strategies whose plans come fast and stand in while the joint optimum is sought
QUICK = ("layerwise", "greedy")


@dataclass(frozen=True, slots=True)
class World:
    """One order of the layers, with its problem.

    Attributes
    ----------
    name : str
        Name of the order.
    """

    name: str
    site: Site
    problem: Problem
    recipes: tuple[Recipe, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The best placed plan of one strategy, and a bound on all of them."""

    world: World
    placed: Placed
    value: int
    bound: int


class Clock:
    """Limits of one solve, and who is told of its progress."""

    def __init__(
        self,
        params: SolveParams,
        progress: Callable[[Progress], None] | None,
        stop: threading.Event | None,
    ) -> None:
        self.params, self.progress, self.stop = params, progress, stop
        self.began = time.monotonic()
        self.incumbent: int | None = None

    @property
    def seconds(self) -> float:
        """Wall clock since the solve began."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds left of the time limit."""
        return self.params.time_limit - self.seconds

    def over(self) -> bool:
        """Whether to return the best so far."""
        stopped = self.stop is not None and self.stop.is_set()
        return stopped or self.left <= 0

    def tell(self, phase: str, bound: int | None) -> None:
        """Report where the solve is."""
        if self.progress is not None:
            self.progress(
                Progress(phase, self.seconds, self.incumbent, bound, self.params.objective)
            )


def plan(
    network: Network,
    hardware: Hardware,
    params: SolveParams,
    *,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Schedule:
    """Plan `network` on `hardware`; the best schedule found within the limits.

    Raises
    ------
    SpmTooSmallError
        Where a layer fits the scratchpad in no tiling.
    SolverError
        Where no plan was found at all.
    """
    asked = (params.strategy,)
    schedules = plan_all(network, hardware, params, strategies=asked, progress=progress, stop=stop)
    return schedules[0]


def plan_all(
    network: Network,
    hardware: Hardware,
    params: SolveParams,
    *,
    strategies: tuple[str, ...],
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> tuple[Schedule, ...]:
    """Plan with several strategies, in the order asked; the time limit is for each of them."""
    least, layer = minimum_spm_bytes(network, hardware)
    if least > hardware.spm.capacity_bytes:
        raise SpmTooSmallError(layer, least, hardware.spm.capacity_bytes)
    best: dict[str, Answer] = {}
    bounds: dict[str, list[int]] = {strategy: [] for strategy in strategies}
    spent = dict.fromkeys(strategies, 0.0)
    clock = Clock(params, progress, stop)
    longest = MAX_GROUP_LAYERS if {"joint", "fuse"} & set(strategies) else 1
    tried = 0
    for name, order in distinct_orders(network, params.orders).items():
        if tried and clock.seconds > params.time_limit / 3 * len(strategies):
            break
        clock.tell(f"candidates, {name} order", None)
        began = time.monotonic()
        world = make_world(network, hardware, params, name, order, longest)
        shared = time.monotonic() - began
        tried += 1
        for strategy in sorted(strategies, key=lambda s: s == "joint"):
            own = Clock(replace(params, strategy=strategy), progress, stop)
            # what went before counts against the limit, candidates for every strategy
            own.began -= spent[strategy] + shared
            answer = _answer(world, own, best)
            spent[strategy] = own.seconds
            bounds[strategy].append(answer.bound)
            if strategy not in best or _rank(answer) < _rank(best[strategy]):
                best[strategy] = answer
    return tuple(_schedule(best[s], min(bounds[s]), s, params, tried, spent[s]) for s in strategies)


def _rank(answer: Answer) -> tuple[int, int]:
    return answer.value, answer.placed.latency_cycles + answer.placed.dram_bytes


def make_world(
    network: Network,
    hardware: Hardware,
    params: SolveParams,
    name: str,
    order: tuple[int, ...],
    longest: int = MAX_GROUP_LAYERS,
) -> World:
    """The problem of one order, with groups of at most `longest` layers."""
    site = make_site(network, hardware, order)
    candidates, recipes = make_candidates(site, longest=longest)
    problem = Problem(
        len(site.parts), hardware.spm.capacity_bytes, feature_maps(site), weight_loads(site),
        candidates, params.prefetch,
    )  # fmt: skip
    return World(name, site, problem, recipes)


def prices(problem: Problem, objective: str) -> Prices:
    """Weights that make the objective first and the other cost second.

    Where the product would not fit 62 bits the second cost is left out.
    """
    most_cycles = sum(weight.cycles for weight in problem.weights) + _dearest(
        problem, lambda c: c.duration_cycles, [m.reload_cycles for m in problem.maps]
    )
    most_bytes = _dearest(problem, lambda c: c.dram_bytes, [m.reload_bytes for m in problem.maps])
    if objective == "dram":
        return Prices(1, min(most_cycles + 1, 2**62 // (most_bytes + 1)))
    fits = (most_bytes + 1) * most_cycles < 2**62
    return Prices(most_bytes + 1, 1) if fits else Prices(1, 0)


def _dearest(problem: Problem, price: Callable[[Candidate], int], reload: list[int]) -> int:
    """A sum that no plan's prices and reloads exceed."""
    worst = [0] * problem.parts
    for candidate in problem.candidates:
        total = price(candidate) + sum(reload[t] for t in candidate.reads)
        worst[candidate.first] = max(worst[candidate.first], total)
    return sum(worst)


def _answer(world: World, clock: Clock, known: dict[str, Answer]) -> Answer:
    """The best placed plan of a strategy in one order."""
    objective, strategy = clock.params.objective, clock.params.strategy
    problem = RESTRICTIONS[strategy](world.problem, world.recipes)
    search = Search(world, problem, clock)
    if strategy == "joint":
        search.found += [answer.placed for answer in known.values() if answer.world is world]
    if not search.found:
        _stand_ins(search)
    search.run()
    if not search.found:
        raise SolverError(f"no {strategy} schedule was found within the limits")
    best = min(search.found, key=lambda p: (p.value(objective), p.latency_cycles, p.dram_bytes))
    value = best.value(objective)
    if search.bound > value:
        raise SolverError(
            f"a {strategy} schedule of {value} was found below the bound {search.bound}: "
            "this is a bug"
        )
    return Answer(world, best, value, search.bound)


class Search:
    """The search for one strategy's best placed plan in one order.

    Attributes
    ----------
    found : list of Placed
        Every placed plan so far.
    bound : int
        No plan of the problem is better.
    """

    def __init__(self, world: World, problem: Problem, clock: Clock) -> None:
        self.world, self.problem, self.clock = world, problem, clock
        self.objective = clock.params.objective
        self.found: list[Placed] = []
        self.bound = _easy_bound(problem, self.objective)

    def run(self) -> None:
        """Optimum of the relaxation, placement, and CP-SAT where a proof is still missing."""
        best: Solved | None = None
        for states in STATES:
            began = self.clock.seconds
            self.clock.tell("optimum", self.bound)
            solved = solve_dynamic(
                self.problem, prices(self.problem, self.objective), states, self.clock.over
            )
            if solved.complete and solved.decision is None:
                raise SolverError("a problem whose layers all fit has no plan: this is a bug")
            if solved.decision is not None:
                best = solved
            if solved.complete:
                self.bound = max(self.bound, self._value(solved))
                break
            self._place(solved)
            if self.clock.over() or not self._affords(10 * (self.clock.seconds - began)):
                # ten times the residencies take ten times as long
                break
        if best is not None:
            self._place_shrinking(best)
        if (best is None or not best.complete) and not self.clock.over():
            self._improve_with_cpsat()

    def _affords(self, seconds: float) -> bool:
        """Whether a longer search leaves half the time; always where runs must repeat."""
        return self.clock.params.deterministic_limit is not None or 2 * seconds < self.clock.left

    def _value(self, solved: Solved) -> int:
        return solved.dram_bytes if self.objective == "dram" else solved.latency_cycles

    def _place(self, solved: Solved, exact_limit: float = QUICK_LIMIT) -> bool:
        if solved.decision is None:
            return False
        return self.add(place_decision(self.world, self.problem, solved.decision, exact_limit))

    def add(self, placed: Placed | None) -> bool:
        """Take a placed plan in; tells whether there was one."""
        if placed is None:
            return False
        self.found.append(placed)
        _improve(self.clock, placed)
        self.clock.tell("plan", min(self.bound, placed.value(self.objective)))
        return True

    def _place_shrinking(self, solved: Solved) -> None:
        """Place the optimum of the relaxation, or of one with less space, until that succeeds.

        Those that were passed over are better than what was placed: they are tried again, with
        more patience, while time is left and the bound is not reached.
        """
        passed: list[Solved] = []
        for relaxed in self._ladder(solved):
            if self._place(relaxed):
                break
            passed.append(relaxed)
            if self.found and self.clock.over():
                return
        for relaxed in passed:
            if self.clock.over() or self._proven() or self._place(relaxed, PATIENT_LIMIT):
                return

    def _proven(self) -> bool:
        return any(placed.value(self.objective) <= self.bound for placed in self.found)

    def _ladder(self, solved: Solved) -> Iterator[Solved]:
        """Optima of relaxations, each easier to place than the one before."""
        yield solved
        states = STATES[-1] if solved.complete else STATES[0]
        problems = [self._with_room(share) for share in SHRINKING]
        if self.objective == "dram" and self.problem.prefetch:
            # prefetching moves no byte, but fills the scratchpad
            problems.insert(0, replace(self.problem, prefetch=False))
        for problem in problems:
            easier = solve_dynamic(
                problem, prices(problem, self.objective), states, self.clock.over
            )
            if easier.decision is None:
                return
            yield easier

    def _with_room(self, share: int) -> Problem:
        room = self.problem.capacity_bytes * share // 1000
        return replace(self.problem, capacity_bytes=room)

    def _improve_with_cpsat(self) -> None:
        from spm_opt.cpsat.improve import improve
        from spm_opt.cpsat.search import Budget

        params = self.clock.params
        if not self.found or self.clock.left < CPSAT_SECONDS:
            return
        start = min(self.found, key=lambda placed: placed.value(self.objective))
        budget = Budget(
            self.clock.left, params.deterministic_limit, params.workers, params.seed,
            self.clock.stop,
        )  # fmt: skip
        decision = translated(start.decision, self.world.problem, self.problem)
        outcome = improve(
            self.problem, self.objective, decision, start.value(self.objective), budget,
            lambda _, bound: self.clock.tell("CP-SAT", max(self.bound, bound)),
        )  # fmt: skip
        self.bound = max(self.bound, outcome.bound)
        if outcome.value < start.value(self.objective):
            self.add(place_decision(self.world, self.problem, outcome.decision, PATIENT_LIMIT))


def _stand_ins(search: Search) -> None:
    """Plans that are found fast, for whoever interrupts."""
    params, world = search.clock.params, search.world
    for strategy in QUICK if params.strategy == "joint" else (params.strategy,):
        problem = RESTRICTIONS[strategy](world.problem, world.recipes)
        solved = solve_dynamic(problem, prices(problem, params.objective), max_states=4)
        if solved.decision is not None:
            search.add(place_decision(world, problem, solved.decision, QUICK_LIMIT))


def _improve(clock: Clock, placed: Placed) -> None:
    value = placed.value(clock.params.objective)
    clock.incumbent = value if clock.incumbent is None else min(clock.incumbent, value)


def _easy_bound(problem: Problem, objective: str) -> int:
    return dram_bound(problem) if objective == "dram" else latency_bound(problem)


def place_decision(
    world: World, problem: Problem, decision: Decision, exact_limit: float
) -> Placed | None:
    """Addresses and cycles for a decision; None where no placement was found."""
    decision = translated(claim_late(problem, decision), problem, world.problem)
    layout = lay_out(world.site, world.problem, world.recipes, decision)
    rectangles = [Rectangle(b.first_step, b.end_step, b.size_bytes) for b in layout.buffers]
    offsets = place(rectangles, world.problem.capacity_bytes, exact_limit=exact_limit)
    return None if offsets is None else Placed(decision, layout, run(layout), offsets)


def minimum_peak_bytes(network: Network, hardware: Hardware) -> int:
    """Least capacity at which whole-map pinning spills nothing, addresses included.

    The load of the best order tried; where its buffers cannot be placed at that, the next
    capacity at which they can.
    """
    capacity = least_spill_free(network, hardware)
    alignment = hardware.spm.alignment_bytes
    while not _placeable_without_spill(network, hardware, capacity):
        capacity += max(alignment, capacity // 256 // alignment * alignment)
    return capacity


def _placeable_without_spill(network: Network, hardware: Hardware, capacity_bytes: int) -> bool:
    spm = replace(hardware.spm, capacity_bytes=capacity_bytes)
    params = SolveParams(strategy="pin", objective="dram", prefetch=False)
    for name, order in distinct_orders(network, params.orders).items():
        world = make_world(network, replace(hardware, spm=spm), params, name, order, longest=1)
        problem = spill_free(world.problem)
        solved = solve_dynamic(problem, prices(problem, "dram"), STATES[-1])
        if solved.decision is not None:
            placed = place_decision(world, problem, solved.decision, PATIENT_LIMIT)
            if placed is not None:
                return True
    return False


def translated(decision: Decision, source: Problem, target: Problem) -> Decision:
    """`decision`, made in `source`, by the numbers that its candidates have in `target`."""
    if source.candidates is target.candidates:
        return decision
    number = {candidate.recipe: k for k, candidate in enumerate(target.candidates)}
    used = (source.candidates[k].recipe for k in decision.candidates)
    return replace(decision, candidates=tuple(number[recipe] for recipe in used))


def _schedule(
    answer: Answer, bound: int, strategy: str, params: SolveParams, tried: int, seconds: float
) -> Schedule:
    value = answer.value
    problem = RESTRICTIONS[strategy](answer.world.problem, answer.world.recipes)
    latency = bound if params.objective == "latency" else latency_bound(problem)
    provenance = Provenance(
        strategy=strategy,
        objective=params.objective,
        prefetch=params.prefetch,
        status="optimal" if bound == value else "feasible",
        objective_value=value,
        objective_bound=bound,
        latency_lower_bound_cycles=latency,
        order=answer.world.name,
        orders_tried=tried,
        solver=f"ortools {version('ortools')}",
        seed=params.seed,
        workers=params.workers,
        time_limit=params.time_limit,
        deterministic_limit=params.deterministic_limit,
        solve_seconds=seconds,
    )
    return assemble(answer.world.site, answer.placed, provenance)
