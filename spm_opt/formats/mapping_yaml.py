"""Mappings as YAML: loops from the outermost to the innermost, and what is kept along them.

loops:
- {axis: rows, size: 4}
- {axis: columns, size: 8}
retain:                       # what is absent keeps all; [] keeps nothing
  feature_maps: {conv1: [columns]}
  weights: {conv2: [rows, columns]}
"""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from pathlib import Path
from typing import Any

from spm_opt.errors import InputError
from spm_opt.formats.yaml_text import load_yaml
from spm_opt.mapping import Loop, Mapping


def read_mapping(path: str | Path) -> Mapping:
    """Read a mapping.

    Raises
    ------
    InputError
        Naming the file, the field, what was found and what is allowed.
    """
    try:
        return _mapping(load_yaml(path))
    except InputError as error:
        raise error.in_file(str(path)) from None


def mapping_text(mapping: Mapping) -> str:
    """The YAML that `read_mapping` reads back."""
    lines = ["loops:" if mapping.loops else "loops: []"]
    lines += [f"- {{axis: {loop.axis}, size: {loop.size}}}" for loop in mapping.loops]
    lines.append("retain:")
    for field, kept in (("feature_maps", mapping.feature_maps), ("weights", mapping.weights)):
        lines.append(f"  {field}:" if kept else f"  {field}: {{}}")
        lines += [f"    {_quoted(name)}: [{', '.join(axes)}]" for name, axes in kept.items()]
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _mapping(data: object) -> Mapping:
    top = _fields(data, "", ("loops", "retain"))
    retain = _fields(top.get("retain") or {}, "retain", ("feature_maps", "weights"))
    return Mapping(
        _loops(top.get("loops", [])),
        _kept(retain.get("feature_maps") or {}, "retain.feature_maps"),
        _kept(retain.get("weights") or {}, "retain.weights"),
    )


def _fields(data: object, field: str, allowed: tuple[str, ...]) -> MappingOf[str, Any]:
    if not isinstance(data, dict):
        raise InputError("must be a mapping", field=field or None, found=data, allowed=allowed)
    for key in data:
        if key not in allowed:
            where = f"{field}.{key}" if field else str(key)
            raise InputError("unknown field", field=where, allowed=allowed)
    return data


def _loops(data: object) -> tuple[Loop, ...]:
    if not isinstance(data, list):
        raise InputError("must be a list", field="loops", found=data, allowed="{axis, size} each")
    return tuple(_loop(item, f"loops[{i}]") for i, item in enumerate(data))


def _loop(data: object, field: str) -> Loop:
    known = _fields(data, field, ("axis", "size"))
    for name, kind, allowed in (("axis", str, "the name of an axis"), ("size", int, "1 or more")):
        found = known.get(name)
        if not isinstance(found, kind) or isinstance(found, bool):
            raise InputError("is missing or wrong", field=f"{field}.{name}", found=found,
                             allowed=allowed)  # fmt: skip
    return Loop(known["axis"], known["size"])


def _kept(data: object, field: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(data, dict):
        raise InputError("must be a mapping", field=field, found=data, allowed="NAME: [axes]")
    found = {}
    for name, axes in data.items():
        if not isinstance(axes, list) or not all(isinstance(axis, str) for axis in axes):
            raise InputError("must be a list of axes", field=f"{field}.{name}", found=axes,
                             allowed="[] or [axis, ...]")  # fmt: skip
        found[str(name)] = tuple(axes)
    return found
