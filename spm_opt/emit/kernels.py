"""From a layer to C: its constants, and calls of its kernel on windows of rows and channels.

`layer_constants` writes what a kernel must know of a layer (shapes, strides, multipliers, tables)
as one static structure; `kernel_call` the call that computes rows and channels of it; the numbers
it multiplies by come at run time as bytes (`spm_opt.emit.kernels_weights`). The kernels themselves
are the C files beside this module (`kernel_sources`). Where windows lie is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Final

from spm_opt.emit.kernels_moves import (
    concat_text,
    gather_text,
    is_nearest,
    move_text,
    resize_text,
)
from spm_opt.emit.kernels_operands import Scene
from spm_opt.emit.kernels_products import conv_text, linear_text, matmul_text
from spm_opt.emit.kernels_text import Text, c_list
from spm_opt.emit.kernels_vector import (
    binary_text,
    normalize_text,
    pool_text,
    reduce_text,
    softmax_text,
    unary_text,
)
from spm_opt.emit.kernels_weights import fetches_table, pack_table, pack_weights, packed_bytes
from spm_opt.errors import GraphError
from spm_opt.graph.network import Layer, Network
from spm_opt.graph.ops import Linear, Op, Resize, Unary
from spm_opt.graph.values import NetworkValues

#: inputs that a product with a matrix adds up at once: SPM_CHUNK of ``spm_mac.h``
PRODUCT_CHUNK: Final = 64
#: input channels [begin, end), and the expression of a window, as C
Slice = tuple[object, object, str]

__all__ = [
    "KERNEL_FILES", "fetches_table", "held_channels", "kernel_call", "kernel_name",
    "kernel_sources", "layer_constants", "pack_table", "pack_weights", "packed_bytes",
    "weights_literal", "window_literal",
]  # fmt: skip

#: C files of the kernels; headers first
KERNEL_FILES: Final = (
    "spm_kernels.h", "spm_access.h", "spm_access.c", "spm_mac.h", "spm_mac.c", "spm_conv.c",
    "spm_product.c",
    "spm_vector.c", "spm_sets.c", "spm_move.c",
)  # fmt: skip

_KERNELS: Final[Mapping[str, str]] = {
    "conv": "conv", "conv_transpose": "conv", "linear": "linear", "matmul": "matmul",
    "pool": "pool", "reduce": "reduce", "unary": "unary", "binary": "binary",
    "softmax": "softmax", "normalize": "normalize", "batch_norm": "normalize", "concat": "concat",
    "slice": "move", "pad": "move", "resize": "resize", "transpose": "move", "gather": "gather",
}  # fmt: skip
_TEXTS: Final[Mapping[str, Callable[[Scene], str]]] = {
    "conv": conv_text, "linear": linear_text, "matmul": matmul_text, "pool": pool_text,
    "reduce": reduce_text, "unary": unary_text, "binary": binary_text, "softmax": softmax_text,
    "normalize": normalize_text, "concat": concat_text, "move": move_text,
    "resize": resize_text, "gather": gather_text,
}  # fmt: skip


def kernel_sources() -> dict[str, str]:
    """The kernels' C files: name to text, in the order of `KERNEL_FILES`."""
    folder = resources.files("spm_opt.emit") / "c"
    return {name: (folder / name).read_text(encoding="utf-8") for name in KERNEL_FILES}


def kernel_name(layer: Layer) -> str:
    """Name of a layer's kernel, without ``spm_``.

    Raises
    ------
    GraphError
        Naming the layer, if no kernel computes it (an opaque operator).
    """
    op: Op = layer.op
    if op.kind not in _KERNELS:
        found = getattr(op, "type", op.kind)
        raise GraphError("no kernel computes this operator", field=layer.name, found=found)
    if isinstance(op, Unary) and op.mode == "prelu":
        return "binary"
    if isinstance(op, Resize) and is_nearest(op):
        return "move"
    return _KERNELS[op.kind]


def layer_constants(network: Network, layer: Layer, values: NetworkValues, symbol: str) -> str:
    """C declarations of what the kernel must know of a layer, the last of them `symbol`.

    Parameters
    ----------
    network : Network
        Normalised.
    layer : Layer
        One of its layers.
    values : NetworkValues
        Scales of the maps, and numbers of the layers.
    symbol : str
        A C identifier; names of arrays begin with it and ``_``.

    Returns
    -------
    str
        Static constants, without weights.

    Raises
    ------
    GraphError
        Naming the layer, if no kernel computes it, or an integer sum may overflow.
    """
    name = kernel_name(layer)
    return _TEXTS[name](Scene(network, layer, values, Text(symbol)))


def kernel_call(
    layer: Layer, symbol: str, output: str, inputs: Sequence[str], weights: str = "{0}",
    rows: tuple[object, object] | None = None, channels: tuple[object, object] | None = None,
    slice_: Slice | None = None,
) -> str:  # fmt: skip
    """The C statement that computes rows and channels of a layer.

    Parameters
    ----------
    layer : Layer
    symbol : str
        As given to `layer_constants`.
    output : str
        Expression of type ``spm_window``; inputs likewise, one for each operand.
    inputs : sequence of str
    weights : str
        Initialiser of type ``spm_weights`` (`weights_literal`): constants of at least `channels`.
        Where they lie in several buffers, one a slice, call once for each slice.
    rows, channels : (begin, end), optional
        Integers or C expressions; `channels` are those of the output's map (`held_channels`). All
        of them by default.
    slice_ : (begin, end, window), optional
        Input channels of each group that are added, and where the partial sums are kept.
    """
    row0, row1 = rows if rows is not None else (0, layer.rows)
    every = (0, f"{symbol}.{_out_map(kernel_name(layer))}.channels")
    channel0, channel1 = channels if channels is not None else every
    windows = f"(const spm_window[]){c_list(inputs)}" if inputs else "NULL"
    part = f"(spm_part){{{row0}, {row1}, {channel0}, {channel1}}}"
    name, more = kernel_name(layer), ""
    if slice_ is not None:
        name, more = f"{name}_slice", f", (spm_slice){c_list(slice_)}"
    return f"spm_{name}(&{symbol}, {output}, {windows}, (spm_weights){weights}, {part}{more});"


def require_chunk(layer: Layer, begin: int) -> None:
    """Refuse to go on with partial sums in the middle of what a product adds up at once.

    Raises
    ------
    GraphError
        Naming the layer.
    """
    if isinstance(layer.op, Linear) and begin % PRODUCT_CHUNK:
        raise GraphError(
            "input channels are added in chunks", field=layer.name, found=begin,
            allowed=f"a multiple of {PRODUCT_CHUNK}",
        )  # fmt: skip


def _out_map(kernel: str) -> str:
    return "out" if kernel in ("conv", "linear", "matmul") else "loop.map"


def held_channels(network: Network, tensor: str) -> int:
    """Channels of a map, as windows count them: 1 where nothing cuts it."""
    axis = network.channel_axes.get(tensor)
    return 1 if axis is None else network.tensors[tensor].shape[axis]


def window_literal(
    base: str, rows: object, pitch_bytes: object, first_channel: object = 0, channels: object = 1
) -> str:
    """An ``spm_window``: rows held, bytes from row to row, channels held (`held_channels`)."""
    return f"(spm_window){{{base}, {rows}, {pitch_bytes}, {first_channel}, {channels}}}"


def weights_literal(base: str, first_channel: object = 0, table: str = "NULL") -> str:
    """Initialiser of an ``spm_weights``: packed constants from a channel on.

    ``table`` is the table in DRAM of a layer that fetches rows of it (`fetches_table`).
    """
    return f"{{{base}, {first_channel}, {table}}}"
