"""Rows image by image: which maps have them, which rows are needed, how stripes cut and cost."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import batch_cases
from kernel_programs import Array, Case, rows_first
from test_cost import conv, machine
from values_oracle import run as computed

from spm_opt.cost.compute import least_cycles, tile_cycles, whole_cycles
from spm_opt.errors import GraphError
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.images import batch_of, in_images, with_images
from spm_opt.graph.network import Network, needed_rows
from spm_opt.graph.ops import WHOLE, MatMul, RowMap
from spm_opt.graph.pieces import joined_maps, joined_pieces, split_maps
from spm_opt.tiling import row_cuttings, stripe_heights

# --- which rows --------------------------------------------------------------------------------

#: of these some operand mixes images, or has none
MIXED = ("mean of all", "softmax images", "concat images", "slice images", "pad images",
         "transpose images", "transpose folded", "matmul shared", "matmul one", "binary shared",
         "binary row", "gather")  # fmt: skip
REALS = [c for c in batch_cases() if c.name.endswith("float32")]


def rows_of(case: Case, name: str, array: Array) -> Array:
    """One line for each row of a tensor."""
    tensor = case.network.tensors[name]
    return rows_first(array, tensor.images).reshape(tensor.rows, -1)


def changed(case: Case, name: str, row: int) -> set[int]:
    """Output rows that are others once a row of an input is another one, by numpy."""
    tensor = case.network.tensors[name]
    numbers = np.arange(case.inputs[name].size).reshape(tensor.shape)
    places = np.unravel_index(rows_of(case, name, numbers)[row], tensor.shape)
    array = case.inputs[name].copy()
    array[places] = (array[places] + 1) % 5 if tensor.dtype == "int64" else array[places] * 3 + 7
    before, after = (
        computed(case.network, case.values, inputs)[case.layer.output]
        for inputs in (case.inputs, {**case.inputs, name: array})
    )
    differs = ~np.isclose(before, after, rtol=0, atol=0, equal_nan=True)
    return set(np.flatnonzero(rows_of(case, case.layer.output, differs).any(axis=1)).tolist())


@pytest.mark.parametrize("case", REALS, ids=[c.name for c in REALS])
def test_no_row_is_needed_but_those_that_are_said_to_be(case: Case):
    layer, network = case.layer, case.network
    kind = case.name.removeprefix("images ").removesuffix(", float32")
    wholes = 0
    for i, operand in enumerate(layer.inputs):
        rows, row_map = network.tensors[operand.tensor].rows, layer.input_rows(i)
        wholes += row_map == WHOLE
        for row in range(rows):
            for out in changed(case, operand.tensor, row):
                begin, end = row_map.needed(out, out + 1, rows)
                assert begin <= row < end, (operand.tensor, row, out)
    assert (wholes > 0) == (kind in MIXED)


def test_a_range_needs_all_that_its_rows_need():
    for case in REALS:
        layer = case.layer
        for i, operand in enumerate(layer.inputs):
            rows, row_map = case.network.tensors[operand.tensor].rows, layer.input_rows(i)
            for begin in range(layer.rows):
                for end in range(begin + 1, layer.rows + 1):
                    low, high = row_map.needed(begin, end, rows)
                    each = [row_map.needed(r, r + 1, rows) for r in range(begin, end)]
                    some = [(a, b) for a, b in each if b > a]
                    assert all(low <= a and b <= high for a, b in some), (case.name, begin, end)


def test_no_halo_crosses_from_an_image_to_the_next():
    halo = RowMap(2, 1, -1, 1, image_rows=4, image_inputs=4)
    assert [halo.needed(r, r + 1, 12) for r in (3, 4, 7, 8)] == [(2, 4), (4, 6), (6, 8), (8, 10)]
    whole = RowMap(None, image_rows=4, image_inputs=5)
    assert [whole.needed(*r, 15) for r in ((0, 1), (3, 5), (8, 12))] == [(0, 5), (0, 10), (10, 15)]


# --- which maps --------------------------------------------------------------------------------


def images_of(network: Network) -> dict[str, int]:
    return {name: tensor.images for name, tensor in network.tensors.items()}


def gated() -> NetworkBuilder:
    b = NetworkBuilder("gated")
    x = b.conv(b.input("x", (3, 4, 6, 6)), 8, 3, padding=1, name="conv")
    gate = b.linear(b.flatten(b.global_avg_pool(x, name="mean")), 8, activation="sigmoid")
    b.output(b.mul(x, b.reshape(gate, (3, 8, 1, 1)), name="mul"), b.linear(b.flatten(x), 5))
    return b


def test_a_batch_keeps_its_images_through_matrices():
    network = gated().build()
    assert images_of(network) == {"x": 3, "conv": 3, "mean": 3, "linear1": 1, "mul": 3,
                                  "linear2": 1}  # fmt: skip
    layers = {layer.name: layer for layer in network.layers}
    assert layers["linear1"].input_rows(0).needed(1, 2, 3) == (1, 2)
    assert layers["mul"].input_rows(1).needed(6, 12, 3) == (1, 2)
    assert layers["linear2"].input_rows(0).needed(2, 3, 18) == (12, 18)


def test_what_windows_slide_over_says_what_the_batch_is():
    b = NetworkBuilder("chw")
    image = b.unary(b.input("image", (3, 8, 8)), "tanh", name="scaled")
    b.output(b.conv(b.reshape(image, (1, 3, 8, 8)), 4, 3))
    network = b.build()
    assert batch_of(network) == 1
    assert set(images_of(network).values()) == {1}


def test_heads_of_one_sequence_are_no_images():
    b = NetworkBuilder("heads")
    x = b.reshape(b.input("x", (6, 8)), (6, 2, 4))
    heads = b.transpose(x, (1, 0, 2), name="heads")
    b.output(b.matmul(heads, heads, transpose_b=True))
    assert images_of(b.build())["heads"] == 1


def test_inputs_of_different_extents_are_no_batch():
    b = NetworkBuilder("two")
    b.output(b.matmul(b.input("x", (2, 5, 6)), b.input("y", (1, 6, 4))))
    assert batch_of(b.build()) == 2
    b = NetworkBuilder("three")
    b.output(b.unary(b.input("x", (2, 5, 6)), "tanh"), b.unary(b.input("y", (3, 6, 4)), "tanh"))
    assert batch_of(b.build()) == 1


def test_one_image_is_as_it_was():
    b = NetworkBuilder("one")
    b.output(b.linear(b.conv(b.input("x", (1, 4, 6, 6)), 8, 3, padding=1), 3))
    network = b.build()
    assert with_images(network) == network
    assert set(images_of(network).values()) == {1}


def test_products_of_a_batch_are_not_cut_along_it():
    product = MatMul()
    b = NetworkBuilder("products")
    b.output(b.matmul(b.input("x", (3, 4, 5)), b.input("y", (3, 5, 6))))
    network = b.build()
    assert product.channel_axis((3, 4, 6)) == 0
    assert network.layers[0].channel_axis is None
    assert network.channel_axes == {}
    assert in_images(network, (), 1).channel_axes != {}


def test_a_batch_is_joined_and_taken_apart_without_copies_unless_rows_lie_otherwise():
    b = NetworkBuilder("joined")
    x = b.input("x", (2, 4, 6, 6))
    joined = b.concat([b.conv(x, 3, 1, name="a"), b.conv(x, 5, 1, name="b")], name="ab")
    b.output(b.unary(b.slice(joined, 1, 2, 6, name="part"), "tanh"))
    network = b.build()
    (plan,) = joined_maps(network)
    assert plan.leaves == {"a": (0, 3), "b": (3, 8)}
    assert split_maps(network) == {"part": ("ab", (2, 6))}
    mixed = in_images(network, ("a", "b", "x", "part"), 2)
    assert joined_pieces(mixed, mixed.layers[2]) is None
    assert split_maps(mixed) == {}


def test_rows_between_strides_are_needed_in_no_image():
    b = NetworkBuilder("strided")
    x = b.conv(b.input("x", (2, 4, 9, 8)), 4, 3, padding=1, name="every")
    b.output(b.conv(x, 4, 1, stride=3, name="third"))
    assert needed_rows(b.build()) == {"x": 16, "every": 6, "third": 6}


def test_rows_that_are_not_the_tensors_are_refused():
    network = gated().build()
    conv_layer = network.layers[0]
    wrong = replace(conv_layer.inputs[0], image_rows=5)
    with pytest.raises(GraphError, match="not the tensor's rows"):
        replace(network, layers=(replace(conv_layer, inputs=(wrong,)), *network.layers[1:]))
    with pytest.raises(GraphError, match="not the output's images"):
        replace(network, layers=(replace(conv_layer, images=1), *network.layers[1:]))
    tensors = {**network.tensors, "x": replace(network.tensors["x"], images=2)}
    with pytest.raises(GraphError, match="images must be those of the first axis"):
        replace(network, tensors=tensors)


# --- stripes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("rows", [1, 2, 7, 56])
def test_stripes_are_whole_images_or_rows_of_one(rows: int, images: int):
    layer = replace(conv((images, 2, rows, 4), 3), images=images)
    heights = stripe_heights(layer.rows, images)
    assert {1, rows, rows * images} <= set(heights)
    cuts = row_cuttings(layer, heights)
    for begin, end in cuts.spans():
        tiles = list(zip(cuts.tiles.begin[begin:end], cuts.tiles.end[begin:end], strict=True))
        assert [row for low, high in tiles for row in range(low, high)] == [*range(layer.rows)]
        for low, high in tiles:
            whole = low % rows == 0 and high % rows == 0
            assert whole or low // rows == (high - 1) // rows
    assert stripe_heights(rows) == stripe_heights(rows, 1)


# --- costs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("factors", [{"b": 4, "k": 2}, {"oy": 4, "c": 2}, {"b": 2, "oy": 3}, {}])
def test_a_tile_costs_its_whole_images_at_once_and_what_is_left_apart(factors: dict[str, int]):
    images, height = 3, 5
    layer = replace(conv((images, 4, height, 6), 8), images=images)
    chip = machine(factors)
    ranges = [(b, e) for b in range(layer.rows) for e in range(b, layer.rows + 1)]
    begin, end = np.array(ranges).T
    nothing = np.zeros_like(begin)
    found = tile_cycles(layer, "int8", chip, end - begin, nothing, begin=begin).tolist()
    for (low, high), cycles in zip(ranges, found, strict=True):
        assert cycles == sum(_nests(layer, factors, low, high)), (low, high)
    assert whole_cycles(layer, "int8", chip) == found[ranges.index((0, layer.rows))]
    assert least_cycles(layer, "int8", chip) <= min(
        found[ranges.index((0, cut))] + found[ranges.index((cut, layer.rows))]
        for cut in range(1, layer.rows)
    )


def _nests(layer, factors: dict[str, int], low: int, high: int):
    """Cycles of each nest: rows of the first image, whole images, rows of the last."""
    by_image: dict[int, int] = {}
    for row in range(low, high):
        by_image[row // layer.image_rows] = by_image.get(row // layer.image_rows, 0) + 1
    whole = sum(count == layer.image_rows for count in by_image.values())
    boxes = [(1, count) for count in by_image.values() if count < layer.image_rows]
    for images, rows in [*boxes, (whole, layer.image_rows)]:
        extents = {"b": images, "oy": rows, "k": 8, "c": 4, "ox": 6}
        yield math.prod(math.ceil(n / factors.get(d, 1)) for d, n in extents.items())
