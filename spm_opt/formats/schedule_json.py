"""A schedule as versioned, self-contained JSON: with its network and hardware, without weights.

Only here is it known how the keys are spelled (`schedule.schema.json` says the same for other
tools). Whether the schedule is valid is the checker's question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, NoReturn

from spm_opt.errors import InputError
from spm_opt.formats.network_json import network_from_dict, network_to_dict
from spm_opt.formats.records import from_plain, to_plain
from spm_opt.schedule import (
    FORMAT_VERSION,
    Buffer,
    Claims,
    Compute,
    Provenance,
    Schedule,
    Step,
    Transfer,
)

FORMAT_NAME: Final = "spm_opt.schedule"
#: containers down to this depth are written one item a line
_LINE_DEPTH: Final = 3


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the file holds besides the embedded network and hardware."""

    provenance: Provenance
    claims: Claims
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    transfers: tuple[Transfer, ...]
    computes: tuple[Compute, ...]
    dram_addresses: dict[str, int]


_HEAD: Final = ("format", "version", "network", "hardware")


def schedule_to_json(schedule: Schedule) -> str:
    """`schedule` as JSON text, one record a line; reading it back gives an equal schedule."""
    from spm_opt.formats.hardware_yaml import hardware_to_dict

    plan = _Plan(
        schedule.provenance, schedule.claims, schedule.steps, schedule.buffers,
        schedule.transfers, schedule.computes, schedule.dram_addresses,
    )  # fmt: skip
    document = {
        "format": FORMAT_NAME,
        "version": schedule.version,
        "network": network_to_dict(schedule.network),
        "hardware": hardware_to_dict(schedule.hardware),
        **to_plain(plan),
    }
    return _lines(document, 0) + "\n"


def schedule_from_json(text: str, file: str | None = None) -> Schedule:
    """Read the text of a schedule.

    Parameters
    ----------
    text : str
    file : str, optional
        Name for errors.

    Raises
    ------
    InputError
        Naming file and field: no JSON (truncated, say), another format or version, a field
        missing, unknown or of another type, a network or hardware that cannot be.
    """
    try:
        return _schedule(_parse(text))
    except InputError as error:
        raise (error.in_file(file) if file is not None else error) from None


def schedule_schema() -> Mapping[str, Any]:
    """The JSON Schema of the file (draft 2020-12)."""
    text = files("spm_opt.formats").joinpath("schedule.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _parse(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise InputError(
            f"this is no JSON, or only a part of it: {error.msg}",
            field=f"line {error.lineno}, column {error.colno}",
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"this is no JSON that can be read: {error}") from None
    if not isinstance(document, dict):
        raise InputError("a schedule is a mapping", found=type(document).__name__)
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _schedule(document: dict[str, Any]) -> Schedule:
    from spm_opt.formats.hardware_yaml import hardware_from_dict

    if document.get("format") != FORMAT_NAME:
        raise InputError(
            "this is no schedule", field="format", found=document.get("format"),
            allowed=FORMAT_NAME,
        )  # fmt: skip
    version = document.get("version")
    if isinstance(version, bool) or version != FORMAT_VERSION:
        raise InputError(
            "this version of the format is unknown", field="version", found=version,
            allowed=str(FORMAT_VERSION),
        )  # fmt: skip
    for key in _HEAD:
        if key not in document:
            raise InputError("this field is missing", field=key)
    rest = {key: value for key, value in document.items() if key not in _HEAD}
    plan = from_plain(_Plan, rest, "")
    return Schedule(
        network=network_from_dict(document["network"]),
        hardware=hardware_from_dict(document["hardware"]),
        provenance=plan.provenance,
        steps=plan.steps,
        buffers=plan.buffers,
        transfers=plan.transfers,
        computes=plan.computes,
        dram_addresses=plan.dram_addresses,
        claims=plan.claims,
    )


def _lines(value: Any, depth: int) -> str:
    """JSON text with one item a line where items are records."""
    inner = value.values() if isinstance(value, dict) else value
    nested = isinstance(value, (dict, list)) and any(isinstance(v, (dict, list)) for v in inner)
    if depth == _LINE_DEPTH or not nested:
        return json.dumps(value, allow_nan=False)
    pad = " " * (depth + 1)
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {_lines(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(pad + item for item in items) + "\n" + " " * depth + "}"
    items = [_lines(item, _LINE_DEPTH) for item in value]
    return "[\n" + ",\n".join(pad + item for item in items) + "\n" + " " * depth + "]"
