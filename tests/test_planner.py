"""The planner never believes what cannot be placed, and keeps its promises on random networks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from types import SimpleNamespace

import pytest
from draws import on_many
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st
from oracles import cost_of
from random_worlds import random_chip, random_network
from small_problems import fmap, group, problem

import spm_opt
from spm_opt import planner, planner_placing, planner_search, planner_standins
from spm_opt.allocation.place import place
from spm_opt.allocation.rectangles import Rectangle, is_placement, peak_load
from spm_opt.api import load_hardware, load_network
from spm_opt.assemble import Placed
from spm_opt.decision import Decision
from spm_opt.dynamic import solve_dynamic
from spm_opt.errors import SpmTooSmallError
from spm_opt.formats.schedule_json import schedule_from_json, schedule_to_json
from spm_opt.fusion import Recipe, make_candidates
from spm_opt.graph.network import Network
from spm_opt.hardware import Hardware
from spm_opt.params import STRATEGIES, SolveParams
from spm_opt.parts import source_order
from spm_opt.planner_placing import World
from spm_opt.planner_search import prices
from spm_opt.planner_standing import Answer, Standing
from spm_opt.problem import Problem
from spm_opt.schedule import Buffer, Schedule
from spm_opt.site import make_site
from spm_opt.verify import verify

# --------------------------------------------------------------------------- the gadget

#: (size, birth, death): a load of 10 at most, and no placement within 10
GADGET = ((8, 2, 6), (1, 4, 8), (2, 6, 10), (6, 6, 7), (2, 7, 13), (6, 8, 12), (8, 12, 13))
#: those that live in one step only are what the step itself needs; the others are maps
WORK = {4: 6, 10: 8}


def rectangles(buffers: tuple[tuple[int, int, int], ...]) -> list[Rectangle]:
    return [Rectangle(birth, death, size) for size, birth, death in buffers]


def gadget(spill_cycles: tuple[int, ...]) -> Problem:
    """Eleven parts whose maps, all kept, are the gadget.

    Map i may be stored and streamed instead, in `spill_cycles[i]` cycles more, for 2 bytes.
    """
    kept = [(size, birth - 2, death - 3) for size, birth, death in GADGET if death - birth > 1]
    born = {birth: i for i, (_, birth, _) in enumerate(kept)}
    read = {last: i for i, (_, _, last) in enumerate(kept)}
    assert len(born) == len(read) == len(kept) == 5
    maps = tuple(fmap(size, (birth,), (last,)) for size, birth, last in kept)
    groups = []
    for part in range(11):
        cycles, work = 10, WORK.get(part, 0)
        out, into = born.get(part), read.get(part)
        for spill_out in (False, True) if out is not None else (False,):
            for spill_in in (False, True) if into is not None else (False,):
                more = spill_cycles[out] if spill_out and out is not None else 0
                groups.append(group(
                    part, part + 1, cycles + more, dma=int(spill_out or spill_in),
                    work=work + (maps[out].size_bytes if out is not None and not spill_out else 0),
                    moved=spill_out + spill_in,
                    keeps=(out,) if out is not None and not spill_out else (),
                    stores=(out,) if out is not None and spill_out else (),
                    reads=(into,) if into is not None and not spill_in else (),
                    streams=(into,) if into is not None and spill_in else (),
                ))  # fmt: skip
    return problem(10, maps, {}, *groups, reload=False)


@dataclass
class Plans:
    """A planner over one problem that no network has: layouts and clocks are stood in for."""

    problem: Problem
    monkeypatch: pytest.MonkeyPatch

    def plan(self, **changes: object) -> tuple[SimpleNamespace, planner_placing.Placed]:
        """Provenance and placed plan that the planner hands to assembly."""
        recipes = tuple(
            Recipe((c.first, c.end), None, "rows", 1, 1, "retain") for c in self.problem.candidates
        )
        site = SimpleNamespace(network=None, hardware=SimpleNamespace(dram=None), energy=False)
        world = World("only", site, self.problem, recipes)  # type: ignore[arg-type]
        stand_ins = {
            (planner, "minimum_spm_bytes"): lambda network, hardware: (1, "none"),
            (planner, "distinct_orders"): lambda network, limit: {"only": (0,)},
            (planner, "make_world"): lambda *arguments: world,
            (planner, "assemble"): lambda placed, provenance: (provenance, placed),
            (planner_placing, "lay_out"): self.lay_out,
            (planner_search, "roofline_cycles"): lambda network, hardware: 0,
            (planner_placing, "order_queue"): lambda layout, dram, policies: layout.queue,
            (planner_placing, "widen"): lambda layout, capacity_bytes, reserved: layout,
        }
        for (module, name), stand_in in stand_ins.items():
            self.monkeypatch.setattr(module, name, stand_in)
        hardware = SimpleNamespace(
            spm=SimpleNamespace(capacity_bytes=self.problem.capacity_bytes), energy=None
        )
        return planner.plan(None, hardware, SolveParams(**changes))  # type: ignore[arg-type, return-value]

    def lay_out(self, site: object, problem: Problem, recipes: object, decision: Decision):
        latency, moved = cost_of(problem, decision, "latency")
        used = [problem.candidates[k] for k in decision.candidates]
        buffers = [
            Buffer(f"map {t}", "map", str(t), 0, problem.maps[t].size_bytes, 1, 1, first, end)
            for t, first, end in decision.resident
        ]
        for c in used:
            own = c.work_bytes - sum(problem.maps[t].size_bytes for t in c.keeps)
            if own:
                buffers.append(Buffer(
                    f"work {c.first}", "stripe", "", 0, own, 1, 1, c.first, c.first + 1
                ))  # fmt: skip
        timeline = SimpleNamespace(
            latency_cycles=latency, transfers=[SimpleNamespace(moved_bytes=moved)]
        )
        queue = SimpleNamespace(
            latency_cycles=latency, barrier_cycles=latency, timeline=lambda: timeline
        )
        return SimpleNamespace(buffers=buffers, queue=queue)


def fits_somehow(items: list[Rectangle], capacity: int) -> bool:
    """Whether any offsets at all keep the rectangles apart, by trying every one."""

    def extend(placed: list[tuple[Rectangle, int]]) -> bool:
        if len(placed) == len(items):
            return True
        new = items[len(placed)]
        return any(
            all(not new.meets(r) or o + r.size <= at or at + new.size <= o for r, o in placed)
            and extend([*placed, (new, at)])
            for at in range(capacity - new.size + 1)
        )

    return extend([])


def test_the_gadget_is_what_it_is_said_to_be():
    assert peak_load(rectangles(GADGET)) == 10
    assert not fits_somehow(rectangles(GADGET), 10)
    assert place(rectangles(GADGET), 10) is None
    assert place(rectangles(GADGET), 11) is not None
    for i in range(len(GADGET)):
        rest = rectangles(GADGET[:i] + GADGET[i + 1 :])
        assert fits_somehow(rest, 10)
        offsets = place(rest, 10)
        assert offsets is not None
        assert is_placement(rest, offsets, 10)


def test_the_relaxation_believes_in_the_gadget():
    case = gadget((1, 1, 1, 1, 1))
    solved = solve_dynamic(case, prices(case, "latency"))
    assert (solved.latency_cycles, solved.complete) == (110, True)
    assert solved.decision is not None
    assert len(solved.decision.resident) == 5


def check_placed(placed: planner_placing.Placed) -> None:
    alive = [Rectangle(b.first_step, b.end_step, b.size_bytes) for b in placed.layout.buffers]
    assert is_placement(alive, placed.offsets, 10)


def test_a_plan_that_cannot_be_placed_is_not_claimed(monkeypatch: pytest.MonkeyPatch):
    # every way out costs a cycle or more: the bound stays, the plan is worse, and says so
    provenance, placed = Plans(gadget((3, 4, 1, 2, 5)), monkeypatch).plan()
    check_placed(placed)
    assert placed.latency_cycles == provenance.objective_value > 110
    assert provenance.objective_bound == 110
    assert provenance.status == "feasible"


def test_the_bound_is_met_through_a_smaller_relaxation(monkeypatch: pytest.MonkeyPatch):
    # to spill map 3 costs bytes but no cycle: the first optimum keeps it, and cannot be placed
    case = gadget((3, 4, 2, 0, 5))
    solved = solve_dynamic(case, prices(case, "latency"))
    assert (solved.latency_cycles, solved.dram_bytes) == (110, 0)
    provenance, placed = Plans(case, monkeypatch).plan()
    check_placed(placed)
    assert placed.latency_cycles == provenance.objective_value == 110
    assert provenance.objective_bound == 110
    assert provenance.status == "optimal"


def test_bytes_have_no_false_optimum_either(monkeypatch: pytest.MonkeyPatch):
    provenance, placed = Plans(gadget((0, 0, 0, 0, 0)), monkeypatch).plan(objective="dram")
    check_placed(placed)
    assert provenance.objective_value == placed.dram_bytes == 2
    assert provenance.objective_bound == 0
    assert provenance.status == "feasible"


def test_a_searched_plan_below_its_bound_is_a_bug(monkeypatch: pytest.MonkeyPatch):
    case = gadget((1, 1, 1, 1, 1))
    monkeypatch.setattr(planner_search, "easy_bound", lambda problem, objective, least: 10**6)
    with pytest.raises(spm_opt.SolverError, match="this is a bug"):
        Plans(case, monkeypatch).plan()


# --------------------------------------------------------------------------- prices


@pytest.mark.parametrize("objective", ["latency", "dram"])
@pytest.mark.parametrize("most", [10, 10**6, 10**10, 10**12])
def test_the_objective_outweighs_the_other_cost(objective: str, most: int):
    # the product of both costs leaves 64 bits in the end; the objective must not suffer
    case = problem(
        9, (fmap(1, (), (0,)), fmap(1, (0,), (), must_store=True)), {},
        group(0, 1, most, dma=1, moved=1, streams=(0,), stores=(1,)),
        group(0, 1, 1, dma=1, moved=3, streams=(0,), stores=(1,)),
        group(0, 1, 2, dma=1, moved=most, streams=(0,), stores=(1,)),
    )  # fmt: skip
    solved = solve_dynamic(case, prices(case, objective))
    pair = solved.latency_cycles, solved.dram_bytes
    assert pair == ((1, 3) if objective == "latency" else (most, 1))


# --------------------------------------------------------------------------- random networks

SEEDS = st.integers(0, 10**6)
LIMITS = settings(
    max_examples=20, deadline=None, derandomize=True, database=None,
    phases=(Phase.generate,), suppress_health_check=list(HealthCheck),
)  # fmt: skip
FEW = settings(LIMITS, max_examples=4)
MANY = settings(LIMITS, max_examples=60)
OBJECTIVES = st.sampled_from(["latency", "dram"])
KINDS, TIMES = st.sampled_from(["joint", "fuse", "pin", "layerwise"]), st.sampled_from([2, 3])
QUICK = {"time_limit": 30.0, "workers": 1}


def random_case(seed: int):
    rng = random.Random(seed)
    return random_network(rng, 4), random_chip(rng)


def solved(network, chip, **changes) -> spm_opt.Result:
    """A solve; networks that do not fit are not examples."""
    try:
        return spm_opt.solve(network, chip, **(QUICK | changes))
    except SpmTooSmallError:
        assume(False)
        raise


def compared(network, chip, **changes) -> dict[str, Schedule]:
    try:
        results = spm_opt.compare(network, chip, **(QUICK | changes))
    except SpmTooSmallError:
        assume(False)
        raise
    return {result.strategy: result.schedule for result in results}


@FEW
@given(SEEDS, OBJECTIVES, st.booleans())
def test_every_strategy_keeps_its_promises(seed: int, objective: str, prefetch: bool):
    check_promises(seed, objective, prefetch)


@pytest.mark.heavy
@MANY
@given(SEEDS, OBJECTIVES, st.booleans())
def test_every_strategy_keeps_its_promises_on_many_networks(
    seed: int, objective: str, prefetch: bool
):
    check_promises(seed, objective, prefetch)


def check_promises(seed: int, objective: str, prefetch: bool) -> None:
    """Every strategy's plan is accepted, is what it claims, and no better than the joint one."""
    schedules = compared(*random_case(seed), objective=objective, prefetch=prefetch)
    assert set(schedules) == set(STRATEGIES)
    for strategy, schedule in schedules.items():
        made, claims = schedule.provenance, schedule.claims
        assert verify(schedule) == ()
        value = claims.latency_cycles if objective == "latency" else claims.dram_bytes
        assert made.objective_value == value >= made.objective_bound
        assert (made.status == "optimal") is (value == made.objective_bound)
        if every_row_is_read(schedule.network):
            assert claims.roofline_cycles <= claims.latency_cycles
            assert claims.recomputed_macs >= 0
        assert made.latency_lower_bound_cycles <= claims.latency_cycles
        assert schedules["joint"].provenance.objective_value <= value
        assert schedule_from_json(schedule_to_json(schedule)) == schedule
        check_restriction(strategy, schedule)


def every_row_is_read(network: Network) -> bool:
    """Whether some reader needs each row: rows that none needs are neither computed nor moved."""
    left = {name: set(range(tensor.rows)) for name, tensor in network.tensors.items()}
    for layer in network.layers:
        for i, operand in enumerate(layer.inputs):
            rows = network.tensors[operand.tensor].rows
            for row in range(layer.rows):
                left[operand.tensor] -= set(range(*layer.input_rows(i).needed(row, row + 1, rows)))
    written = set(network.outputs) - set(network.inputs)
    return not any(rows for name, rows in left.items() if name not in written)


def check_restriction(strategy: str, schedule: Schedule) -> None:
    """A strategy uses nothing that it forbids."""
    if strategy in ("pin", "layerwise", "greedy"):
        assert all(len(step.layers) == 1 for step in schedule.steps)
    if strategy in ("fuse", "layerwise"):
        assert all(buffer.kind != "map" for buffer in schedule.buffers)
    if strategy == "greedy":
        stored = {t.tensor for t in schedule.transfers if t.role == "map"}
        assert not stored & {b.tensor for b in schedule.buffers if b.kind == "map"}


@FEW
@given(SEEDS, OBJECTIVES)
def test_a_solve_is_the_comparison_s(seed: int, objective: str):
    network, chip = random_case(seed)
    result = solved(network, chip, objective=objective)
    joint = compared(network, chip, objective=objective)["joint"]
    made = result.schedule.provenance
    assert made.objective_bound == joint.provenance.objective_bound
    assert joint.provenance.objective_value <= made.objective_value
    if objective == "dram":
        assert result.status == joint.provenance.status == "optimal"


test_a_solve_is_the_comparison_s_on_many = on_many(
    test_a_solve_is_the_comparison_s, LIMITS, SEEDS, OBJECTIVES
)


@FEW
@given(SEEDS, st.sampled_from(STRATEGIES))
def test_prefetching_never_hurts(seed: int, strategy: str):
    network, chip = random_case(seed)
    on = solved(network, chip, strategy=strategy)
    off = solved(network, chip, strategy=strategy, prefetch=False)
    assert on.latency_cycles <= off.latency_cycles
    assert all(t.step == t.need_step for t in off.schedule.transfers)


test_prefetching_never_hurts_on_many = on_many(
    test_prefetching_never_hurts, LIMITS, SEEDS, st.sampled_from(STRATEGIES)
)


@FEW
@given(SEEDS, KINDS, TIMES)
def test_more_space_never_hurts(seed: int, strategy: str, times: int):
    # where nothing is proposed for the little space only, and both optima are proven: bytes are
    network, chip = random_case(seed)
    roomy = replace(chip, spm=replace(chip.spm, capacity_bytes=times * chip.spm.capacity_bytes))
    assume(proposals(network, chip) <= proposals(network, roomy))
    limits = {"strategy": strategy, "orders": 1, "objective": "dram"}
    little, much = solved(network, chip, **limits), solved(network, roomy, **limits)
    assume(little.status == much.status == "optimal")
    assert much.dram_bytes["total"] <= little.dram_bytes["total"]


test_more_space_never_hurts_on_many = on_many(
    test_more_space_never_hurts, LIMITS, SEEDS, KINDS, TIMES
)


def proposals(network: Network, chip: Hardware) -> set[tuple[object, ...]]:
    """Everything that a plan may be made of. Parts and tiles depend on the space there is."""
    try:
        offer = make_candidates(make_site(network, chip, source_order(network)), prune=False)
    except SpmTooSmallError:
        assume(False)
        raise
    return {(replace(c, recipe=0), offer.recipes[c.recipe]) for c in offer.candidates}


@settings(FEW, phases=(Phase.explicit, Phase.generate))
@given(SEEDS)
@example(27)
@example(347)
def test_aliases_never_hurt(seed: int):
    network, chip = random_case(seed)
    without = solved(network, chip, aliases=False)
    assert solved(network, chip).latency_cycles <= without.latency_cycles


test_aliases_never_hurt_on_many = on_many(test_aliases_never_hurt, LIMITS, SEEDS)


@FEW
@given(SEEDS)
def test_a_faster_memory_never_hurts(seed: int):
    network, chip = random_case(seed)
    fast = replace(chip, dram=replace(chip.dram, bytes_per_cycle=Fraction(16)))
    assert solved(network, fast).latency_cycles <= solved(network, chip).latency_cycles


test_a_faster_memory_never_hurts_on_many = on_many(test_a_faster_memory_never_hurts, LIMITS, SEEDS)


@FEW
@given(SEEDS)
def test_runs_repeat(seed: int):
    network, chip = random_case(seed)
    first, second = (solved(network, chip, deterministic_limit=5.0).schedule for _ in range(2))
    timeless = replace(first.provenance, solve_seconds=0.0)
    assert replace(first, provenance=timeless) == replace(second, provenance=timeless)


test_runs_repeat_on_many = on_many(test_runs_repeat, LIMITS, SEEDS)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("objective", ["latency", "dram"])
def test_the_shortest_limit_gives_a_plan(strategy: str, objective: str):
    found = [
        spm_opt.solve(*case, strategy=strategy, objective=objective, workers=1, time_limit=1e-6)
        for case in (random_case(3), random_case(4))
    ]
    assert all(result.verified for result in found)


def test_an_order_that_counts_as_untried_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    network, chip = two_orders()
    params = SolveParams(strategy="layerwise", objective="dram", prefetch=False, workers=1)
    assert planner.plan(network, chip, params).provenance.orders_tried == 2
    answer = planner._answer

    def cut_short(world: World, *rest: object) -> tuple[Answer | None, bool]:
        found, possible = answer(world, *rest)  # type: ignore[arg-type]
        if found is not None and world.name != "source":
            found = replace(found, value=found.value + 1, bound=found.bound - 1)
        return found, possible

    monkeypatch.setattr(planner, "_answer", cut_short)
    schedule = planner.plan(network, chip, params)
    assert (schedule.provenance.status, schedule.provenance.orders_tried) == ("optimal", 1)
    monkeypatch.setattr(planner, "_answer", lambda world, *rest: (
        answer(world, *rest) if world.name == "source" else (None, True)
    ))  # fmt: skip
    assert planner.plan(network, chip, params).provenance.orders_tried == 1


@pytest.mark.parametrize(("gap", "better", "tried"), [(0.5, 0, 1), (0.5, 8, 2), (0.01, 8, 1)])
def test_an_order_may_begin_late_where_a_plan_is_far_from_its_bound(
    monkeypatch: pytest.MonkeyPatch, gap: float, better: int, tried: int
) -> None:
    network, chip = two_orders()
    params = SolveParams(
        strategy="layerwise", objective="dram", prefetch=False, workers=1, aliases=False
    )
    value = 10**6

    def changes(name: str, _: object) -> dict[str, int]:
        if name == "source":
            return {"value": value, "bound": round((1 - gap) * value)}
        # the time ends before its bound is a good one
        return {"value": value - better, "bound": value // 4}

    change_answers(monkeypatch, 0.7 * params.time_limit, changes)
    found = planner.plan(network, chip, params).provenance
    assert (found.orders_tried, found.order == "source") == (tried, tried == 1)
    assert found.objective_bound == (value // 4 if tried == 2 else round((1 - gap) * value))


@pytest.mark.parametrize(
    ("stripes", "tilings", "covered", "known", "bound"),
    [
        (False, ["all", "all"], 2, 500_000, 250_000),
        (True, ["all", "rows"], 1, 500_000, 500_000),
        # better than all that the bound covers: then it says nothing about this plan
        (True, ["all", "rows"], 1, 10**6 - 4, 0),
    ],
)
def test_a_late_order_is_searched_in_stripes_alone_where_these_may_do(
    monkeypatch: pytest.MonkeyPatch,
    stripes: bool,
    tilings: list[str],
    covered: int,
    known: int,
    bound: int,
) -> None:
    """Its plan counts, but its bound is none for all tilings."""
    network, chip = two_orders()
    params = SolveParams(
        strategy="layerwise", objective="dram", prefetch=False, workers=1, aliases=False
    )
    value, asked = 10**6, []
    monkeypatch.setattr(Standing, "is_content", lambda *_: False)
    monkeypatch.setattr(planner, "_is_worth_beginning", lambda *_: True)

    def changes(name: str, tilings: str) -> dict[str, int]:
        asked.append(tilings)
        found = {"value": value, "bound": known, "stripes_may_do": stripes}
        return found if name == "source" else found | {"value": value - 8, "bound": value // 4}

    change_answers(monkeypatch, 0.7 * params.time_limit, changes)
    found = planner.plan(network, chip, params).provenance
    assert asked == tilings
    assert (found.objective_value, found.order != "source") == (value - 8, True)
    assert (found.orders_tried, found.objective_bound) == (covered, bound)
    assert found.status == "feasible"


def change_answers(
    monkeypatch: pytest.MonkeyPatch, seconds: float, changes: Callable[[str, str], dict[str, int]]
) -> None:
    """Let each order take `seconds`, and its answer have `changes` for its name and tilings."""
    answer, spent = planner._answer, [0.0]
    monkeypatch.setattr(planner_search.Clock, "seconds", property(lambda _: spent[0]))

    def changed(
        world: World, clock: planner_search.Clock, known: list[Placed], rivals: planner._Rivals
    ) -> tuple[Answer | None, bool]:
        found, possible = answer(world, clock, known, rivals)
        assert found is not None
        spent[0] += seconds
        return replace(found, **changes(world.name, rivals.variant.params.tilings)), possible

    monkeypatch.setattr(planner, "_answer", changed)


def two_orders() -> tuple[Network, Hardware]:
    """Two branches, one behind the other in the file or side by side."""
    net = spm_opt.NetworkBuilder("branches", dtype="int8")
    x = net.input("x", (1, 4, 8, 8))
    left, right = net.conv(x, 4, 1), net.conv(x, 8, 1)
    net.output(net.conv(left, 4, 1), net.conv(right, 4, 1))
    return net.build(), load_hardware("mobile_npu")


@pytest.mark.parametrize("seed", [0, 7, 15])
def test_where_time_is_short_the_simpler_strategies_are_searched_first(monkeypatch, seed: int):
    # the time ends before the joint plan may cross steps
    search = planner_search.Search
    monkeypatch.setattr(search, "_affords", lambda self, seconds: False)
    for later in ("_raise_bound", "overlap", "place_passed", "_improve_with_cpsat"):
        monkeypatch.setattr(search, later, lambda self, *told: None)
    network, chip = random_case(seed)
    joint = solved(network, chip, orders=1, aliases=False)
    assert joint.verified
    monkeypatch.setattr(planner_search, "SIMPLER", ())
    assert joint.latency_cycles < solved(network, chip, orders=1, aliases=False).latency_cycles


@pytest.mark.parametrize("strategy", ["fuse", "pin"])
def test_there_is_a_plan_however_short_the_limit(monkeypatch, strategy: str) -> None:
    """Also where the strategy's own optimum cannot be placed at once."""
    asked: list[Problem] = []
    place_decision = planner_standins.place_decision

    def first_fails(world, found, *rest):
        asked.append(found)
        return None if len(asked) == 1 else place_decision(world, found, *rest)

    monkeypatch.setattr(planner_standins, "place_decision", first_fails)
    network = random_network(random.Random(1))
    chip = random_chip(random.Random(1))
    schedule = planner.plan(network, chip, SolveParams(strategy=strategy, time_limit=1e-6))
    assert len(asked) == 2
    assert verify(schedule) == ()


@pytest.mark.parametrize(("capacity", "left_out"), [("8 KiB", False), ("12 KiB", True)])
def test_the_plain_space_is_left_out_where_a_plan_is_better_than_all_of_it(
    capacity: str, left_out: bool
) -> None:
    """Neither the constants nor the input of the second layer have room: partial sums are fast."""
    net = spm_opt.NetworkBuilder("wide", dtype="int8")
    x = net.conv(net.input("x", (1, 64, 16, 16)), 64, 1)
    net.output(net.conv(x, 64, 3, padding=1))
    network, chip = net.build(), load_hardware("mobile_npu", {"spm.capacity": capacity})
    params = SolveParams(workers=1)
    world = planner.make_world(network, chip, params, "source", (0, 1))
    search = planner_search.Search(world, world.problem, planner_search.Clock(params, None, None))
    assert search.plain is not search.problem
    planner_standins.stand_ins(search)
    assert (search.plain is search.problem) == left_out
    if left_out:
        rows = planner.plan(network, chip, replace(params, tilings="rows")).provenance
        assert min(placed.latency_cycles for placed in search.found) <= rows.objective_bound


def test_more_tilings_do_not_end_a_search_before_stripes_have_had_their_turns() -> None:
    """What all tilings promise most is a plan of stripes: in less space these run faster."""
    chip = load_hardware("mobile_npu", {"spm.capacity": "2 MiB"})
    params = SolveParams(workers=1, deterministic_limit=1.0)
    network = load_network("alexnet")
    both = planner.plan(network, chip, params).provenance
    rows = planner.plan(network, chip, replace(params, tilings="rows")).provenance
    assert both.objective_value <= rows.objective_value


@pytest.mark.parametrize(
    ("reserve", "gap", "limit", "leaves"),
    [
        (0.0, 0.1, None, False),  # no other order is left
        (20.0, 0.1, None, True),
        (60.0, 0.1, None, False),  # it would not end in time
        (20.0, 0.02, None, False),  # it would not be worth it
        (20.0, 0.1, 1.0, False),  # runs must repeat
    ],
)
def test_time_is_left_to_another_order_where_the_gap_is_wide(
    reserve: float, gap: float, limit: float | None, leaves: bool
) -> None:
    """50 seconds are left."""
    params = SimpleNamespace(deterministic_limit=limit)
    clock = SimpleNamespace(left=50.0, reserve=reserve, params=params)
    search = SimpleNamespace(clock=clock, gap=lambda: gap)
    assert planner_search.Search._leaves_time(search) == leaves


def test_turns_that_were_left_for_other_orders_are_taken_in_the_end() -> None:
    """Where the time is not used up, with what the search knows already."""
    plans = [
        SimpleNamespace(value=lambda _, n=n: n, latency_cycles=n, dram_bytes=0) for n in (9, 7)
    ]
    clock = planner_search.Clock(SolveParams(), None, None)
    clock.reserve = 5.0
    search = SimpleNamespace(
        has_left_turns=True, clock=clock, found=plans[:1], objective="latency",
        overlap=lambda: search.found.append(plans[1]),
    )  # fmt: skip
    standing = Standing("joint", seconds=20.0)
    standing.best = Answer(None, plans[0], 9, 5, True, search)  # type: ignore[arg-type]
    standing.take_up()
    assert (standing.best.value, standing.best.placed, standing.best.bound) == (7, plans[1], 5)
    assert clock.reserve == 0
    assert standing.seconds >= 20
    search.has_left_turns = False
    standing.take_up()
    assert len(search.found) == 2


def test_smaller_spaces_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tilings, those of stripes, and slices by themselves: each is solved and placed."""
    net = spm_opt.NetworkBuilder("sliced", dtype="int8")
    x = net.conv(net.input("x", (1, 16, 24, 24)), 64, 3, padding=1)
    net.output(net.conv(x, 64, 3, padding=1))
    chip = load_hardware("mobile_npu", {"spm.capacity": "24 KiB"})
    params = SolveParams(workers=1)
    world = planner.make_world(net.build(), chip, params, "source", (0, 1))
    search = planner_search.Search(world, world.problem, planner_search.Clock(params, None, None))
    planner_standins.stand_ins(search)
    spaces = search.spaces()
    sizes = [len(space.candidates) for space in spaces]
    assert sizes == sorted(set(sizes), reverse=True)
    assert len(sizes) == 3
    asked: list[int] = []
    best_overlap = search._best_overlap

    def noted(share: int, problem: Problem) -> planner_search.Solved:
        asked.append(len(problem.candidates))
        return best_overlap(share, problem)

    monkeypatch.setattr(search, "_best_overlap", noted)
    # nothing is good enough, and nothing lies in a smaller space
    monkeypatch.setattr(search, "_least", lambda: 10**9)
    monkeypatch.setattr(search, "_lies_in", lambda *told: False)
    search.overlap()
    assert asked == sizes * len(planner_search.OVERLAP_SHARES)
