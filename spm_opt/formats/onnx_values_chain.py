"""Numbers of one layer of a normalised network, out of the chain of layers that it was.

The chain's head brings constants; batch normalisations, constant operands and activations after
it go into them, as `spm_opt.graph.normalize` folds the layers themselves. All in double, rounded
once to the element types that the layer has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.errors import InputError
from spm_opt.formats.onnx_draft import Array
from spm_opt.formats.onnx_values_constants import Constants, Integers
from spm_opt.graph.network import Layer
from spm_opt.graph.ops import (
    BatchNorm,
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Gather,
    Linear,
    Normalize,
    Op,
    Unary,
)
from spm_opt.graph.values import LayerValues, Quantization

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Kernel:
    """Kernel and bias of a convolution or linear layer, output channels first.

    Attributes
    ----------
    array : array (channels, ...)
        Reals, or integers with a `scale` and `zero_point` by channel.
    bias : float64 array (channels,) or None
        In reals.
    """

    array: Array
    bias: Floats | None = None
    scale: Floats | None = None
    zero_point: NDArray[np.int64] | None = None

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return int(self.array.shape[0])

    def multiply(self, factor: Floats) -> None:
        """Scale what comes out, by channel or all alike."""
        factor = np.broadcast_to(factor.ravel(), (self.channels,))
        if self.scale is not None:
            self.scale = self.scale * factor
        else:
            self.array = self.array * factor.reshape((-1,) + (1,) * (self.array.ndim - 1))
        if self.bias is not None:
            self.bias = self.bias * factor

    def add(self, term: Floats) -> None:
        """Shift what comes out."""
        term = np.broadcast_to(term.ravel(), (self.channels,))
        self.bias = term if self.bias is None else self.bias + term


@dataclass(slots=True)
class Chain:
    """A layer's numbers as they gather while its chain is walked.

    Parameters
    ----------
    constants : Constants
    layer : Layer
        Of the normalised network: the result.
    head : Layer
        Of the network as it was before anything folded.
    parameters : dict
        Of the head.
    input_scale : float or None
        Of the head's input where it is integers.
    """

    constants: Constants
    layer: Layer
    head: Layer
    parameters: dict[str, float]
    input_scale: float | None = None
    kernel: Kernel | None = None
    arrays: list[Array] = field(default_factory=list)
    scales: list[Quantization | None] = field(default_factory=list)

    def begin(self) -> None:
        """Take the head's own constants. Raises InputError where they cannot be used."""
        if isinstance(self.head.op, (Conv, ConvTranspose, Linear)):
            self.kernel = self._kernel()
        elif isinstance(self.head.op, BatchNorm):
            self.arrays = list(_scale_and_shift(self.constants, self.head))
            self.scales = [None, None]
        else:
            for name in constant_names(self.constants, self.head):
                self.take(name, self.head)

    def take(self, name: str, owner: Layer) -> None:
        """Add a constant as the layer's next one."""
        integers = self.constants.integers(name)
        if integers is None:
            self.arrays.append(_operand(self.constants, owner, name))
            self.scales.append(None)
            return
        quantization = integers.quantization()
        if quantization is None:
            raise self.error("a constant operand has several scales", name)
        self.arrays.append(integers.array)
        self.scales.append(quantization)

    def fold(self, layer: Layer) -> None:
        """Take what folds into the head."""
        if isinstance(layer.op, BatchNorm) and self.kernel is not None:
            factor, term = _scale_and_shift(self.constants, layer)
            self.kernel.multiply(factor)
            self.kernel.add(term)
        elif isinstance(layer.op, Binary) and self.kernel is not None:
            self._fold_constant(self.kernel, layer, layer.op.mode)
        else:
            for name in constant_names(self.constants, layer):
                self.take(name, layer)

    def _fold_constant(self, kernel: Kernel, layer: Layer, mode: str) -> None:
        for name in constant_names(self.constants, layer):
            value = _operand(self.constants, layer, name).astype(np.float64)
            if mode == "mul":
                kernel.multiply(value)
            elif mode == "div":
                kernel.multiply(1.0 / value)
            else:
                kernel.add(-value if mode == "sub" else value)

    def error(self, message: str, found: object, allowed: str | None = None) -> InputError:
        """An error that names the file and the layer."""
        return InputError(
            message, file=self.constants.draft.file, field=self.layer.name, found=found,
            allowed=allowed,
        )  # fmt: skip

    # --- the head's kernel ---

    def _kernel(self) -> Kernel:
        names = constant_names(self.constants, self.head)
        node = self.constants.draft.sources[self.head.name]
        integers = self.constants.integers(names[0])
        if integers is None:
            real = self.constants.value(names[0]).astype(np.float64)
            kernel = Kernel(self._channels_first(real))
        else:
            kernel = self._integer_kernel(integers, names[0])
        if len(names) > 1:
            kernel.bias = self._bias(kernel, names[1])
        if node.type == "Gemm":
            bias, kernel.bias = kernel.bias, None
            kernel.multiply(np.array(node.real("alpha", 1.0)))
            kernel.bias = None if bias is None else bias * node.real("beta", 1.0)
        return kernel

    def _integer_kernel(self, integers: Integers, name: str) -> Kernel:
        if self.input_scale is None:
            raise self.error(
                "its weights are integers, but its input is not", name, "both, or neither"
            )
        scale = self._channels_first(integers.scale).reshape(-1)
        zero = self._channels_first(integers.zero_point).reshape(-1)
        array = self._channels_first(integers.array)
        by_channel = scale.reshape(array.shape[0], -1), zero.reshape(array.shape[0], -1)
        if any((values != values[:, :1]).any() for values in by_channel):
            raise self.error("scales of weights must be those of output channels", name)
        return Kernel(array, None, by_channel[0][:, 0], by_channel[1][:, 0])

    def _bias(self, kernel: Kernel, name: str) -> Floats:
        integers = self.constants.integers(name)
        if integers is None or kernel.scale is None or self.input_scale is None:
            return np.ravel(self.constants.value(name).astype(np.float64))
        unit = self.input_scale * kernel.scale
        scale = integers.scale.ravel()
        # the file holds this product in single precision
        exact = np.where(np.isclose(scale, unit, 1e-6, 0.0), unit, scale)
        count = integers.array.ravel().astype(np.int64) - integers.zero_point.ravel()
        return np.asarray(count * exact, dtype=np.float64)

    def _channels_first(self, array: Array) -> Array:
        """The layout of a kernel, turned so that output channels are its first axis."""
        op, node = self.head.op, self.constants.draft.sources[self.head.name]
        if isinstance(op, Linear):
            if array.ndim == 1:
                return array[None]
            matrix = array.reshape(array.shape[-2:])
            return matrix if node.type == "Gemm" and node.integer("transB", 0) else matrix.T
        if isinstance(op, ConvTranspose):
            inner, outer = array.shape[0] // op.groups, array.shape[1]
            split = array.reshape(op.groups, inner, outer, *array.shape[2:]).swapaxes(1, 2)
            return split.reshape(op.groups * outer, inner, *array.shape[2:])
        return array[..., None] if array.ndim == 2 else array

    def _as_stored(self, array: Array) -> Array:
        """The inverse of `_channels_first`, in the layout that the layer's weights have."""
        op = self.head.op
        if not isinstance(op, ConvTranspose):
            return array
        outer, inner = array.shape[0] // op.groups, array.shape[1]
        split = array.reshape(op.groups, outer, inner, *array.shape[2:]).swapaxes(1, 2)
        return split.reshape(op.groups * inner, outer, *array.shape[2:])

    # --- the result ---

    def result(self, before_activation: Quantization | None) -> LayerValues:
        """The layer's numbers in their final types. Raises InputError on another shape or type."""
        arrays, scales = list(self.arrays), list(self.scales)
        scale = zero = None
        if self.kernel is not None:
            if self.kernel.scale is not None:
                scale, zero = self._representable(self.kernel)
            own = [self._as_stored(self.kernel.array)]
            if self.kernel.bias is not None:
                own.append(self._counted(self.kernel.bias, scale))
            arrays, scales = own + arrays, [*(None for _ in own), *scales]
        if len(arrays) != len(self.layer.weights):
            names = ", ".join(weight.name for weight in self.layer.weights)
            raise self.error("another number of constants", len(arrays), names)
        typed = tuple(self._typed(index, array) for index, array in enumerate(arrays))
        return LayerValues(
            typed, scale, zero, self.parameters, before_activation,
            tuple(scales) if any(s is not None for s in scales) else (),
        )  # fmt: skip

    def _representable(self, kernel: Kernel) -> tuple[Floats, NDArray[np.int64]]:
        """Scales by channel; a channel that is scaled to nothing has zeros and any scale."""
        if kernel.scale is None or kernel.zero_point is None:
            raise self.error("its weights have no scale", None)
        dead = kernel.scale == 0.0
        if dead.any():
            zeros = kernel.zero_point.reshape((-1,) + (1,) * (kernel.array.ndim - 1))
            spread = dead.reshape(zeros.shape)
            kernel.array = np.where(spread, zeros, kernel.array).astype(kernel.array.dtype)
            # its bias alone is left: in units that hold it to 20 bits
            bias = np.zeros(kernel.channels) if kernel.bias is None else np.abs(kernel.bias)
            own = np.where(bias > 0.0, bias, 1.0) * 2.0**-20 / (self.input_scale or 1.0)
            kernel.scale = np.where(dead, own, kernel.scale)
        return kernel.scale, kernel.zero_point

    def _counted(self, bias: Floats, scale: Floats | None) -> Floats:
        """A bias in the units of the accumulators of an integer layer; itself in others."""
        if scale is None or self.input_scale is None:
            return bias
        count = np.rint(bias / (self.input_scale * scale))
        return np.clip(count, -(2.0**31), 2.0**31 - 1)

    def _typed(self, index: int, array: Array) -> Array:
        weight = self.layer.weights[index]
        if self.kernel is not None and weight.role == "bias" and array.size == weight.elements:
            array = array.reshape(weight.shape)
        if array.shape != weight.shape:
            raise self.error(
                f"the constant {weight.name!r} has another shape", array.shape, str(weight.shape)
            )
        if weight.dtype == "bfloat16":
            raise self.error("this element type is not supported", weight.dtype)
        whole = np.issubdtype(np.dtype(weight.dtype), np.integer)
        if whole and self.kernel is None and array.dtype.kind == "f":
            raise self.error("integer constants were expected", str(array.dtype), weight.dtype)
        return array.astype(weight.dtype, order="C")


# --- constants of a layer as the source has it ---------------------------------------------------


def constant_names(constants: Constants, layer: Layer) -> tuple[str, ...]:
    """Names of the constants that a layer of the source has as weights, in their order."""
    rule = _NAMES.get(type(layer.op))
    return () if rule is None or not layer.weights else rule(constants, layer)


def _given(constants: Constants, layer: Layer, first: int, end: int) -> tuple[str, ...]:
    inputs = constants.draft.sources[layer.name].inputs
    return tuple(name for name in inputs[first:end] if name)


def _conv_names(constants: Constants, layer: Layer) -> tuple[str, ...]:
    product = constants.draft.sources[layer.name].type == "MatMul"
    return _given(constants, layer, 0, 1) if product else _given(constants, layer, 1, 3)


def _linear_names(constants: Constants, layer: Layer) -> tuple[str, ...]:
    return _given(constants, layer, 1, 1 + len(layer.weights))


def _operand_names(constants: Constants, layer: Layer) -> tuple[str, ...]:
    """Constants among a node's operands that have any element; of a Gemm its addend."""
    node = constants.draft.sources[layer.name]
    names = node.inputs[2:] if node.type == "Gemm" else node.inputs
    known = constants.draft.constants
    return tuple(name for name in names if name in known and known[name].elements)


def _unary_names(constants: Constants, layer: Layer) -> tuple[str, ...]:
    return _given(constants, layer, 1, 2)


def _gather_names(constants: Constants, layer: Layer) -> tuple[str, ...]:
    table = isinstance(layer.op, Gather) and layer.op.table_shape is not None
    return _given(constants, layer, 0, 1) if table else _given(constants, layer, 1, 2)


_NAMES: Final[dict[type[Op], Callable[[Constants, Layer], tuple[str, ...]]]] = {
    Conv: _conv_names,
    ConvTranspose: _conv_names,
    Linear: _linear_names,
    Normalize: lambda constants, layer: _given(constants, layer, 1, 3),
    Binary: _operand_names,
    Concat: _operand_names,
    Unary: _unary_names,
    Gather: _gather_names,
}


def _operand(constants: Constants, layer: Layer, name: str) -> Array:
    """Value of a constant operand; indices counted from the front, Gemm's addend scaled."""
    value, node = constants.value(name), constants.draft.sources[layer.name]
    if isinstance(layer.op, Gather) and layer.op.indices_shape is not None:
        return value % layer.input_shapes[0][layer.op.axis]
    if node.type == "Gemm" and isinstance(layer.op, Binary):
        return value * np.float32(node.real("beta", 1.0))
    return value


def _scale_and_shift(constants: Constants, layer: Layer) -> tuple[Floats, Floats]:
    """A batch normalisation as one scale and one shift a channel."""
    node = constants.draft.sources[layer.name]
    gamma, beta, mean, variance = (
        np.ravel(constants.value(name).astype(np.float64)) for name in node.inputs[1:5]
    )
    factor = gamma / np.sqrt(variance + node.real("epsilon", 1e-5))
    return factor, beta - mean * factor
