"""The search for the best placed plan of one problem, within its limits.

The dynamic programme gives the optimum of everything but addresses; if its buffers can be placed,
it is the optimum with addresses too. If not, the scratchpad is made a little smaller for the
relaxation, until the optimum of that can be placed; where it costs no more, the optimum is proven
all the same. What has no proof because residencies had to be left out goes on to CP-SAT.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from math import inf

from spm_opt.assemble import Placed, roofline_cycles
from spm_opt.banding import beside_bands, clashing, without_bands
from spm_opt.baselines import RESTRICTIONS, is_apart, is_plain, plainly, slices_apart
from spm_opt.bounds import easy_bound, small_maps
from spm_opt.decision import Decision
from spm_opt.dynamic import Prices, Solved, solve_dynamic
from spm_opt.errors import SolverError
from spm_opt.fusion_dominance import essential
from spm_opt.params import Progress, SolveParams
from spm_opt.planner_placing import World, place_decision, translated
from spm_opt.planner_prices import prices
from spm_opt.planner_turns import Turns
from spm_opt.problem import Problem

#: shares of the capacity, in thousandths, that the relaxation is given, until a placement is found
SHRINKING = (995, 985, 970, 950, 920, 880, 840, 800, 700, 600, 500)
#: deterministic seconds for one placement, at first and when only the proof is missing
QUICK_LIMIT, PATIENT_LIMIT = 3.0, 30.0
#: residencies that the dynamic programme follows from a boundary: at first, and if time is left
STATES = (24, 800, 4000)
#: least wall clock that is worth a CP-SAT search
CPSAT_SECONDS = 5.0
#: shares of the capacity, in thousandths, for plans whose transfers cross steps: what is left is
#: room for claims a step early and releases a step late
OVERLAP_SHARES = (1000, 950, 880)
#: one part in so many of the latency is not worth another search
WORTHWHILE = 1000
#: share of the value that an answer must be away from its bound to be worth a long search
UNSURE = 0.005
#: and to be worth a search of another order that may end without a bound
WIDE = 0.03
#: how often clashes of bands are taken out of an optimum
CLASHES = 8
#: maps alive at a boundary, in problems that bound one with too many residencies
ALIVE = (3, 5, 6)
#: strategies that are searched first where time may not do for everything
SIMPLER = ("fuse", "pin")
#: how many times as long the relaxation takes without barriers (seen: 4 to 9)
CROSSING = 8


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
        #: seconds that another order needs; 0 where none is left
        self.reserve = 0.0

    @property
    def seconds(self) -> float:
        """Wall clock since the solve began."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds left of the time limit."""
        return self.params.time_limit - self.seconds

    @property
    def stopped(self) -> bool:
        """Whether somebody asked to end the search."""
        return self.stop is not None and self.stop.is_set()

    def over(self) -> bool:
        """Whether to return the best so far."""
        return self.stopped or self.left <= 0

    def tell(self, phase: str, bound: int | None) -> None:
        """Report where the solve is."""
        if self.progress is not None:
            self.progress(
                Progress(phase, self.seconds, self.incumbent, bound, self.params.objective)
            )


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
        #: what is searched first for its own sake: the rest only adds to it
        self.plain = plainly(problem, world.recipes)
        self.objective = clock.params.objective
        #: weights in place of those of the objective, where that is no sum
        self.weights: Prices | None = None
        self.found: list[Placed] = []
        #: decisions that were to be placed: with how much patience, and whether that succeeded
        self._tried: dict[Decision, tuple[float, bool]] = {}
        #: whether a search over everything found that there is no plan
        self.impossible = False
        self._impossible_in_one_piece = False
        #: optima that were not placed at once, with the problems that they solve
        self._passed: list[tuple[Solved, Problem]] = []
        #: whether a search over everything gave the bound
        self._bounded = False
        #: residencies to follow at first where steps are no barriers
        self._followed = STATES[0]
        #: what the last relaxation with barriers took
        self._relaxed_seconds = 0.0
        self._turns = Turns()
        #: whether turns were left, so that another order has their time
        self.has_left_turns = False
        self._crossing: dict[tuple[int, int, int, Prices], Solved] = {}
        # compute alone, or compulsory traffic alone: no plan of any space is faster
        self._roofline = roofline_cycles(world.site.network, world.site.hardware)
        self.bound = easy_bound(problem, self.objective, self._roofline)

    def widen(self) -> None:
        """Search everything at once where no plain plan can be better than what is found."""
        if self.plain is not self.problem and self.found:
            least = easy_bound(self.plain, self.objective, self._roofline)
            if least >= self._least():
                self.plain = self.problem

    def run(self) -> None:
        """Optimum of the relaxation, placement, and CP-SAT where a proof is still missing."""
        self.widen()
        if self.objective == "dram":
            found = [self.optimum(problem) for problem in self.problems()]
            best, states = found[0]
        else:
            best, states = self.optimum(self.plain)
            if self.plain is not self.problem and self._impossible_in_one_piece:
                # what the user demands, or the strategy, takes bands or blocks
                self.plain = self.problem
                best, states = self.optimum(self.problem)
            self._overlap_simpler()
            if best is not None and best.complete:
                # a plan first: this bound takes longer than the plan
                self._raise_bound(best, states)
        if self.impossible:
            return
        if self.objective != "dram" and not (self.clock.over() or self.proven()):
            self._bound_without_small_maps()
            self.overlap()
        self.place_passed()
        if (best is None or not best.complete) and not self.clock.over():
            self._improve_with_cpsat()

    def prices(self, problem: Problem) -> Prices:
        """What the dynamic programme is to minimise."""
        return self.weights or prices(problem, self.objective)

    def problems(self) -> list[Problem]:
        """The whole problem, and the plain one where that is another."""
        return [self.problem] if self.plain is self.problem else [self.problem, self.plain]

    def spaces(self) -> list[Problem]:
        """These, and the plain one with every slice by itself where it has others."""
        apart = slices_apart(self.plain, self.world.recipes)
        same = len(apart.candidates) == len(self.plain.candidates)
        return self.problems() if same else [*self.problems(), apart]

    def optimum(self, problem: Problem) -> tuple[Solved | None, int]:
        """Optimum with barriers, as far as time allows, and its placement; residencies followed."""
        best: Solved | None = None
        states = STATES[0]
        if self.proven():
            return best, states
        for states in STATES:
            began = self.clock.seconds
            self.clock.tell("optimum", self.bound)
            solved = solve_dynamic(problem, self.prices(problem), states, self.clock.over)
            if solved.complete and solved.decision is None:
                self._without_plan(problem)
                return None, states
            self._relaxed_seconds = self.clock.seconds - began
            if solved.decision is not None:
                best = solved
            if solved.complete:
                # fewer were not enough here, and with more labels each they are not there
                self._followed = states
                if self.objective == "dram" and problem is self.problem:
                    self._raise_bound(solved, states)
                break
            self.place(solved, problem)
            # more residencies take about five times as long: few boundaries have so many
            if self.clock.over() or not self._affords(5 * (self.clock.seconds - began)):
                break
        if best is not None:
            self._place_shrinking(best, problem)
        return best, states

    def _without_plan(self, problem: Problem) -> None:
        """Take note that a problem has no plan.

        Only a user's demands can bring that about for all of it; its plain part may lack what is
        better in bands or blocks, or what only they have space for.
        """
        if problem is self.problem and not self.clock.params.constraints:
            raise SolverError("a problem whose layers all fit has no plan: this is a bug")
        self._impossible_in_one_piece |= problem is self.plain
        self.impossible |= problem is self.problem

    def _raise_bound(self, solved: Solved, states: int) -> None:
        """Raise the bound to the optimum of a relaxation in which transfers cross steps freely."""
        if self.objective != "dram":
            solved = self.overlapped(1000, states)
        if solved.complete:
            self._bounded = True
            self.bound = max(self.bound, self._value(solved))

    def overlapped(self, share: int, states: int, problem: Problem | None = None) -> Solved:
        """Optimum without barriers, in a share of the scratchpad; of the whole problem if None."""
        whole = problem or self.problem
        wanted = self.prices(whole)
        # spaces differ in how much there is to choose from
        key = share, states, len(whole.candidates), wanted
        if key not in self._crossing:
            found = replace(_with_room(whole, share), overlap=True)
            self._crossing[key] = solve_dynamic(found, wanted, states, self.clock.over)
        return self._crossing[key]

    def _bound_without_small_maps(self) -> None:
        """A bound where residencies are too many to follow: as if small maps took no space."""
        if self._bounded:
            return
        for most in ALIVE:
            if self.clock.over() or self.proven():
                return
            few = replace(self.problem, overlap=True).without(small_maps(self.problem, most))
            solved = solve_dynamic(few, self.prices(few), STATES[1], self.clock.over)
            if not solved.complete:
                return
            self.bound = max(self.bound, self._value(solved))

    def overlap(self) -> None:
        """Place what is best where steps are no barriers, with more and more room for overlaps.

        What promises most is not always as well placed and timed, so smaller spaces have their
        turn. Turns that promise to come to more than the best plan are taken last: where the gap is
        wide enough for them, and no other order of the layers has a use for the time.
        """
        turns, spaces = self._turns, self.spaces()
        for promising in (True, False):
            self.has_left_turns = not promising and self.gap() > UNSURE and self._leaves_time()
            if self.has_left_turns or (not promising and self.gap() <= UNSURE):
                return
            for share, number in product(OVERLAP_SHARES, range(len(spaces))):
                best, began = self._least(), self.clock.seconds
                if self.clock.over() or best - self.bound <= best // WORTHWHILE:
                    return
                if turns.is_over(number, share, best) or (
                    promising and turns.expected(number, share) > best
                ):
                    continue
                self._take_turn(turns, number, share, spaces)
                if not self._affords(2 * (self.clock.seconds - began)):
                    return

    def _take_turn(self, turns: Turns, number: int, share: int, spaces: list[Problem]) -> None:
        """Place the optimum of a space in a share of the scratchpad, where that may be better."""
        problem, best = spaces[number], self._least()
        larger = turns.optima.get(share)
        if (
            larger is not None
            and larger[0] < number
            and self._lies_in(larger[1], spaces[larger[0]], problem)
        ):
            turns.taken.add((number, share))
            return  # it is the optimum here, too
        solved = self._best_overlap(share, problem)
        promised = self._value(solved)
        turns.take(number, share, solved, promised)
        if turns.at_least(number, share) >= best:
            return  # more may come true than before, but no more than that
        crossing = replace(_with_room(problem, share), overlap=True)
        plans = len(self.found)
        self.place(self._without_clashes(solved, crossing), crossing)
        if len(self.found) > plans:
            turns.comes_true(number, promised, self.found[-1].value(self.objective))

    def _leaves_time(self) -> bool:
        """Whether what is left goes to another order: where the gap is wide, and it is enough."""
        if self.clock.params.deterministic_limit is not None or self.gap() <= WIDE:
            return False
        return 0 < self.clock.reserve <= self.clock.left

    def _without_clashes(self, solved: Solved, problem: Problem) -> Solved:
        """An optimum of `problem`; where that has bands that clash, the best one without clashes.

        A map that is cut into columns cannot be cut into channels. No relaxation knows that: so
        there may be a plan with these bands, where the optimum is none. What cuts the channels is
        left out, or, where some layer fits in no other way, the bands are.
        """
        site, recipes = self.world.site, self.world.recipes
        found, current = solved, problem
        for _ in range(CLASHES):
            if found.decision is None or self.clock.over():
                break
            maps = clashing(site, current, recipes, found.decision)
            if not maps:
                return replace(found, decision=translated(found.decision, current, problem))
            rest = beside_bands(site, current, recipes, found.decision)
            found = self._followed_optimum(rest)
            if found.decision is None:
                rest = without_bands(current, recipes, maps)
                found = self._followed_optimum(rest)
            current = rest
        return solved

    def _followed_optimum(self, problem: Problem) -> Solved:
        return solve_dynamic(problem, self.prices(problem), self._followed, self.clock.over)

    def _overlap_simpler(self) -> None:
        """Plans of the simpler strategies, where time may end before a joint one crosses steps.

        Their problems have fewer candidates: without barriers they are solved in a fraction of the
        time, so that the joint plan does not fall behind them under a short limit.
        """
        if self.clock.params.strategy != "joint" or self.proven():
            return
        if self._affords(CROSSING * self._relaxed_seconds):
            return
        for strategy in SIMPLER:
            simpler = RESTRICTIONS[strategy](self.problem, self.world.recipes)
            for share in OVERLAP_SHARES:
                problem = replace(_with_room(simpler, share), overlap=True)
                if self.clock.over():
                    return
                wanted = self.prices(problem)
                solved = solve_dynamic(problem, wanted, self._followed, self.clock.over)
                # no timeline of a decision is shorter than its relaxation
                if self._value(solved) >= self._least() or self.place(solved, simpler):
                    break

    def _best_overlap(self, share: int, problem: Problem) -> Solved:
        """Optimum without barriers, with as many residencies as time allows."""
        for states in dict.fromkeys((min(self._followed, STATES[1]), STATES[1])):
            began = self.clock.seconds
            solved = self.overlapped(share, states, problem)
            if solved.complete:
                if share == 1000 and problem is self.problem:
                    self._bounded = True
                    self.bound = max(self.bound, self._value(solved))
                break
            if not self._affords(5 * (self.clock.seconds - began)):
                break
        return solved

    def _lies_in(self, solved: Solved, larger: Problem, problem: Problem) -> bool:
        """Whether a complete optimum of a larger space is a plan of `problem`."""
        if not solved.complete or solved.decision is None:
            return False
        test = is_plain if problem is self.plain else is_apart
        chosen = (larger.candidates[k] for k in solved.decision.candidates)
        return all(test(candidate, self.world.recipes) for candidate in chosen)

    def _affords(self, seconds: float) -> bool:
        """Whether a longer search fits the time left; always where runs must repeat."""
        return self.clock.params.deterministic_limit is not None or seconds < self.clock.left

    def _value(self, solved: Solved) -> int:
        if self.objective in ("energy", "edp"):
            cycles = solved.latency_cycles
            energy = solved.energy_fj + self.problem.leakage_fj * cycles
            return energy * cycles if self.objective == "edp" else energy
        return solved.dram_bytes if self.objective == "dram" else solved.latency_cycles

    def place(self, solved: Solved, problem: Problem, exact_limit: float = QUICK_LIMIT) -> bool:
        """Place an optimum; tells whether that succeeded, now or when it was placed before."""
        if solved.decision is None:
            return False
        decision = translated(solved.decision, problem, self.world.problem)
        patience, succeeded = self._tried.get(decision, (0.0, False))
        if succeeded or patience >= exact_limit:
            return succeeded
        placed = place_decision(self.world, self.world.problem, decision, exact_limit)
        self._tried[decision] = exact_limit, placed is not None
        return self.add(placed)

    def add(self, placed: Placed | None) -> bool:
        """Take a placed plan in; tells whether there was one."""
        if placed is None:
            return False
        self.found.append(placed)
        value = placed.value(self.objective)
        if self.clock.incumbent is None or value < self.clock.incumbent:
            self.clock.incumbent = value
        self.clock.tell("plan", min(self.bound, value))
        return True

    def _place_shrinking(self, solved: Solved, problem: Problem) -> None:
        """Place the optimum of the relaxation, or of one with less space, until that succeeds."""
        for relaxed in self._ladder(solved, problem):
            if self.place(relaxed, problem):
                return
            self._passed.append((relaxed, problem))
            if self.found and self.clock.over():
                return

    def place_passed(self) -> None:
        """Place what was passed over, which is better than what was placed, with more patience."""
        for relaxed, problem in self._passed:
            if self.clock.over() or self.proven():
                return
            if self._value(relaxed) < self._least() and self.place(
                relaxed, problem, self._patience()
            ):
                return

    def _patience(self) -> float:
        """Seconds for addresses that are worth waiting for."""
        if self.clock.params.deterministic_limit is not None:
            return PATIENT_LIMIT
        return min(PATIENT_LIMIT, max(QUICK_LIMIT, self.clock.left))

    def _least(self) -> float:
        return min((placed.value(self.objective) for placed in self.found), default=inf)

    def gap(self) -> float:
        """How far the best plan may be from the optimum, as a share of it; 1 without a plan."""
        least = self._least()
        return 1.0 if least == inf else (least - self.bound) / max(least, 1)

    def proven(self) -> bool:
        return any(placed.value(self.objective) <= self.bound for placed in self.found)

    def _ladder(self, solved: Solved, whole: Problem) -> Iterator[Solved]:
        """Optima of relaxations, each easier to place than the one before."""
        yield self._without_clashes(solved, whole)
        states = STATES[-1] if solved.complete else STATES[0]
        problems = [_with_room(whole, share) for share in SHRINKING]
        if self.objective == "dram" and whole.prefetch:
            # prefetching moves no byte, but fills the scratchpad
            problems.insert(0, replace(whole, prefetch=False))
        for problem in problems:
            easier = solve_dynamic(problem, self.prices(problem), states, self.clock.over)
            if easier.decision is None:
                return
            yield self._without_clashes(easier, problem)

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
        hopeful = self.problem.hopeful()
        decision = translated(start.decision, self.world.problem, hopeful)
        joint = params.strategy == "joint"
        among = essential(hopeful) if joint else hopeful
        outcome = improve(
            hopeful, self.objective, decision, start.modelled(self.objective), budget,
            lambda _, bound: self.clock.tell("CP-SAT", self.bound), among,
        )  # fmt: skip
        if self.objective == "dram":
            # the cycles that CP-SAT counts are those with barriers between steps
            self.bound = max(self.bound, outcome.bound)
        if outcome.value < start.modelled(self.objective):
            self.add(place_decision(self.world, among, outcome.decision, self._patience()))


def _with_room(problem: Problem, share: int) -> Problem:
    return replace(problem, capacity_bytes=problem.capacity_bytes * share // 1000)
