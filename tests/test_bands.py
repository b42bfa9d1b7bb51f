"""Groups in bands of columns: priced, told apart, checked, and computed bit by bit the same."""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from bands_fixture import CHAINS, plans, require_prices, run_programs, schedules, wide_world
from draws import quick_of
from emitted import COMPILER
from plan_fixture import random_decision

from spm_opt import planner_search
from spm_opt.banding import (
    BandConflictError,
    beside_bands,
    clashing,
    in_bands,
    without_bands,
)
from spm_opt.commands import lower
from spm_opt.errors import GraphError, InputError
from spm_opt.formats.schedule_json import schedule_from_json, schedule_to_json
from spm_opt.formats.tables import layers_csv
from spm_opt.graph.bands import Bands, banded, source_names
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.params import SolveParams
from spm_opt.planner_search import Clock, Search
from spm_opt.program import emit_c, run_c
from spm_opt.report import solve_figures
from spm_opt.simulate import simulate
from spm_opt.verify import verify
from spm_opt.verify.commands import verify_commands

#: those that draw bands of every sort in little time; the others are heavy
SEEDS = (0, 1, 3, 7, 11, 13, 16, 21, 24, 27, 31, 34, 2001, 2003, 2004, 2005, 2008, 2011)
ALL_SEEDS = quick_of(SEEDS, (*range(36), *CHAINS))


@pytest.mark.parametrize("seed", ALL_SEEDS)
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


@pytest.mark.parametrize("seed", ALL_SEEDS)
def test_bands_take_the_space_and_move_the_bytes_of_their_candidate(seed: int) -> None:
    world, decisions = plans(seed)
    for decision in decisions:
        require_prices(world, decision)


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
    run_some(objects, tmp_path, SEEDS)


@pytest.mark.heavy
@pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
@pytest.mark.parametrize("seeds", [CHAINS, *(range(n, n + 40) for n in range(0, 1040, 40))])
def test_many_programs_in_bands(objects, tmp_path, seeds: Sequence[int]) -> None:
    run_some(objects, tmp_path, seeds)


def run_some(objects, folder, seeds: Sequence[int]) -> None:
    made = [(seed, schedule) for seed in seeds for schedule in schedules(seed)[:1]]
    assert len(made) > len(seeds) // 3
    run_programs(objects, folder, made)


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
    for seed in SEEDS:
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


def test_bands_beside_slices_of_a_map_give_way_to_bands_alone() -> None:
    """Some lot draws bands and slices of one map: it clashes, and is told without the slices."""
    clashes = 0
    for seed in range(40):
        world = wide_world(seed)
        decision = random_decision(random.Random(seed), world.problem)
        if decision is None or not clashing(world.site, world.problem, world.recipes, decision):
            continue
        clashes += 1
        with pytest.raises(BandConflictError):
            in_bands(world.site, world.problem, world.recipes, decision)
        beside = beside_bands(world.site, world.problem, world.recipes, decision)
        assert set(beside.candidates) < set(world.problem.candidates)
        kept = random_decision(random.Random(seed), beside)
        if kept is not None:
            assert not clashing(world.site, beside, world.recipes, kept)
        # or the other way round: of these maps no bands are left
        maps = clashing(world.site, world.problem, world.recipes, decision)
        rest = without_bands(world.problem, world.recipes, maps)
        gone = set(world.problem.candidates) - set(rest.candidates)
        assert gone
        assert all(world.recipes[c.recipe].bands for c in gone)
        kept = random_decision(random.Random(seed), rest)
        if kept is not None:
            assert not clashing(world.site, rest, world.recipes, kept) & maps
    assert clashes


def test_bands_are_left_out_where_a_layer_fits_in_nothing_but_slices(monkeypatch) -> None:
    """The optimum clashes, and beside its bands there is no plan: without them there is one."""
    world = wide_world(0)
    params = SolveParams(workers=1)
    search = Search(world, world.problem, Clock(params, None, None))
    solved = search._followed_optimum(world.problem)
    clashes = iter([frozenset({1}), frozenset({2}), frozenset()])
    left_out: list[frozenset[int]] = []

    def without(problem, recipes, maps):
        left_out.append(maps)
        return problem

    monkeypatch.setattr(planner_search, "clashing", lambda *_: next(clashes))
    monkeypatch.setattr(planner_search, "beside_bands", lambda _, problem, *rest: problem.only(
        lambda candidate: candidate.first > 0
    ))  # fmt: skip
    monkeypatch.setattr(planner_search, "without_bands", without)
    found = search._without_clashes(solved, world.problem)
    assert left_out == [frozenset({1}), frozenset({2})]
    assert found.decision == solved.decision
