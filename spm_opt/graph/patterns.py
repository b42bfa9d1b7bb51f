"""Composite functions that exporters spell out: silu, hardswish, gelu, mish, layer norm ...

A pattern is a *cone*: layers between one tensor and one result, whose inner tensors nobody else
reads. What the cone computes is told from how often each kind of element-wise step occurs in it;
constants' values are not known here, their number and extent are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from spm_opt.graph.network import Layer, Network, topological
from spm_opt.graph.ops import Binary, Normalize, Op, Reduce, Shape, Unary

#: no known composite has more steps
_MOST_STEPS = 12


@dataclass(frozen=True, slots=True)
class _Cone:
    """Layers (indices) between the tensor `source` and the last of them."""

    members: tuple[int, ...]
    source: str
    op: Op


def fold_patterns(network: Network) -> Network:
    """Replace every composite function by the one layer that it is."""
    order = topological(network)
    rank = {index: at for at, index in enumerate(order)}
    uses = Counter(operand.tensor for layer in network.layers for operand in layer.inputs)
    uses.update(network.outputs)
    # inside a composite nothing is rounded
    uses.update(network.rounded)
    layers = dict(enumerate(network.layers))
    for last in reversed(order):
        if last not in layers or _step(layers[last]) is None:
            continue
        cone = _cone_of(network, layers, rank, uses, last)
        if cone is not None:
            _replace_cone(layers, cone, last)
    return _kept(network, tuple(layers[index] for index in order if index in layers))


def _kept(network: Network, layers: tuple[Layer, ...]) -> Network:
    names = (*network.inputs, *(layer.output for layer in layers))
    tensors = {name: network.tensors[name] for name in names}
    aliases = {name: base for name, base in network.aliases.items() if base in tensors}
    rounded = tuple(name for name in network.rounded if name in tensors)
    return replace(network, layers=layers, tensors=tensors, aliases=aliases, rounded=rounded)


def _replace_cone(layers: dict[int, Layer], cone: _Cone, last: int) -> None:
    operand = next(
        o for member in cone.members for o in layers[member].inputs if o.tensor == cone.source
    )
    names = tuple(layers[member].name for member in sorted(cone.members) if member != last)
    final = layers[last]
    for member in cone.members:
        del layers[member]
    layers[last] = Layer(
        final.name, cone.op, (operand,), final.output, final.output_shape, folded=names
    )


def _cone_of(
    network: Network,
    layers: Mapping[int, Layer],
    rank: Mapping[int, int],
    uses: Mapping[str, int],
    last: int,
) -> _Cone | None:
    """Grow backwards from `last`; the longest stretch to one tensor that is known."""
    members = [last]
    needed = Counter(operand.tensor for operand in layers[last].inputs)
    shape = layers[last].output_shape
    best: _Cone | None = None
    while len(members) <= _MOST_STEPS:
        if len(needed) == 1:
            source = next(iter(needed))
            op = _known([layers[member] for member in members], source, shape)
            if op is not None:
                best = _Cone(tuple(members), source, op)
        makers = {tensor: network.producer.get(tensor, -1) for tensor in needed}
        tensor = max(needed, key=lambda name: rank.get(makers[name], -1))
        maker = makers[tensor]
        if maker not in layers or uses[tensor] != needed[tensor] or not _inner(layers[maker]):
            break
        members.append(maker)
        del needed[tensor]
        needed.update(operand.tensor for operand in layers[maker].inputs)
    return best


def _inner(layer: Layer) -> bool:
    return _step(layer) is not None and layer.cycles is None


def _step(layer: Layer) -> str | None:
    """Short name of an element-wise (or mean) step; None for any other layer."""
    op = layer.op
    if isinstance(op, Unary):
        return None if layer.weights else op.mode
    if isinstance(op, Reduce):
        return "mean" if op.mode == "mean" and op.keepdims and op.activation is None else None
    if not isinstance(op, Binary) or op.activation is not None:
        return None
    if op.constant_shape is None:
        return f"{op.mode}2" if len(layer.inputs) == 2 else None
    return _SCALAR_STEPS.get(op.mode) if math.prod(op.constant_shape) == 1 else None


_SCALAR_STEPS = {"mul": "scale", "div": "scale", "add": "shift", "sub": "shift", "pow": "power"}


def _known(members: list[Layer], source: str, shape: Shape) -> Op | None:
    """The operator that the cone is, None where it is none that we know."""
    seen = tuple(
        operand.shape for layer in members for operand in layer.inputs if operand.tensor == source
    )
    if any(view != shape for view in seen):
        return None
    steps = Counter(_step(layer) for layer in members)
    if steps["mean"]:
        return _normalization(members, steps)
    for mode, counts in _ACTIVATIONS:
        if steps == counts:
            return Unary(mode)
    return None


def _steps(text: str) -> Counter[str | None]:
    return Counter(text.split())


#: composite activation -> steps of a cone that computes it
_ACTIVATIONS: tuple[tuple[str, Counter[str | None]], ...] = (
    ("silu", _steps("sigmoid mul2")),
    ("quick_gelu", _steps("scale sigmoid mul2")),
    ("hardswish", _steps("hardsigmoid mul2")),
    ("hardswish", _steps("shift relu6 mul2 scale")),
    ("hardswish", _steps("shift clip mul2 scale")),
    ("hardsigmoid", _steps("shift relu6 scale")),
    ("mish", _steps("softplus tanh mul2")),
    ("gelu", _steps("scale erf shift mul2 scale")),
    # 0.5 x (1 + tanh(a (x + b x^3))), the cube as a power or as products
    ("gelu", _steps("power scale add2 scale tanh shift mul2 scale")),
    ("gelu", _steps("mul2 mul2 scale add2 scale tanh shift mul2 scale")),
    # 0.5 x (1 + tanh(a x (1 + b x^2)))
    ("gelu", _steps("power scale shift mul2 scale tanh shift mul2 scale")),
    ("gelu", _steps("mul2 scale shift mul2 scale tanh shift mul2 scale")),
)


def _normalization(members: list[Layer], steps: Counter[str | None]) -> Op | None:
    means = {
        tuple(sorted(axis % len(layer.inputs[0].shape) for axis in layer.op.axes))
        for layer in members
        if isinstance(layer.op, Reduce)
    }
    if len(means) != 1:
        return None
    squares = steps["power"] + max(0, steps["mul2"] - steps["reciprocal"])
    roots = (steps["sqrt"], steps["shift"], steps["div2"] + steps["reciprocal"])
    if squares != 1 or roots != (1, 1, 1):
        return None
    mode = {(2, 1): "layer", (2, 2): "layer", (1, 0): "rms"}.get((steps["mean"], steps["sub2"]))
    return None if mode is None else Normalize(mode, means.pop(), affine=False)
