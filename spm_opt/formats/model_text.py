"""`Network` or `NetworkBuilder` -> the text of a model file.

One line a layer, only the fields that differ from their defaults, so that people can read and
compare it. What the keys mean stands in `spm_opt.formats.model_yaml`, which reads it back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from spm_opt.formats.model_records import records_of
from spm_opt.graph.builder import LayerRecord, NetworkBuilder
from spm_opt.graph.densities import densities_of
from spm_opt.graph.network import MILLION, Network, Tensor

# a scalar that YAML reads as the same text without quotes, and its words that it would not
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS: Final = frozenset(["true", "false", "yes", "no", "on", "off", "null", "y", "n"])


def network_to_yaml(source: Network | NetworkBuilder, comment: str = "") -> str:
    """The model file of a network.

    Parameters
    ----------
    source : Network or NetworkBuilder
        A builder's layers are written as they were called. A network's layers are written with
        reshapes where they see a tensor under another shape; the names of its weights, of folded
        nodes and of aliases are not written.
    comment : str
        Lines for the head of the file.

    Returns
    -------
    str
        YAML text that `read_model_yaml` accepts.
    """
    if isinstance(source, NetworkBuilder):
        inputs, dtype = source.inputs, source.dtype
        records: tuple[LayerRecord, ...] = tuple(source.records)
    else:
        inputs = tuple(source.tensors[name] for name in source.inputs)
        dtype, records = records_of(source)
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    lines += [f"name: {_scalar(source.name)}", f"dtype: {dtype}", "inputs:"]
    lines += [f"  {_scalar(tensor.name)}: {_flow(_input(tensor, dtype))}" for tensor in inputs]
    lines.append("layers:")
    above = inputs[0].name if len(inputs) == 1 else None
    for record in records:
        lines.append(f"- {_flow(_layer(record, above))}")
        above = None if record.op == "split" else record.output
    lines.append(f"outputs: {_flow(list(source.outputs))}")
    shares = _densities(source)
    if shares:
        lines.append(f"densities: {_flow(shares)}")
    return "\n".join(lines) + "\n"


def _densities(source: Network | NetworkBuilder) -> dict[str, float]:
    if isinstance(source, NetworkBuilder):
        found = source.densities_ppm
    else:
        found = densities_of(source.tensors)
    return {name: parts / MILLION for name, parts in found.items()}


def _input(tensor: Tensor, dtype: str) -> dict[str, object]:
    data: dict[str, object] = {"shape": list(tensor.shape)}
    return data if tensor.dtype == dtype else {**data, "dtype": tensor.dtype}


def _layer(record: LayerRecord, above: str | None) -> dict[str, object]:
    data: dict[str, object] = {"name": record.name, "op": record.op}
    if record.inputs != (above,):
        data["inputs"] = list(record.inputs)
    data.update(record.fields)
    if record.output != record.name:
        data["output"] = record.output
    if record.cycles is not None:
        data["cycles"] = record.cycles
    return data


def _flow(value: object) -> str:
    """YAML flow style on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: object) -> str:
    # JSON's numbers, booleans, null and quoted texts are YAML's too
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value)
