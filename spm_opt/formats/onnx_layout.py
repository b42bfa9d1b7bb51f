"""Meaning of the ONNX operators that move data: views, slices, joins, padding, resizing, look-up.

Nothing here multiplies. Constants have been folded and the outputs' shapes inferred before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from spm_opt.formats.onnx_draft import DTYPES, FLOATS, Constant, Draft, Node
from spm_opt.graph.network import DTYPE_BYTES
from spm_opt.graph.ops import Concat, Gather, Pad, Resize, Shape, Slice, Transpose, Unary
from spm_opt.units import ceil_div

# --- views -------------------------------------------------------------------------------------


def _reshaped(draft: Draft, node: Node) -> None:
    """Flatten, Squeeze, Unsqueeze: the shape is ONNX's to infer."""
    draft.view(node, node.inputs[0], draft.output_shape(node))


def _same(draft: Draft, node: Node) -> None:
    if any(name in draft.used for name in node.outputs[1:]):
        draft.opaque(node)
        return
    draft.view(node, node.inputs[0], draft.shape(node.inputs[0]))


def _reshape(draft: Draft, node: Node) -> None:
    shape = draft.shape(node.inputs[0])
    wanted = list(draft.integers(node, 1, "shape", ()))
    if not node.integer("allowzero", 0):
        wanted = [shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    if draft.batch is not None and len(wanted) > 1 and (shape[0], wanted[0]) == (draft.batch, 1):
        # the exporter wrote the batch that the file was made for
        wanted[0] = draft.batch
    rest = math.prod(n for n in wanted if n != -1)
    if -1 in wanted and rest:
        wanted[wanted.index(-1)] = math.prod(shape) // rest
    if math.prod(wanted) != math.prod(shape):
        raise draft.error(node, f"cannot reshape to {tuple(wanted)}", shape)
    draft.view(node, node.inputs[0], tuple(wanted))


def _cast(draft: Draft, node: Node) -> None:
    source = node.inputs[0]
    before, after = DTYPES[draft.elems[source]], DTYPES.get(node.integer("to", 1), "float32")
    if node.type == "CastLike":
        after = DTYPES[draft.elems[node.inputs[1]]]
    floats = before in FLOATS and after in FLOATS
    if floats or DTYPE_BYTES[before] == DTYPE_BYTES[after]:
        draft.view(node, source, draft.shape(source))
    else:
        draft.emit(node, Unary("cast"), (source,))


# --- permutations ------------------------------------------------------------------------------


def _transpose(draft: Draft, node: Node) -> None:
    rank = len(draft.shape(node.inputs[0]))
    perm = node.integers("perm", tuple(reversed(range(rank))))
    draft.emit(node, Transpose(perm), node.inputs)


def _permuted(draft: Draft, node: Node, split: Shape, perm: Shape, final: Shape) -> None:
    """View as `split`, transpose by `perm`, view as `final`."""
    target = draft.temporary(node, "permuted")
    moved = draft.emit(node, Transpose(perm), node.inputs[:1], target=target, views=(split,))
    draft.view(node, moved, final)


def _depth_to_space(draft: Draft, node: Node) -> None:
    n, c, h, w = draft.shape(node.inputs[0])
    b = node.integer("blocksize", 1)
    final = (n, c // (b * b), h * b, w * b)
    if node.text("mode", "DCR") == "DCR":
        _permuted(draft, node, (n, b, b, c // (b * b), h, w), (0, 3, 4, 1, 5, 2), final)
    else:
        _permuted(draft, node, (n, c // (b * b), b, b, h, w), (0, 1, 4, 2, 5, 3), final)


def _space_to_depth(draft: Draft, node: Node) -> None:
    n, c, h, w = draft.shape(node.inputs[0])
    b = node.integer("blocksize", 1)
    split = (n, c, h // b, b, w // b, b)
    _permuted(draft, node, split, (0, 3, 5, 1, 2, 4), (n, c * b * b, h // b, w // b))


# --- parts -------------------------------------------------------------------------------------


def _slice(draft: Draft, node: Node) -> None:
    shape = draft.shape(node.inputs[0])
    starts = draft.integers(node, 1, "starts", ())
    ends = draft.integers(node, 2, "ends", ())
    axes = draft.integers(node, 3, "axes", tuple(range(len(starts))))
    steps = draft.integers(node, 4, "steps", (1,) * len(starts))
    parts = [range(extent) for extent in shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        parts[axis % len(shape)] = range(*slice(start, end, step).indices(shape[axis]))
    draft.emit(node, _part(parts), node.inputs[:1])


def _part(parts: Sequence[range]) -> Slice:
    return Slice(
        tuple(part.start for part in parts),
        tuple(len(part) for part in parts),
        tuple(part.step for part in parts),
    )


def _split(draft: Draft, node: Node) -> None:
    source = node.inputs[0]
    shape = draft.shape(source)
    axis = node.integer("axis", 0) % len(shape)
    sizes = draft.integers(node, 1, "split", ())
    if not sizes:
        # all alike, the last one smaller where they do not divide the axis
        each = ceil_div(shape[axis], node.integer("num_outputs", len(node.outputs)))
        sizes = tuple(min(each, shape[axis] - i * each) for i in range(len(node.outputs)))
    if sum(sizes) != shape[axis]:
        raise draft.error(node, f"sizes {sizes} do not cover axis {axis}", shape)
    begin = 0
    for i, size in enumerate(sizes):
        if node.outputs[i] in draft.used:
            parts = [range(extent) for extent in shape]
            parts[axis] = range(begin, begin + size)
            draft.emit(node, _part(parts), (source,), output=i)
        begin += size


def _gather(draft: Draft, node: Node) -> None:
    table, indices = node.inputs[:2]
    axis = node.integer("axis", 0)
    if draft.is_constant(table):
        op = Gather(axis, table_shape=draft.shape(table))
        draft.emit(node, op, (indices,), (draft.weight(table, "table"),))
    elif not draft.is_constant(indices):
        draft.emit(node, Gather(axis), (table, indices))
    elif (run := _regular(draft.constants[indices], draft.shape(table)[axis])) is not None:
        _gather_run(draft, node, axis, run)
    else:
        op = Gather(axis, indices_shape=draft.shape(indices))
        draft.emit(node, op, (table,), (draft.weight(indices, "constant"),))


def _regular(indices: Constant, extent: int) -> range | None:
    """Indices that are an arithmetic progression, as a range."""
    if indices.value is None or not indices.elements:
        return None
    values = [int(value) % extent for value in np.ravel(indices.value)]
    step = values[1] - values[0] if len(values) > 1 else 1
    if not step or any(b - a != step for a, b in pairwise(values)):
        return None
    return range(values[0], values[-1] + (1 if step > 0 else -1), step)


def _gather_run(draft: Draft, node: Node, axis: int, run: range) -> None:
    shape = draft.shape(node.inputs[0])
    axis %= len(shape)
    parts = [range(extent) for extent in shape]
    parts[axis] = run
    indices = draft.shape(node.inputs[1])
    final = (*shape[:axis], *indices, *shape[axis + 1 :])
    same = len(indices) == 1
    target = None if same else draft.temporary(node, "part")
    part = draft.emit(node, _part(parts), node.inputs[:1], target=target)
    if not same:
        draft.view(node, part, final)


# --- joins -------------------------------------------------------------------------------------


def _concat(draft: Draft, node: Node) -> None:
    _join(draft, node, node.inputs, node.integer("axis", 1))


def _qlinear_concat(draft: Draft, node: Node) -> None:
    # scale and zero point of the output, then each piece with its own
    _join(draft, node, node.inputs[2::3], node.integer("axis", 1))


def _join(draft: Draft, node: Node, names: Sequence[str], axis: int) -> None:
    active = [name for name in names if not draft.is_constant(name)]
    axis %= len(draft.shape(active[0]))
    pieces: list[tuple[int, Shape]] = []
    weights = []
    for position, name in enumerate(names):
        if not draft.is_constant(name):
            continue
        shape = draft.shape(name)
        if draft.batch is not None and axis and shape[0] == 1:
            shape = (draft.batch, *shape[1:])
        if math.prod(shape):
            pieces.append((position, shape))
            weights.append(draft.weight(name, "constant"))
    draft.emit(node, Concat(axis, tuple(pieces)), active, tuple(weights))


def _expand(draft: Draft, node: Node) -> None:
    source, shape = node.inputs[0], draft.shape(node.inputs[0])
    wanted = list(draft.integers(node, 1, "shape", ()))
    rank = max(len(shape), len(wanted))
    view = (1,) * (rank - len(shape)) + shape
    wanted = [1] * (rank - len(wanted)) + wanted
    _repeat(draft, node, source, view, tuple(map(max, view, wanted)))


def _tile(draft: Draft, node: Node) -> None:
    source, shape = node.inputs[0], draft.shape(node.inputs[0])
    repeats = draft.integers(node, 1, "repeats", ())
    for axis, count in enumerate(repeats):
        if shape[axis] > 1 and count > 1:
            target = draft.temporary(node, f"tiled{axis}")
            source = draft.emit(node, Concat(axis), (source,) * count, target=target)
    shape = draft.shape(source)
    ones = draft.shape(node.inputs[0])
    final = tuple(r if n == 1 else m for n, m, r in zip(ones, shape, repeats, strict=True))
    _repeat(draft, node, source, shape, final)


def _repeat(draft: Draft, node: Node, source: str, view: Shape, final: Shape) -> None:
    """Repeat `source` along axes of extent 1: an upsampling from one to many."""
    if view == final:
        draft.view(node, source, final)
    else:
        draft.emit(node, Resize(final), (source,), views=(view,))


# --- padding and resizing ----------------------------------------------------------------------


def _pad(draft: Draft, node: Node) -> None:
    rank = len(draft.shape(node.inputs[0]))
    pads = draft.integers(node, 1, "pads", node.integers("paddings", ()))
    axes = draft.integers(node, 3, "axes", tuple(range(rank)))
    full = [0] * 2 * rank
    for i, axis in enumerate(axes):
        full[axis % rank] = pads[i]
        full[rank + axis % rank] = pads[len(axes) + i]
    value = node.real("value", 0.0)
    if node.has(2):
        constant = draft.constants.get(node.inputs[2])
        known = constant is not None and constant.value is not None
        value = float(np.ravel(draft.value(node, 2))[0]) if known else math.nan
    draft.emit(node, Pad(tuple(full), node.text("mode", "constant"), value), node.inputs[:1])


def _resize(draft: Draft, node: Node) -> None:
    shape = draft.shape(node.inputs[0])
    output = _resized_shape(draft, node, shape)
    mode = node.text("mode", "nearest")
    plain = node.type == "Upsample" or draft.opset < 11
    coordinates = node.text(
        "coordinate_transformation_mode", "asymmetric" if plain else "half_pixel"
    )
    rounding = node.text("nearest_mode", "floor" if plain else "round_prefer_floor")
    whole = all(m % n == 0 for n, m in zip(shape, output, strict=True))
    if mode == "nearest" and whole and (coordinates, rounding) in _REPEATS:
        # by a whole factor these all repeat every element
        coordinates, rounding = "asymmetric", "floor"
    draft.emit(node, Resize(output, mode, coordinates, rounding), node.inputs[:1])


_REPEATS: Final = (
    ("half_pixel", "round_prefer_floor"),
    ("half_pixel", "round_prefer_ceil"),
    ("pytorch_half_pixel", "round_prefer_ceil"),
    ("asymmetric", "floor"),
)


def _resized_shape(draft: Draft, node: Node, shape: Shape) -> Shape:
    """Output shape: ONNX's inference where it can, else sizes, else scales."""
    inferred = draft.inferred.get(node.outputs[0], (0, None))[1]
    if inferred is not None and draft.batch is None:
        return inferred
    axes = node.integers("axes", tuple(range(len(shape))))
    result = list(shape)
    if node.has(3):
        for axis, size in zip(axes, draft.integers(node, 3, "sizes", ()), strict=True):
            result[axis] = size
        if draft.batch is not None and len(axes) == len(shape) and result[0] == 1:
            result[0] = shape[0]
        return tuple(result)
    at = 1 if node.type == "Upsample" or draft.opset < 11 else 2
    scales = draft.value(node, at) if node.has(at) else np.array(node.attributes["scales"])
    for axis, scale in zip(axes, np.ravel(scales), strict=True):
        result[axis] = math.floor(shape[axis] * float(scale))
    return tuple(result)


TRANSLATORS: Final[dict[str, Callable[[Draft, Node], None]]] = {
    "Identity": _same,
    "Dropout": _same,
    "Reshape": _reshape,
    "Flatten": _reshaped,
    "Squeeze": _reshaped,
    "Unsqueeze": _reshaped,
    "Cast": _cast,
    "CastLike": _cast,
    "Transpose": _transpose,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Concat": _concat,
    "QLinearConcat": _qlinear_concat,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
}
