"""A command stream as versioned JSON, one command a line.

Only here is it known how the keys are spelled (`commands.schema.json` says the same for other
tools). Whether the stream can be run, and is that of its schedule, is asked by
`spm_opt.simulate` and `spm_opt.verify.commands`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from spm_opt.errors import InputError
from spm_opt.formats.json_text import json_document, json_lines, require_format
from spm_opt.formats.records import from_plain, to_plain
from spm_opt.stream import FORMAT_VERSION, Stream

FORMAT_NAME: Final = "spm_opt.commands"


def commands_to_json(stream: Stream) -> str:
    """`stream` as JSON text; reading it back gives an equal stream."""
    plain = to_plain(stream)
    head = {"spm_bytes": plain["spm_bytes"], "dram_addresses": plain["dram_addresses"]}
    return json_lines(
        {"format": FORMAT_NAME, "version": FORMAT_VERSION, **head, "commands": plain["commands"]}
    )


def commands_from_json(text: str, file: str | None = None) -> Stream:
    """Read the text of a command stream.

    Parameters
    ----------
    text : str
    file : str, optional
        Name for errors.

    Raises
    ------
    InputError
        Naming file and field: no JSON (truncated, say), another format or version, a field
        missing, unknown or of another type.
    """
    try:
        document = json_document(text, "a command stream")
        require_format(document, "command stream", FORMAT_NAME, FORMAT_VERSION)
        rest = {key: item for key, item in document.items() if key not in ("format", "version")}
        return from_plain(Stream, rest, "")
    except InputError as error:
        raise (error.in_file(file) if file is not None else error) from None


def commands_schema() -> Mapping[str, Any]:
    """The JSON Schema of the file (draft 2020-12)."""
    text = files("spm_opt.formats").joinpath("commands.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
