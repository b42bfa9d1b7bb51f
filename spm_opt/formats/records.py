"""Frozen records to plain JSON data and back, by their type annotations.

One reader is built per type and kept. It is strict: no field missing, none unknown, no number for
a text. What a record means is none of its business.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from spm_opt.errors import InputError
from spm_opt.graph.ops import KINDS, Op

Reader = Callable[[Any], Any]
T = TypeVar("T")

#: JSON has no number for these; Pad may fill with minus infinity
_SPELLED_FLOATS: Final = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


class _Mistake(Exception):  # noqa: N818  (never leaves this module)
    """A wrong value on its way up, collecting the path to it."""

    def __init__(self, message: str, found: object = None, allowed: str | None = None) -> None:
        self.message, self.found, self.allowed = message, found, allowed
        self.path = ""

    def inside(self, part: str) -> _Mistake:
        self.path = part + self.path
        return self


def to_plain(value: Any) -> Any:
    """`value` as dictionaries, lists, texts and numbers; operators carry their ``kind``."""
    if is_dataclass(value):
        plain = {item.name: to_plain(getattr(value, item.name)) for item in fields(value)}
        return {"kind": value.kind, **plain} if isinstance(value, Op) else plain
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def from_plain(hint: type[T], data: object, where: str) -> T:
    """The inverse of `to_plain`: `data` read as a `hint`.

    Parameters
    ----------
    where : str
        Prefix of the field that an error names.

    Raises
    ------
    InputError
        Naming the field, what was found and what is allowed.
    """
    key: Any = hint
    try:
        value: T = _reader(key)(data)
    except _Mistake as mistake:
        field = (where + mistake.path).lstrip(".")
        raise InputError(
            mistake.message, field=field, found=mistake.found, allowed=mistake.allowed
        ) from None
    return value


@cache
def _reader(hint: Any) -> Reader:
    if hint in _PLAIN:
        return _PLAIN[hint]
    if hint is Op:
        return _read_op
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _optional(_reader(inner))
    if origin is tuple and arguments[-1] is Ellipsis:
        return _sequence(_reader(arguments[0]))
    if origin is tuple:
        return _fixed(tuple(_reader(argument) for argument in arguments))
    if origin is not None:
        return _mapping(_reader(arguments[1]))
    return _record(hint)


def _read_int(data: Any) -> int:
    if isinstance(data, int) and not isinstance(data, bool):
        return data
    raise _Mistake("must be a whole number", data)


def _read_float(data: Any) -> float:
    if isinstance(data, (int, float)) and not isinstance(data, bool):
        return data
    if isinstance(data, str) and data in _SPELLED_FLOATS:
        return _SPELLED_FLOATS[data]
    raise _Mistake("must be a number", data)


def _read_bool(data: Any) -> bool:
    if isinstance(data, bool):
        return data
    raise _Mistake("must be true or false", data)


def _read_str(data: Any) -> str:
    if isinstance(data, str):
        return data
    raise _Mistake("must be a text", data)


_PLAIN: Final[Mapping[Any, Reader]] = {
    int: _read_int, float: _read_float, bool: _read_bool, str: _read_str,
}  # fmt: skip


def _optional(inner: Reader) -> Reader:
    return lambda data: None if data is None else inner(data)


def _items(data: Any, readers: tuple[Reader, ...]) -> tuple[Any, ...]:
    values = []
    for i, (item, reader) in enumerate(zip(data, readers, strict=True)):
        try:
            values.append(reader(item))
        except _Mistake as mistake:
            raise mistake.inside(f"[{i}]") from None
    return tuple(values)


def _sequence(inner: Reader) -> Reader:
    def read(data: Any) -> tuple[Any, ...]:
        if not isinstance(data, list):
            raise _Mistake("must be a list", data)
        return _items(data, (inner,) * len(data))

    return read


def _fixed(inner: tuple[Reader, ...]) -> Reader:
    def read(data: Any) -> tuple[Any, ...]:
        if not isinstance(data, list) or len(data) != len(inner):
            raise _Mistake(f"must be a list of {len(inner)}", data)
        return _items(data, inner)

    return read


def _mapping(inner: Reader) -> Reader:
    def read(data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise _Mistake("must be a mapping", data)
        values = {}
        for key, item in data.items():
            try:
                values[key] = inner(item)
            except _Mistake as mistake:
                raise mistake.inside(f".{key}") from None
        return values

    return read


def _record(hint: Any) -> Reader:
    hints = get_type_hints(hint)
    readers = {item.name: _reader(hints[item.name]) for item in fields(hint)}

    def read(data: Any) -> Any:
        _check_keys(data, readers)
        values = {}
        for name, reader in readers.items():
            try:
                values[name] = reader(data[name])
            except _Mistake as mistake:
                raise mistake.inside(f".{name}") from None
        return hint(**values)

    return read


def _check_keys(data: Any, readers: Mapping[str, Reader]) -> None:
    if not isinstance(data, dict):
        raise _Mistake("must be a mapping", data)
    if data.keys() == readers.keys():
        return
    for key in data.keys() - readers.keys():
        raise _Mistake("unknown field", key, ", ".join(readers)).inside(f".{key}")
    for key in readers.keys() - data.keys():
        raise _Mistake("this field is missing").inside(f".{key}")


def _read_op(data: Any) -> Op:
    if not isinstance(data, dict):
        raise _Mistake("must be a mapping", data)
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise _Mistake("unknown operator", kind, ", ".join(KINDS)).inside(".kind")
    rest = {key: value for key, value in data.items() if key != "kind"}
    key: Any = KINDS[kind]
    op: Op = _reader(key)(rest)
    return op
