"""Integers with units: parsing what people write, and the two divisions that everything uses.

No domain noun belongs here. Internally every size is an integer number of bytes, every time an
integer number of cycles, every bandwidth an exact fraction of bytes per cycle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Final, TypeAlias

Bytes: TypeAlias = int
Cycles: TypeAlias = int

# two digits of exponent: nothing physical needs more, and 1e999999999 would take all memory
_NUMBER: Final = re.compile(
    r"^\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?)\s*([A-Za-z]*)\s*$", re.ASCII
)
_LONGEST: Final = 100
_SIZE_UNITS: Final[Mapping[str, int]] = {
    "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
_BARE_SIZE_UNITS: Final[Mapping[str, int]] = {"": 1, **_SIZE_UNITS}
_FREQUENCY_UNITS: Final[Mapping[str, int]] = {
    "Hz": 1, "kHz": 10**3, "MHz": 10**6, "GHz": 10**9,
}  # fmt: skip
_ENERGY_UNITS: Final[Mapping[str, int]] = {"fJ": 1, "pJ": 10**3, "nJ": 10**6}
_POWER_UNITS: Final[Mapping[str, int]] = {"nW": 10**6, "uW": 10**9, "mW": 10**12, "W": 10**15}
_CYCLE_UNITS: Final[Mapping[str, int]] = {"": 1, "cycle": 1, "cycles": 1}
_TIME_UNITS: Final[Mapping[str, Fraction]] = {
    "ns": Fraction(1, 10**9), "us": Fraction(1, 10**6), "ms": Fraction(1, 10**3),
}  # fmt: skip


class QuantityError(ValueError):
    """A text is no quantity of the wanted sort.

    Attributes
    ----------
    reason : str
        What is wrong, in one sentence.
    found : object
        What was found.
    allowed : str or None
        What would have been accepted.
    """

    def __init__(self, reason: str, found: object, allowed: str | None = None) -> None:
        self.reason = reason
        self.found = found
        self.allowed = allowed
        shown = f"{found!r} {reason}"
        super().__init__(shown if allowed is None else f"{shown}; write {allowed}")


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
    QuantityError
        (A ValueError.) If the text is no size, negative, or not a whole number of bytes.
    """
    return _whole(_not_negative(_scaled(text, _BARE_SIZE_UNITS), text), text, "bytes")


def parse_frequency(text: str) -> int:
    """Read a frequency such as ``1 GHz`` or ``200MHz`` as hertz.

    Raises
    ------
    QuantityError
        (A ValueError.) If the text is no frequency, not positive, or not whole hertz.
    """
    return _whole(_positive(_scaled(text, _FREQUENCY_UNITS), text), text, "hertz")


def parse_cycles(text: str | int, frequency_hz: int) -> Cycles:
    """Read a time such as ``200``, ``200 cycles`` or ``100 ns`` (rounded up to cycles).

    Raises
    ------
    QuantityError
        (A ValueError.) If the text is no time, negative, or a broken number of cycles.
    """
    value = _not_negative(_scaled(text, {**_CYCLE_UNITS, **_TIME_UNITS}), text)
    if isinstance(text, str) and text.rstrip().endswith(tuple(_TIME_UNITS)):
        cycles = value * frequency_hz
        return ceil_div(cycles.numerator, cycles.denominator)
    return _whole(value, text, "cycles")


def parse_bandwidth(text: str | int, frequency_hz: int) -> Fraction:
    """Read a bandwidth such as ``8 GB/s``, ``32 B/cycle`` as exact bytes per cycle.

    Raises
    ------
    QuantityError
        (A ValueError.) If the text is no bandwidth or is not positive.
    """
    amount, slash, per = str(text).partition("/")
    if isinstance(text, str) and slash and per.strip() in ("s", "cycle"):
        bytes_per = _positive(_scaled(amount, _SIZE_UNITS, text, _BANDWIDTHS), text)
        return bytes_per / (frequency_hz if per.strip() == "s" else 1)
    raise QuantityError("is no bandwidth", text, _BANDWIDTHS)


def parse_energy(text: str | int, per: str = "") -> int:
    """Read an energy such as ``300 fJ`` or ``3.1 pJ/B`` as femtojoules.

    Parameters
    ----------
    per : str
        What the energy is for, such as ``B``: may stand behind a slash.

    Raises
    ------
    QuantityError
        (A ValueError.) If the text is no energy, negative, or not whole femtojoules.
    """
    allowed = _units(_ENERGY_UNITS) + (f", then /{per} if you like" if per else "")
    amount, slash, behind = str(text).partition("/")
    if isinstance(text, str) and (not slash or (per and behind.strip() == per)):
        value = _not_negative(_scaled(amount, _ENERGY_UNITS, text, allowed), text)
        return _whole(value, text, "femtojoules")
    raise QuantityError("is no energy", text, allowed)


def parse_leakage(text: str | int, frequency_hz: int) -> int:
    """Read a power such as ``10 mW``, or an energy such as ``8 pJ/cycle``, as fJ per cycle.

    A power is rounded up to whole femtojoules per cycle.

    Raises
    ------
    QuantityError
        (A ValueError.) If the text is neither, or negative.
    """
    if isinstance(text, str) and "/" in text:
        return parse_energy(text, "cycle")
    allowed = f"{_units(_POWER_UNITS)}, or an energy per cycle such as '8 pJ/cycle'"
    power = _not_negative(_scaled(text, _POWER_UNITS, text, allowed), text)
    return ceil_div(power.numerator, power.denominator * frequency_hz)


def format_energy(energy_fj: int) -> str:
    """Print an energy for people."""
    for unit, size in (("mJ", 10**12), ("uJ", 10**9), ("nJ", 10**6), ("pJ", 10**3)):
        if energy_fj >= size:
            return f"{energy_fj / size:.3f} {unit}"
    return f"{energy_fj} fJ"


def format_bytes(size_bytes: int) -> str:
    """Print a size for people, exactly where it is a whole number of a binary unit."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes >= _SIZE_UNITS[unit]:
            value = size_bytes / _SIZE_UNITS[unit]
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.2f} {unit}"
    return f"{size_bytes} B"


def _units(names: Iterable[str]) -> str:
    return "a number and one of " + ", ".join(name for name in names if name)


_BANDWIDTHS: Final = f"{_units(_SIZE_UNITS)}, then /s or /cycle, such as '8 GB/s', '32 B/cycle'"


def _scaled(
    text: str | int,
    units: Mapping[str, int | Fraction],
    found: object = None,
    allowed: str | None = None,
) -> Fraction:
    found, allowed = text if found is None else found, allowed or _units(units)
    if isinstance(text, bool) or not isinstance(text, (str, int)) or len(str(text)) > _LONGEST:
        raise QuantityError("is no quantity", found, allowed)
    match = _NUMBER.match(str(text))
    if match is None:
        raise QuantityError("is no quantity", found, allowed)
    if match.group(2) not in units:
        unit = match.group(2)
        raise QuantityError(f"has the unknown unit {unit!r}" if unit else "has no unit",
                            found, allowed)  # fmt: skip
    return Fraction(match.group(1)) * units[match.group(2)]


def _positive(value: Fraction, found: object) -> Fraction:
    if value <= 0:
        raise QuantityError("must be positive", found)
    return value


def _not_negative(value: Fraction, found: object) -> Fraction:
    if value < 0:
        raise QuantityError("must not be negative", found)
    return value


def _whole(value: Fraction, found: object, unit: str) -> int:
    if value.denominator != 1:
        raise QuantityError(f"is not a whole number of {unit}", found)
    return value.numerator
