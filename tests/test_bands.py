"""Groups in bands of columns: priced, told apart, checked, and computed bit by bit the same."""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
from emitted import COMPILER, Batch, drawn_inputs
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

from spm_opt import fusion_bands
from spm_opt.banding import BandConflictError, in_bands
from spm_opt.commands import lower
from spm_opt.decision import Decision
from spm_opt.emit.c_project import emit_project
from spm_opt.errors import GraphError, InputError
from spm_opt.formats.schedule_json import schedule_from_json, schedule_to_json
from spm_opt.formats.tables import layers_csv
from spm_opt.graph.bands import Bands, banded, source_names
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.layout import lay_out
from spm_opt.layout_space import hosts, rectangles
from spm_opt.program import emit_c, run_c
from spm_opt.report import solve_figures
from spm_opt.schedule import Buffer, Schedule
from spm_opt.seeded import draw_values
from spm_opt.simulate import simulate
from spm_opt.verify import verify
from spm_opt.verify.commands import verify_commands

#: of networks of every sort; and of chains on wide maps
CHAINS = range(2000, 2012)
SEEDS = (*range(36), *CHAINS)


def wide_world(seed: int) -> World:
    """A world in which every run that can be cut is cut, however narrow its maps."""
    rng = random.Random(seed)
    if seed < CHAINS[0]:
        network = random_network(rng, layers=7, images=rng.choice([1, 1, 1, 2]), widths=(6, 9, 13))
    else:
        network = random_chain(rng)
    chip = random_chip(rng, network, rng.choice([1.0, 2.0, 4.0]))
    patch = pytest.MonkeyPatch()
    patch.setattr(fusion_bands, "LEAST_COLUMNS", 1)
    patch.setattr(fusion_bands, "WORTH", 0)
    try:
        return make_world(network, chip, prune=False, cuts=seed % 3 > 0, bands=True)
    finally:
        patch.undo()


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
def plans(seed: int) -> tuple[World, tuple[Decision, ...]]:
    """A world, and decisions in it that have groups in bands."""
    world, rng = wide_world(seed), random.Random(seed)
    cut = {
        part
        for c in world.problem.candidates
        if world.recipes[c.recipe].bands
        for part in range(c.first, c.end)
    }
    problem = world.problem.only(
        lambda c: bool(world.recipes[c.recipe].bands) or not cut.issuperset(range(c.first, c.end))
        or rng.random() < 0.05
    )  # fmt: skip
    world = replace(world, problem=problem)
    found = (random_decision(rng, problem) for _ in range(4))
    return world, tuple(d for d in found if d is not None and _told(world, d))


def _told(world: World, decision: Decision) -> bool:
    try:
        told = in_bands(world.site, world.problem, world.recipes, decision)
    except BandConflictError:
        return False
    return bool(told.site.bands)


def schedules(seed: int) -> list[Schedule]:
    """Schedules of these decisions, with as much space as first fit takes."""
    world, decisions = plans(seed)
    size = world.site.hardware.spm.capacity_bytes
    roomy = replace(
        world, site=replace(world.site, hardware=with_capacity(world.site.hardware, 4 * size))
    )
    found = (schedule_of(roomy, decision, wide=seed % 2 > 0) for decision in decisions)
    return [schedule for schedule in found if schedule is not None]


@pytest.mark.parametrize("seed", SEEDS)
def test_plans_in_bands_pass_the_checker_and_the_simulator(seed: int) -> None:
    for schedule in schedules(seed):
        assert schedule.bands
        assert verify(schedule) == ()
        stream = lower(schedule)
        assert verify_commands(schedule, stream) == ()
        simulation = simulate(stream, schedule.hardware)
        assert simulation.latency_cycles == schedule.claims.latency_cycles
        assert schedule_from_json(schedule_to_json(schedule)) == schedule


def test_the_lot_draws_bands_of_every_sort() -> None:
    """Else the tests here would say nothing of what never occurs."""
    found: Counter[str] = Counter()
    for seed in SEEDS:
        world, decisions = plans(seed)
        for decision in decisions:
            for k in decision.candidates:
                candidate = world.problem.candidates[k]
                recipe = world.recipes[candidate.recipe]
                if not recipe.bands:
                    continue
                first, end = recipe.positions
                found[f"layers {min(end - first, 3)}"] += 1
                found["borders"] += len(recipe.kept)
                found["borders of inputs"] += any(
                    world.site.map_index[name] in candidate.streams for name in recipe.kept
                )
                found["keeps"] += bool(candidate.keeps)
                found["reads"] += bool(candidate.reads)
                found["both"] += bool(candidate.keeps and candidate.stores)
                found["two inputs"] += len({*candidate.reads, *candidate.streams}) > 1
                for position in range(first, end):
                    found[world.site.layer_at(position).op.kind] += 1
    expected = {
        "layers 1", "layers 2", "layers 3", "keeps", "reads", "both", "two inputs", "conv", "pool",
        "binary", "unary", "concat", "resize", "conv_transpose", "softmax", "borders",
        "borders of inputs",
    }  # fmt: skip
    assert {kind for kind in expected if not found[kind]} == set()


@pytest.mark.parametrize("seed", [*SEEDS[:18], *CHAINS])
def test_bands_take_the_space_and_move_the_bytes_of_their_candidate(seed: int) -> None:
    world, decisions = plans(seed)
    for decision in decisions:
        told = in_bands(world.site, world.problem, world.recipes, decision)
        layout = lay_out(told.site, told.problem, told.recipes, told.decision)
        spans = steps_of(world, decision)
        for k, steps in zip(decision.candidates, spans, strict=True):
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
            borders = border_names(told.site.network)
            spaces = [
                own_bytes(layout.buffers, step) + border_space(layout.buffers, borders, step)
                for step in steps
            ]
            assert max(spaces) + begun == candidate.work_bytes


def border_names(network: Network) -> set[str]:
    """Maps that are borders kept from one band to the next."""
    return {layer.output for layer in network.layers if layer.name in network.keepers}


def border_space(buffers: Sequence[Buffer], borders: set[str], step: int) -> int:
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


def own_bytes(buffers, step: int) -> int:
    """Bytes of what lives in one step alone, constants left out."""
    plain = [b for b in buffers if b.kind not in ("weights", "map")]
    numbers = {id(b): i for i, b in enumerate(buffers)}
    known = {numbers[id(b)]: i for i, b in enumerate(plain)}
    again = [replace(b, shares=None if b.shares is None else known.get(b.shares)) for b in plain]
    return sum(r.size for r in rectangles(again)[0] if (r.begin, r.end) == (step, step + 1))


def test_no_band_cuts_what_takes_slices_of_constants_without_loops() -> None:
    """Its kernel would take columns for the channels of the slices, and compute something else."""
    sliced = 0
    for seed in (201, 404, 463, 679, 983):
        world = wide_world(seed)
        for position, (begin, end) in enumerate(world.site.spans):
            layer = world.site.layer_at(position)
            if end - begin == 1 or not layer.weights or layer.loops is not None:
                continue
            sliced += 1
            for candidate in world.problem.candidates:
                recipe = world.recipes[candidate.recipe]
                assert not (recipe.bands and position in range(*recipe.positions)), (seed, layer)
    assert sliced


# --------------------------------------------------------------------------- programs


@pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
def test_programs_in_bands_compute_what_the_network_does(objects, tmp_path) -> None:
    run_programs(objects, tmp_path, (*range(24), *CHAINS[:6]))


@pytest.mark.heavy
@pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
@pytest.mark.parametrize("part", range(1, 26))
def test_many_programs_in_bands(objects, tmp_path, part: int) -> None:
    run_programs(objects, tmp_path, range(40 * part, 40 * part + 40))


def run_programs(objects, folder, seeds: Sequence[int]) -> None:
    batch = Batch(objects, folder)
    made = []
    for seed in seeds:
        for schedule in schedules(seed)[:1]:
            network = schedule.origin
            values, inputs = draw_values(network, seed), drawn_inputs(network, seed)
            batch.add(schedule, emit_project(schedule, values), inputs)
            made.append((seed, schedule, computed(network, values, inputs)))
    assert len(made) > len(seeds) // 3
    for (seed, schedule, wanted), ran in zip(made, batch.run(), strict=True):
        assert ran.dram_bytes == schedule.claims.dram_bytes, seed
        assert ran.macs <= schedule.claims.macs + schedule.claims.recomputed_macs, seed
        for mode, outputs in ran.outputs.items():
            for name, array in outputs.items():
                assert (array == wanted[name]).all(), (seed, mode, name)


# --------------------------------------------------------------------------- the network


def small() -> Network:
    b = NetworkBuilder("small")
    x = b.input("x", (1, 3, 6, 12))
    y = b.conv(x, 4, 3, padding=1, name="a")
    z = b.conv(y, 4, 3, padding=1, name="b")
    b.output(b.add(y, z, name="c"))
    return b.build()


def test_bands_share_constants_and_read_overlapping_windows() -> None:
    found = banded(small(), [Bands(("a", "b", "c"), (0, 5, 12))]).network
    layers = {layer.name: layer for layer in found.layers}
    assert layers["a#1"].constants == layers["a#0"].constants == "a#0"
    assert found.weight_bytes == small().weight_bytes
    # six columns of the first, and one more on each side for every convolution
    assert layers["a#0"].output_shape == (1, 4, 6, 6)
    assert layers["a#0"].input_shapes[0] == (1, 3, 6, 7)
    assert layers["a#1"].input_shapes[0] == (1, 3, 6, 9)
    assert layers["c#join"].output_shape == (1, 4, 6, 12)
    assert found.macs - small().macs == 6 * 2 * 4 * 3 * 9


def test_names_lead_back_to_the_source() -> None:
    names = dict(source_names(small(), [Bands(("a", "b", "c"), (0, 5, 12))]))
    known = {layer.name for layer in small().layers} | set(small().tensors)
    assert names["a#0"] == "a"
    assert names["c#join"] == "c"
    assert set(names.values()) <= known


@pytest.mark.parametrize("edges", [(0, 12), (0, 5, 11), (1, 5, 12), (0, 5, 5, 12), (0, 7, 5, 12)])
def test_edges_must_be_those_of_bands(edges: tuple[int, ...]) -> None:
    with pytest.raises(GraphError, match="bands must cut"):
        banded(small(), [Bands(("a", "b", "c"), edges)])


def test_what_needs_all_columns_is_not_cut() -> None:
    b = NetworkBuilder("mean")
    b.output(b.softmax(b.input("x", (1, 3, 6, 12)), axis=3, name="s"))
    with pytest.raises(GraphError, match="cannot be cut"):
        banded(b.build(), [Bands(("s",), (0, 6, 12))])


def test_a_file_that_names_another_layer_is_refused() -> None:
    schedule = next(s for seed in SEEDS for s in schedules(seed))
    name = schedule.bands[0].layers[0]
    text = schedule_to_json(schedule)
    cut = text.index('"bands"')
    broken = text[:cut] + text[cut:].replace(f'"{name}"', '"nobody"', 1)
    with pytest.raises(InputError, match=r"bands\[0\].layers\[0\]"):
        schedule_from_json(broken)


def test_tables_count_the_network_as_it_was_given() -> None:
    """Layers, groups and bytes: bands of a group are one group, and windows are nobody."""
    for seed in SEEDS[:12]:
        for schedule in schedules(seed):
            figures = solve_figures(schedule, verified=True)
            assert figures["layers"] == len(schedule.origin.layers)
            assert figures["banded_groups"] == len(schedule.bands)
            extra = sum(run.count - 1 for run in schedule.bands)
            assert figures["groups"] == len(schedule.steps) - extra
            rows = list(csv.DictReader(io.StringIO(layers_csv(schedule))))
            booked = sum(
                int(r["dram_weight_bytes"]) + int(r["dram_feature_map_bytes"]) for r in rows
            )
            assert booked == schedule.claims.dram_bytes


@pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
def test_a_plan_in_bands_is_emitted_and_run_by_its_users(tmp_path) -> None:
    """Numbers are drawn, or read, for the network as it was given."""
    schedule = next(s for seed in SEEDS for s in schedules(seed))
    emit_c(schedule, tmp_path)
    ran = run_c(tmp_path)
    assert ran.bytes_loaded + ran.bytes_stored == schedule.claims.dram_bytes
