"""Candidates: what is proposed, and that nothing worth having is thrown away."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from draws import quick_of
from plan_fixture import make_world, random_chip, random_network, with_capacity

from spm_opt import fusion_prices
from spm_opt.baselines import RESTRICTIONS
from spm_opt.cpsat.model import build
from spm_opt.cpsat.search import Budget, search
from spm_opt.dynamic import Prices, solve_dynamic
from spm_opt.fusion import Recipe, make_candidates, recipe_chain
from spm_opt.fusion_borders import MAX_FREE_MAPS, patterns
from spm_opt.fusion_dominance import _RULES, essential
from spm_opt.fusion_prices import undominated
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.parts import source_order
from spm_opt.pipeline import Spans, pipeline_spans
from spm_opt.problem import Candidate, FeatureMap, Problem, WeightLoad
from spm_opt.site import make_site
from spm_opt.tiling import Ints

Maps = tuple[int, ...]

#: latency first, bytes first, both at once
PRICES = (Prices(10**6, 1), Prices(1, 10**6), Prices(3, 2))


def family(c: Candidate) -> tuple[object, ...]:
    return c.first, c.end, c.reads, c.streams, c.keeps, c.stores, c.streams_weights


def prices(c: Candidate) -> tuple[int, ...]:
    """What is paid, with barriers and without; more that may run beside other steps is better."""
    more = ("ahead_cycles", "behind_cycles", "enter_cycles", "first_constants", "ahead_constants")
    overlap = c.overlap._asdict()
    return (
        c.duration_cycles, c.dma_cycles, c.least_dma_cycles, c.work_bytes, c.dram_bytes,
        *(-price if name in more else price for name, price in overlap.items()),
    )  # fmt: skip


def best(problem: Problem, weights: Prices) -> int:
    solved = solve_dynamic(problem, weights)
    assert solved.complete
    assert solved.decision is not None
    return weights.per_cycle * solved.latency_cycles + weights.per_byte * solved.dram_bytes


def random_problem(seed: int, prune: bool) -> Problem:
    rng = random.Random(seed)
    network = random_network(rng, layers=5)
    return make_world(network, random_chip(rng, network), prune).problem


def chain_of(layers: int) -> Network:
    """Convolutions that are all alike."""
    b = NetworkBuilder("chain")
    x = b.input("x", (1, 4, 24, 16))
    for _ in range(layers):
        x = b.conv(x, 4, 3, padding=1)
    b.output(x)
    return b.build()


def test_pipelines_of_layers_that_are_alike_are_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[int] = []

    def counted(compute: Ints, *rest: object) -> Spans:
        timed[-1] += len(compute)
        return pipeline_spans(compute, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fusion_prices, "pipeline_spans", counted)
    found: list[tuple[Candidate, ...]] = []
    # also where they come when those like them are timed already
    for most in (fusion_prices._MOST_PENDING, 0):
        monkeypatch.setattr(fusion_prices, "_MOST_PENDING", most)
        for layers in (16, 24):
            network = chain_of(layers)
            chip = with_capacity(random_chip(random.Random(0), network), 4096)
            timed.append(0)
            found.append(make_world(network, chip, cuts=False, bands=False).problem.candidates)
    assert timed[0] == timed[1] == timed[2] == timed[3] > 0
    assert len(found[1]) > 1.4 * len(found[0])
    assert found[2:] == found[:2]


# --------------------------------------------------------------------------- Pareto sets


@pytest.mark.parametrize("seed", quick_of(range(8), range(15)))
def test_what_is_pruned_is_beaten_and_what_is_kept_is_not(seed: int) -> None:
    everything, kept = random_problem(seed, False), random_problem(seed, True)
    groups: dict[tuple[object, ...], list[tuple[int, ...]]] = defaultdict(list)
    for c in kept.candidates:
        groups[family(c)].append(prices(c))
    for c in everything.candidates:
        assert any(
            all(mine <= theirs for mine, theirs in zip(other, prices(c), strict=True))
            for other in groups[family(c)]
        )
    for members in groups.values():
        for n, a in enumerate(members):
            for b in members[:n] + members[n + 1 :]:
                assert any(x < y for x, y in zip(a, b, strict=True))


def test_undominated_is_what_comparing_all_pairs_finds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = int(rng.integers(1, 40))
        family = np.sort(rng.integers(0, 4, count))
        rows = np.stack((family, *rng.integers(0, 4, (3, count))))
        rows = rows[:, np.lexsort(rows[::-1])]
        kept = undominated(rows[0], rows[1:])
        for n in range(count):
            others = [
                m
                for m in range(count)
                if rows[0, m] == rows[0, n] and np.all(rows[1:, m] <= rows[1:, n])
            ]
            beaten = any(m < n or np.any(rows[1:, m] < rows[1:, n]) for m in others if m != n)
            assert kept[n] == (not beaten)


@pytest.mark.parametrize("seed", quick_of(range(10), range(25)))
def test_pruning_and_dominance_keep_the_optimum(seed: int) -> None:
    everything, kept = random_problem(seed, False), random_problem(seed, True)
    needed = essential(kept)
    assert len(needed.candidates) <= len(kept.candidates) <= len(everything.candidates)
    for weights in PRICES:
        optimum = best(everything, weights)
        assert best(kept, weights) == optimum
        assert best(needed, weights) == optimum


@pytest.mark.parametrize("seed", range(4))
def test_cp_sat_finds_the_same_optimum_with_and_without(seed: int) -> None:
    rng = random.Random(seed)
    network = random_network(rng, layers=2)
    chip = random_chip(rng, network, tightness=2.0)
    kept = make_world(network, chip).problem
    found = set()
    for problem in (make_world(network, chip, prune=False).problem, kept, essential(kept)):
        answer = search(
            build(problem, "latency"), Budget(60.0, None, 1, 0), lambda value, bound: None
        )
        assert answer.proven
        found.add(answer.value)
    assert len(found) == 1


def test_every_dominance_rule_finds_something() -> None:
    found: Counter[str] = Counter()
    for seed in range(12):
        problem = random_problem(seed, True)
        gone = len(problem.candidates) - len(essential(problem).candidates)
        found["all"] += gone
        for rule in _RULES:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("spm_opt.fusion_dominance._RULES", (rule,))
                left = essential(problem)
            found[rule.__name__] += len(problem.candidates) - len(left.candidates)
    assert min(found[rule.__name__] for rule in _RULES) > 5
    assert found["all"] > 300


def test_dominance_leaves_problems_without_reloads_alone() -> None:
    problem = random_problem(3, True).only(lambda c: True, reload=False)
    assert essential(problem) is problem


# --------------------------------------------------------------------------- what is proposed


def pooled() -> Network:
    b = NetworkBuilder("pooled")
    x = b.conv(b.input("x", (1, 4, 7, 7)), 64, 1, name="wide")
    b.output(b.linear(b.flatten(b.global_avg_pool(x, name="pool")), 10, name="fc"))
    return b.build()


def recipes_of(
    network: Network, chip_seed: int, tightness: float
) -> list[tuple[Candidate, Recipe]]:
    chip = random_chip(random.Random(chip_seed), network, tightness)
    world = make_world(network, chip)
    assert [c.recipe for c in world.problem.candidates] == list(range(len(world.recipes)))
    return list(zip(world.problem.candidates, world.recipes, strict=True))


def test_global_pooling_streams_channels_that_are_kept_or_stored() -> None:
    tiled = [(c, r) for c, r in recipes_of(pooled(), 0, 8.0) if r.axis == "channels"]
    own = [c for c, r in tiled if r.positions == (1, 2)]
    assert {(bool(c.streams), bool(c.keeps)) for c in own} >= {(True, True), (True, False)}
    assert not any(c.streams_weights for c in own)
    # a tile's channels of the 7 x 7 input, not all of them
    assert min(c.work_bytes for c in own if c.streams) < 49 * 64


def test_a_longer_group_starts_where_the_shorter_one_did_not_fail() -> None:
    """Chains stop growing only when nothing longer fits: every run of layers is found."""
    b = NetworkBuilder("chain")
    x = b.input("x", (1, 4, 8, 8))
    for _ in range(5):
        x = b.conv(x, 4, 3, padding=1)
    b.output(x)
    network = b.build()
    found = {r.positions for _, r in recipes_of(network, 1, 40.0)}
    assert found == {(i, j) for j in range(1, 6) for i in range(j)}


@pytest.mark.parametrize("seed", quick_of(range(8), range(15)))
def test_groups_all_feed_their_last_layer_and_no_row_is_recomputed(seed: int) -> None:
    rng = random.Random(seed)
    network = random_network(rng)
    world = make_world(network, random_chip(rng, network, 6.0))
    for recipe in set(world.recipes):
        if recipe.positions[1] - recipe.positions[0] < 2:
            continue
        chain = recipe_chain(world.site, recipe)
        inside = set(chain.layers)
        for index in chain.layers[1:]:
            assert inside & set(network.readers[network.layers[index].output])
        for i, index in enumerate(chain.layers):
            assert int(chain.computed[i].count.sum()) <= network.layers[index].rows


def test_more_space_never_costs_a_cycle_where_layers_are_cut_alike() -> None:
    """Where they are not, it can: finer slices, which little space forces, overlap better."""
    compared = 0
    for seed in range(10):
        rng = random.Random(seed)
        network = random_network(rng, layers=4)
        chip = random_chip(rng, network, tightness=1.5)
        worlds = [
            make_world(network, with_capacity(chip, factor * chip.spm.capacity_bytes))
            for factor in (1, 2, 4)
        ]
        for one, two in pairwise(worlds):
            if one.site.parts == two.site.parts:
                assert best(two.problem, PRICES[0]) <= best(one.problem, PRICES[0])
                compared += 1
    assert compared >= 5


def test_patterns_are_free_for_few_maps_and_shared_for_many() -> None:
    inputs, output = ("read", "stream"), ("store", "keep", "both")
    few = patterns((inputs,) * (MAX_FREE_MAPS - 1) + (output,))
    assert few.shape == (2 ** (MAX_FREE_MAPS - 1) * 3, 2 * (MAX_FREE_MAPS - 1) + 3)
    assert len(np.unique(few, axis=0)) == len(few)
    many = patterns((inputs,) * (MAX_FREE_MAPS + 2) + (output,))
    assert len(many) == 6
    assert np.all(many.sum(axis=1) == MAX_FREE_MAPS + 3)
    for row in many[:, : 2 * (MAX_FREE_MAPS + 2)]:
        assert len(set(row.reshape(-1, 2)[:, 0])) == 1


def test_slices_that_keep_their_map_take_its_space_once() -> None:
    b = NetworkBuilder("sliced")
    x = b.conv(b.input("x", (1, 8, 8, 8)), 64, 3, padding=1, name="wide")
    b.output(b.conv(x, 4, 1, name="narrow"))
    network = b.build()
    chip = random_chip(random.Random(2), network, tightness=3.0)
    world = make_world(network, with_capacity(chip, 8192))
    (begin, end), problem = world.site.spans[0], world.problem
    assert end - begin > 1
    wide = world.site.map_index["wide"]
    size = problem.maps[wide].size_bytes
    work = {
        part: min(c.work_bytes for c in problem.candidates if (c.first, c.end) == (part, part + 1)
                  and c.keeps == (wide,) and c.reads)
        for part in range(begin, end)
    }  # fmt: skip
    assert work == {begin: size, **dict.fromkeys(range(begin + 1, end), 0)}


@pytest.mark.parametrize("groups", [1, 2])
def test_slices_that_keep_no_map_read_their_input_once_together(groups: int) -> None:
    b = NetworkBuilder("large weights")
    x = b.input("x", (1, 32 * groups, 14, 14))
    b.output(b.conv(x, 32 * groups, 3, padding=1, groups=groups, bias=False))
    network = b.build()
    chip = random_chip(random.Random(3), network)
    chip = with_capacity(replace(chip, dram=replace(chip.dram, burst_bytes=1)), 7168)
    world = make_world(network, chip)
    problem = RESTRICTIONS["layerwise"](world.problem, world.recipes)
    apart = replace(
        problem, candidates=tuple(c for c in problem.candidates if c.end == c.first + 1)
    )
    found = [solve_dynamic(p, Prices(0, 1)).dram_bytes for p in (problem, apart)]
    size = 2 * 32 * groups * 14 * 14
    assert found[0] == size + network.weight_bytes
    assert found[1] > 2 * size


def test_two_buffers_cost_space_and_save_cycles() -> None:
    b = NetworkBuilder("one")
    b.output(b.conv(b.input("x", (1, 8, 16, 16)), 8, 3, padding=1))
    found: dict[int, list[Candidate]] = {1: [], 2: []}
    for c, r in recipes_of(b.build(), 3, 20.0):
        if r.height == 2 and r.axis == "rows" and c.streams and c.stores:
            found[r.depth].append(c)
    (one,), (two,) = found[1], found[2]
    assert two.duration_cycles < one.duration_cycles
    assert two.work_bytes > one.work_bytes


# --------------------------------------------------------------------------- dominance, by hand


def candidate(
    first: int, end: int, duration: int, dma: int, work: int, dram: int, reads: Maps = (),
    streams: Maps = (), keeps: Maps = (), stores: Maps = (),
) -> Candidate:  # fmt: skip
    return Candidate(
        first, end, reads, streams, keeps, stores, False, duration, dma, 1, work, dram, 0, dma
    )


def problem_of(candidates: list[Candidate], maps: tuple[FeatureMap, ...]) -> Problem:
    parts = max(c.end for c in candidates)
    nothing = (WeightLoad(0, 0, 0),) * parts
    numbered = tuple(replace(c, recipe=k) for k, c in enumerate(candidates))
    return Problem(parts, 100, maps, nothing, numbered)


def survives(candidates: list[Candidate], maps: tuple[FeatureMap, ...]) -> bool:
    """Whether the first candidate is still there."""
    return any(c.recipe == 0 for c in essential(problem_of(candidates, maps)).candidates)


#: x (0) -> part 0 -> y (1) -> part 1 -> z (2); w (3) is an input that part 1 reads as well
CHAIN = (
    FeatureMap(10, (), (0,), True, False, 5, 16),
    FeatureMap(8, (0,), (1,), False, False, 4, 8),
    FeatureMap(6, (1,), (2,), False, False, 3, 8),
    FeatureMap(4, (), (1,), True, False, 2, 8),
)
WHOLE = {"duration": 30, "dma": 12, "work": 20, "dram": 16}
ONE = {"duration": 18, "dma": 12, "work": 20, "dram": 10}
TWO = {"duration": 12, "dma": 0, "work": 12, "dram": 6}
#: what is changed in one of the three, and whether the whole is then still needed
SPLITS = [
    ({}, {}, {}, False),
    ({"duration": 29}, {}, {}, True),
    ({"dma": 11}, {}, {}, True),
    ({"work": 19}, {}, {}, True),
    ({"dram": 15}, {}, {}, True),
    ({}, {"duration": 19}, {}, True),
    ({}, {"work": 21}, {}, True),
    # beside the second half lies what the first has kept: 8 bytes
    ({}, {}, {"work": 13}, True),
    ({}, {}, {"dram": 7}, True),
    # the second half has transfers: the first may carry no prefetch, 18 + 1 > 12
    ({}, {}, {"dma": 1}, True),
    ({"dma": 19}, {}, {"dma": 1}, False),
    ({"dma": 18}, {}, {"dma": 1}, True),
]  # fmt: skip


@pytest.mark.parametrize(("whole", "one", "two", "needed"), SPLITS)
def test_halves_replace_a_group_only_where_nothing_is_lost(
    whole: dict[str, int], one: dict[str, int], two: dict[str, int], needed: bool
) -> None:
    group = [
        candidate(0, 2, **{**WHOLE, **whole}, streams=(0,), keeps=(2,)),
        candidate(0, 1, **{**ONE, **one}, streams=(0,), keeps=(1,)),
        candidate(1, 2, **{**TWO, **two}, reads=(1,), keeps=(2,)),
        # small but slow: fits beside anything, and is of no use here
        candidate(1, 2, 99, 0, 1, 6, reads=(1,), keeps=(2,)),
        candidate(2, 3, 1, 0, 1, 1, reads=(2,)),
    ]
    assert survives(group, CHAIN) == needed


@pytest.mark.parametrize(("dma", "needed"), [(17, True), (18, False)])
def test_a_map_that_only_the_second_half_reads_may_be_loaded_there(dma: int, needed: bool) -> None:
    group = [
        candidate(0, 2, 30, dma, 20, 16, reads=(3,), streams=(0,), keeps=(2,)),
        candidate(0, 1, 18, 12, 20, 10, streams=(0,), keeps=(1,)),
        candidate(1, 2, 12, 0, 12, 6, reads=(1, 3), keeps=(2,)),
        candidate(2, 3, 1, 0, 1, 1, reads=(2,)),
    ]
    assert survives(group, CHAIN) == needed


def test_halves_that_would_both_stream_a_map_replace_nothing() -> None:
    maps = (replace(CHAIN[0], readers=(0, 1)), *CHAIN[1:])
    group = [
        candidate(0, 2, 30, 30, 20, 16, streams=(0,), keeps=(2,)),
        candidate(0, 1, 5, 5, 5, 5, streams=(0,), keeps=(1,)),
        candidate(1, 2, 5, 5, 5, 5, reads=(1,), streams=(0,), keeps=(2,)),
        candidate(2, 3, 1, 0, 1, 1, reads=(2,)),
    ]
    assert survives(group, maps)


RELOADS = [
    ({}, False),
    ({"duration": 14}, True),
    ({"dma": 9}, True),
    ({"work": 19}, True),
    ({"dram": 23}, True),
]


@pytest.mark.parametrize(("changed", "needed"), RELOADS)
def test_loading_a_map_whole_replaces_streaming_it_at_the_same_price(
    changed: dict[str, int], needed: bool
) -> None:
    prices = {"duration": 15, "dma": 10, "work": 20, "dram": 24, **changed}
    group = [
        candidate(0, 1, **prices, streams=(0,), stores=(1,)),
        candidate(0, 1, 10, 5, 10, 8, reads=(0,), stores=(1,)),
    ]
    assert survives(group, CHAIN) == needed


BOTH = [
    ({}, False),
    ({"duration": 9}, True),
    ({"dma": 4}, True),
    ({"work": 9}, True),
    ({"dram": 7}, True),
]


@pytest.mark.parametrize(("changed", "needed"), BOTH)
def test_keeping_as_well_replaces_storing_at_the_same_price(
    changed: dict[str, int], needed: bool
) -> None:
    prices = {"duration": 10, "dma": 5, "work": 10, "dram": 8, **changed}
    group = [
        candidate(0, 1, **prices, reads=(0,), stores=(1,)),
        candidate(0, 1, 10, 5, 10, 8, reads=(0,), keeps=(1,), stores=(1,)),
    ]
    assert survives(group, CHAIN) == needed


def test_one_slice_of_a_map_does_not_keep_it_by_itself() -> None:
    maps = (CHAIN[0], replace(CHAIN[1], writers=(0, 1), readers=(2,)))
    group = [
        candidate(0, 1, 10, 5, 10, 8, reads=(0,), stores=(1,)),
        candidate(0, 1, 10, 5, 10, 8, reads=(0,), keeps=(1,), stores=(1,)),
        candidate(1, 2, 10, 5, 10, 8, reads=(0,), stores=(1,)),
        candidate(2, 3, 1, 0, 1, 1, streams=(1,)),
    ]
    assert survives(group, maps)


def test_what_pruning_drops_is_counted() -> None:
    rng = random.Random(3)
    network = random_network(rng)
    site = make_site(network, random_chip(rng, network), source_order(network))
    pruned, everything = (make_candidates(site, prune=prune) for prune in (True, False))
    assert everything.dropped == 0 < pruned.dropped
    assert len(pruned.candidates) + pruned.dropped == len(everything.candidates)
