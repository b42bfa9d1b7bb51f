"""From the network as its source spells it to the network that is planned.

Views become operands, constants and element-wise functions go into the layer that produces their
input, layers that nobody reads disappear. Every pass maps a `Network` to an equal or smaller one;
`normalize` is their order. Nothing here knows files, scratchpads or cycles.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from spm_opt.errors import GraphError
from spm_opt.graph.images import in_images, with_images
from spm_opt.graph.network import (
    Layer,
    Network,
    Operand,
    Tensor,
    Weight,
    operand_of,
    topological,
)
from spm_opt.graph.ops import (
    BatchNorm,
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Linear,
    MatMul,
    Normalize,
    Op,
    Pad,
    Pool,
    Reduce,
    Resize,
    Shape,
    Slice,
    Transpose,
    Unary,
)
from spm_opt.graph.patterns import fold_patterns

_NAMES_SHOWN = 5


def normalize(network: Network) -> Network:
    """The same computation without views, foldable epilogues and dead layers.

    A folded layer keeps its own name, writes the tensor of the last node folded into it, and
    names the nodes in `Layer.folded`. Layers come in a topological order that keeps the source's.

    Parameters
    ----------
    network : Network
        As read: views, batch normalisations, activations and bias additions as layers.

    Returns
    -------
    Network
        Names of views are kept in `Network.aliases`. Rows of a batch lie image by image
        (`spm_opt.graph.images`).

    Raises
    ------
    GraphError
        If the network has no output.
    """
    network = unfolded(in_images(network, (), 1))
    for step in _FOLDING:
        network = step(network)
    return with_images(network)


def unfolded(network: Network) -> Network:
    """The network before epilogues fold: without dead layers and views, composites as one layer.

    A layer of `normalize`'s result is a chain of layers of this one: explicit padding, the layer
    itself, then what its `Layer.folded` names.

    Raises
    ------
    GraphError
        If the network has no output.
    """
    return fold_patterns(viewless(network))


def viewless(network: Network) -> Network:
    """The network without dead layers and views, every other layer as the source has it.

    Raises
    ------
    GraphError
        If the network has no output.
    """
    if not network.outputs:
        raise GraphError("the network has no output", field=network.name)
    return _fold_views(_drop_dead(network))


# --- dead layers -------------------------------------------------------------------------------


def _drop_dead(network: Network) -> Network:
    alive = set(network.outputs)
    kept: list[Layer] = []
    for index in reversed(topological(network)):
        layer = network.layers[index]
        if layer.output in alive:
            alive.update(operand.tensor for operand in layer.inputs)
            kept.append(layer)
    names = {layer.name for layer in kept}
    dead = [layer.name for layer in network.layers if layer.name not in names]
    unread = [name for name in network.inputs if name not in alive]
    warnings = (
        *network.warnings,
        *_dropped("layer", "lead to no network output", dead),
        *_dropped("input", "are read by no layer", unread),
    )
    inputs = tuple(name for name in network.inputs if name in alive)
    return _rebuilt(replace(network, inputs=inputs, warnings=warnings), tuple(reversed(kept)))


def _dropped(what: str, why: str, names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    return (f"{len(names)} {what}(s) that {why} were dropped: {shown}",)


def _rebuilt(
    network: Network, layers: tuple[Layer, ...], tensors: Mapping[str, Tensor] | None = None
) -> Network:
    """`network` with these layers, and only the tensors and aliases that they still have."""
    known = network.tensors if tensors is None else tensors
    names = (*network.inputs, *(layer.output for layer in layers))
    kept = {name: known[name] for name in names}
    aliases = {name: base for name, base in network.aliases.items() if base in kept}
    rounded = tuple(name for name in network.rounded if name in kept)
    return replace(network, layers=layers, tensors=kept, aliases=aliases, rounded=rounded)


# --- views -------------------------------------------------------------------------------------


def _fold_views(network: Network) -> Network:
    """Make every layer that moves no data an alias of the tensor it reads."""
    base: dict[str, str] = {}
    layers: list[Layer] = []
    rounded = frozenset(network.rounded)
    for index in topological(network):
        layer = network.layers[index]
        inputs = tuple(
            operand_of(network.tensors[base.get(o.tensor, o.tensor)], o.shape)
            if o.tensor in base
            else o
            for o in layer.inputs
        )
        if moves_nothing(layer) and layer.output not in rounded:
            base[layer.output] = inputs[0].tensor
        else:
            layers.append(replace(layer, inputs=inputs))
    outputs = tuple(dict.fromkeys(base.get(name, name) for name in network.outputs))
    old = {name: base.get(target, target) for name, target in network.aliases.items()}
    return _rebuilt(replace(network, outputs=outputs, aliases={**old, **base}), tuple(layers))


def moves_nothing(layer: Layer) -> bool:
    """Whether the layer's output holds the elements of its only input, in their order."""
    if len(layer.inputs) != 1 or layer.weights:
        return False
    shape, op = layer.inputs[0].shape, layer.op
    if op.is_view:
        return True
    if shape != layer.output_shape:
        return isinstance(op, Transpose) and keeps_order(shape, op.perm)
    if isinstance(op, Slice):
        return all(step > 0 for step in op.steps)
    if isinstance(op, Pad):
        return not any(op.pads)
    if isinstance(op, Pool):
        # the norm of a single element is its absolute value
        own = op.mode == "lp" or op.activation is not None
        return math.prod(op.kernel) == 1 and not any(op.pads) and not own
    if isinstance(op, Transpose):
        return keeps_order(shape, op.perm)
    if isinstance(op, Binary):
        return op.constant_shape is None and op.activation is None
    return isinstance(op, (Concat, Resize))


def keeps_order(shape: Shape, perm: Shape) -> bool:
    """Whether a transpose permutes only axes of extent 1, and so moves no data."""
    wide = [axis for axis in perm if shape[axis] != 1]
    return wide == sorted(wide)


# --- epilogues ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Draft:
    """Layers being folded: each in its place, found by the tensor that it writes."""

    tensors: dict[str, Tensor]
    uses: Counter[str]
    layers: list[Layer | None] = field(default_factory=list)
    place: dict[str, int] = field(default_factory=dict)

    def producer(self, tensor: str) -> Layer | None:
        """The layer that writes `tensor`, where the tensor has a single use."""
        at = self.place.get(tensor)
        return None if at is None or self.uses[tensor] != 1 else self.layers[at]

    def add(self, layer: Layer) -> None:
        self.place[layer.output] = len(self.layers)
        self.layers.append(layer)

    def substitute(self, old: Layer, new: Layer) -> None:
        at = self.place.pop(old.output)
        self.layers[at] = new
        self.place[new.output] = at
        self.tensors[new.output] = replace(self.tensors[new.output], shape=new.output_shape)

    def remove(self, layer: Layer) -> None:
        self.layers[self.place.pop(layer.output)] = None


def _fold_epilogues(network: Network) -> Network:
    """Fold batch normalisation, constant bias or scale, and activation into the producer."""
    uses = Counter(operand.tensor for layer in network.layers for operand in layer.inputs)
    uses.update(network.outputs)
    draft = _Draft(dict(network.tensors), uses)
    rounded = frozenset(network.rounded)
    for index in topological(network):
        layer = network.layers[index]
        inputs = tuple(operand_of(draft.tensors[o.tensor], o.shape) for o in layer.inputs)
        layer = replace(layer, inputs=inputs)
        producer = draft.producer(inputs[0].tensor) if len(inputs) == 1 else None
        if producer is not None and producer.output in rounded and not _rounds_first(draft, layer):
            # a constant would act on rounded numbers, so it cannot go into the producer's own
            producer = None
        merged = None if producer is None else _merged(producer, layer)
        if producer is not None and merged is not None:
            draft.substitute(producer, merged)
            continue
        if producer is not None and _pads_for(producer, layer):
            draft.remove(producer)
            layer = _with_padding(producer, layer)
        draft.add(layer)
    layers = tuple(layer for layer in draft.layers if layer is not None)
    return _rebuilt(network, layers, draft.tensors)


def _merged(producer: Layer, layer: Layer) -> Layer | None:
    """`producer` with `layer` folded into it, None where it does not fold."""
    if layer.output_shape != layer.inputs[0].shape:
        return None
    if layer.cycles is not None and producer.cycles is None:
        return None
    result: Layer | None = None
    if isinstance(layer.op, Unary):
        result = _with_activation(producer, layer, layer.op)
    elif isinstance(layer.op, BatchNorm):
        result = _with_batch_norm(producer, layer, layer.op)
    elif isinstance(layer.op, Binary) and layer.op.constant_shape is not None:
        result = _with_constant(producer, layer, layer.op, layer.op.constant_shape)
    if result is None:
        return None
    cycles = producer.cycles if layer.cycles is None else (producer.cycles or 0) + layer.cycles
    folded = (*producer.folded, *layer.folded, layer.name)
    return replace(result, output=layer.output, folded=folded, cycles=cycles)


def _rounds_first(draft: _Draft, layer: Layer) -> bool:
    """Whether the layer is an activation from integers of a type to integers of that type."""
    before, written = draft.tensors[layer.inputs[0].tensor], draft.tensors[layer.output]
    return isinstance(layer.op, Unary) and before.dtype == written.dtype


_ACTIVE = (Conv, ConvTranspose, Linear, MatMul, Pool, Reduce, Binary, Normalize, BatchNorm)


def _with_activation(producer: Layer, layer: Layer, unary: Unary) -> Layer | None:
    op = producer.op
    # a cast changes the element type, which is not the producer's to write
    if not isinstance(op, _ACTIVE) or op.activation is not None or unary.mode == "cast":
        return None
    if not all(_slopes_fit(producer, layer, weight.shape) for weight in layer.weights):
        return None
    merged = replace(op, activation=unary.mode)
    return replace(producer, op=merged, weights=(*producer.weights, *layer.weights))


def _slopes_fit(producer: Layer, layer: Layer, slopes: Shape) -> bool:
    """Whether the producer takes the slopes of an activation along: a product, one a channel."""
    shape = layer.inputs[0].shape
    if math.prod(slopes) == 1:
        return True
    if shape != producer.output_shape or isinstance(producer.op, MatMul):
        return False
    if not isinstance(producer.op, (Conv, ConvTranspose, Linear)):
        return True
    axis = _channels_seen(producer, shape)
    return axis is not None and _varies_along(slopes, shape, axis)


def _with_batch_norm(producer: Layer, layer: Layer, norm: BatchNorm) -> Layer | None:
    if not _scales(producer.op) or _channels_seen(producer, layer.inputs[0].shape) != 1:
        return None
    return _biased(producer, f"{producer.name}.bias", norm.activation)


def _with_constant(producer: Layer, layer: Layer, op: Binary, constant: Shape) -> Layer | None:
    if op.mode not in ("add", "sub", "mul", "div"):
        return None
    shape = layer.inputs[0].shape
    if isinstance(producer.op, Normalize):
        return _with_affine(producer, layer, op, constant)
    if not _scales(producer.op):
        return None
    scale = op.mode in ("mul", "div")
    axis = _channels_seen(producer, shape)
    per_channel = axis is not None and _varies_along(constant, shape, axis)
    if not per_channel and not (scale and math.prod(constant) == 1):
        return None
    if scale:
        return replace(producer, op=_activated(producer.op, op.activation))
    return _biased(producer, layer.weights[0].name, op.activation)


def _with_affine(producer: Layer, layer: Layer, op: Binary, constant: Shape) -> Layer | None:
    """Scale and shift of a normalisation that has none, over the normalised axes."""
    norm, shape = producer.op, producer.output_shape
    if not isinstance(norm, Normalize) or norm.activation is not None:
        return None
    roles = [weight.role for weight in producer.weights]
    fits = len(constant) <= len(shape) and shape == layer.inputs[0].shape
    if not fits or op.mode not in ("mul", "add") or "bias" in roles:
        return None
    role = "weight" if op.mode == "mul" else "bias"
    if role in roles:
        return None
    weight = replace(layer.weights[0], role=role)
    merged = replace(norm, affine=True, activation=op.activation)
    return replace(producer, op=merged, weights=(*producer.weights, weight))


def _scales(op: Op) -> bool:
    """Whether a per-channel scale and shift can go into the operator's own constants."""
    return isinstance(op, (Conv, ConvTranspose, Linear)) and op.activation is None


def _activated(op: Op, activation: str | None) -> Op:
    return replace(op, activation=activation) if isinstance(op, _ACTIVE) else op


def _biased(producer: Layer, name: str, activation: str | None) -> Layer:
    """`producer` with a bias; the one that it has takes up any further constant."""
    op = producer.op
    if not isinstance(op, (Conv, ConvTranspose, Linear)):
        return producer
    if op.bias:
        return replace(producer, op=replace(op, activation=activation))
    channels = op.out_features if isinstance(op, Linear) else op.out_channels
    kernel = producer.weights[0].dtype if producer.weights else "float32"
    # the accumulators of an integer network are 32 bits wide
    dtype = "int32" if kernel in ("int8", "uint8", "int16", "uint16") else kernel
    bias = Weight(name, (channels,), dtype, "bias")
    merged = replace(op, bias=True, activation=activation)
    return replace(producer, op=merged, weights=(*producer.weights, bias))


def _channels_seen(producer: Layer, view: Shape) -> int | None:
    """Axis of `view` that runs over the channels of `producer`'s output, if one does."""
    shape = producer.output_shape
    axis = len(shape) - 1 if isinstance(producer.op, Linear) else 1
    if axis >= len(shape):
        return None
    before = math.prod(shape[:axis])
    for i, extent in enumerate(view):
        if extent == shape[axis] and math.prod(view[:i]) == before:
            return i
    return None


def _varies_along(constant: Shape, shape: Shape, axis: int) -> bool:
    """Whether a constant broadcast to `shape` is one value per index of `axis`."""
    if len(constant) > len(shape):
        return False
    padded = (1,) * (len(shape) - len(constant)) + constant
    return all(n == (shape[axis] if i == axis else 1) for i, n in enumerate(padded))


# --- explicit padding --------------------------------------------------------------------------


def _pads_for(producer: Layer, layer: Layer) -> bool:
    pad, conv = producer.op, layer.op
    if not isinstance(pad, Pad) or not isinstance(conv, Conv):
        return False
    rank = len(producer.output_shape)
    zeros = pad.mode == "constant" and pad.value == 0.0
    spatial = not any((*pad.pads[:2], *pad.pads[rank : rank + 2])) and min(pad.pads) >= 0
    return zeros and spatial and layer.inputs[0].shape == producer.output_shape


def _with_padding(producer: Layer, layer: Layer) -> Layer:
    pad, conv = producer.op, layer.op
    if not isinstance(pad, Pad) or not isinstance(conv, Conv):
        return layer
    rank = len(producer.output_shape)
    extra = (*pad.pads[2:rank], *pad.pads[rank + 2 :])
    pads = tuple(own + more for own, more in zip(conv.pads, extra, strict=True))
    folded = (*producer.folded, producer.name, *layer.folded)
    return replace(layer, op=replace(conv, pads=pads), inputs=producer.inputs, folded=folded)


# --- concatenations that begin alike -----------------------------------------------------------


def _share_prefixes(network: Network) -> Network:
    """Let a concatenation that begins as another one begin with that one's output.

    DenseNet's exports join all earlier maps anew in every layer; joined step by step the bytes
    are the same, but only one map stays alive instead of all.
    """
    joined: dict[tuple[int, tuple[Operand, ...]], str] = {}
    rounded = frozenset(network.rounded)
    layers = list(network.layers)
    for index in topological(network):
        layer = layers[index]
        if not isinstance(layer.op, Concat) or layer.op.constants or layer.output in rounded:
            # pieces that are rounded anew are not those that another concatenation joins
            continue
        axis = layer.op.axis % len(layer.output_shape)
        joined.setdefault((axis, layer.inputs), layer.output)
        for length in range(len(layer.inputs) - 1, 1, -1):
            name = joined.get((axis, layer.inputs[:length]))
            if name is not None:
                prefix = operand_of(network.tensors[name])
                layers[index] = replace(layer, inputs=(prefix, *layer.inputs[length:]))
                break
    return replace(network, layers=tuple(layers))


# --- transposed maps under one view ------------------------------------------------------------


def _view_transposed(network: Network) -> Network:
    """Give a transposed map the shape under which all its readers see it.

    Rows are then the readers' rows (tokens, where the heads of attention are joined again): the
    transpose and its readers can be cut and run together.
    """
    tensors, shapes = dict(network.tensors), _seen_shapes(network)
    layers = list(network.layers)
    for index, layer in enumerate(layers):
        seen = shapes[layer.output]
        if isinstance(layer.op, Transpose) and len(seen) == 1 and layer.output_shape not in seen:
            (shape,) = seen
            candidate = replace(layer, op=replace(layer.op, shape=shape), output_shape=shape)
            if candidate.input_rows(0).axis is not None:
                layers[index] = candidate
                tensors[layer.output] = replace(tensors[layer.output], shape=shape)
    for index, layer in enumerate(layers):
        inputs = tuple(operand_of(tensors[o.tensor], o.shape) for o in layer.inputs)
        layers[index] = replace(layer, inputs=inputs)
    return replace(network, layers=tuple(layers), tensors=tensors)


def _seen_shapes(network: Network) -> dict[str, set[Shape]]:
    """Shapes under which each tensor is read; a network output is also seen as it is."""
    seen: dict[str, set[Shape]] = {name: set() for name in network.tensors}
    for layer in network.layers:
        for operand in layer.inputs:
            seen[operand.tensor].add(operand.shape)
    for name in network.outputs:
        seen[name].add(network.tensors[name].shape)
    return seen


_FOLDING: tuple[Callable[[Network], Network], ...] = (
    _fold_epilogues,
    _share_prefixes,
    _view_transposed,
)
