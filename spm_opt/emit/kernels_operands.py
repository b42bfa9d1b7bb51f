"""What every kernel's constants are made of: maps, constants beside them, what follows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.emit.kernels_functions import Activation, Bytes, activation_of, byte_table
from spm_opt.emit.kernels_text import (
    RANGES,
    Text,
    broadcast_strides,
    c_double,
    c_dtype,
    c_list,
    c_struct,
    check_axes,
    loop_text,
    map_text,
    scaling_fields,
)
from spm_opt.emit.kernels_weights import Packing, packing_of
from spm_opt.errors import GraphError
from spm_opt.graph.network import DTYPE_BYTES, Layer, Network, Tensor
from spm_opt.graph.ops import Shape
from spm_opt.graph.values import LayerValues, NetworkValues, Quantization

BYTES: Final = ("int8", "uint8")
#: element types that a number may be rounded to before an activation
_ROUNDED: Final = ("int8", "uint8", "int16", "uint16")


@dataclass(frozen=True)
class Scene:
    """One layer with all that its kernel needs to know."""

    network: Network
    layer: Layer
    values: NetworkValues
    text: Text

    @property
    def own(self) -> LayerValues:
        """Numbers of the layer."""
        return self.values.layers.get(self.layer.name, LayerValues())

    @property
    def packing(self) -> Packing:
        """Where the layer's constants lie."""
        return packing_of(self.layer)

    def tensor(self, index: int | None = None) -> Tensor:
        """Tensor of an operand; the output by default."""
        name = self.layer.output if index is None else self.layer.inputs[index].tensor
        return self.network.tensors[name]

    def scaling(self, index: int | None = None) -> Quantization | None:
        """How the integers of an operand, or of the output, stand for reals."""
        return self.values.tensors.get(self.tensor(index).name)

    def stored(self, index: int | None = None) -> tuple[str, Quantization | None]:
        """Element type and scale of an operand, or of the output."""
        return self.tensor(index).dtype, self.scaling(index)

    def map(self, index: int | None = None) -> str:
        """``spm_map`` of an operand, or of the output."""
        return map_text(self.network, self.tensor(index), self.scaling(index))

    def loop(self, shape: Shape | None = None) -> str:
        """``spm_loop`` over the output, seen under `shape`."""
        shown = self.layer.output_shape if shape is None else shape
        return loop_text(self.layer.name, self.map(), shown)

    def refuse(self, what: str, found: object) -> GraphError:
        """The error that no kernel computes this layer."""
        return GraphError(f"no kernel computes this {what}", field=self.layer.name, found=found)

    # ------------------------------------------------------------------ constants

    def constant_scaling(self, index: int) -> Quantization | None:
        """How the integers of constant `index` stand for reals."""
        scales = self.own.constant_scale
        return scales[index] if index < len(scales) else None

    def array(self, index: int) -> NDArray[np.generic]:
        """Values of constant `index`. Raises GraphError where they are missing."""
        if index >= len(self.own.arrays):
            raise GraphError(
                "values are missing", field=self.layer.name, found=self.layer.weights[index].name
            )
        return self.own.arrays[index]

    def constant(self, index: int, shape: Shape | None = None, shared: int = 0) -> str:
        """``spm_constant`` of constant `index`, broadcast over the output as numpy does.

        Parameters
        ----------
        shape : tuple of int, optional
            The constant's own shape where it is another than its array's.
        shared : int
            Indices of axis 1 that share a value.
        """
        weight, place = self.layer.weights[index], self.packing.places[index]
        element = DTYPE_BYTES[weight.dtype]
        own = weight.shape if shape is None else shape
        check_axes(self.layer.name, self.layer.output_shape)
        if place.kind == "channel" and place.axis is not None:
            steps = self._channel_strides(own, index)
        else:
            steps = tuple(s * element for s in broadcast_strides(own, self.layer.output_shape))
        return c_struct(
            data=self._code(index) if place.kind == "code" else "NULL",
            dtype=c_dtype(weight.name, weight.dtype), offset=place.offset_bytes,
            pitch=self.packing.pitch_bytes, shared=shared, stride=c_list(steps),
            **scaling_fields(self.constant_scaling(index)),
        )  # fmt: skip

    def _channel_strides(self, shape: Shape, index: int) -> tuple[int, ...]:
        """Byte strides of a constant that is packed channel by channel."""
        output, element = self.layer.output_shape, DTYPE_BYTES[self.layer.weights[index].dtype]
        channel = self.layer.channel_axis
        if channel is None:
            raise self.refuse("cut of constants", shape)
        own = channel + len(shape) - len(output)
        inner = tuple(1 if i == own else n for i, n in enumerate(shape))
        steps = [s * element for s in broadcast_strides(inner, output)]
        steps[channel] = self.packing.pitch_bytes
        return tuple(steps)

    def _code(self, index: int) -> str:
        """A constant of the code: its bytes, as an array."""
        raw = np.ascontiguousarray(self.array(index)).astype(
            _plain(self.layer.weights[index].dtype)
        )
        return self.text.array("unsigned char", np.frombuffer(raw.tobytes(), np.uint8).tolist())

    # ------------------------------------------------------------------ what follows

    @property
    def activation(self) -> str | None:
        """Mode of the function folded into the layer."""
        return getattr(self.layer.op, "activation", None)

    def function(self, mode: str | None) -> Activation:
        """A function with the layer's parameters."""
        return activation_of(self.layer.name, mode, self.own.parameters)

    def activation_text(self, first: int) -> str:
        """``spm_activation`` folded into a vector operator.

        Parameters
        ----------
        first : int
            Number of constants that the operator itself has; a slope comes after them.
        """
        if self.activation == "prelu":
            slope = self.text.declare("spm_constant", self.constant(first))
            return c_struct(mode="SPM_PRELU", slope=f"&{slope}", **self.before())
        return activation_struct(self.function(self.activation), self.before())

    def before(self) -> dict[str, object]:
        """Fields of the rounding before an activation. Raises GraphError for reals."""
        scaling, dtype = self.own.before_activation, self.tensor().dtype
        if scaling is None or self.activation is None:
            return {}
        if dtype not in _ROUNDED:
            raise self.refuse("rounding before an activation", dtype)
        low, high = RANGES[dtype]
        return {**scaling_fields(scaling), "low": low, "high": high}

    def rescale(self, index: int) -> Bytes | None:
        """Table from the bytes of an operand to those of the output, where they differ."""
        return rescale_table(self.stored(index), self.stored())


def _plain(dtype: str) -> str:
    return "uint8" if dtype == "bool" else dtype


def activation_struct(function: Activation, before: Mapping[str, object] | None = None) -> str:
    """``spm_activation`` of a function, with the rounding before it."""
    a, b = c_double(function.a), c_double(function.b)
    return c_struct(mode=function.enum, a=a, b=b, **(before or {}))


def rescale_table(
    source: tuple[str, Quantization | None], target: tuple[str, Quantization | None]
) -> Bytes | None:
    """Table between 8-bit maps of different scales; None where there is none or needs none."""
    if source == target or source[0] not in BYTES or target[0] not in BYTES:
        return None
    return byte_table(lambda x: x, source, target)


def spatial(values: Shape, default: int) -> Shape:
    """Values of one to three spatial axes as depth, height, width."""
    if len(values) > 3:
        raise GraphError("the kernels have three spatial axes", found=values)
    return (default,) * (3 - len(values)) + values
