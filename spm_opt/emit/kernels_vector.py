"""Constants of vector operators: element-wise functions, pools, reductions, normalisations."""

from __future__ import annotations

from typing import Final

from spm_opt.emit.kernels_functions import byte_table
from spm_opt.emit.kernels_operands import BYTES, Scene, activation_struct, spatial
from spm_opt.emit.kernels_text import (
    broadcast_strides,
    c_double,
    c_list,
    c_struct,
    check_axes,
    operand_text,
    strides,
)
from spm_opt.graph.ops import (
    BatchNorm,
    Binary,
    Normalize,
    Op,
    Pool,
    Reduce,
    Shape,
    Softmax,
    Unary,
)


def _flat(scene: Scene, index: int = 0) -> str:
    """Operand of the output's shape, element by element."""
    return operand_text(scene.map(index), strides(scene.layer.output_shape))


# --- element-wise ------------------------------------------------------------------------------


def unary_text(scene: Scene) -> str:
    """``spm_unary_op``; between 8-bit maps a table."""
    op = scene.layer.op
    if not isinstance(op, Unary):
        raise scene.refuse("operator", op.kind)
    function = scene.function(op.mode)
    table = None
    if scene.tensor(0).dtype in BYTES and scene.tensor().dtype in BYTES:
        table = byte_table(function.apply, scene.stored(0), scene.stored())
    return scene.text.finish("spm_unary_op", c_struct(
        loop=scene.loop(), **{"in": _flat(scene)}, table=scene.text.table(table),
        act=activation_struct(function),
    ))  # fmt: skip


_MODES: Final = {
    "add": "SPM_ADD", "sum": "SPM_ADD", "sub": "SPM_SUB", "mul": "SPM_MUL", "div": "SPM_DIV",
    "pow": "SPM_POW", "max": "SPM_MAXIMUM", "min": "SPM_MINIMUM", "mean": "SPM_AVERAGE",
    "mod": "SPM_MOD", "where": "SPM_WHERE", "equal": "SPM_EQUAL", "greater": "SPM_GREATER",
    "less": "SPM_LESS", "greater_or_equal": "SPM_GREATER_OR_EQUAL",
    "less_or_equal": "SPM_LESS_OR_EQUAL", "and": "SPM_AND", "or": "SPM_OR", "xor": "SPM_XOR",
    "prelu": "SPM_SLOPE",
}  # fmt: skip
#: with the constant on the left
_REVERSED: Final = ("rsub", "rdiv", "rpow", "rmod")


def binary_text(scene: Scene) -> str:
    """``spm_binary_op`` of an element-wise combination, or of a `prelu` with its slope."""
    layer, op = scene.layer, scene.layer.op
    mode = op.mode if isinstance(op, (Binary, Unary)) else ""
    plain = mode[1:] if mode in _REVERSED else mode
    if plain not in _MODES:
        raise scene.refuse("combination", mode)
    enum = "SPM_FMOD" if plain == "mod" and scene.own.parameters.get("fmod") else _MODES[plain]
    count = _constants(op, len(layer.weights))
    maps = [
        operand_text(scene.map(i), _broadcast(scene, operand.shape))
        for i, operand in enumerate(layer.inputs)
    ]
    constants = [scene.constant(i) for i in range(count)]
    order = _operand_order(scene, mode, count)
    fields = {
        "loop": scene.loop(), "mode": enum, "count": len(order),
        "input": scene.text.array("int32_t", order),
        "maps": scene.text.array("spm_operand", maps) if maps else "NULL",
        "constants": scene.text.array("spm_constant", constants) if constants else "NULL",
    }  # fmt: skip
    act = scene.activation_text(count) if isinstance(op, Binary) else "{0}"
    return scene.text.finish("spm_binary_op", c_struct(**fields, act=act))


def _constants(op: Op, weights: int) -> int:
    """Number of constant operands; the slope of a folded activation is none."""
    if isinstance(op, Unary):
        return weights
    folded = getattr(op, "activation", None) == "prelu"
    return 0 if getattr(op, "constant_shape", None) is None else weights - folded


def _broadcast(scene: Scene, shape: Shape) -> Shape:
    return broadcast_strides(shape, scene.layer.output_shape)


def _operand_order(scene: Scene, mode: str, constants: int) -> list[int]:
    """Operands in the operator's order: maps by number, constant ``i`` as ``-1 - i``."""
    maps = list(range(len(scene.layer.inputs)))
    fixed = [-1 - i for i in range(constants)]
    if mode in _REVERSED:
        return fixed + maps
    if mode != "where" or not fixed:
        return maps + fixed
    bits, total = int(scene.own.parameters.get("constants", 0)), len(maps) + len(fixed)
    if bin(bits).count("1") != len(fixed):
        raise scene.refuse("choice without the places of its constants", mode)
    rest, held = iter(maps), iter(fixed)
    return [next(held) if bits >> i & 1 else next(rest) for i in range(total)]


# --- windows and sets --------------------------------------------------------------------------


def pool_text(scene: Scene) -> str:
    """``spm_pool_op``."""
    layer, op = scene.layer, scene.layer.op
    if not isinstance(op, Pool):
        raise scene.refuse("operator", op.kind)
    modes = {"max": "SPM_POOL_MAX", "avg": "SPM_POOL_AVG", "lp": "SPM_POOL_LP"}
    if op.mode not in modes:
        raise scene.refuse("pool", op.mode)
    rank = len(op.kernel)
    shown = {
        "in_size": spatial(layer.input_shapes[0][2:], 1), "kernel": spatial(op.kernel, 1),
        "stride": spatial(op.stride, 1), "pad": spatial(op.pads[:rank], 0),
        "pad_end": spatial(op.pads[rank:], 0), "dilation": spatial(op.dilation, 1),
    }  # fmt: skip
    return scene.text.finish("spm_pool_op", c_struct(
        loop=scene.loop(), **{"in": scene.map(0)}, mode=modes[op.mode],
        include_pad=int(op.count_include_pad), power=c_double(scene.own.parameters.get("p", 2.0)),
        **{name: c_list(values) for name, values in shown.items()}, act=scene.activation_text(0),
    ))  # fmt: skip


_REDUCTIONS: Final = {
    "mean": "SPM_MEAN", "sum": "SPM_SUM", "max": "SPM_MAX", "min": "SPM_MIN", "prod": "SPM_PROD",
    "l1": "SPM_L1", "l2": "SPM_L2", "log_sum": "SPM_LOG_SUM", "log_sum_exp": "SPM_LOG_SUM_EXP",
    "sum_square": "SPM_SUM_SQUARE", "argmax": "SPM_ARGMAX", "argmin": "SPM_ARGMIN",
}  # fmt: skip


def reduce_text(scene: Scene) -> str:
    """``spm_reduce_op``."""
    layer, op = scene.layer, scene.layer.op
    if not isinstance(op, Reduce) or op.mode not in _REDUCTIONS:
        raise scene.refuse("reduction", getattr(op, "mode", op.kind))
    shape = layer.input_shapes[0]
    axes = {axis % len(shape) for axis in op.axes}
    steps, rank = strides(shape), check_axes(layer.name, shape)
    if op.keepdims:
        outer = [0 if i in axes else steps[i] for i in range(rank)]
    else:
        outer = [steps[i] for i in range(rank) if i not in axes]
    reduced = sorted(axes)
    return scene.text.finish("spm_reduce_op", c_struct(
        loop=scene.loop(), **{"in": operand_text(scene.map(0), outer)},
        mode=_REDUCTIONS[op.mode], last=int(scene.own.parameters.get("last", 0)),
        rank=len(reduced), extent=c_list(shape[i] for i in reduced),
        stride=c_list(steps[i] for i in reduced), act=scene.activation_text(0),
    ))  # fmt: skip


def softmax_text(scene: Scene) -> str:
    """``spm_softmax_op``."""
    op = scene.layer.op
    if not isinstance(op, Softmax):
        raise scene.refuse("operator", op.kind)
    rank = max(1, len(scene.layer.output_shape))
    return scene.text.finish("spm_softmax_op", c_struct(
        loop=scene.loop(), **{"in": scene.map(0)}, axis=op.axis % rank,
        log=int(scene.own.parameters.get("log", 0)),
    ))  # fmt: skip


# --- normalisation -----------------------------------------------------------------------------

_NORMS: Final = {
    "layer": "SPM_NORM_LAYER", "instance": "SPM_NORM_LAYER", "group": "SPM_NORM_LAYER",
    "rms": "SPM_NORM_RMS", "l1": "SPM_NORM_L1", "l2": "SPM_NORM_L2", "lrn": "SPM_NORM_LRN",
}  # fmt: skip


def normalize_text(scene: Scene) -> str:
    """``spm_normalize_op`` of a normalisation, or of a batch normalisation's scale and shift."""
    op = scene.layer.op
    body: dict[str, object]
    if isinstance(op, BatchNorm):
        body, affine = {"mode": "SPM_NORM_SCALE"}, 2
    elif isinstance(op, Normalize) and op.mode in _NORMS:
        body, affine = _moments(scene, op), len(scene.layer.weights) - (op.activation == "prelu")
    else:
        raise scene.refuse("normalisation", getattr(op, "mode", op.kind))
    return scene.text.finish("spm_normalize_op", c_struct(
        loop=scene.loop(), **{"in": _flat(scene)}, **body, **_affine(scene, affine),
        act=scene.activation_text(affine),
    ))  # fmt: skip


def _moments(scene: Scene, op: Normalize) -> dict[str, object]:
    shape, given = scene.layer.output_shape, scene.own.parameters
    steps, axes = strides(shape), sorted({axis % len(shape) for axis in op.axes})
    if op.mode == "lrn":
        return {"mode": _NORMS[op.mode], "group": int(given["lrn_size"]),
                "alpha": c_double(given["lrn_alpha"]), "beta": c_double(given["lrn_beta"]),
                "offset": c_double(given["lrn_bias"])}  # fmt: skip
    if op.mode == "instance":
        axes = list(range(2, len(shape)))
    group = shape[1] // int(given["num_groups"]) if op.mode == "group" else 0
    if group:
        axes = list(range(1, len(shape)))
    extents = [group if group and i == 1 else shape[i] for i in axes]
    kept = [0 if i in axes and not (group and i == 1) else steps[i] for i in range(len(shape))]
    return {
        "mode": _NORMS[op.mode], "group": group, "rank": len(axes), "extent": c_list(extents),
        "stride": c_list(steps[i] for i in axes), "origin": operand_text(scene.map(0), kept),
        "epsilon": c_double(given.get("epsilon", 0.0)),
    }  # fmt: skip


def _affine(scene: Scene, count: int) -> dict[str, object]:
    """Scale and shift: what there is of them, by their roles; a batch normalisation has both."""
    found: dict[str, object] = {}
    for i in range(count):
        name = "shift" if i == 1 or scene.layer.weights[i].role == "bias" else "scale"
        found[name] = "&" + scene.text.declare("spm_constant", _affine_constant(scene, i))
    return found


def _affine_constant(scene: Scene, index: int) -> str:
    op, output = scene.layer.op, scene.layer.output_shape
    shape = scene.layer.weights[index].shape
    by_channel = isinstance(op, Normalize) and op.mode in ("group", "instance")
    if not (by_channel or isinstance(op, BatchNorm)) or len(shape) != 1:
        return scene.constant(index)
    # one value for each index of axis 1, or for each group of them
    shared = output[1] // shape[0]
    along = (shape[0], *(1 for _ in output[2:]))
    return scene.constant(index, along, shared if shared > 1 else 0)
