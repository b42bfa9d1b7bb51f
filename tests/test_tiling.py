"""Rows of tiles: walked element by element through rolling buffers, on random chains."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest
from plan_fixture import random_network

from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.images import in_images
from spm_opt.graph.network import Network
from spm_opt.graph.ops import RowMap
from spm_opt.tiling import (
    Chain,
    Rows,
    channel_runs,
    cuttings,
    grow_chain,
    needed,
    start_chain,
    stored_rows,
    streamed_rows,
    stripe_heights,
)


@dataclass(frozen=True)
class Case:
    """A chain that some random network allows, and which of its layers the outside reads."""

    network: Network
    chain: Chain
    outside: tuple[bool, ...]


def cases(seed: int, halo: str = "retain", all_heights: bool = False) -> list[Case]:
    """Every chain of a random network, each under one height or all."""
    rng = random.Random(seed)
    network = random_network(rng, layers=7)
    found = []
    for end, last in enumerate(network.layers):
        heights = stripe_heights(last.rows)
        chosen = heights if all_heights else (rng.choice(heights),)
        found.append(Case(network, start_chain(network, end, chosen), (True,)))
        for index in range(end - 1, -1, -1):
            previous, output = found[-1], network.layers[index].output
            if output not in previous.chain.needs:
                break
            outside = output in network.outputs or max(network.readers[output]) > end
            chain = grow_chain(network, previous.chain, index, halo, outside)
            found.append(Case(network, chain, (*previous.outside, outside)))
    return found


def interval(rows: Rows, tile: int) -> set[int]:
    return set(range(int(rows.begin[tile]), int(rows.end[tile])))


def rows_read(network: Network, index: int, operand: int, rows: set[int]) -> set[int]:
    """Rows of an operand that output rows need, asked row by row."""
    layer = network.layers[index]
    extent = network.tensors[layer.inputs[operand].tensor].rows
    return {row for r in rows for row in range(*layer.input_rows(operand).needed(r, r + 1, extent))}


class Rolling:
    """A buffer of some rows, each where its number modulo the count says."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.slots: dict[int, int] = {}

    def write(self, rows: set[int]) -> None:
        for row in sorted(rows):
            self.slots[row % self.count] = row

    def holds(self, rows: set[int]) -> bool:
        return all(self.slots.get(row % self.count) == row for row in rows)


def walk(case: Case, held: list[int], loaded: dict[str, int], depth: int) -> bool:
    """Run the tiles through rolling buffers; whether every row is there when it is read."""
    network, chain = case.network, case.chain
    extents = {name: network.tensors[name].rows for name in chain.needs}
    loads = {
        name: streamed_rows(need, extents[name], depth, chain.cuts)[0]
        for name, need in chain.needs.items()
    }
    buffers = {network.layers[x].output: Rolling(held[i]) for i, x in enumerate(chain.layers)}
    buffers |= {name: Rolling(loaded[name]) for name in chain.needs}
    tiles = len(chain.cuts.owner)
    arrived = 0
    for tile in range(tiles):
        # the loads of the next tiles run beside this one, or before it
        while arrived < min(tile + depth, tiles):
            for name, rows in loads.items():
                buffers[name].write(interval(rows, arrived))
            arrived += 1
        for i in reversed(range(len(chain.layers))):
            own = interval(chain.computed[i], tile)
            layer = network.layers[chain.layers[i]]
            for n, operand in enumerate(layer.inputs):
                if not buffers[operand.tensor].holds(rows_read(network, chain.layers[i], n, own)):
                    return False
            buffers[layer.output].write(own)
    return True


def sizes(case: Case, depth: int) -> tuple[list[int], dict[str, int]]:
    chain = case.chain
    held = [int(count[0]) for count in chain.held]
    loaded = {
        name: int(streamed_rows(need, case.network.tensors[name].rows, depth, chain.cuts)[1][0])
        for name, need in chain.needs.items()
    }
    return held, loaded


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("halo", ["retain", "recompute"])
def test_rolling_buffers_never_lose_a_row_that_is_still_read(seed: int, halo: str) -> None:
    for case in cases(seed, halo):
        for depth in (1, 2):
            assert walk(case, *sizes(case, depth), depth)


def test_rolling_buffers_hold_no_row_more_than_they_must() -> None:
    """One row less anywhere, and some row that is read is gone (it is one interval that is held:
    where rows in the middle of it are not read, a row less may do)."""
    tight = loose = 0
    for seed in range(25):
        for case in cases(seed):
            held, loaded = sizes(case, 1)
            for i in range(1, len(held)):
                fewer = [count - (n == i) for n, count in enumerate(held)]
                if held[i] > 1:
                    lost = not walk(case, fewer, loaded, 1)
                    tight, loose = tight + lost, loose + (not lost)
            for name, count in loaded.items():
                if count > 1:
                    lost = not walk(case, held, {**loaded, name: count - 1}, 1)
                    tight, loose = tight + lost, loose + (not lost)
    assert tight > 300
    assert loose < tight / 20


@pytest.mark.parametrize("seed", range(40))
def test_retained_rows_are_computed_once_and_whole_where_others_read_them(seed: int) -> None:
    for case in cases(seed):
        chain = case.chain
        tiles = range(len(chain.cuts.owner))
        for i, index in enumerate(chain.layers):
            rows = [row for tile in tiles for row in interval(chain.computed[i], tile)]
            assert len(rows) == len(set(rows))
            if case.outside[i]:
                assert set(rows) == set(range(case.network.layers[index].rows))


@pytest.mark.parametrize("seed", range(40))
def test_each_needed_row_is_loaded_once_and_no_tile_loads_ahead(seed: int) -> None:
    for case in cases(seed):
        cuts = case.chain.cuts
        for name, need in case.chain.needs.items():
            loads, _ = streamed_rows(need, case.network.tensors[name].rows, 2, cuts)
            seen: set[int] = set()
            for tile in range(len(cuts.owner)):
                new = interval(loads, tile)
                assert not new & seen
                assert new <= interval(need, tile)
                seen |= new
                assert interval(need, tile) <= seen


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("depth", [1, 2])
def test_stored_rows_stay_until_they_are_stored_and_no_longer_read(seed: int, depth: int) -> None:
    for case in cases(seed):
        chain = case.chain
        for i, index in enumerate(chain.layers):
            if not case.outside[i]:
                continue
            stores, held = stored_rows(chain, i, depth)
            held_sizes, loaded = sizes(case, depth)
            held_sizes[i] = int(held[0])
            assert walk(case, held_sizes, loaded, depth)
            buffer, stored = Rolling(int(held[0])), set[int]()
            for tile in range(len(chain.cuts.owner)):
                # tile - depth and all before have been stored, the others not yet
                buffer.write(interval(chain.computed[i], tile))
                waiting = [interval(stores, t) for t in range(max(0, tile - depth + 1), tile + 1)]
                assert all(buffer.holds(rows) for rows in waiting)
                stored |= interval(stores, tile)
            assert stored == set(range(case.network.layers[index].rows))


@pytest.mark.parametrize("seed", range(30))
def test_cuttings_side_by_side_are_cuttings_one_by_one(seed: int) -> None:
    for both in cases(seed, all_heights=True):
        chain, network = both.chain, both.network
        for n, (begin, end) in enumerate(chain.cuts.spans()):
            alone = start_chain(network, chain.layers[0], (chain.cuts.heights[n],))
            for i, index in enumerate(chain.layers[1:], 1):
                alone = grow_chain(network, alone, index, "retain", both.outside[i])
            for i in range(len(chain.layers)):
                assert chain.held[i][n] == alone.held[i][0]
                assert np.array_equal(chain.computed[i].begin[begin:end], alone.computed[i].begin)
                assert np.array_equal(chain.computed[i].end[begin:end], alone.computed[i].end)
                moved, held = stored_rows(chain, i, 2)
                moved_alone, held_alone = stored_rows(alone, i, 2)
                assert held[n] == held_alone[0]
                assert np.array_equal(moved.count[begin:end], moved_alone.count)
            for name, need in chain.needs.items():
                extent = network.tensors[name].rows
                loads, held = streamed_rows(need, extent, 2, chain.cuts)
                loads_alone, held_alone = streamed_rows(alone.needs[name], extent, 2, alone.cuts)
                assert held[n] == held_alone[0]
                assert np.array_equal(loads.count[begin:end], loads_alone.count)


def test_recomputed_halos_are_never_better_than_retained_ones() -> None:
    """Why halos are retained: the same plan, recomputing, does and holds no less, anywhere.

    Compute cycles do not fall with rows computed or read, nor loads with rows needed.
    """
    worse = 0
    for seed in range(40):
        pairs = zip(cases(seed), cases(seed, "recompute"), strict=True)
        for retained, recomputed in pairs:
            a, b = retained.chain, recomputed.chain
            for i in range(len(a.layers)):
                assert np.all(b.computed[i].count >= a.computed[i].count)
                assert np.all(b.held[i] >= a.held[i])
                for x, y in zip(a.read[i], b.read[i], strict=True):
                    assert np.all(y.count >= x.count)
                worse += int(np.sum(b.computed[i].count - a.computed[i].count))
            for name, need in a.needs.items():
                extent = retained.network.tensors[name].rows
                for depth in (1, 2):
                    loads, held = streamed_rows(need, extent, depth, a.cuts)
                    again, held_again = streamed_rows(b.needs[name], extent, depth, b.cuts)
                    assert np.all(held_again >= held)
                    assert again.count.sum() >= loads.count.sum()
    assert worse > 1000


def test_stripes_cover_their_rows_and_the_last_may_be_smaller() -> None:
    cuts = cuttings(3, 10, (7, 3, 1))
    assert cuts.tiles.begin.tolist() == [3, 3, 6, 9, 3, 4, 5, 6, 7, 8, 9]
    assert cuts.tiles.end.tolist() == [10, 6, 9, 10, 4, 5, 6, 7, 8, 9, 10]
    assert cuts.spans() == [(0, 1), (1, 4), (4, 11)]
    assert cuts.total(cuts.tiles.count).tolist() == [7, 7, 7]
    assert cuts.largest(cuts.tiles.count).tolist() == [7, 3, 1]


@pytest.mark.parametrize("rows", [1, 2, 7, 56, 112, 1000])
def test_heights_differ_in_their_number_of_stripes(rows: int) -> None:
    heights = stripe_heights(rows)
    counts = [-(-rows // height) for height in heights]
    assert heights[0] == rows
    assert heights[-1] == 1
    assert counts == sorted(set(counts))


def test_needed_rows_of_nothing_pull_no_hull() -> None:
    rows = Rows(np.array([4, 2]), np.array([4, 3]))
    found = needed(RowMap(2, 1, -1, 1), rows, 6)
    assert (int(found.begin[0]), int(found.end[0])) == (6, 0)
    assert (int(found.begin[1]), int(found.end[1])) == (1, 4)


def test_a_slice_of_channels_is_one_run_a_row_of_an_image_and_many_of_a_batch() -> None:
    b = NetworkBuilder("runs")
    b.output(b.conv(b.input("x", (2, 4, 6, 5)), 8, 3, groups=4, padding=1, name="y"))
    network = b.build()
    assert channel_runs(network, "y", None) == (1, 8 * 5)
    assert channel_runs(network, "y", (2, 4)) == (1, 2 * 5)
    together = in_images(network, (), 1)
    assert channel_runs(together, "y", None) == (1, 2 * 8 * 5)
    assert channel_runs(together, "y", (2, 4)) == (2, 2 * 5)
