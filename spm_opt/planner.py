"""From network and machine to a schedule: orders, candidates, strategies, the best plan of each.

Each order of the layers gives a problem, each strategy a restriction of it; `planner_search` finds
the best placed plan of one. What is claimed optimal is so over the orders tried.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import TypeAlias, TypeVar

from spm_opt.assemble import Placed, assemble, roofline_cycles, tiles_and_moves_fj
from spm_opt.baselines import RESTRICTIONS
from spm_opt.bounds import latency_bound
from spm_opt.constrain import constrained
from spm_opt.constrain_unmet import unmet
from spm_opt.dynamic import Prices, solve_dynamic
from spm_opt.energy import can_count, require_energies
from spm_opt.errors import SolverError, SpmTooSmallError
from spm_opt.fusion import MAX_GROUP_LAYERS, cut_costs, make_candidates, minimum_spm_bytes
from spm_opt.graph.network import Network
from spm_opt.hardware import Hardware
from spm_opt.params import Progress, SolveParams
from spm_opt.parts import distinct_orders
from spm_opt.peak import least_spill_free, spill_free
from spm_opt.planner_edp import search_front, search_product
from spm_opt.planner_placing import World, place_decision
from spm_opt.planner_search import PATIENT_LIMIT, STATES, UNSURE, Clock, Search
from spm_opt.planner_standing import Answer, Standing, Variant, best_of
from spm_opt.planner_standins import stand_ins
from spm_opt.problem import Problem
from spm_opt.schedule import Provenance, Schedule
from spm_opt.site import Site, feature_maps, make_site, weight_loads

__all__ = ["minimum_peak_bytes", "minimum_spm_bytes", "plan", "plan_all"]

#: how often the candidates of an order are to fit the time left, for it to be begun (seen: a first
#: good plan took twice as long as they did)
WORTH_BEGINNING = 2.5
#: what stripes alone take of the time of all tilings (seen: a third to a half)
OF_STRIPES = 0.5
#: records made between two looks for garbage
MANY_RECORDS = 1_000_000

#: two figures, less is better
Point = TypeVar("Point", bound=tuple[float, float])
#: keeps some of a problem's candidates
Restrict: TypeAlias = Callable[[Site, Problem], Problem]


def plan(
    network: Network,
    hardware: Hardware,
    params: SolveParams,
    *,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    restrict: Restrict | None = None,
) -> Schedule:
    """Plan `network` on `hardware`; the best schedule found within the limits.

    Parameters
    ----------
    restrict : callable, optional
        Leaves out candidates of every order's problem: the plan space of another tool, say.

    Raises
    ------
    SpmTooSmallError
        Where a layer fits the scratchpad in no tiling.
    SolverError
        Where no plan was found at all.
    """
    asked = (params.strategy,)
    schedules = plan_all(
        network, hardware, params, strategies=asked, progress=progress, stop=stop,
        restrict=restrict,
    )  # fmt: skip
    return schedules[0]


def plan_all(
    network: Network,
    hardware: Hardware,
    params: SolveParams,
    *,
    strategies: tuple[str, ...],
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    restrict: Restrict | None = None,
) -> tuple[Schedule, ...]:
    """Plan with several strategies, in the order asked; the time limit is for each of them."""
    with _collecting_rarely():
        return _plan_all(network, hardware, params, strategies, progress, stop, restrict)


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Look for garbage in cycles less often: planning makes records by the million, and no cycles.

    It took a tenth of the time of bert_base's candidates.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(MANY_RECORDS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def _plan_all(
    network: Network, hardware: Hardware, params: SolveParams, strategies: tuple[str, ...],
    progress: Callable[[Progress], None] | None, stop: threading.Event | None,
    restrict: Restrict | None,
) -> tuple[Schedule, ...]:  # fmt: skip
    if params.counts_energy:
        require_energies(network, hardware)
    _require_space(network, hardware, params)
    standings = {strategy: Standing(strategy) for strategy in strategies}
    clock, limit = Clock(params, progress, stop), params.time_limit * len(strategies)
    longest = MAX_GROUP_LAYERS if {"joint", "fuse"} & set(strategies) else 1
    tried, shared = 0, 0.0
    orders = _orders(network, params)
    fits = minimum_spm_bytes(network, hardware)[0] <= hardware.spm.capacity_bytes
    for variant in _variants(orders, params, standings):
        # whether another one of the same length would not end within the limit
        late = tried > 0 and clock.seconds * (tried + 1) / tried > limit
        needed = WORTH_BEGINNING * shared
        if late and fits and _stripes_may_do(variant, standings):
            variant = replace(variant, params=replace(variant.params, tilings="rows"), part=True)
            needed *= OF_STRIPES
        if late and not _is_worth_beginning(standings, limit - clock.seconds, needed):
            break
        if tried and clock.stopped:
            break
        clock.tell(f"candidates, {variant.label}", None)
        began = time.monotonic()
        world = make_world(network, hardware, variant.params, variant.name, variant.order, longest)
        if restrict is not None:
            world = replace(world, problem=restrict(world.site, world.problem))
        rivals = _Rivals(network, hardware, variant, longest, restrict)
        shared = time.monotonic() - began
        tried += 1
        for standing in sorted(standings.values(), key=lambda one: one.strategy == "joint"):
            if standing.is_content(variant, late):
                continue
            own = Clock(replace(variant.params, strategy=standing.strategy), progress, stop)
            # what went before counts against the limit, candidates for every strategy
            own.began -= standing.seconds + shared
            if tried < len(orders):
                own.reserve = WORTH_BEGINNING * shared * OF_STRIPES
            known = [placed for one in standings.values() for placed in one.plans_of(world)]
            answer, is_possible = _answer(world, own, known, rivals)
            standing.seconds = own.seconds
            standing.take(answer, is_possible, variant, late)
    schedules = {}
    for name, standing in standings.items():
        standing.take_up()
        if standing.best is not None:
            schedules[name] = _schedule(standing, standing.best, params)
        elif standing.is_possible:
            raise SolverError(f"no {name} schedule was found within the limits{_tight(world.site)}")
        else:
            raise unmet(world.site, world.problem, replace(params, strategy=name))
    return tuple(schedules[strategy] for strategy in strategies)


def _tight(site: Site) -> str:
    """What a message says of a scratchpad in which some layer fits in no stripes."""
    least, layer = minimum_spm_bytes(site.network, site.hardware)
    capacity = site.hardware.spm.capacity_bytes
    if least <= capacity:
        return ""
    return (
        f": layer {layer!r} fits {capacity} bytes only in bands of columns or with partial sums, "
        "which its neighbours' tilings may not allow; stripes fit "
        f"{least} bytes (--set spm.capacity=...)"
    )


def front(
    network: Network, hardware: Hardware, params: SolveParams
) -> tuple[tuple[int, int], ...]:  # fmt: skip
    """Latency in cycles and energy in fJ of placed plans of the first order, none beaten in both.

    Those at the corners of the front of the relaxation, fastest first; what lies between corners,
    and off the front for want of a placement, is missing.

    Raises
    ------
    InputError
        Where the hardware does not say all energies.
    """
    params = replace(params, objective="edp")
    require_energies(network, hardware)
    name, order = next(iter(distinct_orders(network, 1).items()))
    world = make_world(network, hardware, params, name, order)
    search = Search(world, world.problem, Clock(params, None, None))
    stand_ins(search)
    search_front(search)
    return unbeaten((p.latency_cycles, p.value("energy")) for p in search.found)


def unbeaten(points: Iterable[Point]) -> tuple[Point, ...]:
    """Those that no other one beats or equals in both figures, in order of the first."""
    kept: list[Point] = []
    for point in sorted(points):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return tuple(kept)


def _require_space(network: Network, hardware: Hardware, params: SolveParams) -> None:
    """Raise SpmTooSmallError before anything else is said, where nothing can be planned."""
    least, layer = minimum_spm_bytes(network, hardware)
    if least <= hardware.spm.capacity_bytes:
        return
    if params.tilings == "rows":
        raise SpmTooSmallError(layer, least, hardware.spm.capacity_bytes)
    # bands of columns may fit where stripes do not: only their candidates tell
    name, order = next(iter(distinct_orders(network, 1).items()))
    make_world(network, hardware, params, name, order)


def _orders(network: Network, params: SolveParams) -> dict[str, tuple[int, ...]]:
    """The orders of the layers to try, by name."""
    if params.constraints.order:
        number = {layer.name: index for index, layer in enumerate(network.layers)}
        return {"given": tuple(number[name] for name in params.constraints.order)}
    return distinct_orders(network, params.orders)


def _variants(
    orders: dict[str, tuple[int, ...]], params: SolveParams, standings: dict[str, Standing]
) -> Iterator[Variant]:
    """The orders; then, while an answer has no proof, the same once more without aliases.

    Aliases save space in every plan, but what is best with more space is not always as well
    placed and timed: so allowing them never makes a latency worse, where time is enough.
    """
    for name, order in orders.items():
        yield Variant(name, order, params)
    if params.aliases:
        for name, order in orders.items():
            if any(one.best is not None and one.best.is_open for one in standings.values()):
                yield Variant(name, order, replace(params, aliases=False), again=True)


def _is_worth_beginning(standings: dict[str, Standing], left: float, needed: float) -> bool:
    """Whether to begin an order that may not end in the seconds left.

    So where a plan is far from its bound, and there is time for a first good plan.
    """
    wide = any(one.best is not None and one.best.is_wide_open for one in standings.values())
    return wide and left > needed


def _stripes_may_do(variant: Variant, standings: dict[str, Standing]) -> bool:
    """Whether to search a late order in stripes alone, which takes half the time.

    Then no bound holds for all tilings that were asked for: the order counts as untried.
    """
    best = [one.best for one in standings.values() if one.best is not None]
    return (
        variant.params.tilings == "all" and not variant.again
        and bool(best) and all(one.stripes_may_do for one in best)
    )  # fmt: skip


def make_world(
    network: Network,
    hardware: Hardware,
    params: SolveParams,
    name: str,
    order: tuple[int, ...],
    longest: int = MAX_GROUP_LAYERS,
) -> World:
    """The problem of one order, with groups of at most `longest` layers."""
    site = make_site(network, hardware, order, params.aliases, energy=params.counts_energy)
    cuts = params.interleave == "on"
    if params.interleave == "auto":
        cuts = cut_costs(hardware.dram).cycles == 0
    offer = make_candidates(
        site,
        longest=longest,
        cuts=cuts,
        bands=params.tilings == "all",
        blocks=params.tilings == "all",
        runs=params.tilings == "all",
    )
    problem = Problem(
        len(site.parts), hardware.spm.capacity_bytes, feature_maps(site), weight_loads(site),
        offer.candidates, params.prefetch, cuts=cuts,
        leakage_fj=hardware.energy.leakage_fj if hardware.energy and params.counts_energy else 0,
    )  # fmt: skip
    problem = constrained(site, problem, offer.recipes, params.constraints)
    return World(name, site, problem, offer.recipes, offer.dropped)


class _Rivals:
    """Searches of a variant for other objectives: their plans may be better placed and timed.

    So a plan of the objective latency is no slower than that of the objective energy, and that one
    takes no more energy, where time is enough for both searches. Least latency looks there last,
    when every order has been tried.
    """

    def __init__(
        self, network: Network, hardware: Hardware, variant: Variant, longest: int,
        restrict: Restrict | None,
    ) -> None:  # fmt: skip
        self.network, self.hardware = network, hardware
        self.variant, self.longest, self.restrict = variant, longest, restrict
        self.is_counted = can_count(network, hardware)
        self._worlds: dict[bool, World] = {}

    def plans(self, clock: Clock, gap: float) -> Iterator[Placed]:
        """Placed plans of the other objectives, while time is left and the `gap` is worth it."""
        params = clock.params
        if not self.is_counted or params.objective == "dram":
            return
        if params.objective == "latency" and (not self.variant.again or gap < UNSURE):
            return
        clock.tell("other objectives", None)
        for objective in ("latency", "energy"):
            if objective == params.objective or clock.over():
                continue
            other = Clock(replace(params, objective=objective), None, clock.stop)
            other.began = clock.began
            world = self._world(other.params)
            problem = RESTRICTIONS[params.strategy](world.problem, world.recipes)
            search = Search(world, problem, other)
            stand_ins(search)
            search.run()
            for placed in search.found:
                site = replace(placed.site, energy=True)
                yield replace(placed, tiles_and_moves_fj=tiles_and_moves_fj(site, placed.timeline))

    def _world(self, params: SolveParams) -> World:
        counts = params.counts_energy
        if counts not in self._worlds:
            name, order = self.variant.name, self.variant.order
            world = make_world(self.network, self.hardware, params, name, order, self.longest)
            if self.restrict is not None:
                world = replace(world, problem=self.restrict(world.site, world.problem))
            self._worlds[counts] = world
        return self._worlds[counts]


def _answer(
    world: World, clock: Clock, known: list[Placed], rivals: _Rivals
) -> tuple[Answer | None, bool]:
    """The best placed plan of a strategy in one order, where one was found; whether there is one.

    Raises
    ------
    SolverError
        Where the search contradicts itself.
    """
    objective, strategy = clock.params.objective, clock.params.strategy
    problem = RESTRICTIONS[strategy](world.problem, world.recipes)
    search = Search(world, problem, clock)
    if strategy == "joint":
        search.found += known
    if not search.found:
        stand_ins(search)
    if objective == "edp":
        search_product(search)
    else:
        search.run()
    if search.found and not search.proven():
        for placed in rivals.plans(clock, search.gap()):
            search.add(placed)
    if not search.found:
        return None, not search.impossible
    best = best_of(search)
    value = best.value(objective)
    if search.bound > value:
        raise SolverError(
            f"a {strategy} schedule of {value} was found below the bound {search.bound}: "
            "this is a bug"
        )
    stripes_may_do = search.plain is not search.problem or rivals.variant.part
    return Answer(world, best, value, search.bound, stripes_may_do, search), True


def _schedule(standing: Standing, answer: Answer, params: SolveParams) -> Schedule:
    strategy, value = standing.strategy, answer.value
    covered, bound = answer.world.name in standing.orders, min(standing.bounds)
    if not covered and value <= bound:
        # better than the orders that the bound covers: it says nothing about this one
        site = answer.world.site
        least = roofline_cycles(site.network, site.hardware)
        bound = min(least, value) if params.objective == "latency" else 0
    problem = RESTRICTIONS[strategy](answer.world.problem, answer.world.recipes)
    latency = bound if params.objective == "latency" else latency_bound(problem)
    provenance = Provenance(
        strategy=strategy,
        objective=params.objective,
        prefetch=params.prefetch,
        status="optimal" if covered and bound == value else "feasible",
        objective_value=value,
        objective_bound=bound,
        latency_lower_bound_cycles=latency,
        order=answer.world.name,
        orders_tried=len(standing.orders),
        candidates=len(problem.candidates),
        candidates_dropped=answer.world.dropped,
        solver=f"ortools {version('ortools')}",
        seed=params.seed,
        workers=params.workers,
        time_limit=params.time_limit,
        deterministic_limit=params.deterministic_limit,
        solve_seconds=standing.seconds,
        modelled_latency_cycles=answer.placed.modelled_cycles,
        constraints=params.constraints,
    )
    return assemble(answer.placed, provenance)


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
        solved = solve_dynamic(problem, Prices(0, 1), STATES[-1])
        if solved.decision is not None:
            placed = place_decision(world, problem, solved.decision, PATIENT_LIMIT)
            if placed is not None:
                return True
    return False
