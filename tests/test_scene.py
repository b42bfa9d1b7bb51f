"""What pictures are made from: when buffers are used, by whom, and how maps travel."""

from __future__ import annotations

import random
from functools import cache

import pytest
from big_schedule import long_schedule
from plan_fixture import make_world, random_chip, random_decision, random_network, schedule_of
from schedule_fixture import ALL, prefetch

from spm_opt.report import spm_load_bytes
from spm_opt.scene import Link, Scene, short_name
from spm_opt.schedule import Schedule

SCHEDULES = {**ALL, "long": lambda: long_schedule(12)}


@cache
def drawn(seed: int) -> Schedule:
    """A valid plan that nobody chose: the first of this lot that has one."""
    rng = random.Random(seed)
    while True:
        network = random_network(rng)
        world = make_world(network, random_chip(rng, network))
        decision = random_decision(rng, world.problem)
        found = decision and schedule_of(world, decision)
        if found:
            return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_lifetimes_are_those_of_the_commands(name):
    schedule = SCHEDULES[name]()
    for number, life in enumerate(Scene(schedule).lifetimes):
        touching = [t for t in schedule.transfers if t.buffer == number]
        touching += [c for c in schedule.computes if number in c.touched]
        assert life.first_cycle == min(c.start_cycle for c in touching)
        assert life.last_cycle == max(c.end_cycle for c in touching)
        assert life.claim_cycle <= life.first_cycle <= life.last_cycle <= life.release_cycle
        readers = [
            c.layer for c in schedule.computes if number in (*c.inputs, *c.weights, c.sums)
        ]  # fmt: skip
        assert life.readers == tuple(dict.fromkeys(readers))


def overlaps(schedule: Schedule) -> list[tuple[str, str]]:
    """Pairs of boxes of a memory map that cover each other, but for what shares bytes."""
    boxes = list(zip(schedule.buffers, Scene(schedule).lifetimes, strict=True))
    found = []
    for i, (a, p) in enumerate(boxes):
        for b, q in boxes[i + 1 :]:
            in_time = p.first_cycle < q.last_cycle and q.first_cycle < p.last_cycle
            in_space = (
                a.offset_bytes < b.offset_bytes + b.size_bytes
                and b.offset_bytes < a.offset_bytes + a.size_bytes
            )
            if in_time and in_space and a.shares is None and b.shares is None:
                found.append((a.name, b.name))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_boxes_of_a_memory_map_never_overlap(seed):
    assert overlaps(drawn(seed)) == []


@pytest.mark.parametrize("seed", range(12))
def test_reserved_bytes_peak_at_the_load(seed):
    schedule = drawn(seed)
    assert max(Scene(schedule).reserved_bytes) == spm_load_bytes(schedule)


def test_links_tell_pinned_from_spilled():
    assert Scene(prefetch()).links == (
        Link("x", None, "a", "spilled"),
        Link("a.out", "a", "b", "pinned"),
        Link("b.out", "b", "c", "spilled"),
    )
    assert [link.way for link in Scene(ALL["fused"]()).links] == ["spilled", "inside"]


@pytest.mark.parametrize("seed", range(12))
def test_links_lead_from_layers_that_compute_to_layers_that_compute(seed):
    schedule = drawn(seed)
    busy = {c.layer for c in schedule.computes}
    order = {name: n for n, name in enumerate(dict.fromkeys(c.layer for c in schedule.computes))}
    links = Scene(schedule).links
    assert {link.reader for link in links} == busy
    for link in links:
        assert link.producer is None or order[link.producer] < order[link.reader]


def test_short_names_keep_the_end():
    assert short_name("a.b") == "a.b"
    assert short_name("features.denseblock1.conv2", 10) == "…ck1.conv2"
    assert short_name("features.0.conv", 6) == "…conv"
