"""Model files in YAML <-> `Network`: how keys are spelled, what is said when they are wrong.

    name: tiny
    dtype: int8
    inputs:
      image: {shape: [1, 3, 224, 224]}
    layers:
    - {name: stem, op: conv, out_channels: 32, kernel: 3, stride: 2, padding: 1}
    - {name: pool, op: global_avg_pool}
    - {name: flat, op: flatten}
    - {name: fc, op: linear, out_features: 10, cycles: 400}
    outputs: [fc]

``inputs`` of a layer are names of layers or of network inputs, in any order of the file; the layer
above by default. A part of a split is named ``SPLIT.0``, ``SPLIT.1`` ... Without ``outputs`` the
tensors that no layer reads are the outputs. ``densities`` gives, of any tensors, the share of
elements that are not zero: what compression in DRAM and zero gating count with. Operators and their
fields stand in `spm_opt.graph.recipes`; every mistake is one `InputError` that names file, layer
and field.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import networkx as nx

from spm_opt.errors import GraphError, InputError
from spm_opt.formats.density_csv import density_ppm
from spm_opt.formats.model_text import network_to_yaml
from spm_opt.formats.yaml_text import load_yaml
from spm_opt.graph.builder import NetworkBuilder, located
from spm_opt.graph.fields import is_int
from spm_opt.graph.network import Network
from spm_opt.graph.recipes import COMMON_FIELDS, OPERATORS, RECIPES, SPLIT_FIELDS

__all__ = ["network_to_yaml", "read_model_builder", "read_model_yaml"]

_TOP_FIELDS: Final = ("name", "dtype", "inputs", "layers", "outputs", "densities")
_INPUT_FIELDS: Final = ("shape", "dtype")
_LONGEST_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class _Entry:
    """One item of ``layers``, its names checked, its operator's fields not yet."""

    name: str
    op: str
    inputs: tuple[str, ...]
    fields: Mapping[str, object]
    #: tensors written: one, or the parts of a split
    outputs: tuple[str, ...]
    cycles: object


def read_model_yaml(path: str | Path, *, batch: int | None = None) -> Network:
    """Read a model file.

    Parameters
    ----------
    path : str or Path
    batch : int, optional
        Replaces the leading extent of every network input. Reshape targets should copy it with a
        0 then.

    Returns
    -------
    Network
        Normalised: views, batch normalisations and activations folded.

    Raises
    ------
    InputError
        Naming the file and, where there is one, the layer and the field.
    """
    builder = read_model_builder(path, batch=batch)
    try:
        return builder.build()
    except InputError as error:
        raise error.in_file(str(path)) from None


def read_model_builder(path: str | Path, *, batch: int | None = None) -> NetworkBuilder:
    """The layers of a model file as they are written, not normalised (see `read_model_yaml`)."""
    if batch is not None and not is_int(batch, 1):
        raise InputError("must be a positive integer", field="batch", found=batch)
    data = load_yaml(path)
    try:
        return _builder(data, batch)
    except InputError as error:
        raise error.in_file(str(path)) from None


def _builder(data: object, batch: int | None) -> NetworkBuilder:
    top = _mapping(data, "", _TOP_FIELDS)
    for name in ("name", "inputs", "layers"):
        if name not in top:
            raise InputError("missing field", field=name)
    builder = NetworkBuilder(_text(top["name"], "name"), _text(top.get("dtype", "int8"), "dtype"))
    _add_inputs(builder, top["inputs"], batch)
    entries = _entries(top["layers"], [tensor.name for tensor in builder.inputs])
    known = _known_names([tensor.name for tensor in builder.inputs], entries)
    for entry in _in_order(entries):
        _add_layer(builder, entry, known)
    if "outputs" in top:
        for name in _names(top["outputs"], "outputs"):
            builder.output(_resolve(name, "outputs", known))
    for name, share in _mapping(top.get("densities", {}), "densities", None).items():
        field = f"densities.{name}"
        builder.density(_resolve(name, field, known), density_ppm(share, field))
    return builder


def _add_inputs(builder: NetworkBuilder, data: object, batch: int | None) -> None:
    inputs = _mapping(data, "inputs", None)
    if not inputs:
        raise InputError("the network needs at least one input", field="inputs")
    for name, description in inputs.items():
        field = f"inputs.{name}"
        fields = _mapping(description, field, _INPUT_FIELDS)
        if "shape" not in fields:
            raise InputError("missing field", field=f"{field}.shape")
        shape, dtype = fields["shape"], fields.get("dtype")
        if batch is not None and isinstance(shape, list) and shape:
            shape = [batch, *shape[1:]]
        try:
            builder.input(name, shape, dtype)  # type: ignore[arg-type]
        except InputError as error:
            raise located(error, "inputs") from None


# --- layers ------------------------------------------------------------------------------------


def _entries(data: object, inputs: list[str]) -> tuple[_Entry, ...]:
    if not isinstance(data, list) or not data:
        raise InputError(
            "must be a list of layers", field="layers", found=_short(data),
            allowed="a list of mappings with name and op",
        )  # fmt: skip
    entries: list[_Entry] = []
    taken: set[str] = set(inputs)
    for i, item in enumerate(data):
        above = entries[-1].outputs if entries else tuple(inputs)
        entry = _entry(item, i, above)
        for name in dict.fromkeys((entry.name, *entry.outputs)):
            if name in taken:
                raise GraphError("this name is used twice", field=entry.name, found=name)
            taken.add(name)
        entries.append(entry)
    return tuple(entries)


def _entry(item: object, index: int, above: tuple[str, ...]) -> _Entry:
    where = f"layers[{index}]"
    fields = dict(_mapping(item, where, None))
    for required in ("name", "op"):
        if required not in fields:
            raise InputError("missing field", field=f"{where}.{required}")
    name = _text(fields.pop("name"), f"{where}.name")
    op = _operator(fields.pop("op"), name)
    known = SPLIT_FIELDS if op == "split" else RECIPES[op].fields
    allowed = [*COMMON_FIELDS[: 3 if op == "split" else None], *(field.name for field in known)]
    _check_keys(fields, name, allowed)
    inputs = _inputs_of(fields.pop("inputs", None), name, above)
    output = _text(fields.pop("output", name), f"{name}.output")
    cycles = fields.pop("cycles", None)
    outputs = _parts(name, fields.get("sizes")) if op == "split" else (output,)
    return _Entry(name, op, inputs, fields, outputs, cycles)


def _operator(op: object, name: str) -> str:
    if isinstance(op, str) and op in OPERATORS:
        return op
    close = difflib.get_close_matches(str(op), OPERATORS, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise InputError(
        f"unknown operator{hint}", field=f"{name}.op", found=_short(op), allowed=OPERATORS
    )


def _inputs_of(value: object, name: str, above: tuple[str, ...]) -> tuple[str, ...]:
    if value is not None:
        return _names(value, f"{name}.inputs")
    if len(above) != 1:
        raise InputError(
            "missing field: what stands above is not one tensor", field=f"{name}.inputs",
            allowed=above,
        )  # fmt: skip
    return above


def _parts(name: str, sizes: object) -> tuple[str, ...]:
    """Names of a split's parts; sizes that are no list are reported when it is built."""
    count = len(sizes) if isinstance(sizes, list) else 1
    return tuple(f"{name}.{i}" for i in range(count))


def _known_names(inputs: Iterable[str], entries: Iterable[_Entry]) -> dict[str, tuple[str, ...]]:
    """Every name that a layer may read, and the tensors behind it."""
    known: dict[str, tuple[str, ...]] = {name: (name,) for name in inputs}
    for entry in entries:
        known[entry.name] = entry.outputs
        known.update((output, (output,)) for output in entry.outputs)
    return known


def _resolve(name: str, field: str, known: Mapping[str, tuple[str, ...]]) -> str:
    """The tensor that a name in the file means."""
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise GraphError(
            f"this tensor is defined nowhere{hint}", field=field, found=name,
            allowed="the name of a layer or of a network input",
        )  # fmt: skip
    if len(known[name]) != 1:
        raise GraphError(
            "this is a split; name one of its parts", field=field, found=name, allowed=known[name]
        )
    return known[name][0]


def _in_order(entries: tuple[_Entry, ...]) -> Iterable[_Entry]:
    """Producers before readers, else as in the file. Raises GraphError on a cycle."""
    producer = {output: i for i, entry in enumerate(entries) for output in entry.outputs}
    known = _known_names((), entries)
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(len(entries)))
    for i, entry in enumerate(entries):
        for name in entry.inputs:
            graph.add_edges_from((producer[t], i) for t in known.get(name, ()))
    try:
        return [entries[i] for i in nx.lexicographical_topological_sort(graph)]
    except nx.NetworkXUnfeasible:
        cycle = [entries[edge[0]].name for edge in nx.find_cycle(graph)]
        raise GraphError(f"the graph has a cycle: {' -> '.join((*cycle, cycle[0]))}") from None


def _add_layer(
    builder: NetworkBuilder, entry: _Entry, known: Mapping[str, tuple[str, ...]]
) -> None:
    inputs = [_resolve(name, f"{entry.name}.inputs", known) for name in entry.inputs]
    if entry.op != "split":
        builder.layer(
            entry.op, inputs, name=entry.name, output=entry.outputs[0],
            cycles=entry.cycles, **entry.fields,  # type: ignore[arg-type]
        )  # fmt: skip
        return
    if len(inputs) != 1:
        raise GraphError(
            "wrong number of inputs", field=f"{entry.name}.inputs", found=len(inputs), allowed="1"
        )
    try:
        sizes = SPLIT_FIELDS[0].read(entry.fields)
    except GraphError as error:
        raise located(error, entry.name) from None
    fields = {**entry.fields, "sizes": sizes}
    builder.split(inputs[0], name=entry.name, **fields)  # type: ignore[arg-type]


# --- plain data --------------------------------------------------------------------------------


def _mapping(data: object, field: str, allowed: tuple[str, ...] | None) -> dict[str, object]:
    """`data` as a mapping with text keys, of `allowed` ones where that is given."""
    if not isinstance(data, dict):
        raise InputError(
            "must be a mapping", field=field, found=_short(data),
            allowed=allowed or ("name, op and the operator's fields" if field else None),
        )  # fmt: skip
    for key in data:
        if not isinstance(key, str) or not key:
            raise InputError("every key must be a text", field=field, found=key)
    if allowed is not None:
        _check_keys(data, field, allowed)
    return data


def _check_keys(data: Mapping[str, object], label: str, allowed: Iterable[str]) -> None:
    names = tuple(allowed)
    for key in data:
        if key not in names:
            field = f"{label}.{key}" if label else key
            raise InputError("unknown field", field=field, allowed=names)


def _text(value: object, field: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError("must be a text", field=field, found=_short(value))
    return value


def _names(value: object, field: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError("must be a name or a list of names", field=field, found=_short(value))
    return tuple(names)


def _short(value: object) -> object:
    """`value`, or what kind of thing it is where it is too long for a message."""
    text = repr(value)
    return value if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + " ..."
