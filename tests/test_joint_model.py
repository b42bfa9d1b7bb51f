"""Every rule of the CP-SAT model is needed, no cut is; decisions are plans; runs repeat."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from draws import some_seeds
from oracles import brute_force, by_cpsat, by_dynamic, cost_of, finish, plan_of, prove
from random_worlds import random_problem
from small_problems import fmap, group, joined, problem

from spm_opt.cpsat.constraints import RULES, Rule, loads_take_time
from spm_opt.cpsat.improve import choices, improve
from spm_opt.cpsat.model import build, decision_of
from spm_opt.cpsat.search import Budget
from spm_opt.cpsat.strengthen import CUTS
from spm_opt.problem import Problem

#: for each rule a problem, its optimal latency, and what the model believes without the rule
CASES: dict[str, tuple[Problem, int, int]] = {
    "every_part_runs_once": (
        problem(
            1, (fmap(1, (), (0,)), fmap(2, (1,), (), must_store=True)), {},
            group(0, 2, 1, dma=1, streams=(0,), stores=(1,)),
        ), 1, 0,
    ),
    # an input is read in SPM, and nothing ever loaded it
    "pinned_maps_are_written": (
        problem(
            1, (fmap(1, (), (0, 1)), fmap(2, (0,), (), must_store=True),
                fmap(2, (1,), (), must_store=True)), {},
            group(0, 1, 1, dma=1, streams=(0,), stores=(1,)),
            group(1, 2, 1, dma=1, reads=(0,), stores=(2,)),
        ), 3, 2,
    ),
    # map 1 is kept, pushed out by part 1, and read by part 2
    "pinned_maps_stay": (
        problem(
            4, (fmap(1, (), (0,)), fmap(1, (0,), (2,)), fmap(1, (1,), (), must_store=True),
                fmap(1, (2,), (), must_store=True)), {},
            group(0, 1, 1, dma=1, work=1, streams=(0,), keeps=(1,)),
            group(0, 1, 3, dma=2, streams=(0,), stores=(1,)),
            group(1, 2, 1, dma=1, work=4, stores=(2,)),
            group(2, 3, 1, dma=1, reads=(1,), stores=(3,)),
        ), 6, 3,
    ),
    # map 0 is loaded by part 0 and read again by part 2: part 1 would like its space
    "held_maps_stay": (
        problem(
            4, (replace(fmap(2, (), (0, 2)), held_until=2), fmap(1, (1,), (), must_store=True),
                fmap(1, (2,), (), must_store=True)), {},
            group(0, 1, 1, reads=(0,)),
            group(1, 2, 9, dma=1, work=2, stores=(1,)),
            group(1, 2, 1, dma=1, work=4, stores=(1,)),
            group(2, 3, 1, dma=1, reads=(0,), stores=(2,)),
        ), 12, 5,
    ),
    "groups_find_their_maps": (
        problem(
            1, (fmap(1, (), (0,)), fmap(2, (0,), (), must_store=True)), {},
            group(0, 1, 1, dma=1, reads=(0,), stores=(1,)),
        ), 2, 1,
    ),
    # keeping is fast, but both readers stream
    "streams_read_stored_maps": (
        problem(
            1, (fmap(1, (), (0,)), fmap(1, (0,), (1,)), fmap(2, (1,), (), must_store=True)), {},
            group(0, 1, 1, dma=1, work=1, streams=(0,), keeps=(1,)),
            group(0, 1, 2, dma=1, streams=(0,), stores=(1,)),
            group(1, 2, 1, dma=1, streams=(1,), stores=(2,)),
        ), 3, 2,
    ),
    # kept, pushed out by part 1, and loaded again without ever having been stored
    "reloads_read_stored_maps": (
        problem(
            2, (fmap(1, (), (0,)), fmap(1, (0,), (2,)), fmap(1, (1,), (), must_store=True),
                fmap(1, (2,), (), must_store=True)), {},
            group(0, 1, 1, dma=1, work=1, streams=(0,), keeps=(1,)),
            group(0, 1, 3, dma=2, streams=(0,), stores=(1,)),
            group(1, 2, 1, dma=1, work=2, stores=(2,)),
            group(2, 3, 1, dma=1, reads=(1,), stores=(3,)),
        ), 6, 4,
    ),
    # map 1 is loaded in part 0, which does not read it, to leave the queue to the constants
    "reloads_serve_readers": (
        problem(
            100, (fmap(1, (), (0,)), fmap(1, (), (1,), reload=2), fmap(1, (0,), (1,)),
                  fmap(1, (1,), (2,)), fmap(1, (2,), (), must_store=True)), {2: (1, 9)},
            group(0, 1, 5, dma=1, work=1, streams=(0,), keeps=(2,)),
            group(1, 2, 5, work=1, reads=(1, 2), keeps=(3,)),
            group(2, 3, 3, dma=1, work=1, reads=(3,), stores=(4,)),
            group(0, 2, 100, dma=1, work=1, reads=(1,), streams=(0,), keeps=(3,)),
            cuts=False,
        ), 19, 15,
    ),
    # the second slice is not stored, and streamed all the same
    "slices_share_one_choice": (
        problem(
            2, (fmap(4, (), (0,)), fmap(2, (0, 1), (2,)), fmap(1, (2,), (), must_store=True)), {},
            group(0, 1, 1, dma=1, work=2, streams=(0,), keeps=(1,), stores=(1,)),
            group(1, 2, 1, keeps=(1,)),
            group(1, 2, 3, dma=1, keeps=(1,), stores=(1,)),
            group(2, 3, 1, dma=1, streams=(1,), stores=(2,)),
        ), 5, 3,
    ),
    "constants_are_held": (
        problem(
            10, (fmap(3, (), (0,)), fmap(3, (1,), (), must_store=True)), {0: (3, 1), 1: (1, 1)},
            group(0, 2, 2, dma=1, streams=(0,), stores=(1,)),
            group(0, 2, 1, dma=1, work=7, streams=(0,), stores=(1,)),
        ), 4, 3,
    ),
    "constants_are_loaded": (
        problem(
            1, (fmap(3, (), (0,)), fmap(2, (1,), (), must_store=True)), {1: (1, 1)},
            group(0, 2, 1, dma=1, streams=(0,), stores=(1,)),
        ), 2, 1,
    ),
    # part 0 has cycles to spare for the constants of part 1, and no space
    "loads_follow_claims": (
        problem(
            4, (fmap(4, (), (0, 1)), fmap(2, (1,), (), must_store=True)), {1: (4, 1)},
            group(0, 1, 2, dma=1, work=1, streams=(0,)),
            group(1, 2, 1, dma=1, streams=(0,), stores=(1,)),
        ), 4, 3,
    ),
    # a group would load its own constants beside itself
    "loads_precede_use": (
        problem(
            1, (fmap(3, (), (0,)), fmap(3, (1,), (), must_store=True)), {1: (1, 1)},
            group(0, 2, 2, dma=1, streams=(0,), stores=(1,)),
        ), 3, 2,
    ),
    # constants of part 2 would pass those of part 1, which are streamed
    "loads_keep_order": (
        problem(
            2, (fmap(2, (), (0, 2)), fmap(4, (0,), (1,), must_store=True),
                fmap(2, (1,), (), must_store=True), fmap(4, (2,), (), must_store=True)),
            {1: (1, 1), 2: (1, 1)},
            group(0, 1, 2, dma=1, streams=(0,), stores=(1,)),
            group(1, 2, 1, dma=1, streams=(1,), stores=(2,), streams_weights=True),
            group(2, 3, 1, dma=1, streams=(0,), stores=(3,)),
        ), 5, 4,
    ),
    "loads_complete": (
        problem(
            5, (fmap(1, (), (0, 1, 2, 3)), fmap(2, (0, 1), (), must_store=True),
                fmap(4, (2, 3), (), must_store=True)), {1: (1, 1), 3: (1, 1)},
            group(0, 1, 2, dma=1, work=2, streams=(0,), keeps=(1,), stores=(1,)),
            group(1, 2, 1, dma=1, streams=(0,), keeps=(1,), stores=(1,), streams_weights=True),
            group(2, 3, 1, dma=1, work=4, streams=(0,), keeps=(2,), stores=(2,)),
            group(3, 4, 1, dma=1, streams=(0,), keeps=(2,), stores=(2,)),
        ), 6, 5,
    ),
    # one cycle to spare in each of two steps that stream, for one load of two
    "queue_is_free_for_streams": (
        problem(
            2, (fmap(1, (), (0, 1, 2)), fmap(2, (2,), (), must_store=True)), {2: (1, 2)},
            group(0, 1, 2, dma=1, streams=(0,)),
            group(1, 2, 2, dma=1, streams=(0,)),
            group(2, 3, 1, dma=1, streams=(0,), stores=(1,)),
            cuts=False,
        ), 6, 5,
    ),
    "steps_wait_for_the_queue": (
        problem(
            3, (fmap(2, (), (0, 1)), fmap(2, (1,), (), must_store=True)), {1: (1, 1)},
            group(0, 1, 1, dma=1, streams=(0,)),
            group(1, 2, 1, dma=1, streams=(0,), stores=(1,)),
        ), 3, 2,
    ),
    "capacity_holds": (
        problem(
            1, (fmap(1, (), (0,)), fmap(1, (0,), (), must_store=True)), {},
            group(0, 1, 1, dma=1, work=2, streams=(0,), stores=(1,)),
            group(0, 1, 2, dma=1, work=1, streams=(0,), stores=(1,)),
        ), 2, 1,
    ),
}  # fmt: skip

#: constants of part 2 find time in part 0 and no space in part 1
FORGETFUL = problem(
    2, (fmap(1, (), (0, 1, 2)), fmap(1, (2,), (), must_store=True)), {2: (2, 2)},
    group(0, 1, 4, dma=1, streams=(0,)),
    group(1, 2, 1, dma=1, work=2, streams=(0,)),
    group(2, 3, 1, dma=1, streams=(0,), stores=(1,)),
)  # fmt: skip


#: part 1 reads one piece of map 1 in SPM and adds the other to it
READ_AND_ADDED = problem(
    4, (fmap(1, (), (0,)), joined(2, (0, 1), (1, 2)), fmap(1, (0,), (1, 2)), fmap(1, (1,), (2,)),
        fmap(1, (2,), (), must_store=True)), {},
    group(0, 1, 1, dma=1, work=2, streams=(0,), keeps=(1,)),
    group(0, 1, 1, dma=1, work=1, streams=(0,), keeps=(2,)),
    group(1, 2, 1, reads=(1,), keeps=(1,)),
    group(1, 2, 1, work=1, reads=(2,), keeps=(3,)),
    group(2, 3, 1, dma=1, reads=(1,), stores=(4,)),
    group(2, 3, 9, dma=1, reads=(2, 3), stores=(4,)),
)  # fmt: skip


def without(rule: Rule) -> tuple[Rule, ...]:
    return tuple(other for other in RULES if other is not rule)


def test_every_rule_has_a_case():
    assert {*CASES, "loads_take_time"} == {rule.__name__ for rule in RULES}


@pytest.mark.parametrize(
    "rule", [r for r in RULES if r is not loads_take_time], ids=lambda r: r.__name__
)
def test_the_model_is_wrong_without_the_rule(rule: Rule):
    case, right, wrong = CASES[rule.__name__]
    best = brute_force(case, "latency").cost
    assert best is not None
    assert best[0] == right
    assert prove(case, "latency").value == right
    assert prove(case, "latency", cuts=()).value == right
    assert prove(case, "latency", rules=without(rule), cuts=()).value == wrong < right


@pytest.mark.parametrize("rules", [RULES, without(loads_take_time)], ids=["with", "without"])
def test_what_was_loaded_may_not_be_forgotten(rules: tuple[Rule, ...]):
    # it gains no cycle, but the decision that is read off it is no plan
    joint = build(FORGETFUL, "latency", rules, cuts=())
    joint.model.add(joint.variables.ready[2, 1] == 2)
    joint.model.add(joint.variables.ready[2, 2] == 0)
    found = finish(joint)
    assert found.infeasible is (rules is RULES)
    if found.values is not None:
        with pytest.raises(AssertionError):
            plan_of(FORGETFUL, decision_of(FORGETFUL, found.values))


def test_a_group_may_read_one_piece_of_a_map_and_add_another():
    best = brute_force(READ_AND_ADDED, "latency").cost
    assert best == (3, 0)
    assert by_cpsat(READ_AND_ADDED, "latency")[0] == best
    assert by_dynamic(READ_AND_ADDED, "latency")[0] == best


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
@some_seeds(range(300, 312), range(300, 325))
def test_no_cut_changes_an_optimum(cut: Rule, seeds: Sequence[int]):
    tighter = 0
    for seed in seeds:
        case = random_problem(random.Random(seed))
        bare, cutting = build(case, "latency", cuts=()), build(case, "latency", cuts=(cut,))
        tighter += len(cutting.model.proto.constraints) > len(bare.model.proto.constraints)
        assert finish(cutting).value == finish(bare).value
        for other in ("latency", "dram"):
            joint = build(case, other, cuts=(cut,))
            cost, _ = by_dynamic(case, other)
            assert finish(joint).value == (None if cost is None else cost[0])
    assert tighter


@pytest.mark.parametrize("name", CASES)
def test_decisions_are_plans_of_the_value(name: str):
    case, right, _ = CASES[name]
    for objective in ("latency", "dram"):
        cost, decision = by_cpsat(case, objective)
        assert decision is not None
        assert cost_of(case, decision, objective) == cost
        assert objective == "dram" or cost is None or cost[0] == right


def test_a_decision_is_a_solution_of_the_model():
    # the start of `improve` is not only a hint: the model accepts it as it is
    for seed in range(40):
        case = random_problem(random.Random(seed))
        cost, decision = by_dynamic(case, "latency")
        if cost is None or decision is None:
            continue
        joint = build(case, "latency")
        values = choices(case, decision)
        for name, variable in joint.variables.named(case).items():
            if name[0] in ("use", "pin", "reload", "held", "own"):
                joint.model.add(variable == values.get(name, 0))
        assert finish(joint).value == cost[0]


def test_improve_finds_and_proves_the_optimum_from_a_poor_start():
    budget = Budget(60, None, 1, 0)
    improved = 0
    for seed in range(20):
        case = random_problem(random.Random(seed))
        _, start = by_dynamic(case, "dram")
        cost, _ = by_dynamic(case, "latency")
        if start is None or cost is None:
            continue
        value = cost_of(case, start, "latency")[0]
        outcome = improve(case, "latency", start, value, budget, lambda value, bound: None)
        assert (outcome.value, outcome.bound, outcome.proven) == (cost[0], cost[0], True)
        assert cost_of(case, outcome.decision, "latency")[0] == cost[0]
        improved += cost[0] < value
    assert improved >= 5


def test_the_same_seed_gives_the_same_decision():
    case = random_problem(random.Random(24))
    assert by_cpsat(case, "latency") == by_cpsat(case, "latency")


def test_an_impossible_problem_is_called_infeasible():
    case = problem(
        1, (fmap(1, (), (0,)), fmap(1, (0,), (), must_store=True)), {0: (1, 1)},
        group(0, 1, 1, dma=1, work=1, streams=(0,), stores=(1,)),
    )  # fmt: skip
    assert prove(case, "latency").infeasible
    assert by_dynamic(case, "latency") == (None, None)
    assert brute_force(case, "latency").cost is None
