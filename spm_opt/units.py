"""Integers with units: parsing what people write, and the two divisions that everything uses.

No domain noun belongs here. Internally every size is an integer number of bytes, every time an
integer number of cycles, every bandwidth an exact fraction of bytes per cycle.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final, TypeAlias

Bytes: TypeAlias = int
Cycles: TypeAlias = int

_NUMBER: Final = re.compile(r"^\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z/]*)\s*$")
_SIZE_UNITS: Final[dict[str, int]] = {
    "": 1, "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
_FREQUENCY_UNITS: Final[dict[str, int]] = {
    "Hz": 1, "kHz": 10**3, "MHz": 10**6, "GHz": 10**9,
}  # fmt: skip


def ceil_div(numerator: int, denominator: int) -> int:
    """Smallest integer not below ``numerator / denominator`` (denominator positive)."""
    return -(-numerator // denominator)


def align_up(value: int, alignment: int) -> int:
    """Smallest multiple of `alignment` not below `value`."""
    return ceil_div(value, alignment) * alignment


def parse_size(text: str | int) -> Bytes:
    """Read a size such as ``512 KiB``, ``1.5MiB``, ``100 kB`` or ``4096`` (bytes).

    Raises
    ------
    ValueError
        If the text is no size, or not a whole number of bytes.
    """
    return _whole(_scaled(text, _SIZE_UNITS), "bytes")


def parse_frequency(text: str) -> int:
    """Read a frequency such as ``1 GHz`` or ``200MHz`` as hertz."""
    return _whole(_scaled(text, _FREQUENCY_UNITS), "hertz")


def parse_bandwidth(text: str | int, frequency_hz: int) -> Fraction:
    """Read a bandwidth such as ``8 GB/s``, ``32 B/cycle`` as exact bytes per cycle.

    Raises
    ------
    ValueError
        If the text is no bandwidth or is not positive.
    """
    if isinstance(text, str) and text.rstrip().endswith("/s"):
        per_second = _scaled(text.rstrip()[:-2], _SIZE_UNITS)
        return per_second / frequency_hz
    if isinstance(text, str) and text.rstrip().endswith("/cycle"):
        return _scaled(text.rstrip()[: -len("/cycle")], _SIZE_UNITS)
    raise ValueError(f"{text!r} is no bandwidth; write for example '8 GB/s' or '32 B/cycle'")


def format_bytes(size_bytes: int) -> str:
    """Print a size for people, exactly where it is a whole number of a binary unit."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes >= _SIZE_UNITS[unit]:
            value = size_bytes / _SIZE_UNITS[unit]
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.2f} {unit}"
    return f"{size_bytes} B"


def _scaled(text: str | int, units: dict[str, int]) -> Fraction:
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        raise ValueError(f"{text!r} is no quantity; write a number and a unit")
    match = _NUMBER.match(str(text))
    if match is None or match.group(2) not in units:
        allowed = ", ".join(unit for unit in units if unit)
        raise ValueError(f"{text!r} is no quantity; write a number and one of {allowed}")
    return Fraction(match.group(1)) * units[match.group(2)]


def _whole(value: Fraction, unit: str) -> int:
    if value.denominator != 1:
        raise ValueError(f"{value} is not a whole number of {unit}")
    return value.numerator
