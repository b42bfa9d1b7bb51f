"""A map that the source rounds to a scale of its own is no place for its pieces."""

from __future__ import annotations

from dataclasses import replace

from spm_opt.graph.network import Layer, Network, Tensor, operand_of
from spm_opt.graph.ops import Concat, Slice, Unary
from spm_opt.graph.pieces import copy_free


def joined_and_split() -> Network:
    """x -> a, b -> y = a | b -> s, its first channels."""
    tensors = {name: Tensor(name, (1, 4, 8, 8)) for name in ("x", "a", "b")}
    tensors["y"], tensors["s"] = Tensor("y", (1, 8, 8, 8)), Tensor("s", (1, 2, 8, 8))
    x, a, b, y = (operand_of(tensors[name]) for name in ("x", "a", "b", "y"))
    layers = (
        Layer("a", Unary("relu"), (x,), "a", (1, 4, 8, 8)),
        Layer("b", Unary("tanh"), (x,), "b", (1, 4, 8, 8)),
        Layer("y", Concat(1), (a, b), "y", (1, 8, 8, 8)),
        Layer("s", Slice((0, 0, 0, 0), (1, 2, 8, 8), (1, 1, 1, 1)), (y,), "s", (1, 2, 8, 8)),
    )
    return Network("joined", tensors, layers, ("x",), ("s",))


def test_a_concatenation_or_split_that_rounds_must_copy() -> None:
    network = joined_and_split()
    assert copy_free(network) == {"y", "s"}
    assert copy_free(replace(network, rounded=("y",))) == {"s"}
    assert copy_free(replace(network, rounded=("s",))) == {"y"}
