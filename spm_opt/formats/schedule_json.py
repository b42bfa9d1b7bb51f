"""A schedule as versioned, self-contained JSON: with its network and hardware, without weights.

Only here is it known how the keys are spelled (`schedule.schema.json` says the same for other
tools). Whether the schedule is valid is the checker's question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from spm_opt.errors import GraphError, InputError
from spm_opt.formats.json_text import json_document, json_lines, require_format
from spm_opt.formats.network_json import network_from_dict, network_to_dict
from spm_opt.formats.records import from_plain, to_plain
from spm_opt.graph.bands import Bands, banded
from spm_opt.graph.network import Network
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
    bands: tuple[Bands, ...]


_HEAD: Final = ("format", "version", "network", "hardware")


def schedule_to_json(schedule: Schedule) -> str:
    """`schedule` as JSON text, one record a line; reading it back gives an equal schedule."""
    from spm_opt.formats.hardware_yaml import hardware_to_dict

    plan = _Plan(
        schedule.provenance, schedule.claims, schedule.steps, schedule.buffers,
        schedule.transfers, schedule.computes, schedule.dram_addresses, schedule.bands,
    )  # fmt: skip
    document = {
        "format": FORMAT_NAME,
        "version": schedule.version,
        "network": network_to_dict(schedule.origin),
        "hardware": hardware_to_dict(schedule.hardware),
        **to_plain(plan),
    }
    return json_lines(document)


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
        return _schedule(json_document(text, "a schedule"))
    except InputError as error:
        raise (error.in_file(file) if file is not None else error) from None


def schedule_schema() -> Mapping[str, Any]:
    """The JSON Schema of the file (draft 2020-12)."""
    text = files("spm_opt.formats").joinpath("schedule.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _schedule(document: dict[str, Any]) -> Schedule:
    from spm_opt.formats.hardware_yaml import hardware_from_dict

    require_format(document, "schedule", FORMAT_NAME, FORMAT_VERSION)
    for key in _HEAD:
        if key not in document:
            raise InputError("this field is missing", field=key)
    rest = {key: value for key, value in document.items() if key not in _HEAD}
    plan = from_plain(_Plan, rest, "")
    source = network_from_dict(document["network"])
    return Schedule(
        network=_in_bands(source, plan.bands),
        hardware=hardware_from_dict(document["hardware"]),
        provenance=plan.provenance,
        steps=plan.steps,
        buffers=plan.buffers,
        transfers=plan.transfers,
        computes=plan.computes,
        dram_addresses=plan.dram_addresses,
        claims=plan.claims,
        source=source if plan.bands else None,
        bands=plan.bands,
    )


def _in_bands(source: Network, bands: tuple[Bands, ...]) -> Network:
    """The network that the rest of the file is about."""
    if not bands:
        return source
    names = {layer.name for layer in source.layers}
    for i, run in enumerate(bands):
        for j, name in enumerate(run.layers):
            if name not in names:
                raise InputError("no such layer", field=f"bands[{i}].layers[{j}]", found=name)
    try:
        return banded(source, bands).network
    except GraphError as error:
        raise InputError(error.message, field="bands", found=error.found) from None
