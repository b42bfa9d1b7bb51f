"""Sums over input channels taken apart: slices of a layer's inputs, and the constants of each.

A convolution or matrix product adds up products of all input channels. It may add those of some of
them at a time: channels ``[begin, end)`` of the inputs of each group (*summed*), in rising order.
Until the last are added, an output element is a *partial sum*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from spm_opt.graph.network import DTYPE_BYTES, Layer, Network
from spm_opt.graph.ops import Conv, Linear

#: bytes of a partial sum at least, whatever the element: int8 products are summed in 32 bits
SUM_BYTES: Final = 4

#: input channels ``[begin, end)`` of each group
Summed = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Reduction:
    """How the sums of a layer can be taken apart.

    Attributes
    ----------
    inputs : int
        Input channels of a group.
    outputs : int
        Output channels of a group.
    channel_bytes : int
        Constants of one output channel: its kernel, input channel by input channel, then the rest.
    input_bytes : int
        Those of them that belong to one input channel.
    """

    inputs: int
    outputs: int
    channel_bytes: int
    input_bytes: int

    def constants(self, summed: Summed) -> tuple[int, int]:
        """Bytes ``[begin, end)`` of an output channel's constants that a slice needs.

        What follows the sum (a bias) comes with the last.
        """
        begin, end = summed
        last = self.channel_bytes if end == self.inputs else end * self.input_bytes
        return begin * self.input_bytes, last

    def read(self, channels: tuple[int, int] | None, summed: Summed) -> tuple[int, int]:
        """Channels of the input that a slice of output `channels` of one group reads."""
        group = 0 if channels is None else channels[0] // self.outputs
        return group * self.inputs + summed[0], group * self.inputs + summed[1]

    def one_group(self, channels: tuple[int, int]) -> bool:
        """Whether all `channels` are of one group."""
        return channels[0] // self.outputs == (channels[1] - 1) // self.outputs


def reduction(network: Network, layer: Layer) -> Reduction | None:
    """How the sums of `layer` can be taken apart; None where they cannot.

    It must be a convolution or a product with a weight matrix, of several input channels a group,
    whose input lies as it sees it and is cut along these channels, and whose constants are the
    kernel and others with one element for each output channel. Measured cycles say nothing of
    slices.
    """
    op, axis = layer.op, layer.channel_axis
    if not isinstance(op, (Conv, Linear)) or axis is None or layer.measured:
        return None
    operand, groups = layer.inputs[0], op.groups if isinstance(op, Conv) else 1
    own = 1 if isinstance(op, Conv) else len(operand.shape) - 1
    tensor, outputs = network.tensors[operand.tensor], layer.output_shape[axis]
    cut = network.channel_axes.get(operand.tensor) == own and tensor.shape == operand.shape
    if not cut or {operand.tensor, layer.output} & set(network.columnar):
        return None
    inputs = operand.shape[own] // groups
    if inputs < 2 or layer.constants_of is not None or not _by_channel(layer, outputs):
        return None
    kernel = layer.weights[0].size_bytes // outputs
    return Reduction(inputs, outputs // groups, layer.weight_bytes // outputs, kernel // inputs)


def _by_channel(layer: Layer, outputs: int) -> bool:
    """Whether the constants are a kernel and one element each for every output channel."""
    if not layer.weights or layer.loops is None:
        return False
    kernel, *others = layer.weights
    loops = layer.loops
    return kernel.elements == outputs * loops.c * loops.fy * loops.fx and all(
        weight.elements == outputs and weight.role != "table" for weight in others
    )


def sliced(layer: Layer, count: int) -> Layer:
    """`layer` as if each of its groups had `count` input channels only."""
    operand, op = layer.inputs[0], layer.op
    shape, axis = list(operand.shape), 1 if isinstance(op, Conv) else len(operand.shape) - 1
    shape[axis] = count * (op.groups if isinstance(op, Conv) else 1)
    return replace(layer, inputs=(replace(operand, shape=tuple(shape)),))


def sum_bytes(dtype: str) -> int:
    """Bytes of a partial sum of elements of `dtype`."""
    return max(SUM_BYTES, DTYPE_BYTES[dtype])
