"""Densities of feature maps, measured: an ONNX file run on given inputs, its zeros counted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spm_opt.graph.network import MILLION

Array: TypeAlias = NDArray[Any]


def measure_densities(
    model: str | os.PathLike[str], inputs: Sequence[Array] | Mapping[str, Array]
) -> dict[str, float]:
    """Shares of elements that are not zero in the feature maps of an ONNX model.

    Parameters
    ----------
    model : path
        An ONNX file with its weights.
    inputs : sequence of array, or mapping of str to array
        Of one run: in the order of the graph's inputs, or by name.

    Returns
    -------
    dict of str to float
        Of every map that the planner moves and the run shows, inputs included, 0 to 1 in steps of
        a millionth: what `solve(..., densities=...)` takes.

    Raises
    ------
    InputError
        If onnxruntime is not installed, the file cannot be run, or an input is missing or too
        many, or has another shape or type.
    """
    from spm_opt.api import load_network
    from spm_opt.formats.onnx_outputs import with_outputs
    from spm_opt.program_reference import fetched

    file = os.fspath(model)
    network = load_network(file)
    content, kept = with_outputs(file, network.tensors)
    feeds, arrays = fetched(file, content, inputs)
    values = {**feeds, **dict(zip(kept, arrays, strict=True))}
    return {name: _density(values[name]) for name in network.tensors if name in values}


def _density(array: Array) -> float:
    if array.size == 0:
        return 1.0
    return round(MILLION * int(np.count_nonzero(array)) / array.size) / MILLION
