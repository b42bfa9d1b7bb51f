"""An ONNX file whose tensors are all outputs, so that a run shows what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx

from spm_opt.errors import InputError


def with_outputs(path: str | Path, names: Iterable[str]) -> tuple[bytes, tuple[str, ...]]:
    """The model with the tensors `names` as its outputs, serialised; and which of them it has.

    Parameters
    ----------
    names : iterable of str
        Those that no node of the file writes are left out.

    Raises
    ------
    InputError
        Naming the file that is none.
    """
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf raises several, unrelated types
        raise InputError(f"is no ONNX file: {error}", file=str(path)) from None
    written = {name for node in model.graph.node for name in node.output}
    kept = tuple(name for name in names if name in written)
    del model.graph.output[:]
    # without a type: whoever runs the model infers it
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in kept)
    return model.SerializeToString(), kept
