"""C names for what a schedule names: identifiers, constants, comments, strings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from spm_opt.commands import Stream
from spm_opt.schedule import Schedule

_LONGEST: Final = 48


@dataclass(slots=True)
class Idents:
    """Identifiers that differ, in the order they are asked for."""

    taken: set[str] = field(default_factory=set)

    def new(self, prefix: str, name: str) -> str:
        """A C identifier that reads like ``prefix_name`` and stands for nothing else."""
        plain = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_")[-_LONGEST:]
        stem = found = f"{prefix}_{plain}" if plain else prefix
        count = 1
        while found in self.taken:
            count += 1
            found = f"{stem}_{count}"
        self.taken.add(found)
        return found


@dataclass(frozen=True)
class Names:
    """Constants and symbols of one program.

    Attributes
    ----------
    spm : tuple of str
        Constant with the offset of each buffer.
    dram : mapping of str to str
        Constant with the address of each tensor, by its key in `Stream.dram_addresses`.
    layers : mapping of str to str
        Symbol of each layer's constants.
    idents : Idents
        For what else needs a name.
    """

    spm: tuple[str, ...]
    dram: Mapping[str, str]
    layers: Mapping[str, str]
    idents: Idents


def names_of(schedule: Schedule, stream: Stream) -> Names:
    """Names for everything in `schedule` that the program mentions."""
    idents = Idents()
    spm = tuple(idents.new("SPM", buffer.name.replace("@", "_s")) for buffer in schedule.buffers)
    dram = {key: idents.new("DRAM", key) for key in stream.dram_addresses}
    layers = {layer.name: idents.new("layer", layer.name) for layer in schedule.network.layers}
    return Names(spm, dram, layers, idents)


def comment(text: str) -> str:
    """`text` as it may stand inside a C comment."""
    plain = text.encode("ascii", "backslashreplace").decode()
    plain = "".join(c if c.isprintable() else " " for c in plain)
    return plain.replace("*/", "* /").replace("/*", "/ *").rstrip("\\")


def string(text: str) -> str:
    """`text` as a C string literal."""
    shown = []
    for byte in text.encode("utf-8", "backslashreplace"):
        char = chr(byte)
        # octal escapes end after three digits; a question mark could begin a trigraph
        plain = char.isprintable() and byte < 128 and char not in '"\\?'
        shown.append(char if plain else f"\\{byte:03o}")
    return '"' + "".join(shown) + '"'
