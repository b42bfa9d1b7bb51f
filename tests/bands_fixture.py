"""Worlds whose runs of layers are cut into bands wherever they can be, and plans in them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
from emitted import Batch, drawn_inputs
from plan_fixture import (
    World,
    make_world,
    random_chip,
    random_decision,
    random_network,
    schedule_of,
    with_capacity,
)
from values_oracle import run as computed

from spm_opt import fusion_band_borders, fusion_bands
from spm_opt.banding import BandConflictError, in_bands
from spm_opt.decision import Decision
from spm_opt.emit.c_project import emit_project
from spm_opt.errors import GraphError
from spm_opt.fusion_band_borders import BorderChoice
from spm_opt.graph.band_cuts import run_cuts
from spm_opt.graph.bands import border_maps
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.layout import lay_out
from spm_opt.layout_space import hosts, rectangles
from spm_opt.schedule import Buffer, Schedule
from spm_opt.seeded import draw_values
from spm_opt.site import Site

#: seeds of chains on wide maps; those below are of networks of every sort
CHAINS = range(2000, 2012)


def wide_world(seed: int, every: bool = False) -> World:
    """A world in which every run that can be cut is cut, however narrow its maps.

    With `every` choice of the maps that keep their borders, however dear.
    """
    rng = random.Random(seed)
    if seed < CHAINS[0]:
        network = random_network(rng, layers=7, images=rng.choice([1, 1, 1, 2]), widths=(6, 9, 13))
    else:
        network = random_chain(rng)
    chip = random_chip(rng, network, rng.choice([2.0, 4.0] if every else [1.0, 2.0, 4.0]))
    patch = pytest.MonkeyPatch()
    patch.setattr(fusion_bands, "LEAST_COLUMNS", 1)
    patch.setattr(fusion_bands, "WORTH", 0)
    if every:
        patch.setattr(fusion_bands, "border_choices", every_choice)
    try:
        return make_world(network, chip, prune=False, cuts=seed % 3 > 0, bands=True)
    finally:
        patch.undo()


def every_choice(
    site: Site, positions: Sequence[int], bands: Sequence[tuple[int, int]]
) -> Iterator[BorderChoice]:
    """All sets of maps that can keep their borders; of long runs those of the last few maps."""
    layers = [site.layer_at(position) for position in positions]
    names, made = [layer.name for layer in layers], {layer.output for layer in layers}
    maps = dict.fromkeys(x.output for x in layers[:-1])
    maps |= dict.fromkeys(o.tensor for x in layers for o in x.inputs if o.tensor not in made)
    some = list(maps)[-4:]
    for count in range(len(some) + 1):
        for kept in combinations(some, count):
            try:
                cuts = run_cuts(site.network, names, bands, kept)
            except GraphError:
                continue
            if all(any(t in cut.found for cut in cuts) for t in kept):
                yield BorderChoice(kept, *fusion_band_borders._alike(cuts))


def random_chain(rng: random.Random) -> Network:
    """Windows behind windows on a wide map, now and then with a sum across two of them."""
    b = NetworkBuilder("chain")
    x = b.input("x", (1, rng.randint(1, 3), rng.randint(4, 7), rng.randint(18, 34)))
    for _ in range(rng.randint(2, 4)):
        sort, before = rng.choice(("conv", "conv", "depthwise", "pool", "sum")), x
        if sort == "conv":
            kernel = rng.choice((3, 3, 5))
            x = b.conv(
                x, rng.randint(1, 4), kernel, padding="same", stride=rng.choice((1, 1, 1, 2))
            )
        elif sort == "depthwise":
            x = b.depthwise(x, 3, padding=1, activation="relu")
        elif sort == "pool":
            x = b.max_pool(x, 3, 1, padding=1)
        else:
            x = b.add(b.conv(x, x.shape[1], 3, padding=1), before)
    b.output(x)
    return b.build().with_dtype("int8")


@cache
def plans(seed: int, every: bool = False) -> tuple[World, tuple[Decision, ...]]:
    """A world, and decisions in it that have groups in bands."""
    world, rng = wide_world(seed, every), random.Random(seed)
    cut = {
        part
        for c in world.problem.candidates
        if world.recipes[c.recipe].bands
        for part in range(c.first, c.end)
    }
    rare = {
        "plain": 0.05,
        # most choices keep something, and most plans should where every choice is there
        "bands": 0.1 if every else 1.0,
    }
    problem = world.problem.only(
        lambda c: bool(world.recipes[c.recipe].kept) or not cut.issuperset(range(c.first, c.end))
        or rng.random() < rare["bands" if world.recipes[c.recipe].bands else "plain"]
    )  # fmt: skip
    world = replace(world, problem=problem)
    found = (random_decision(rng, problem) for _ in range(8 if every else 4))
    return world, tuple(d for d in found if d is not None and _told(world, d))


def _told(world: World, decision: Decision) -> bool:
    try:
        told = in_bands(world.site, world.problem, world.recipes, decision)
    except BandConflictError:
        return False
    return bool(told.site.bands)


def schedules(seed: int, every: bool = False) -> list[Schedule]:
    """Schedules of these decisions, with as much space as first fit takes."""
    world, decisions = plans(seed, every)
    size = world.site.hardware.spm.capacity_bytes
    roomy = replace(
        world, site=replace(world.site, hardware=with_capacity(world.site.hardware, 4 * size))
    )
    found = (schedule_of(roomy, decision, wide=seed % 2 > 0) for decision in decisions)
    return [schedule for schedule in found if schedule is not None]


def border_space(buffers: Sequence[Buffer], borders: frozenset[str], step: int) -> int:
    """Bytes of the borders that are there in a step, those that share bytes once."""
    found = {
        host: buffer.size_bytes
        for buffer, host in zip(buffers, hosts(buffers), strict=True)
        if buffer.tensor in borders and buffer.first_step <= step < buffer.end_step
    }
    return sum(found.values())


def steps_of(world: World, decision: Decision) -> list[range]:
    """Steps that each group of a decision became."""
    found: list[range] = []
    for k in decision.candidates:
        begin = found[-1].stop if found else 0
        bands = world.recipes[world.problem.candidates[k].recipe].bands
        found.append(range(begin, begin + max(1, len(bands) - 1)))
    return found


def own_bytes(buffers: Sequence[Buffer], step: int) -> int:
    """Bytes of what lives in one step alone, constants left out."""
    plain = [b for b in buffers if b.kind not in ("weights", "map")]
    numbers = {id(b): i for i, b in enumerate(buffers)}
    known = {numbers[id(b)]: i for i, b in enumerate(plain)}
    again = [replace(b, shares=None if b.shares is None else known.get(b.shares)) for b in plain]
    return sum(r.size for r in rectangles(again)[0] if (r.begin, r.end) == (step, step + 1))


def require_prices(world: World, decision: Decision) -> None:
    """What is laid out moves, computes and takes what the candidates in bands say."""
    told = in_bands(world.site, world.problem, world.recipes, decision)
    layout = lay_out(told.site, told.problem, told.recipes, told.decision)
    borders = border_maps(told.site.network)
    for k, steps in zip(decision.candidates, steps_of(world, decision), strict=True):
        candidate = world.problem.candidates[k]
        if not world.recipes[candidate.recipe].bands:
            continue
        programs = [layout.programs[step] for step in steps]
        moves = [t for p in programs for tile in (*p.loads, *p.stores) for t in tile]
        constants = sum(
            world.problem.weights[part].moved_bytes
            for part in range(candidate.first, candidate.end)
        )
        assert sum(t.moved_bytes for t in moves) + constants == candidate.dram_bytes
        cycles = [c.end_cycle for p in programs for tile in p.computes for c in tile]
        assert sum(cycles) == candidate.compute_cycles
        begun = sum(
            world.problem.maps[t].size_bytes
            for t in candidate.keeps
            if candidate.first <= world.problem.maps[t].birth
        )
        spaces = [
            own_bytes(layout.buffers, step) + border_space(layout.buffers, borders, step)
            for step in steps
        ]
        assert max(spaces) + begun == candidate.work_bytes


def run_programs(objects: Path, folder: Path, made: Sequence[tuple[int, Schedule]]) -> None:
    """The programs of schedules, each with a seed, give the bits of the network as it was given."""
    batch = Batch(objects, folder)
    wanted = []
    for seed, schedule in made:
        network = schedule.origin
        values, inputs = draw_values(network, seed), drawn_inputs(network, seed)
        batch.add(schedule, emit_project(schedule, values), inputs)
        wanted.append(computed(network, values, inputs))
    for (seed, schedule), outputs, ran in zip(made, wanted, batch.run(), strict=True):
        assert ran.dram_bytes == schedule.claims.dram_bytes, seed
        assert ran.macs <= schedule.claims.macs + schedule.claims.recomputed_macs, seed
        for mode, found in ran.outputs.items():
            for name, array in found.items():
                assert (array == outputs[name]).all(), (seed, mode, name)
