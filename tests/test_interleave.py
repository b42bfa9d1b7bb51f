"""Prefetches whole or in pieces: each plan space at its own optimum, on one machine."""

from __future__ import annotations

import random
from functools import cache

import pytest
from draws import quick_of
from plan_fixture import random_chip, random_network

from spm_opt.api import load_hardware
from spm_opt.cpsat.search import Budget
from spm_opt.errors import InputError
from spm_opt.fusion import cut_costs
from spm_opt.params import SolveParams
from spm_opt.parts import source_order
from spm_opt.planner import make_world, plan
from spm_opt.verify import verify

#: the others take seconds each
SEEDS = quick_of((2, 3, 5, 7, 8, 9, 10, 11), range(12))


@cache
def planned(seed: int, interleave: str):
    rng = random.Random(seed)
    network = random_network(rng)
    chip = random_chip(rng, network)
    params = SolveParams(interleave=interleave, time_limit=20, workers=1, orders=1)
    return plan(network, chip, params), chip


@pytest.mark.parametrize("seed", SEEDS)
def test_without_pieces_the_value_is_proven_exactly(seed: int) -> None:
    schedule, _ = planned(seed, "off")
    assert verify(schedule) == ()
    assert all(transfer.piece is None for transfer in schedule.transfers)
    if schedule.provenance.status == "optimal":
        assert schedule.claims.latency_cycles == schedule.provenance.objective_bound


@pytest.mark.parametrize("seed", SEEDS)
def test_pieces_lie_between_the_bound_and_what_whole_loads_take(seed: int) -> None:
    whole, chip = planned(seed, "off")
    pieces, _ = planned(seed, "on")
    assert verify(pieces) == ()
    assert pieces.provenance.objective_bound <= pieces.claims.latency_cycles
    assert pieces.provenance.objective_bound <= whole.claims.latency_cycles
    if cut_costs(chip.dram).cycles == 0 and pieces.provenance.status == "optimal":
        assert pieces.claims.latency_cycles <= whole.claims.latency_cycles


def test_auto_cuts_only_where_that_costs_nothing() -> None:
    rng = random.Random(1)
    network = random_network(rng)
    for name, free in (("soma_edge", True), ("mobile_npu", False)):
        chip = load_hardware(name)
        world = make_world(network, chip, SolveParams(), "source", source_order(network))
        assert world.problem.cuts is free


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(InputError, match="interleave"):
        SolveParams(interleave="sometimes")


def test_labels_and_cpsat_agree_where_nothing_may_be_cut() -> None:
    from dataclasses import replace

    from random_worlds import random_problem

    from spm_opt.cpsat.improve import improve
    from spm_opt.dynamic import Prices, solve_dynamic

    compared = 0
    for seed in range(25):
        problem = replace(random_problem(random.Random(seed)), cuts=False)
        solved = solve_dynamic(problem, Prices(1, 0))
        if solved.decision is None or not solved.complete:
            continue
        outcome = improve(
            problem, "latency", solved.decision, solved.latency_cycles,
            Budget(20.0, 5.0, 1, 0, None), lambda *_: None, problem,
        )  # fmt: skip
        if outcome.bound == outcome.value:
            assert outcome.value == solved.latency_cycles
            compared += 1
    assert compared >= 5
