"""Parts: which layers are cut and how finely; the least scratchpad, exactly."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from draws import quick_of
from plan_fixture import make_world, random_chip, random_network, with_capacity

from spm_opt.cost.compute import least_cycles, tile_cycles
from spm_opt.errors import SpmTooSmallError
from spm_opt.formats.catalogue import find_hardware, read_model
from spm_opt.formats.hardware_yaml import read_hardware
from spm_opt.fusion import make_candidates, minimum_spm_bytes
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.graph.normalize import normalize
from spm_opt.graph.ops import (
    BatchNorm,
    Binary,
    Concat,
    Conv,
    Linear,
    MatMul,
    Normalize,
    Op,
    Pad,
    Pool,
    Reduce,
    Resize,
    Slice,
    Softmax,
    Transpose,
    Unary,
)
from spm_opt.hardware import Scratchpad
from spm_opt.parts import (
    MAX_SLICES,
    SLICE_BYTES,
    cut,
    depth_first_order,
    distinct_orders,
    has_unique_order,
    slice_count,
    small_live_order,
    source_order,
)
from spm_opt.parts_space import channel_heights, slice_edges
from spm_opt.site import make_site

KIB = 1024


def pad(capacity_bytes: int) -> Scratchpad:
    return Scratchpad(capacity_bytes, 64, Fraction(256))


def one_conv(channels: int, out: int, rows: int, groups: int = 1, kernel: int = 3) -> Network:
    b = NetworkBuilder("one")
    x = b.input("x", (1, channels, rows, rows))
    b.output(b.conv(x, out, kernel, padding=kernel // 2, groups=groups, bias=False))
    return b.build()


def slices(network: Network, capacity_bytes: int) -> list[tuple[int, int] | None]:
    return [part.channels for part in cut(network, source_order(network), pad(capacity_bytes))]


# --------------------------------------------------------------------------- slices


@pytest.mark.parametrize("kib", [512, 1024, 2048, 16384])
def test_a_larger_scratchpad_has_the_channel_tiles_of_a_smaller_one(kib: int) -> None:
    network = one_conv(512, 1000, 14, kernel=1)
    (layer,) = network.layers
    smaller = channel_heights(network, layer, None, 512 * KIB)
    larger = channel_heights(network, layer, None, kib * KIB)
    # 16 channels of 512 bytes are 8 KiB
    assert min(smaller) == 16
    assert set(smaller) <= set(larger)


def test_small_weights_are_left_whole() -> None:
    assert slices(one_conv(64, 64, 14), 4 * 64 * 64 * 9) == [None]


def test_weights_are_cut_into_quarters_of_the_scratchpad() -> None:
    network = one_conv(64, 64, 14)
    found = slices(network, 128 * KIB)  # 36 KiB of weights in slices of at most 32
    assert found == [(0, 32), (32, 64)]
    parts = cut(network, source_order(network), pad(128 * KIB))
    assert sum(part.weight_bytes for part in parts) == network.weight_bytes


def test_slices_stop_at_a_size_that_is_enough() -> None:
    network = one_conv(512, 512, 7)
    assert len(slices(network, 64 * 1024 * KIB)) == -(-network.weight_bytes // SLICE_BYTES)


def test_weights_of_many_slices_stream_past_an_input_that_fits() -> None:
    b = NetworkBuilder("fc")
    b.output(b.linear(b.input("x", (1, 4096)), 4096, bias=False))
    assert slices(b.build(), 256 * KIB) == [None]


def test_weights_of_many_slices_are_cut_where_the_input_does_not_fit() -> None:
    b = NetworkBuilder("fc")
    b.output(b.linear(b.input("x", (1, 64, 4096)), 4096, bias=False))
    found = slices(b.build(), 256 * KIB)
    assert len(found) == 256 > MAX_SLICES
    assert all(end - begin == 16 for begin, end in found)


def test_a_window_that_does_not_fit_is_cut_though_its_weights_are_small() -> None:
    # output rows of 8 * 512 bytes, weights of 72 bytes: only fewer channels at once will do
    network = one_conv(1, 8, 512)
    whole = 3 * 512 + 72 + 8 * 512
    assert slices(network, whole + 128) == [None]
    assert slices(network, whole - 512) == [(0, 4), (4, 8)]


def test_depthwise_slices_are_channels_and_read_their_own() -> None:
    network = one_conv(96, 96, 112, groups=96)
    whole = 4 * 112 * 96 + 96 * 9
    (first, *_, last) = slices(network, whole // 2)
    assert (first[0], last[1]) == (0, 96)
    read = network.operand_channels(network.layers[0], 0, first)
    assert read == first


def test_grouped_slices_never_cut_two_groups_and_read_whole_ones() -> None:
    network = one_conv(32, 48, 14, groups=4)
    layer = network.layers[0]
    for count in range(1, 49):
        edges = slice_edges(layer, count)
        assert edges[0] == 0
        assert edges[-1] == 48
        assert len(edges) - 1 >= count
        for begin, end in pairwise(edges):
            assert begin < end
            assert (begin % 12 == 0 and end % 12 == 0) or begin // 12 == (end - 1) // 12
    # channels in and out differ: all is read
    assert network.operand_channels(layer, 0, (0, 12)) is None
    same = one_conv(48, 48, 14, groups=4)
    assert same.operand_channels(same.layers[0], 0, (12, 24)) == (12, 24)
    assert same.operand_channels(same.layers[0], 0, (14, 16)) == (12, 24)
    assert same.operand_channels(same.layers[0], 0, (0, 48)) is None


def test_pooling_that_fits_in_channel_tiles_is_not_cut() -> None:
    b = NetworkBuilder("pool")
    b.output(b.global_avg_pool(b.input("x", (1, 1280, 7, 7))))
    assert slices(b.build(), 47 * KIB) == [None]


def test_attention_heads_are_cut_where_all_keys_do_not_fit() -> None:
    b = NetworkBuilder("heads")
    q, k = b.input("q", (1, 12, 512, 64)), b.input("k", (1, 12, 512, 64))
    b.output(b.matmul(q, k, transpose_b=True))
    network = b.build()
    assert slices(network, 512 * KIB) == [None]
    # keys of three heads are 96 KiB, less than half
    assert slices(network, 256 * KIB) == [(0, 3), (3, 6), (6, 9), (9, 12)]


IMAGE, TOKENS, HEADS = (1, 6, 5, 4), (1, 5, 6), (1, 3, 5, 4)
#: operator, input shapes, the output's channel axis, and the axis of each input cut with it
CHANNELWISE = [
    (Conv(8, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)), [IMAGE], 1, [None]),
    (Conv(6, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), groups=6), [IMAGE], 1, [1]),
    (Conv(12, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), groups=6), [IMAGE], 1, [None]),
    (Linear(7), [TOKENS], 2, [None]),
    (Pool("max", (2, 2), (1, 1), (0, 0, 0, 0), (1, 1)), [IMAGE], 1, [1]),
    (Pool("max", (2,), (1,), (0, 0), (1,)), [TOKENS], None, [None]),
    (Reduce("mean", (2, 3)), [IMAGE], 1, [1]),
    (Reduce("mean", (2, 3), keepdims=False), [IMAGE], 1, [1]),
    (Reduce("mean", (1,), keepdims=False), [TOKENS], 1, [2]),
    (Reduce("mean", (1,)), [IMAGE], 1, [None]),
    (Unary("gelu"), [TOKENS], 2, [2]),
    (Binary("add"), [IMAGE, IMAGE], 1, [1, 1]),
    (Binary("mul"), [IMAGE, (1, 6, 1, 1)], 1, [1, 1]),
    (Binary("mul"), [IMAGE, (5, 4)], 1, [1, None]),
    (Binary("add", constant_shape=(6, 1, 1)), [IMAGE], 1, [1]),
    (Binary("add", constant_shape=(4,)), [IMAGE], None, [None]),
    (Softmax(-1), [HEADS], 1, [1]),
    (Softmax(1), [IMAGE], None, [None]),
    (Normalize("layer", (2,)), [TOKENS], None, [None]),
    (Normalize("instance", (2, 3)), [IMAGE], 1, [1]),
    (Normalize("layer", (3,)), [HEADS], None, [None]),
    (Normalize("layer", (3,), affine=False), [HEADS], 1, [1]),
    (BatchNorm(), [IMAGE], 1, [1]),
    (BatchNorm(), [TOKENS], None, [None]),
    (Concat(2), [IMAGE, IMAGE], 1, [1, 1]),
    (Concat(1), [IMAGE, IMAGE], None, [None, None]),
    (Slice((0, 0, 1, 0), (1, 6, 3, 4), (1, 1, 1, 1)), [IMAGE], 1, [1]),
    (Slice((0, 2, 0, 0), (1, 3, 5, 4), (1, 1, 1, 1)), [IMAGE], None, [None]),
    (Slice((0, 0, 0, 0), (1, 3, 5, 4), (1, 1, 1, 1)), [IMAGE], 1, [None]),
    (Pad((0, 0, 1, 1, 0, 0, 1, 1)), [IMAGE], 1, [1]),
    (Pad((0, 1, 0, 0, 0, 0, 0, 0)), [IMAGE], None, [None]),
    (Resize((1, 6, 10, 8)), [IMAGE], 1, [1]),
    (MatMul(), [HEADS, (1, 3, 4, 7)], 1, [1, 1]),
    (MatMul(), [HEADS, (1, 1, 4, 7)], 1, [1, None]),
    (MatMul(), [(5, 4), (4, 7)], None, [None, None]),
    (Transpose((0, 2, 1, 3)), [HEADS], None, [None]),
]


@pytest.mark.parametrize(("op", "inputs", "axis", "own"), CHANNELWISE)
def test_which_inputs_are_cut_with_the_channels_of_the_output(
    op: Op, inputs: list[tuple[int, ...]], axis: int | None, own: list[int | None]
) -> None:
    shapes = tuple(inputs)
    output = op.infer(shapes)
    assert op.channel_axis(output) == axis
    assert [op.input_channel_axis(i, shapes, output) for i in range(len(shapes))] == own


def test_an_operand_under_another_view_or_axis_is_read_whole() -> None:
    b = NetworkBuilder("views")
    x = b.input("x", (1, 6, 5, 4))
    b.output(
        b.softmax(b.reshape(x, (1, 6, 20, 1)), axis=2, name="viewed"),
        b.unary(x, "relu", name="own"),
        b.softmax(b.linear(x, 8, name="last_axis"), name="axis"),
    )
    network = b.build()
    of = {layer.name: network.sliced_reads[layer.name] for layer in network.layers}
    assert of["viewed"] == (False,)
    assert of["own"] == (True,)
    # the linear layer's slices cut its last axis, the reader would cut axis 1
    assert network.channel_axes["last_axis"] == 3
    assert of["axis"] == (False,)


def test_heads_cut_the_batch_of_a_product_and_not_its_columns() -> None:
    b = NetworkBuilder("heads")
    q, k = b.input("q", (1, 12, 512, 64)), b.input("k", (1, 12, 512, 64))
    b.output(b.matmul(q, k, transpose_b=True))
    (layer,) = b.build().layers
    chip = read_hardware(find_hardware("mobile_npu"), {})
    rows, nothing = np.array([512]), np.array([0])
    whole, one = (tile_cycles(layer, "int8", chip, rows, nothing, n)[0] for n in (None, 1))
    assert whole == 12 * one == layer.macs // 1024
    assert least_cycles(layer, "int8", chip) == whole


# --------------------------------------------------------------------------- the least scratchpad


@pytest.mark.parametrize("seed", quick_of(range(15), range(40)))
def test_the_least_scratchpad_is_exact(seed: int) -> None:
    rng = random.Random(seed)
    network = random_network(rng)
    chip = random_chip(rng, network, tightness=1.0)
    least, layer = minimum_spm_bytes(network, chip)
    world = make_world(network, chip)
    covered = {p for c in world.problem.candidates for p in range(c.first, c.end)}
    assert covered == set(range(world.problem.parts))
    assert least % chip.spm.alignment_bytes == 0
    smaller = with_capacity(chip, least - chip.spm.alignment_bytes)
    site = make_site(network, smaller, source_order(network))
    with pytest.raises(SpmTooSmallError) as error:
        make_candidates(site, bands=False, blocks=False, runs=False)
    assert (error.value.layer, error.value.needed_bytes) == (layer, least)


@pytest.mark.parametrize("seed", quick_of(range(12), range(40)))
def test_every_part_has_a_candidate_at_every_larger_capacity(seed: int) -> None:
    rng = random.Random(seed)
    network = random_network(rng)
    chip = random_chip(rng, network, tightness=1.0)
    for _ in range(6):
        capacity = int(chip.spm.capacity_bytes * rng.uniform(1, 6))
        world = make_world(network, with_capacity(chip, capacity))
        streaming = [c for c in world.problem.candidates if not c.reads and not c.keeps]
        covered = {p for c in streaming for p in range(c.first, c.end)}
        assert covered == set(range(world.problem.parts))


@pytest.mark.parametrize("seed", quick_of(range(10), range(25)))
def test_nothing_runs_below_the_least_space_of_its_layer(seed: int) -> None:
    """By the candidates' own prices, whatever cuttings they come from.

    Unless it has nothing to do, or is written over what it reads.
    """
    rng = random.Random(seed)
    network = random_network(rng)
    chip = random_chip(rng, network)
    world = make_world(network, chip, prune=False, aliases=False)
    for c in world.problem.candidates:
        begun = [t for t in c.keeps if world.problem.maps[t].birth < c.first]
        maps = sum(world.problem.maps[t].size_bytes for t in (*c.reads, *begun))
        weights = 0 if c.streams_weights else sum(
            world.problem.weights[p].size_bytes for p in range(c.first, c.end)
        )  # fmt: skip
        index = world.site.parts[c.first].layer
        layer = network.layers[index]
        alone = replace(
            network, layers=(layer,), inputs=tuple({o.tensor for o in layer.inputs}),
            outputs=(layer.output,),
            tensors={n: network.tensors[n] for n in
                     (*{o.tensor for o in layer.inputs}, layer.output)},
        )  # fmt: skip
        if c.end - c.first == 1:
            assert c.work_bytes + maps + weights >= minimum_spm_bytes(alone, chip)[0]


@pytest.mark.parametrize(
    ("model", "kib"),
    [("mobilenet_v2", 47), ("alexnet", 192), ("unet", 512), ("gpt2_small_prefill", 512)],
)
def test_catalogue_models_fit_small_scratchpads(model: str, kib: int) -> None:
    network = normalize(read_model(model)).with_dtype("int8")
    chip = read_hardware(find_hardware("mobile_npu"), {"spm.capacity": f"{kib} KiB"})
    assert minimum_spm_bytes(network, chip)[0] <= kib * KIB
    for index, layer in enumerate(network.layers):
        assert slice_count(network, chip.spm, index) <= max(layer.output_shape)


# --------------------------------------------------------------------------- orders


@pytest.mark.parametrize("seed", range(20))
def test_orders_are_topological(seed: int) -> None:
    network = random_network(random.Random(seed), layers=9)
    for order in (source_order, depth_first_order, small_live_order):
        place = {index: n for n, index in enumerate(order(network))}
        assert sorted(place) == list(range(len(network.layers)))
        assert all(place[a] < place[b] for a, b in network.graph.edges)


def two_branches() -> Network:
    b = NetworkBuilder("branches")
    x = b.input("x", (1, 4, 8, 8))
    left, right = b.conv(x, 16, 1, name="l1"), b.conv(x, 2, 1, name="r1")
    left, right = b.conv(left, 4, 1, name="l2"), b.conv(right, 4, 1, name="r2")
    b.output(b.add(left, right, name="sum"))
    return b.build()


def test_branches_are_interleaved_or_finished_first() -> None:
    network = two_branches()
    names = {
        name: [network.layers[i].name for i in order]
        for name, order in distinct_orders(network, 3).items()
    }
    assert names["source"] == ["l1", "r1", "l2", "r2", "sum"]
    assert names["depth_first"] == ["l1", "l2", "r1", "r2", "sum"]
    assert not has_unique_order(network)


def test_a_chain_has_one_order() -> None:
    network = one_conv(4, 4, 8)
    assert has_unique_order(network)
    assert list(distinct_orders(network, 3)) == ["source"]


def test_slices_of_a_layer_bound_by_the_array_lie_on_its_width():
    builder = NetworkBuilder("wide")
    builder.output(builder.conv(builder.input("x", (1, 64, 28, 28)), 200, 3, padding=1))
    network = builder.build()
    even = cut(network, source_order(network), pad(128 * KIB), {0: (32,)})
    assert len(even) > 1
    assert all(part.channels is not None and part.channels[0] % 32 == 0 for part in even)
    plain = cut(network, source_order(network), pad(128 * KIB))
    assert any(part.channels is not None and part.channels[0] % 32 for part in plain)
    for parts in (even, plain):
        edges = [part.channels for part in parts if part.channels is not None]
        assert edges[0][0] == 0
        assert edges[-1][1] == 200
        assert all(a[1] == b[0] for a, b in pairwise(edges))


def test_slices_keep_their_size_where_the_array_is_far_wider():
    builder = NetworkBuilder("narrow")
    builder.output(builder.conv(builder.input("x", (1, 64, 28, 28)), 200, 3, padding=1))
    network = builder.build()
    order = source_order(network)
    assert cut(network, order, pad(128 * KIB), {0: (512,)}) == cut(network, order, pad(128 * KIB))
