"""Numbers that an ONNX node has beside its constants: slopes, bounds, epsilons ...

`spm_opt.graph.values.PARAMETERS` says what each of them means.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from spm_opt.errors import InputError
from spm_opt.formats.onnx_draft import Array, Node
from spm_opt.formats.onnx_values_constants import Constants
from spm_opt.graph.network import Layer
from spm_opt.graph.ops import Binary, Normalize, Op, Pad, Pool, Reduce, Resize, Softmax, Unary

Parameters = dict[str, float]


def parameters_of(constants: Constants, layer: Layer) -> Parameters:
    """Parameters of a layer as the source has it (nothing folded into it).

    Raises
    ------
    InputError
        If the node asks for something that no kernel computes.
    """
    node = constants.draft.sources[layer.name]
    rule = _RULES.get(type(layer.op))
    return {} if rule is None else rule(constants, node, layer)


# --- functions of one value --------------------------------------------------------------------


def _unary(constants: Constants, node: Node, layer: Layer) -> Parameters:
    mode = layer.op.mode if isinstance(layer.op, Unary) else ""
    if node.type == "FusedConv":
        return _fused(node)
    if mode == "clip":
        return {"min": _bound(constants, node, 1, "min", -math.inf),
                "max": _bound(constants, node, 2, "max", math.inf)}  # fmt: skip
    if mode == "gelu":
        tanh = node.type == "FastGelu" or node.text("approximate", "none") == "tanh"
        return {"approximate": float(tanh)}
    defaults = _ATTRIBUTES.get(mode, {})
    return {name: node.real(spelled, value) for name, (spelled, value) in defaults.items()}


#: parameter -> attribute and its default, by mode
_ATTRIBUTES: Final[dict[str, dict[str, tuple[str, float]]]] = {
    "leaky_relu": {"alpha": ("alpha", 0.01)},
    "thresholded_relu": {"alpha": ("alpha", 1.0)},
    "elu": {"alpha": ("alpha", 1.0)},
    "celu": {"alpha": ("alpha", 1.0)},
    "selu": {"alpha": ("alpha", 1.67326319217681884765625),
             "gamma": ("gamma", 1.05070102214813232421875)},
    "hardsigmoid": {"alpha": ("alpha", 0.2), "beta": ("beta", 0.5)},
    "quick_gelu": {"alpha": ("alpha", 1.702)},
    "shrink": {"lambda": ("lambd", 0.5), "bias": ("bias", 0.0)},
    "is_inf": {"negative": ("detect_negative", 1.0), "positive": ("detect_positive", 1.0)},
}  # fmt: skip


def _fused(node: Node) -> Parameters:
    """Of a FusedConv's activation, in the order of its list."""
    given = [float(value) for value in node.attributes.get("activation_params", ())]
    names = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max")}
    return dict(zip(names.get(node.text("activation", "Relu"), ()), given, strict=False))


def _bound(constants: Constants, node: Node, index: int, name: str, default: float) -> float:
    if not node.has(index):
        return node.real(name, default)
    if not constants.draft.is_constant(node.inputs[index]):
        raise constants.draft.error(node, "this bound must be a constant", node.inputs[index])
    return float(np.ravel(constants.value(node.inputs[index]))[0])


# --- other kinds -------------------------------------------------------------------------------


def _binary(constants: Constants, node: Node, layer: Layer) -> Parameters:
    op = layer.op
    if not isinstance(op, Binary):
        return {}
    if op.mode in ("mod", "rmod"):
        return {"fmod": float(node.integer("fmod", 0))}
    if op.mode == "where" and op.constant_shape is not None:
        names = enumerate(node.inputs)
        return {"constants": float(sum(1 << i for i, n in names if n in constants.draft.constants))}
    return {}


def _normalize(constants: Constants, node: Node, layer: Layer) -> Parameters:
    if node.type == "LRN":
        return {"lrn_alpha": node.real("alpha", 1e-4), "lrn_beta": node.real("beta", 0.75),
                "lrn_bias": node.real("bias", 1.0),
                "lrn_size": float(node.integer("size", 1))}  # fmt: skip
    if node.type == "MeanVarianceNormalization":
        # added to the deviation, not to the variance: the same where the variance is zero
        return {"epsilon": 1e-18}
    found = {"epsilon": node.real("epsilon", 1e-5)}
    if isinstance(layer.op, Normalize) and layer.op.mode == "group":
        found["num_groups"] = float(node.integer("num_groups", 1))
    return {} if node.type == "LpNormalization" else found


def _pad(constants: Constants, node: Node, layer: Layer) -> Parameters:
    if not isinstance(layer.op, Pad) or not math.isnan(layer.op.value) or not node.has(2):
        return {}
    return {"value": float(np.ravel(constants.value(node.inputs[2]))[0])}


def _pool(constants: Constants, node: Node, layer: Layer) -> Parameters:
    lp = isinstance(layer.op, Pool) and layer.op.mode == "lp"
    return {"p": float(node.integer("p", 2))} if lp else {}


def _reduce(constants: Constants, node: Node, layer: Layer) -> Parameters:
    last = node.integer("select_last_index", 0)
    return {"last": 1.0} if last else {}


def _softmax(constants: Constants, node: Node, layer: Layer) -> Parameters:
    return {"log": 1.0} if node.type == "LogSoftmax" else {}


def _resize(constants: Constants, node: Node, layer: Layer) -> Parameters:
    if node.type not in ("Resize", "Upsample") or not isinstance(layer.op, Resize):
        return {}
    if node.integer("antialias", 0) or layer.op.coordinates == "tf_crop_and_resize":
        raise InputError(
            "this way of resizing is not supported", file=constants.draft.file, field=layer.name,
            found="antialias" if node.integer("antialias", 0) else layer.op.coordinates,
        )  # fmt: skip
    found = _scales(constants, node, layer.input_shapes[0], layer.output_shape)
    if layer.op.mode == "cubic":
        found["cubic_coeff_a"] = node.real("cubic_coeff_a", -0.75)
        found["exclude_outside"] = float(node.integer("exclude_outside", 0))
    return found


def _scales(
    constants: Constants, node: Node, shape: tuple[int, ...], output: tuple[int, ...]
) -> Parameters:
    """Scales that are not the ratio of the extents, by axis."""
    at = 2 if node.type == "Resize" and constants.draft.opset >= 11 else 1
    scales: Array | None = None
    if node.has(at):
        scales = np.ravel(constants.value(node.inputs[at]))
    elif "scales" in node.attributes:
        scales = np.array(node.attributes["scales"])
    if scales is None or not scales.size:
        return {}
    axes = node.integers("axes", tuple(range(len(shape))))
    given = {axis % len(shape): float(s) for axis, s in zip(axes, scales, strict=True)}
    return {
        f"scale_{axis}": scale
        for axis, scale in given.items()
        if abs(scale * shape[axis] - output[axis]) > 1e-6 * output[axis]
    }


_RULES: Final[dict[type[Op], Callable[[Constants, Node, Layer], Parameters]]] = {
    Unary: _unary,
    Binary: _binary,
    Normalize: _normalize,
    Pad: _pad,
    Pool: _pool,
    Reduce: _reduce,
    Softmax: _softmax,
    Resize: _resize,
}
