"""Recipe rules: friendly fields and input shapes -> `Op`.

One function per operator name that people write. Each gets fields whose types are already checked
(see `spm_opt.graph.fields`) and the input shapes, and raises GraphError naming the field that does
not fit them. Which rule belongs to which name stands in `spm_opt.graph.recipes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from spm_opt.errors import GraphError
from spm_opt.graph import ops
from spm_opt.graph.ops import Op, Shape
from spm_opt.units import ceil_div

Fields: TypeAlias = Mapping[str, Any]
Shapes: TypeAlias = tuple[Shape, ...]
Rule: TypeAlias = Callable[[Fields, Shapes], Op]


def _spread(fields: Fields, name: str, rank: int) -> Shape:
    """One number for all `rank` spatial axes, or one number each."""
    value = fields[name]
    if isinstance(value, int):
        return (value,) * rank
    if len(value) != rank:
        raise GraphError(
            "wrong number of values", field=name, found=list(value), allowed=f"1 or {rank} values"
        )
    return tuple(value)


def _axis(axis: int, rank: int, name: str = "axis") -> int:
    if not -rank <= axis < rank:
        raise GraphError(
            "the input has no such axis", field=name, found=axis, allowed=f"{-rank} .. {rank - 1}"
        )
    return axis % rank


def _all_axes(fields: Fields, rank: int) -> Shape:
    axes = fields["axes"]
    given = (axes,) if isinstance(axes, int) else tuple(axes)
    found = tuple(_axis(axis, rank, "axes") for axis in given)
    if len(set(found)) != len(found):
        raise GraphError("the same axis twice", field="axes", found=list(given))
    return found


def _spatial(shapes: Shapes) -> Shape:
    """Spatial extents of an N C spatial input."""
    if len(shapes[0]) < 3:
        raise GraphError(
            "needs an input of at least three axes (batch, channels, space)", found=shapes[0]
        )
    return shapes[0][2:]


def _pads(fields: Fields, size: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Shape:
    """All begins, then all ends. ``same``: output = ceil(input / stride), the odd row at the end
    (TensorFlow's SAME, ONNX's SAME_UPPER)."""
    value, rank = fields["padding"], len(size)
    if isinstance(value, int):
        return (value,) * (2 * rank)
    if value != "same":
        if len(value) not in (rank, 2 * rank):
            raise GraphError(
                "wrong number of values", field="padding", found=list(value),
                allowed=f"1, {rank} (each axis) or {2 * rank} (all begins, then all ends) values",
            )  # fmt: skip
        return tuple(value) if len(value) == 2 * rank else (*value, *value)
    totals = [
        max(0, (ceil_div(n, s) - 1) * s + d * (k - 1) + 1 - n)
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]
    return (*(t // 2 for t in totals), *(t - t // 2 for t in totals))


def _window(fields: Fields, shapes: Shapes) -> dict[str, Shape]:
    size = _spatial(shapes)
    kernel = _spread(fields, "kernel", len(size))
    stride = kernel if fields["stride"] is None else _spread(fields, "stride", len(size))
    dilation = _spread(fields, "dilation", len(size))
    pads = _pads(fields, size, kernel, stride, dilation)
    return {"kernel": kernel, "stride": stride, "dilation": dilation, "pads": pads}


def conv_rule(fields: Fields, shapes: Shapes) -> Op:
    """Convolution; groups must divide both channel counts."""
    window = _window(fields, shapes)
    groups, out, channels = fields["groups"], fields["out_channels"], shapes[0][1]
    if channels % groups or out % groups:
        raise GraphError(
            f"groups must divide the input's {channels} and the output's {out} channels",
            field="groups", found=groups,
        )  # fmt: skip
    return ops.Conv(
        out, groups=groups, bias=fields["bias"], activation=fields["activation"], **window
    )


def depthwise_rule(fields: Fields, shapes: Shapes) -> Op:
    """Convolution with one group per input channel and `multiplier` outputs each."""
    window = _window(fields, shapes)
    channels = shapes[0][1]
    return ops.Conv(
        channels * fields["multiplier"], groups=channels, bias=fields["bias"],
        activation=fields["activation"], **window,
    )  # fmt: skip


def conv_transpose_rule(fields: Fields, shapes: Shapes) -> Op:
    """Transposed convolution, explicit padding only."""
    if fields["padding"] == "same":
        raise GraphError("not defined for conv_transpose", field="padding", found="same")
    window = _window(fields, shapes)
    output_pads = _spread(fields, "output_padding", len(shapes[0]) - 2)
    return ops.ConvTranspose(
        fields["out_channels"], output_pads=output_pads, groups=fields["groups"],
        bias=fields["bias"], activation=fields["activation"], **window,
    )  # fmt: skip


def pool_rule(mode: str) -> Rule:
    """Rule of max or average pooling with a window."""

    def make(fields: Fields, shapes: Shapes) -> Op:
        return ops.Pool(
            mode, ceil_mode=fields["ceil_mode"], activation=fields["activation"],
            count_include_pad=fields.get("count_include_pad", False), **_window(fields, shapes),
        )  # fmt: skip

    return make


def global_pool_rule(mode: str) -> Rule:
    """Rule of a reduction over all spatial axes."""

    def make(fields: Fields, shapes: Shapes) -> Op:
        axes = tuple(range(2, 2 + len(_spatial(shapes))))
        return ops.Reduce(mode, axes, fields["keepdims"], fields["activation"])

    return make


def reduce_rule(fields: Fields, shapes: Shapes) -> Op:
    """Reduction over named axes."""
    axes = _all_axes(fields, len(shapes[0]))
    return ops.Reduce(fields["mode"], axes, fields["keepdims"], fields["activation"])


def unary_rule(mode: str | None = None) -> Rule:
    """Rule of one element-wise function, or of the one that field ``mode`` names."""
    return lambda fields, shapes: ops.Unary(mode or fields["mode"])


def binary_rule(mode: str | None = None) -> Rule:
    """Rule of one element-wise combination, or of the one that field ``mode`` names."""

    def make(fields: Fields, shapes: Shapes) -> Op:
        constant = fields["constant"]
        if constant is None and len(shapes) < 2:
            raise GraphError("needs a second input, or the shape of a constant", field="constant")
        return ops.Binary(mode or fields["mode"], constant, fields["activation"])

    return make


def softmax_rule(fields: Fields, shapes: Shapes) -> Op:
    """Softmax along an axis of the input."""
    _axis(fields["axis"], len(shapes[0]))
    return ops.Softmax(fields["axis"])


def normalize_rule(mode: str | None = None) -> Rule:
    """Rule of one normalisation, or of the one that field ``mode`` names."""

    def make(fields: Fields, shapes: Shapes) -> Op:
        axes = _all_axes(fields, len(shapes[0]))
        return ops.Normalize(mode or fields["mode"], axes, fields["affine"], fields["activation"])

    return make


def concat_rule(fields: Fields, shapes: Shapes) -> Op:
    """Concatenation along an axis of the inputs."""
    constants = fields["constants"]
    for i, (position, _) in enumerate(constants):
        if position > len(shapes) + i:
            raise GraphError(
                "no such position among the pieces", field="constants", found=position,
                allowed=f"0 .. {len(shapes) + i}",
            )  # fmt: skip
    return ops.Concat(_axis(fields["axis"], len(shapes[0])), constants)


def slice_rule(fields: Fields, shapes: Shapes) -> Op:
    """Python's own slicing rule on each named axis, the other axes whole."""
    rank, axes = len(shapes[0]), fields["axis"]
    named = (axes,) if isinstance(axes, int) else tuple(axes)
    begins, sizes, steps = [0] * rank, list(shapes[0]), [1] * rank
    columns = [
        value if isinstance(value, tuple) else (value,) * len(named)
        for value in (fields["begin"], fields["end"], fields["step"])
    ]
    for name, column in zip(("begin", "end", "step"), columns, strict=True):
        if len(column) != len(named):
            raise GraphError(f"needs one value for each of {len(named)} axes", field=name)
    for axis, begin, end, step in zip(named, *columns, strict=True):
        at = _axis(axis, rank)
        if step == 0:
            raise GraphError("must not be zero", field="step", found=step)
        run = range(*slice(begin, end, step).indices(shapes[0][at]))
        if not run:
            raise GraphError(
                f"nothing is left of axis {axis} of {shapes[0]}", field="end", found=end
            )
        begins[at], sizes[at], steps[at] = run.start, len(run), step
    return ops.Slice(tuple(begins), tuple(sizes), tuple(steps))


def pad_rule(fields: Fields, shapes: Shapes) -> Op:
    """Padding, a begin and an end for every axis."""
    if len(fields["pads"]) != 2 * len(shapes[0]):
        raise GraphError(
            "needs a begin for every axis, then an end for every axis", field="pads",
            found=list(fields["pads"]), allowed=f"{2 * len(shapes[0])} integers",
        )  # fmt: skip
    return ops.Pad(fields["pads"], fields["mode"], fields["value"])


def resize_rule(fields: Fields, shapes: Shapes) -> Op:
    """Resampling to a spatial size, by integer factors, or to a whole shape."""
    given = [name for name in ("size", "scale", "shape") if fields[name] is not None]
    if len(given) != 1:
        raise GraphError("give exactly one of size, scale, shape", field="size", found=given)
    if given == ["shape"]:
        output = fields["shape"]
    else:
        space = _spatial(shapes)
        wanted = _spread(fields, given[0], len(space))
        if given == ["scale"]:
            wanted = tuple(n * factor for n, factor in zip(space, wanted, strict=True))
        output = (*shapes[0][:2], *wanted)
    return ops.Resize(output, fields["mode"], fields["coordinates"], fields["rounding"])


def transpose_rule(fields: Fields, shapes: Shapes) -> Op:
    """Permutation of the input's axes."""
    if sorted(fields["perm"]) != list(range(len(shapes[0]))):
        raise GraphError(
            "is no order of the input's axes", field="perm", found=list(fields["perm"]),
            allowed=f"each of 0 .. {len(shapes[0]) - 1} once",
        )  # fmt: skip
    return ops.Transpose(fields["perm"])


def gather_rule(fields: Fields, shapes: Shapes) -> Op:
    """Selection; the table and the indices are inputs unless their shapes are given."""
    table, indices = fields["table_shape"], fields["indices_shape"]
    wanted = (table is None) + (indices is None)
    if len(shapes) != wanted:
        raise GraphError(
            "inputs are the table, then the indices, without those given as table_shape and "
            "indices_shape",
            field="inputs", found=len(shapes), allowed=f"{wanted} inputs",
        )  # fmt: skip
    rank = len(shapes[0] if table is None else table)
    return ops.Gather(_axis(fields["axis"], rank), indices, table)


def embedding_rule(fields: Fields, shapes: Shapes) -> Op:
    """Look-up of rows in a constant table of ``entries`` x ``features``."""
    return ops.Gather(0, None, (fields["entries"], fields["features"]))


def reshape_rule(fields: Fields, shapes: Shapes) -> Op:
    """Target of a reshape: 0 copies the input's extent, -1 takes what is left (as in ONNX)."""
    source, target = shapes[0], fields["shape"]
    if any(n < -1 for n in target) or target.count(-1) > 1:
        raise GraphError(
            "is no shape", field="shape", found=list(target),
            allowed="positive extents, 0 to copy one, at most one -1 to infer it",
        )  # fmt: skip
    if any(n == 0 and i >= len(source) for i, n in enumerate(target)):
        raise GraphError("0 copies an axis that the input lacks", field="shape", found=list(target))
    copied = [source[i] if n == 0 else n for i, n in enumerate(target)]
    known = math.prod(n for n in copied if n != -1)
    shape = tuple(math.prod(source) // known if n == -1 else n for n in copied)
    if math.prod(shape) != math.prod(source):
        raise GraphError(f"cannot view {source} so", field="shape", found=list(target))
    return ops.View(shape)


def flatten_rule(fields: Fields, shapes: Shapes) -> Op:
    """Axes from `begin` on become one."""
    shape = shapes[0]
    begin = _axis(fields["begin"], len(shape), "begin")
    return ops.View((*shape[:begin], math.prod(shape[begin:])))


def squeeze_rule(fields: Fields, shapes: Shapes) -> Op:
    """Axes of extent 1 removed: those named, or all."""
    shape = shapes[0]
    if fields["axes"] is None:
        return ops.View(tuple(n for n in shape if n != 1))
    axes = _all_axes(fields, len(shape))
    if any(shape[axis] != 1 for axis in axes):
        raise GraphError("only axes of extent 1 can be squeezed", field="axes", found=shape)
    return ops.View(tuple(n for i, n in enumerate(shape) if i not in axes))


def unsqueeze_rule(fields: Fields, shapes: Shapes) -> Op:
    """Axes of extent 1 inserted at these places of the result."""
    axes = fields["axes"]
    given = (axes,) if isinstance(axes, int) else tuple(axes)
    rank = len(shapes[0]) + len(given)
    places = _all_axes({"axes": given}, rank)
    rest = iter(shapes[0])
    return ops.View(tuple(1 if i in places else next(rest) for i in range(rank)))


def identity_rule(fields: Fields, shapes: Shapes) -> Op:
    """The same tensor under another name."""
    return ops.View(shapes[0])


def opaque_rule(fields: Fields, shapes: Shapes) -> Op:
    """An operator of which only the output shape is known."""
    shape = fields["shape"]
    if any(n < 0 or (n == 0 and (not shapes or i >= len(shapes[0]))) for i, n in enumerate(shape)):
        raise GraphError(
            "is no shape", field="shape", found=list(shape),
            allowed="positive extents, 0 to copy one of the first input",
        )  # fmt: skip
    return ops.Opaque(fields["type"], tuple(n or shapes[0][i] for i, n in enumerate(shape)))


def linear_rule(fields: Fields, shapes: Shapes) -> Op:
    """Product with a weight matrix over the last axis."""
    return ops.Linear(fields["out_features"], fields["bias"], fields["activation"])


def matmul_rule(fields: Fields, shapes: Shapes) -> Op:
    """Product of two activations."""
    return ops.MatMul(fields["transpose_b"], fields["activation"])


def batch_norm_rule(fields: Fields, shapes: Shapes) -> Op:
    """Per-channel scale and shift."""
    return ops.BatchNorm(fields["activation"])
