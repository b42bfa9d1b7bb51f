"""Reading YAML text from disk into plain Python data, with mistakes reported by line.

Shared by the readers of models and of hardware. It knows no key and no domain noun; it only makes
sure that what it returns is what the file says: YAML's silent traps (a key written twice, an
empty file, a binary file) are errors here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from spm_opt.errors import InputError

# libyaml where PyYAML was built with it: large models parse about ten times faster
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_DEEPEST: Final = 100


def load_yaml(path: str | Path) -> object:
    """Read one YAML document.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    object
        Dicts, lists, texts, numbers, booleans and None.

    Raises
    ------
    InputError
        Naming the file: it is missing, a directory, unreadable, not text, empty, no YAML (with
        the line), holds more than one document, or writes a key twice in one mapping.
    """
    file = str(path)
    text = _read_text(Path(path), file)
    try:
        _check_depth(text, file)
        # a subclass of SafeLoader: builds plain data only
        data: object = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise InputError(_syntax_message(error), file=file) from None
    except (ValueError, OverflowError) as error:
        # scalars that look like a date or a number and are none, such as 2024-13-45
        raise InputError(f"not valid YAML: {error}", file=file) from None
    if data is None:
        raise InputError("the file is empty", file=file)
    return data


def _read_text(path: Path, file: str) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", file=file) from None
    except IsADirectoryError:
        raise InputError("is a directory, not a file", file=file) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot be read: {reason}", file=file) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"is not a text file (byte {error.start} is no UTF-8); YAML is needed", file=file
        ) from None


def _check_depth(text: str, file: str) -> None:
    # both loaders recurse over the nesting, and libyaml's crashes the process where it is deep
    depth = 0
    for event in yaml.parse(text, Loader=_BASE):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            line = event.start_mark.line + 1 if event.start_mark else "?"
            raise InputError(f"line {line}: more than {_DEEPEST} levels of nesting", file=file)


def _syntax_message(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        return f"is not a text file (special character at position {error.position})"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is not None and "nesting depth" in problem:
        # newer releases of libyaml count flow levels themselves, while they look ahead
        return f"line {mark.line + 1}: more than {_DEEPEST} levels of nesting"
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return f"not valid YAML: {where}{problem}"


class _UniqueKeyLoader(_BASE):  # type: ignore[misc]
    """A safe loader to whom a key written twice is a mistake, not a correction."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            # "<<" may be merged several times; keys inside it may be overridden
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is written twice", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping
