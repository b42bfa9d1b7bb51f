"""What a network's constants are worth, and how integers stand for reals: the numbers behind shapes.

A `Network` knows shapes and element types only; planning needs no more. Running needs the values
of every constant, the parameters of activations, and in integer networks the scale and zero point
of every tensor. They are read by `spm_opt.formats.onnx_values`, or drawn by `spm_opt.seeded`.

Arithmetic
----------
``float32`` tensors hold reals. An ``int8``/``uint8`` tensor with `Quantization` ``(scale,
zero_point)`` holds ``q`` for the real ``scale * (q - zero_point)``. Convolutions and matrix
products accumulate ``(x - zx) * (w - zw)`` and the bias in 32-bit integers and write
``saturate(rint(accumulator * (sx * sw[k] / sy)) + zy)``, product in double, ties to even; other
operators compute in real numbers and round once, at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quantization:
    """An integer ``q`` of a tensor stands for ``scale * (q - zero_point)``."""

    scale: float
    zero_point: int = 0


@dataclass(frozen=True)
class LayerValues:
    """Numbers of one layer, after everything folded into it.

    Attributes
    ----------
    arrays : tuple of array
        One for each of `Layer.weights`, in their order, shapes and element types (an integer
        layer's bias is int32, in units of input scale x weight scale).
    weight_scale, weight_zero_point : float64 array (channels,) or (1,), or None
        Of the weights of an integer layer, by output channel or for all.
    parameters : mapping of str to float
        What the operator does not record: ``epsilon`` of a normalisation; ``alpha``, ``beta``,
        ``min``, ``max`` of its mode or activation; the value of a scalar folded into it.
    before_activation : Quantization or None
        Where the source quantises the value that a folded activation (other than a clamp) reads.
    constant_scale : tuple of (Quantization or None)
        Of each of `Layer.weights` that stands beside an activation (an element-wise constant).
    """

    arrays: tuple[NDArray[np.generic], ...] = ()
    weight_scale: Floats | None = None
    weight_zero_point: NDArray[np.int64] | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    before_activation: Quantization | None = None
    constant_scale: tuple[Quantization | None, ...] = ()


@dataclass(frozen=True)
class NetworkValues:
    """Numbers of a whole network.

    Attributes
    ----------
    layers : mapping of str to LayerValues
        Every layer by name.
    tensors : mapping of str to (Quantization or None)
        Every feature map; None for floats and index tensors.
    """

    layers: Mapping[str, LayerValues]
    tensors: Mapping[str, Quantization | None]
