"""Maps inside others, and over others, in the plans of small networks where they matter."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from draws import some_seeds
from plan_fixture import (
    make_world,
    random_chip,
    random_decision,
    random_network,
    schedule_of,
)

from spm_opt import planner_placing
from spm_opt.dynamic import Prices, solve_dynamic
from spm_opt.fusion import Recipe, recipe_chain
from spm_opt.fusion_sharing import Takeover, takeovers
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.schedule import Schedule
from spm_opt.site import Site
from spm_opt.tiling import Chain
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


# --------------------------------------------------------------------------- taking over


def overwritten_too_early(network: Network, chain: Chain, i: int, tensor: str) -> bool:
    """Run the commands of a group row by row, the i-th layer writing over `tensor`."""
    gone: set[int] = set()
    for tile in range(len(chain.computed[0].begin)):
        for m in reversed(range(len(chain.layers))):  # the last in the chain computes first
            layer = network.layers[chain.layers[m]]
            mine = range(int(chain.computed[m].begin[tile]), int(chain.computed[m].end[tile]))
            if not mine:
                continue
            for n, operand in enumerate(layer.inputs):
                if operand.tensor == tensor:
                    rows = network.tensors[tensor].rows
                    low, high = layer.input_rows(n).needed(mine.start, mine.stop, rows)
                    if gone & {*range(low, high)}:
                        return True
            if m == i:
                gone |= {*mine}
    return False


@some_seeds(range(12), range(40))
def test_a_map_is_taken_over_exactly_where_no_row_is_read_too_late(seeds: Sequence[int]) -> None:
    seen: Counter[bool] = Counter()
    for seed in seeds:
        rng = random.Random(seed)
        network = random_network(rng)
        site = make_world(network, random_chip(rng, network, 10.0)).site
        for end in range(len(site.order)):
            for chain in chains(site, end):
                for takeover in takeovers(site, chain, "retain"):
                    check_takeover(site, chain, takeover, seen)
    assert min(seen[True], seen[False]) >= len(seeds) // 4, seen


def chains(site: Site, end: int) -> Iterator[Chain]:
    """Runs of layers up to the one at `end`, under one cutting each."""
    heights = [h for h in (1, 2, 3, site.layer_at(end).rows) if h <= site.layer_at(end).rows]
    for height in heights if site.layer_at(end).op.tileable else heights[-1:]:
        for first in range(end, max(-1, end - 4), -1):
            run = [site.layer_at(p) for p in range(first, end + 1)]
            fed = all(
                {*site.network.readers[layer.output]} & {*site.order[first : end + 1]}
                for layer in run[:-1]
            )
            if not fed or (len(run) > 1 and not all(layer.op.tileable for layer in run)):
                break
            yield recipe_chain(site, Recipe((first, end + 1), None, "rows", height, 1, "retain"))


def check_takeover(site: Site, chain: Chain, takeover: Takeover, seen: Counter[bool]) -> None:
    tensor, kept = site.map_names[takeover.dying], site.map_names[takeover.kept]
    i = next(n for n, x in enumerate(chain.layers) if site.network.layers[x].output == kept)
    early = overwritten_too_early(site.network, chain, i, tensor)
    assert bool(takeover.safe[0]) is not early
    seen[early] += 1


def test_a_residual_add_does_not_take_over_rows_that_the_next_tile_convolves() -> None:
    b = NetworkBuilder("residual")
    x = b.conv(b.input("x", (1, 4, 8, 8)), 4, 3, padding=1, name="x4")
    y = b.add(b.conv(x, 4, 3, padding=1, name="conv"), x, name="sum")
    b.output(b.conv(y, 4, 3, padding=1, name="last"))
    network = b.build()
    site = make_world(network, random_chip(random.Random(1), network, 10.0)).site
    for height, safe in ((8, True), (4, False), (1, False)):
        chain = recipe_chain(site, Recipe((1, 3), None, "rows", height, 1, "retain"))
        (found,) = takeovers(site, chain, "retain")
        assert (site.map_names[found.dying], site.map_names[found.kept]) == ("x4", "sum")
        assert found.safe.tolist() == [safe], height


# --------------------------------------------------------------------------- what it is worth


def best_with_and_without(seed: int, prices: Prices) -> tuple[int, int] | None:
    """Optima of one small network with and without aliases; None where one is not proven."""
    rng = random.Random(seed)
    network = random_network(rng, layers=3)
    chip = random_chip(rng, network, rng.choice([1.3, 2.0, 4.0]))
    values = []
    for aliases in (True, False):
        world = make_world(network, chip, aliases=aliases)
        solved = solve_dynamic(world.problem, prices)
        if not solved.complete or solved.decision is None:
            return None
        values.append(
            prices.per_cycle * solved.latency_cycles + prices.per_byte * solved.dram_bytes
        )
    return values[0], values[1]


@some_seeds(range(14), range(40))
def test_aliases_never_hurt(seeds: Sequence[int]) -> None:
    better = 0
    for seed in seeds:
        for prices in (Prices(10**6, 1), Prices(1, 10**6)):
            found = best_with_and_without(seed, prices)
            if found is not None:
                assert found[0] <= found[1], (seed, prices)
                better += found[0] < found[1]
    assert better >= len(seeds) // 4


@pytest.mark.parametrize("seed", [564, 1871, 2317])
def test_maps_lie_beside_those_they_could_replace_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    network = random_network(rng)
    found = make_world(network, random_chip(rng, network), runs=False)
    decision = random_decision(rng, found.problem)
    assert decision is not None
    world = planner_placing.World("", found.site, found.problem, found.recipes)

    def cycles() -> int:
        placed = planner_placing.place_decision(world, found.problem, decision, 3.0)
        assert placed is not None
        return placed.latency_cycles

    best = cycles()
    with monkeypatch.context() as patch:
        lay_out = planner_placing.lay_out
        patch.setattr(
            planner_placing, "lay_out", lambda *told, in_place=True: lay_out(*told, in_place=True)
        )
        assert cycles() > best
    with monkeypatch.context() as patch:
        patch.setattr(
            planner_placing, "lay_out", lambda *told, in_place=True: lay_out(*told, in_place=False)
        )
        assert cycles() >= best
