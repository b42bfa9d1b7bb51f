"""ONNX file -> normalised `Network`.

The door to the room: heavy imports happen only when a file is read. How a graph is walked stands
in `onnx_graph`, what each operator means in `onnx_ops`, `onnx_layout` and `onnx_elementwise`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spm_opt.errors import GraphError
from spm_opt.graph.network import Network


def read_onnx(
    path: str | Path, *, batch: int | None = None, dims: Mapping[str, int] | None = None
) -> Network:
    """Read an ONNX model as a normalised network.

    Weights may be absent (external data): shapes suffice. Quantised models (QDQ, QLinear) give
    maps and weights in their quantised element types.

    Parameters
    ----------
    path : str or Path
    batch : int, optional
        Extent of the batch dimension: of a symbolic first dimension of the inputs, or in place
        of a literal 1.
    dims : mapping of str to int, optional
        Extents of other symbolic dimensions, by name.

    Returns
    -------
    Network
        Tensors keep their ONNX names; views are in `Network.aliases`.

    Raises
    ------
    InputError
        Naming the file, and the node or dimension: missing or unreadable file, no ONNX model, an
        unset symbolic dimension, an unsupported opset, a shape that depends on data.
    """
    from spm_opt.formats.onnx_graph import load_model, network_of
    from spm_opt.graph.normalize import normalize

    file = str(path)
    model = load_model(file)
    network = network_of(model, file, batch, dims or {})
    try:
        return normalize(network)
    except GraphError as error:
        raise error.in_file(file) from None
