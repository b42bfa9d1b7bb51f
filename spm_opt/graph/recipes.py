"""Recipes: which operators people can write, their fields, and the constants each one owns.

`RECIPES` says for every operator name (``conv``, ``max_pool``, ``flatten`` ...) which fields it
takes and which rule makes the `Op` of them; `weights_of` lists the constants of an `Op`. The Python
builder and the YAML reader both work from here, so they accept the same words and give the same
messages. Nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from spm_opt.errors import GraphError
from spm_opt.graph import ops
from spm_opt.graph import recipe_rules as rules
from spm_opt.graph.fields import (
    ACTIVATIONS,
    BINARY_MODES,
    BOOL,
    EXTENTS,
    INT,
    INT_OR_INTS,
    INTS,
    NATURALS,
    NUMBER,
    PADDING,
    PIECES,
    POSITIVE,
    POSITIVES,
    REDUCE_MODES,
    SHAPE,
    SLICE_ENDS,
    TEXT,
    UNARY_MODES,
    WINDOW,
    Field,
    choice,
)
from spm_opt.graph.network import Weight
from spm_opt.graph.ops import Op, Shape

#: no upper limit on the number of inputs
MANY: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one operator name becomes an `Op`.

    Attributes
    ----------
    rule : callable
        ``rule(values, input_shapes) -> Op``; raises GraphError naming the field.
    fields : tuple of Field
    least, most : int
        Number of inputs accepted.
    """

    rule: rules.Rule
    fields: tuple[Field, ...] = ()
    least: int = 1
    most: int = 1

    def read(self, given: Mapping[str, object]) -> dict[str, Any]:
        """Check `given` against the fields; defaults filled in. Raises GraphError."""
        known = [field.name for field in self.fields]
        for name in given:
            if name not in known:
                allowed = (*known, *COMMON_FIELDS)
                raise GraphError("unknown field", field=str(name), allowed=allowed)
        return {field.name: field.read(given) for field in self.fields}

    def make(self, given: Mapping[str, object], shapes: tuple[Shape, ...]) -> Op:
        """The operator for these fields and input shapes. Raises GraphError."""
        self.check_inputs(len(shapes))
        return self.rule(self.read(given), shapes)

    def check_inputs(self, count: int) -> None:
        """Raise GraphError unless `count` inputs are accepted."""
        if not self.least <= count <= self.most:
            several = (
                "at least " if self.most == MANY else "" if self.least == self.most else "up to "
            )
            number = self.least if self.most == MANY else self.most
            raise GraphError(
                "wrong number of inputs", field="inputs", found=count, allowed=f"{several}{number}"
            )


#: fields of every layer, whatever its operator
COMMON_FIELDS: Final = ("name", "op", "inputs", "output", "cycles")

_ACTIVATION: Final = Field("activation", choice(ACTIVATIONS), None)
_BIAS: Final = Field("bias", BOOL, True)
_SPACE: Final = (Field("padding", PADDING, 0), Field("dilation", WINDOW, 1))
_CONV: Final = (
    Field("kernel", WINDOW), Field("stride", WINDOW, 1), *_SPACE, _BIAS, _ACTIVATION,
)  # fmt: skip
_CHANNELS: Final = (Field("out_channels", POSITIVE), *_CONV, Field("groups", POSITIVE, 1))
# a pool without a stride does not overlap, as everywhere
_POOL: Final = (
    Field("kernel", WINDOW), Field("stride", WINDOW, None), *_SPACE,
    Field("ceil_mode", BOOL, False), _ACTIVATION,
)  # fmt: skip
_GLOBAL: Final = (Field("keepdims", BOOL, True), _ACTIVATION)
_CONSTANT: Final = (Field("constant", EXTENTS, None), _ACTIVATION)
_AFFINE: Final = (Field("axes", INT_OR_INTS, -1), Field("affine", BOOL, True), _ACTIVATION)
_NORMALIZE: Final = ("layer", "rms", "group", "instance")
_RESIZE_MODES: Final = ("nearest", "linear", "cubic")
_COORDINATES: Final = (
    "asymmetric", "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners",
    "tf_crop_and_resize", "tf_half_pixel_for_nn",
)  # fmt: skip
_ROUNDINGS: Final = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
_RESIZE: Final = (
    Field("size", WINDOW, None), Field("scale", WINDOW, None), Field("shape", POSITIVES, None),
    Field("mode", choice(_RESIZE_MODES), "nearest"),
    Field("coordinates", choice(_COORDINATES), "asymmetric"),
    Field("rounding", choice(_ROUNDINGS), "floor"),
)  # fmt: skip
_GATHER: Final = (
    Field("axis", INT, 0),
    Field("indices_shape", EXTENTS, None),
    Field("table_shape", EXTENTS, None),
)
_SLICE: Final = (
    Field("axis", INT_OR_INTS), Field("begin", INT_OR_INTS, 0), Field("end", SLICE_ENDS, None),
    Field("step", INT_OR_INTS, 1),
)  # fmt: skip
_PAD_MODES: Final = ("constant", "reflect", "edge", "wrap")
_PAD: Final = (
    Field("pads", INTS), Field("mode", choice(_PAD_MODES), "constant"), Field("value", NUMBER, 0.0),
)  # fmt: skip

#: every operator name that people can write
RECIPES: Final[Mapping[str, Recipe]] = {
    "conv": Recipe(rules.conv_rule, _CHANNELS),
    "depthwise": Recipe(rules.depthwise_rule, (*_CONV, Field("multiplier", POSITIVE, 1))),
    "conv_transpose": Recipe(
        rules.conv_transpose_rule, (*_CHANNELS, Field("output_padding", NATURALS, 0))
    ),
    "linear": Recipe(rules.linear_rule, (Field("out_features", POSITIVE), _BIAS, _ACTIVATION)),
    "matmul": Recipe(
        rules.matmul_rule, (Field("transpose_b", BOOL, False), _ACTIVATION), least=2, most=2
    ),
    "max_pool": Recipe(rules.pool_rule("max"), _POOL),
    "avg_pool": Recipe(rules.pool_rule("avg"), (*_POOL, Field("count_include_pad", BOOL, False))),
    "lp_pool": Recipe(rules.pool_rule("lp"), _POOL),
    "global_avg_pool": Recipe(rules.global_pool_rule("mean"), _GLOBAL),
    "global_max_pool": Recipe(rules.global_pool_rule("max"), _GLOBAL),
    "reduce": Recipe(
        rules.reduce_rule,
        (Field("mode", choice(REDUCE_MODES)), Field("axes", INT_OR_INTS), *_GLOBAL),
    ),
    "unary": Recipe(rules.unary_rule(), (Field("mode", choice(UNARY_MODES)),)),
    **{mode: Recipe(rules.unary_rule(mode)) for mode in UNARY_MODES},
    "binary": Recipe(
        rules.binary_rule(), (Field("mode", choice(BINARY_MODES)), *_CONSTANT), most=MANY
    ),
    **{mode: Recipe(rules.binary_rule(mode), _CONSTANT, most=MANY) for mode in BINARY_MODES},
    "softmax": Recipe(rules.softmax_rule, (Field("axis", INT, -1),)),
    "layer_norm": Recipe(rules.normalize_rule("layer"), _AFFINE),
    "normalize": Recipe(rules.normalize_rule(), (Field("mode", choice(_NORMALIZE)), *_AFFINE)),
    "batch_norm": Recipe(rules.batch_norm_rule, (_ACTIVATION,)),
    "concat": Recipe(
        rules.concat_rule, (Field("axis", INT, 1), Field("constants", PIECES, ())), most=MANY
    ),
    "slice": Recipe(rules.slice_rule, _SLICE),
    "pad": Recipe(rules.pad_rule, _PAD),
    "resize": Recipe(rules.resize_rule, _RESIZE),
    "gather": Recipe(rules.gather_rule, _GATHER, least=0, most=2),
    "embedding": Recipe(
        rules.embedding_rule, (Field("entries", POSITIVE), Field("features", POSITIVE))
    ),
    "transpose": Recipe(rules.transpose_rule, (Field("perm", INTS),)),
    "reshape": Recipe(rules.reshape_rule, (Field("shape", SHAPE),)),
    "flatten": Recipe(rules.flatten_rule, (Field("begin", INT, 1),)),
    "squeeze": Recipe(rules.squeeze_rule, (Field("axes", INT_OR_INTS, None),)),
    "unsqueeze": Recipe(rules.unsqueeze_rule, (Field("axes", INT_OR_INTS),)),
    "identity": Recipe(rules.identity_rule),
    "opaque": Recipe(
        rules.opaque_rule, (Field("type", TEXT), Field("shape", SHAPE)), least=0, most=MANY
    ),
}
#: what ``split`` takes: it becomes several slices, so it has no recipe of its own
SPLIT_FIELDS: Final = (Field("sizes", POSITIVES), Field("axis", INT, 1))
#: all that may stand in the ``op`` field of a model file
OPERATORS: Final = (*RECIPES, "split")


def weights_of(layer: str, op: Op, shapes: tuple[Shape, ...], dtype: str) -> tuple[Weight, ...]:
    """The constants of a layer, named ``LAYER.weight``, ``LAYER.bias`` ...

    Parameters
    ----------
    layer : str
    op : Op
    shapes : tuple of Shape
        Input shapes as the operator sees them.
    dtype : str
        Element type of the network; a bias of an integer network has the accumulators' type.

    Returns
    -------
    tuple of Weight
        Convolutions ``(out, in / groups, *kernel)``, transposed ones ``(in, out / groups,
        *kernel)``, linear ``(out, in)``; the bias one value per output channel. A normalisation
        has a scale (weight) and a shift (bias); mean and variance of a batch normalisation are
        folded into them.
    """
    bias_dtype = "int32" if dtype.startswith("int") else dtype
    return tuple(
        Weight(
            f"{layer}.{name}", shape,
            bias_dtype if role == "bias" else "int32" if name == "indices" else dtype, role,
        )
        for name, shape, role in _constants(op, shapes)
    )  # fmt: skip


def _constants(op: Op, shapes: tuple[Shape, ...]) -> tuple[tuple[str, Shape, str], ...]:
    """Name, shape and role of each constant."""
    if isinstance(op, ops.Conv):
        shape = (op.out_channels, shapes[0][1] // op.groups, *op.kernel)
        return _with_bias(shape, (op.out_channels,) if op.bias else None)
    if isinstance(op, ops.ConvTranspose):
        shape = (shapes[0][1], op.out_channels // op.groups, *op.kernel)
        return _with_bias(shape, (op.out_channels,) if op.bias else None)
    if isinstance(op, ops.Linear):
        shape = (op.out_features, shapes[0][-1])
        return _with_bias(shape, (op.out_features,) if op.bias else None)
    if isinstance(op, ops.BatchNorm):
        return _with_bias(shapes[0][1:2], shapes[0][1:2])
    if isinstance(op, ops.Normalize) and op.affine:
        shape = _affine_shape(op, shapes[0])
        return _with_bias(shape, None if op.mode == "rms" else shape)
    if isinstance(op, ops.Binary) and op.constant_shape is not None:
        return (("constant", op.constant_shape, "constant"),)
    if isinstance(op, ops.Concat):
        return tuple(
            (f"constant{i}", shape, "constant") for i, (_, shape) in enumerate(op.constants)
        )
    if isinstance(op, ops.Gather):
        table = (("table", op.table_shape, "table"),) if op.table_shape is not None else ()
        if op.indices_shape is not None:
            return (*table, ("indices", op.indices_shape, "constant"))
        return table
    return ()


def _with_bias(weight: Shape, bias: Shape | None) -> tuple[tuple[str, Shape, str], ...]:
    kernel = ("weight", weight, "weight")
    return (kernel,) if bias is None else (kernel, ("bias", bias, "bias"))


def _affine_shape(op: ops.Normalize, shape: Shape) -> Shape:
    """Scales of layer and RMS normalisation run over the axes, of the others over channels."""
    if op.mode in ("group", "instance"):
        return shape[1:2]
    return tuple(shape[axis] for axis in sorted(axis % len(shape) for axis in op.axes))
