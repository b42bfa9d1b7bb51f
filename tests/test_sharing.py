"""Maps inside others, and over others, in the plans of small networks where they matter."""

from __future__ import annotations

import random

from plan_fixture import make_world, random_chip, schedule_of

from spm_opt.dynamic import Prices, solve_dynamic
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.schedule import Schedule
from spm_opt.verify import verify


def planned(network: Network, tightness: float = 10.0, aliases: bool = True) -> Schedule:
    """The fastest plan on a chip that has `tightness` times the least space."""
    chip = random_chip(random.Random(1), network, tightness)
    world = make_world(network, chip, aliases=aliases)
    decision = solve_dynamic(world.problem, Prices(10**6, 1)).decision
    assert decision is not None
    schedule = schedule_of(world, decision)
    assert schedule is not None
    return schedule


def test_a_split_that_is_an_output_is_stored_all_the_same() -> None:
    b = NetworkBuilder("split")
    x = b.conv(b.input("x", (1, 8, 6, 6)), 8, 3, padding=1)
    half = b.slice(x, 1, 0, 4, name="half")
    b.output(half, b.conv(half, 4, 1, name="narrow"))
    schedule = planned(b.build())
    assert verify(schedule) == ()
    assert {t.tensor for t in schedule.transfers if t.kind == "store"} == {"half", "narrow"}
