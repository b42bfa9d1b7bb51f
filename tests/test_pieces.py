"""Maps inside others: every piece that is claimed lies, byte for byte, where it is said to."""

from __future__ import annotations

import random
from math import prod

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_opt.graph.builder import Handle, NetworkBuilder
from spm_opt.graph.network import Layer, Network, Tensor, by_name, operand_of
from spm_opt.graph.ops import Concat, Slice, row_axis
from spm_opt.graph.pieces import copy_free, joined_maps, pieces, split_maps

Ids = NDArray[np.int64]


def contents(network: Network) -> dict[str, Ids]:
    """Every element by its own number; joined and sliced as numpy does it."""
    found: dict[str, Ids] = {}
    free = 0
    done = [*network.inputs]
    layers = list(network.layers)
    for name in done:
        size = prod(network.tensors[name].shape)
        found[name] = np.arange(free, free + size).reshape(network.tensors[name].shape)
        free += size
    for layer in layers:  # the builder writes them in order
        op, shape = layer.op, layer.output_shape
        operands = [found[operand.tensor].reshape(operand.shape) for operand in layer.inputs]
        if isinstance(op, Concat) and not op.constants:
            made = np.concatenate(operands, axis=op.axis)
        elif isinstance(op, Slice):
            picked = zip(op.begins, op.sizes, op.steps, strict=True)
            made = operands[0][tuple(slice(b, b + n * s, s) for b, n, s in picked)]
        else:
            made = np.arange(free, free + prod(shape)).reshape(shape)
            free += made.size
        found[layer.output] = made.reshape(network.tensors[layer.output].shape)
    return found


def in_rows(network: Network, name: str, ids: Ids) -> Ids:
    """Elements as they lie: (rows, elements of a row)."""
    tensor = network.tensors[name]
    rows = row_axis(tensor.shape)
    assert rows is not None
    if tensor.images > 1:
        return np.moveaxis(ids, rows, 1).reshape(tensor.rows, -1)
    return np.moveaxis(ids, rows, 0).reshape(ids.shape[rows], -1)


def lies_there(
    network: Network, found: dict[str, Ids], inner: str, outer: str, channels: tuple[int, int]
) -> bool:
    """Whether the rows of `inner` are one run of those of `outer`, at `channels`."""
    axis, shape = network.channel_axes[outer], network.tensors[outer].shape
    rest = prod(extent for i, extent in enumerate(shape) if i > axis and i != row_axis(shape))
    assert axis > 0 or network.tensors[outer].images == 1
    run = in_rows(network, outer, found[outer])[:, channels[0] * rest : channels[1] * rest]
    mine = in_rows(network, inner, found[inner])
    alike = network.tensors[inner].dtype == network.tensors[outer].dtype
    return alike and mine.shape == run.shape and bool((mine == run).all())


def check(network: Network) -> int:
    """Every claimed piece lies where it is said to; returns their number."""
    found = contents(network)
    claimed = pieces(network)
    for (inner, outer), channels in claimed.items():
        assert inner != outer
        # channels of both are counted alike, whoever else cuts them
        assert network.channel_axes[inner] == network.channel_axes[outer]
        assert lies_there(network, found, inner, outer, channels), (inner, outer, channels)
    for name, (outer, channels) in split_maps(network).items():
        assert claimed[name, outer] == channels
    for plan in joined_maps(network):
        for name, channels in plan.leaves.items():
            assert claimed[name, plan.tensor] == channels
        ends = [0, *(end for _, end in plan.leaves.values())]
        assert [begin for begin, _ in plan.leaves.values()] == ends[:-1]  # no gap, no overlap
        assert plan.inner[plan.tensor] == (0, ends[-1])
    return len(claimed)


SHAPES = [(1, 4, 5, 3), (2, 4, 5, 3), (1, 6, 4), (6, 4), (2, 6, 4), (1, 2, 3, 4, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_random_joins_and_cuts_lie_where_they_are_said_to(shape: tuple[int, ...]) -> None:
    claimed = 0
    for seed in range(40):
        rng = random.Random(seed)
        b = NetworkBuilder("random")
        made = [b.unary(b.input("x", shape), "tanh"), b.unary(b.input("z", shape), "relu")]
        for _ in range(rng.randint(2, 5)):
            made.append(_drawn(rng, b, made))
        b.output(*(b.unary(h, "tanh") for h in made))
        claimed += check(b.build())
    assert claimed >= 5


def _drawn(rng: random.Random, b: NetworkBuilder, made: list[Handle]) -> Handle:
    x, axis = rng.choice(made), rng.randrange(len(made[0].shape))
    others = [
        h for h in made
        if all(m == n for i, (m, n) in enumerate(zip(h.shape, x.shape, strict=True)) if i != axis)
    ]  # fmt: skip
    if x.shape[axis] > 1 and rng.random() < 0.5:
        begin = rng.randrange(x.shape[axis] - 1)
        return b.slice(x, axis, begin, rng.randint(begin + 1, x.shape[axis]), rng.choice([1, 1, 2]))
    return b.concat([x, *(rng.choice(others) for _ in range(rng.choice([1, 1, 2])))], axis=axis)


def network_of(*layers: Layer, tensors: list[Tensor], outputs: tuple[str, ...]) -> Network:
    made = {layer.output for layer in layers}
    inputs = tuple(t.name for t in tensors if t.name not in made)
    return Network("hand", by_name(tensors), layers, inputs, outputs)


def concat(output: Tensor, axis: int, *sources: Tensor) -> Layer:
    operands = tuple(operand_of(source) for source in sources)
    return Layer(f"{output.name}.concat", Concat(axis), operands, output.name, output.shape)


def test_nested_concatenations_have_the_leaves_of_all() -> None:
    b = NetworkBuilder("dense")
    x = b.conv(b.input("x", (1, 3, 4, 4)), 2, 1, name="a")
    inner = b.concat([x, b.conv(x, 3, 1, name="b")], name="ab")
    outer = b.concat([b.conv(inner, 4, 1, name="c"), inner], name="cab")
    b.output(b.conv(outer, 2, 1, name="d"))
    network = b.build()
    (plan,) = joined_maps(network)
    assert plan.tensor == "cab"
    assert dict(plan.leaves) == {"c": (0, 4), "a": (4, 6), "b": (6, 9)}
    assert dict(plan.inner) == {"ab": (4, 9), "cab": (0, 9)}
    assert copy_free(network) == {"ab", "cab"}
    assert check(network) == 6  # c, ab, a, b in cab; a, b in ab


def test_a_piece_belongs_to_the_first_concatenation_that_reads_it() -> None:
    b = NetworkBuilder("twice")
    x = b.input("x", (1, 3, 4, 4))
    one, two, three = (b.conv(x, 2, 1, name=name) for name in ("a", "b", "c"))
    b.output(b.unary(b.concat([one, two], name="ab"), "relu"))
    b.output(b.unary(b.concat([two, three], name="bc"), "relu"))
    network = b.build()
    assert [plan.tensor for plan in joined_maps(network)] == ["ab"]
    assert pieces(network)["b", "bc"] == (0, 2)


@pytest.mark.parametrize("which", ["input", "output"])
def test_what_lies_elsewhere_in_dram_is_joined_by_nobody(which: str) -> None:
    b = NetworkBuilder("edge")
    x = b.input("x", (1, 3, 4, 4))
    y = b.conv(x, 2, 1, name="y")
    b.output(b.unary(b.concat([x if which == "input" else b.conv(x, 3, 1), y]), "relu"))
    if which == "output":
        b.output(y)
    assert joined_maps(b.build()) == ()


def test_a_piece_may_not_be_there_twice_nor_beside_constants() -> None:
    b = NetworkBuilder("twice")
    x = b.conv(b.input("x", (1, 3, 4, 4)), 2, 1, name="x2")
    b.output(b.unary(b.concat([x, x], name="xx"), "relu"))
    b.output(b.unary(b.concat([x], constants=[(0, (1, 1, 4, 4))], name="cx"), "relu"))
    network = b.build()
    assert {"xx", "cx"} <= {layer.name for layer in network.layers}
    assert copy_free(network) == frozenset()


def test_rows_are_not_joined_in_place() -> None:
    b = NetworkBuilder("rows")
    x = b.input("x", (1, 2, 4, 4))
    b.output(b.unary(b.concat([b.conv(x, 2, 1), b.conv(x, 2, 1)], axis=2), "relu"))
    assert copy_free(b.build()) == frozenset()


def test_another_element_type_is_no_piece() -> None:
    x, y = Tensor("x", (1, 2, 4, 4)), Tensor("y", (1, 2, 4, 4), "int16")
    z = Tensor("z", (1, 4, 4, 4))
    network = network_of(concat(z, 1, x, y), tensors=[x, y, z], outputs=("z",))
    assert copy_free(network) == frozenset()


def test_a_piece_seen_through_a_view_is_none() -> None:
    b = NetworkBuilder("view")
    x = b.input("x", (1, 4, 4, 4))
    halves = [b.reshape(b.conv(x, 4, 1, name=name), (1, 8, 2, 4)) for name in ("a", "b")]
    b.output(b.unary(b.concat(halves, name="ab"), "relu"))
    network = b.build()
    assert any(isinstance(layer.op, Concat) for layer in network.layers)
    assert copy_free(network) == frozenset()


def test_slices_of_slices_count_from_the_root_and_steps_copy() -> None:
    x = Tensor("x", (1, 10, 4, 4))
    s, t, u = (Tensor(name, (1, n, 4, 4)) for name, n in (("s", 6), ("t", 3), ("u", 2)))

    def cut(source: Tensor, made: Tensor, begin: int, step: int = 1) -> Layer:
        op = Slice((0, begin, 0, 0), made.shape, (1, step, 1, 1))
        return Layer(made.name, op, (operand_of(source),), made.name, made.shape)

    network = network_of(
        cut(x, s, 3), cut(s, t, 2), cut(t, u, 0, 2), tensors=[x, s, t, u], outputs=("u",)
    )
    assert split_maps(network) == {"s": ("x", (3, 9)), "t": ("x", (5, 8))}
    assert copy_free(network) == {"s", "t"}
    assert check(network) == 3
