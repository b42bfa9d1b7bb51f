"""Options of the form NAME=VALUE, as several commands take them."""

from __future__ import annotations

from collections.abc import Iterable

from spm_opt.errors import InputError


def parse_overrides(settings: Iterable[str]) -> dict[str, str]:
    """``--set FIELD=VALUE`` options as a mapping; the last of a field wins.

    Raises
    ------
    InputError
        If one has no ``=``, no field or no value.
    """
    fields: dict[str, str] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if not name.strip() or not value.strip():
            raise InputError(
                "no setting", field="--set", found=setting,
                allowed="FIELD=VALUE, as spm.capacity=256KiB",
            )  # fmt: skip
        fields[name.strip()] = value.strip()
    return fields


def parse_dims(settings: Iterable[str]) -> dict[str, int]:
    """``--dim NAME=N`` options as a mapping; the last of a name wins.

    Raises
    ------
    InputError
        If one has no name, or N is no whole number.
    """
    dims: dict[str, int] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if not name.strip() or not value.strip().isdecimal():
            raise InputError(
                "no dimension", field="--dim", found=setting, allowed="NAME=N, as seq=128"
            )
        dims[name.strip()] = int(value)
    return dims
