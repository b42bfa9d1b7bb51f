"""Which tensors of a network have their rows image by image.

The images of a batch stay apart along the first axis of a network's maps: a stripe may then be
rows of one image, and no halo crosses from one image to the next. Whatever mixes images, or has no
first axis of its own for them, keeps rows that hold them all. That is a matter of layout only:
rows that are needed are exact either way (`Layer.input_rows`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from spm_opt.graph.network import Layer, Network, operand_of, topological
from spm_opt.graph.ops import Conv, ConvTranspose, Pool

#: operators whose first axis is the batch, whatever stands before them
_WINDOWS = (Conv, ConvTranspose, Pool)


def with_images(network: Network) -> Network:
    """`network` with the rows of its maps image by image, where it is a batch of several."""
    count = batch_of(network)
    if count == 1:
        return in_images(network, (), 1)
    batched = _batched(network, count)
    tensors = network.tensors
    apart = (n for n in batched if len(tensors[n].shape) > 2 and tensors[n].shape[0] == count)
    return in_images(network, apart, count)


def in_images(network: Network, names: Iterable[str], count: int) -> Network:
    """`network` where the rows of `names`, and of no other tensor, are those of `count` images."""
    tensors = {name: replace(tensor, images=1) for name, tensor in network.tensors.items()}
    tensors |= {name: replace(tensors[name], images=count) for name in names}
    layers = tuple(
        replace(
            layer,
            inputs=tuple(operand_of(tensors[o.tensor], o.shape) for o in layer.inputs),
            images=tensors[layer.output].images,
        )
        for layer in network.layers
    )
    return replace(network, tensors=tensors, layers=layers)


def batch_of(network: Network) -> int:
    """Images of the batch: the first extent of what windows slide over, or else of the inputs.

    1 where these do not agree.
    """
    windows = [layer for layer in network.layers if isinstance(layer.op, _WINDOWS)]
    found = {layer.input_shapes[0][0] for layer in windows}
    if not windows:
        shapes = (network.tensors[name].shape for name in network.inputs)
        found = {shape[0] for shape in shapes if len(shape) > 1} - {1}
    return found.pop() if len(found) == 1 else 1


def _batched(network: Network, count: int) -> set[str]:
    """Tensors whose first axis runs over the images, or over parts of each in turn."""
    found = {
        name
        for name in network.inputs
        if len(network.tensors[name].shape) > 1
        and any(_keeps(network.layers[r], name, count) for r in network.readers[name])
    }
    for index in topological(network):
        layer = network.layers[index]
        if any(_keeps(layer, o.tensor, count) for o in layer.inputs if o.tensor in found):
            found.add(layer.output)
    return found


def _keeps(layer: Layer, tensor: str, count: int) -> bool:
    """Whether the images of `tensor` stay apart in the layer's output."""
    shapes, output = layer.input_shapes, layer.output_shape
    if not output or output[0] % count:
        return False
    return any(
        operand.tensor == tensor
        and len(operand.shape) > 0
        and operand.shape[0] % count == 0
        and layer.op.keeps_images(i, shapes, output)
        for i, operand in enumerate(layer.inputs)
    )
