"""A layer order as a text file: one layer name a line, first to last; empty lines mean nothing."""

from __future__ import annotations

import os
from pathlib import Path

from spm_opt.errors import InputError


def read_order(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names in a file.

    Raises
    ------
    InputError
        If it cannot be read, or names no layer.
    """
    file = Path(path)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"cannot read the order: {reason}", file=str(file)) from None
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise InputError("names no layer", file=str(file))
    return names
