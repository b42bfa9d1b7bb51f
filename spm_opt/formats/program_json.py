"""``manifest.json`` of an emitted program: what goes in and comes out, and where it lies.

Only here is it known how the keys are spelled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from spm_opt.errors import InputError
from spm_opt.formats.records import from_plain, to_plain
from spm_opt.graph.network import DTYPE_BYTES

FORMAT_NAME: Final = "spm_opt.program"
FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Scaling:
    """An integer ``q`` stands for ``scale * (q - zero_point)``."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class MapLayout:
    """Row-major, a map is ``[images][outer][rows][inner]``.

    In DRAM it is ``[images][rows][outer][inner]``.
    """

    images: int
    outer: int
    rows: int
    inner: int


@dataclass(frozen=True, slots=True)
class ProgramMap:
    """An input or output.

    Attributes
    ----------
    name : str
        Of the feature map.
    also_named : tuple of str
        Views of it, as the source spelled them.
    dtype : str
    shape : tuple of int
    quantization : Scaling or None
        None for numbers that stand for themselves.
    file : str
        Which the program writes, or reads where it is given one by hand: raw, row-major.
    dram_address : int
    dram_layout : MapLayout
    below : int
        Drawn integers are in ``[0, below)``; 0: any of the type.
    """

    name: str
    also_named: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    quantization: Scaling | None
    file: str
    dram_address: int
    dram_layout: MapLayout
    below: int


@dataclass(frozen=True, slots=True)
class ConstantRange:
    """Bytes of ``weights.bin``, and where they lie in DRAM."""

    file_offset: int
    dram_address: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a host must know of a program.

    ``promised_dram_bytes`` and ``promised_macs`` are what the schedule claims that a run moves, in
    whole bursts, and multiplies.
    """

    model: str
    hardware: str
    strategy: str
    byte_order: str
    sources: tuple[str, ...]
    spm_bytes: int
    dram_bytes: int
    burst_bytes: int
    promised_dram_bytes: int
    promised_macs: int
    inputs: tuple[ProgramMap, ...]
    outputs: tuple[ProgramMap, ...]
    constants: tuple[ConstantRange, ...]


def manifest_to_json(manifest: Manifest) -> str:
    """`manifest` as JSON text, ending in a newline."""
    document = {"format": FORMAT_NAME, "version": FORMAT_VERSION, **to_plain(manifest)}
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def manifest_from_json(text: str, file: str) -> Manifest:
    """Read a manifest.

    Raises
    ------
    InputError
        Naming `file` and the field: no JSON, another format or version, or a field that is wrong.
    """
    try:
        manifest = from_plain(Manifest, _body(text), "")
        for field, message, found in _faults(manifest):
            raise InputError(message, field=field, found=found)
        return manifest
    except InputError as error:
        raise error.in_file(file) from None


def _faults(manifest: Manifest) -> Iterator[tuple[str, str, object]]:
    """Fields that no program has: field, what is wrong, what was found."""
    for i, source in enumerate(manifest.sources):
        if not _is_plain(source):
            yield f"sources[{i}]", "must be the name of a file in this directory", source
    for kind, maps in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        for i, one in enumerate(maps):
            for field, message, found in _map_faults(one):
                yield f"{kind}[{i}].{field}", message, found


def _map_faults(one: ProgramMap) -> Iterator[tuple[str, str, object]]:
    layout = one.dram_layout
    if one.dtype not in DTYPE_BYTES:
        yield "dtype", "no element type of this name", one.dtype
    if min(one.shape, default=1) < 1:
        yield "shape", "extents must be positive", list(one.shape)
    if math.prod(one.shape) != layout.images * layout.outer * layout.rows * layout.inner:
        yield "shape", "has other elements than dram_layout", list(one.shape)
    if not _is_plain(one.file):
        yield "file", "must be the name of a file, without a directory", one.file


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not {"/", "\\", "\0"}.intersection(name)


def _body(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"this is no JSON that can be read: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT_NAME:
        raise InputError("this is no program's manifest", field="format", allowed=FORMAT_NAME)
    version = document.get("version")
    if version != FORMAT_VERSION:
        raise InputError(
            "another version", field="version", found=version, allowed=str(FORMAT_VERSION)
        )
    return {key: value for key, value in document.items() if key not in ("format", "version")}
