"""What a network's constants are worth, and how integers stand for reals.

A `Network` knows shapes and element types only; planning needs no more. Running needs the values
of every constant, the parameters of activations, and in integer networks the scale and zero point
of every tensor. They are read by `spm_opt.formats.onnx_values`, or drawn by `spm_opt.seeded`.

Arithmetic
----------
``float32`` tensors hold reals. An ``int8``/``uint8`` tensor with `Quantization` ``(scale,
zero_point)`` holds ``q`` for the real ``scale * (q - zero_point)``; without one, its numbers are
themselves. Convolutions and matrix products accumulate ``(x - zx) * (w - zw)`` and the bias in
32-bit integers and write ``saturate(rint(accumulator * (sx * sw[k] / sy)) + zy)``, product in
double, ties to even; a product of two feature maps takes the right map's scale for ``sw``. Other
operators compute in real numbers and round once, at the end.

An activation acts on the real number before it is rounded: ``rint(f(accumulator * (sx * sw[k])) /
sy) + zy`` after a convolution or product. A clamp (relu, relu6, clip) commutes with rounding, and
is done on the integers: to ``rint(bound / sy) + zy``. With `LayerValues.before_activation` ``(sb,
zb)`` the number is first rounded to an integer of the output's type, ``qb``, as above with ``sb``
and ``zb``; then ``rint(f(sb * (qb - zb)) / sy) + zy``. Padding of a convolution is the real 0.

A layer whose tensors have other quantisations than one another computes in real numbers, so a
concatenation, slice or pool may requantise: `Network.rounded` names such tensors, which therefore
cannot be written in place. A ``cast`` between tensors of which one is quantised keeps the real
number, and so quantises, dequantises or requantises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: every name in `LayerValues.parameters`, and what it means
PARAMETERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "epsilon": "normalize: added to the variance (rms: the mean square)",
        "num_groups": "normalize group: groups of channels; scale and shift have one value for "
        "each channel, or for each group",
        "lrn_alpha": "normalize lrn: x / (bias + alpha / size * sum of squares) ** beta",
        "lrn_beta": "normalize lrn",
        "lrn_bias": "normalize lrn",
        "lrn_size": "normalize lrn: channels summed, (size - 1) // 2 of them before",
        "alpha": "leaky_relu, elu, celu: slope; selu; thresholded_relu: least input that passes; "
        "prelu without a constant: slope; hardsigmoid, hardswish: clamp(alpha x + beta, 0, 1); "
        "quick_gelu: sigmoid(alpha x)",
        "beta": "hardsigmoid, hardswish",
        "gamma": "selu: factor of the whole",
        "min": "clip: lower bound",
        "max": "clip: upper bound",
        "approximate": "gelu: 1 for the form with tanh, 0 for that with erf",
        "lambda": "shrink: half the width that becomes 0",
        "bias": "shrink: taken off what is left",
        "negative": "is_inf: whether minus infinity counts",
        "positive": "is_inf: whether plus infinity counts",
        "fmod": "mod: 1 where the sign is the dividend's",
        "constants": "where: bit i is set where operand i is a constant; these are the layer's "
        "weights, in their order",
        "value": "pad: what fills, where the operator does not record it",
        "p": "pool lp: the norm",
        "last": "reduce argmax, argmin: 1 where the last of equals counts",
        "log": "softmax: 1 for its logarithm",
        "scale_0": "resize: output per input extent of axis 0, where that is not their ratio",
        "scale_1": "resize",
        "scale_2": "resize",
        "scale_3": "resize",
        "scale_4": "resize",
        "cubic_coeff_a": "resize cubic",
        "exclude_outside": "resize cubic: 1 where taps outside have no weight",
    }
)
#: value of a parameter that is not given; one that stands here is given wherever it matters
DEFAULTS: Final[Mapping[str, float]] = MappingProxyType(
    {"last": 0.0, "log": 0.0, "fmod": 0.0, "approximate": 0.0, "exclude_outside": 0.0}
)


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
        One for each of `Layer.weights`, in their order, shapes and element types (the bias of an
        integer convolution or product is int32, in units of input scale x weight scale). Kernels
        are ``(out, in / groups, *kernel)``, those of transposed convolutions ``(in, out / groups,
        *kernel)``, of linear layers always ``(out, in)``. Scale and shift of a group or instance
        normalisation belong to axis 1; other constants broadcast from the last axis, as in numpy,
        those of a concatenation to the shapes of its `Concat.constants` (a batch). A batch
        normalisation has scale and shift, with mean and variance in them. Empty for an opaque
        layer of a file.
    weight_scale, weight_zero_point : float64 and int64 array (channels,) or (1,), or None
        Of the integer kernel of a convolution or linear layer, by output channel or for all. A
        scale may be negative, or zero.
    parameters : mapping of str to float
        What the operator does not record, by the names of `PARAMETERS`.
    before_activation : Quantization or None
        Where the source rounds the value that a folded activation reads; None where nothing
        is rounded, and for a clamp that keeps the scale, where rounding once is the same.
    constant_scale : tuple of (Quantization or None)
        Of each of `Layer.weights` but kernels and biases of convolutions and linear layers: how
        its integers stand for reals; None where it holds reals (or indices). Empty if all are None.
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
