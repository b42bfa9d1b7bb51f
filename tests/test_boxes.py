"""Columns as rows of the picture on its side, names of axes, and what moves with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spm_opt.boxes import Span, hull, operand_links, tiled_axes
from spm_opt.errors import InputError
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.mapping_set import fusion_set

TALL, FLAT = (1, 4, 9, 7), (1, 4, 7, 9)

#: a layer on `TALL`, and the same with rows and columns exchanged on `FLAT`
PAIRS = {
    "conv": (
        lambda b, x: b.conv(x, 2, (3, 2), (2, 1), (1, 0, 2, 1), (1, 2)),
        lambda b, x: b.conv(x, 2, (2, 3), (1, 2), (0, 1, 1, 2), (2, 1)),
    ),
    "transposed": (
        lambda b, x: b.conv_transpose(x, 2, (3, 2), (2, 1), (1, 0, 1, 0)),
        lambda b, x: b.conv_transpose(x, 2, (2, 3), (1, 2), (0, 1, 0, 1)),
    ),
    "pool": (
        lambda b, x: b.max_pool(x, (3, 2), (2, 1)),
        lambda b, x: b.max_pool(x, (2, 3), (1, 2)),
    ),
    "add": (lambda b, x: b.add(x, x), lambda b, x: b.add(x, x)),
    "softmax": (lambda b, x: b.softmax(x, axis=3), lambda b, x: b.softmax(x, axis=2)),
    "norm": (lambda b, x: b.layer_norm(x, axes=2), lambda b, x: b.layer_norm(x, axes=3)),
    "sum": (
        lambda b, x: b.reduce(x, "mean", axes=[2]),
        lambda b, x: b.reduce(x, "mean", axes=[3]),
    ),
    "concat": (lambda b, x: b.concat([x, x], axis=2), lambda b, x: b.concat([x, x], axis=3)),
    "slice": (
        lambda b, x: b.slice(x, 2, 1, 8, 3),
        lambda b, x: b.slice(x, 3, 1, 8, 3),
    ),
    "pad": (
        lambda b, x: b.pad(x, (0, 0, 1, 2, 0, 0, 3, 0)),
        lambda b, x: b.pad(x, (0, 0, 2, 1, 0, 0, 0, 3)),
    ),
    "resize": (
        lambda b, x: b.resize(x, scale=(2, 3), mode="linear"),
        lambda b, x: b.resize(x, scale=(3, 2), mode="linear"),
    ),
}


def one_layer(make, shape):
    b = NetworkBuilder("one")
    b.output(make(b, b.input("x", shape)))
    return b.build(normalize=False).layers[-1]


@pytest.mark.parametrize("name", PAIRS)
def test_columns_are_the_rows_of_the_picture_on_its_side(name):
    tall, flat = (one_layer(m, s) for m, s in zip(PAIRS[name], (TALL, FLAT), strict=True))
    for i in range(len(tall.inputs)):
        columns = tall.op.input_columns(i, tall.input_shapes, tall.output_shape)
        rows = flat.op.input_rows(i, flat.input_shapes, flat.output_shape)
        if rows.axis is not None and columns.axis is not None:
            rows = replace(rows, axis=5 - rows.axis)
        elif name == "sum":
            continue
        assert columns == rows


def test_a_product_takes_its_columns_from_the_right():
    b = NetworkBuilder("qk")
    q, k = b.input("q", (1, 2, 5, 3)), b.input("k", (1, 2, 4, 3))
    b.output(b.matmul(q, k, transpose_b=True))
    network = b.build()
    (layer,) = network.layers
    assert tiled_axes(layer) == {"heads": 1, "rows": 2, "columns": 3}
    left, right = (operand_links(network, layer, i) for i in range(2))
    assert [link and link.out_axis for link in left] == [0, 1, 2, None]
    assert [link and link.out_axis for link in right] == [0, 1, 3, None]


def test_a_map_that_two_loops_move_differently_is_needed_whole():
    b = NetworkBuilder("gram")
    x = b.linear(b.input("x", (6, 3)), 3)
    b.output(b.matmul(x, x, transpose_b=True))
    fused = fusion_set(b.build())
    assert fused.bindings[fused.intermediates[0]] == (None, None)


def test_a_layer_that_leads_nowhere_is_refused():
    b = NetworkBuilder("fork")
    x = b.input("x", (1, 1, 4, 4))
    b.output(b.unary(x, "exp", name="one"), b.unary(x, "sqrt", name="two"))
    with pytest.raises(InputError, match=r"one: .*'two'"):
        fusion_set(b.build())


def test_empty_intervals_pull_no_hull():
    empty = Span(np.array([2**40]), np.array([0]))
    full = Span(np.array([3]), np.array([5]))
    assert hull(empty, full).begin.tolist() == [3]
    assert hull(full, empty).end.tolist() == [5]
