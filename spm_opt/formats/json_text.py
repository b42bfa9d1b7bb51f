"""JSON documents that carry a format and a version: strict in, one record a line out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from spm_opt.errors import InputError

#: containers down to this depth are written one item a line
_LINE_DEPTH: Final = 3


def json_document(text: str, what: str) -> dict[str, Any]:
    """The mapping that `text` spells.

    Parameters
    ----------
    text : str
    what : str
        Name of the thing for errors, as "a schedule".

    Raises
    ------
    InputError
        If this is no JSON (truncated, say), or no mapping.
    """
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
        raise InputError(f"{what} is a mapping", found=type(document).__name__)
    return document


def require_format(document: Mapping[str, Any], what: str, name: str, version: int) -> None:
    """Refuse a document of another format or version.

    Raises
    ------
    InputError
        Naming the field, what was found and what is allowed.
    """
    if document.get("format") != name:
        raise InputError(
            f"this is no {what}", field="format", found=document.get("format"), allowed=name
        )
    found = document.get("version")
    if isinstance(found, bool) or found != version:
        raise InputError(
            "this version of the format is unknown", field="version", found=found,
            allowed=str(version),
        )  # fmt: skip


def json_lines(document: Mapping[str, Any]) -> str:
    """JSON text, ending in a newline, with one item a line where items are records."""
    return _lines(document, 0) + "\n"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _lines(value: Any, depth: int) -> str:
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
