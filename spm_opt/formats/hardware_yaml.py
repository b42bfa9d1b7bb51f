"""Hardware files: YAML with units in the values, and the exact form embedded in a schedule.

The only room that knows how a hardware file is spelled. It prices nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spm_opt.errors import InputError
from spm_opt.formats.yaml_text import load_yaml
from spm_opt.graph.network import DTYPE_BYTES
from spm_opt.hardware import (
    Compression,
    ComputeArray,
    Dram,
    Energy,
    Hardware,
    PeArray,
    Scratchpad,
    Unrolling,
)
from spm_opt.units import parse_bandwidth, parse_cycles, parse_leakage

if TYPE_CHECKING:
    from spm_opt.formats.hardware_schema import HardwareFile, HardwareRecord

_NO_OVERRIDES: Mapping[str, str] = {}


def read_hardware(path: str | Path, overrides: Mapping[str, str] = _NO_OVERRIDES) -> Hardware:
    """Read a hardware file.

    Parameters
    ----------
    path : str or Path
    overrides : mapping of str to str
        Dotted field to the text that replaces its value (``--set spm.capacity=256KiB``).

    Returns
    -------
    Hardware

    Raises
    ------
    InputError
        Naming file and field (or the option): no YAML, a field unknown or missing, a value that
        is no quantity of the wanted unit, not positive, an unknown loop dimension.
    """
    from spm_opt.formats.hardware_schema import HardwareFile, checked

    data = _overridden(load_yaml(path), overrides)
    try:
        return _build(checked(HardwareFile, data))
    except InputError as error:
        replaced = _replaced_by(error.field, overrides)
        if replaced is not None:
            raise InputError(
                error.message,
                field=f"--set {replaced}",
                found=error.found,
                allowed=error.allowed,
            ) from None
        raise error.in_file(str(path)) from None


def _replaced_by(field: str | None, overrides: Mapping[str, str]) -> str | None:
    """The override that a field's value comes from: of the field, or of a section around it."""
    parts = (field or "").split(".")
    around = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((path for path in around if path in overrides), None)


def settable_fields() -> tuple[str, ...]:
    """Dotted fields that ``--set`` may replace; ``TYPE`` stands for an element type."""
    from spm_opt.formats.hardware_schema import (
        ComputeSection,
        DramSection,
        EnergySection,
        SpmSection,
    )

    sections = (
        ("spm", tuple(SpmSection.model_fields)),
        ("dram", tuple(DramSection.model_fields)),
        ("compute", tuple(ComputeSection.model_fields)),
        ("energy", tuple(EnergySection.model_fields)),
    )
    inner = [f"{section}.{key}" for section, keys in sections for key in keys]
    mapping = "compute.cycles_per_mac"
    fields = [field for field in inner if field not in (mapping, "compute.unrollings")]
    by_type = (f"{mapping}.TYPE", "energy.mac.TYPE")
    return ("name", "description", "frequency", *fields, *by_type)


def hardware_to_dict(hardware: Hardware) -> dict[str, Any]:
    """`hardware` as plain JSON data, exactly; a fraction is ``[numerator, denominator]``."""
    spm, dram, compute = hardware.spm, hardware.dram, hardware.compute
    vector, energy = spm.vector_bytes_per_cycle, hardware.energy
    return {
        "name": hardware.name,
        "description": hardware.description,
        "frequency_hz": hardware.frequency_hz,
        "spm": {
            "capacity_bytes": spm.capacity_bytes,
            "alignment_bytes": spm.alignment_bytes,
            "bytes_per_cycle": _pair(spm.bytes_per_cycle),
            "vector_bytes_per_cycle": None if vector is None else _pair(vector),
        },
        "dram": {
            "bytes_per_cycle": _pair(dram.bytes_per_cycle),
            "latency_cycles": dram.latency_cycles,
            "burst_bytes": dram.burst_bytes,
            "compression": None if dram.compression is None else asdict(dram.compression),
        },
        "compute": {
            "vector_lanes": compute.vector_lanes,
            "tile_overhead_cycles": compute.tile_overhead_cycles,
            "cycles_per_mac": dict(compute.cycles_per_mac),
            "unrollings": [
                {"name": u.name, "factors": dict(u.factors)} for u in compute.unrollings
            ],
            "dataflow": None if compute.dataflow is None else asdict(compute.dataflow),
        },
        "energy": None
        if energy is None
        else {
            "mac_fj": dict(energy.mac_fj),
            "vector_fj": energy.vector_fj,
            "register_fj": energy.register_fj,
            "spm_fj": energy.spm_fj,
            "dram_fj": energy.dram_fj,
            "leakage_fj": energy.leakage_fj,
            "zero_gating": energy.zero_gating,
            "neighbour_fj": energy.neighbour_fj,
        },
    }


def hardware_from_dict(data: object, where: str = "hardware") -> Hardware:
    """The inverse of `hardware_to_dict`.

    Parameters
    ----------
    data : object
    where : str
        Prefix of the field that an error names.

    Raises
    ------
    InputError
        If anything is missing, unknown, of another type, or not positive.
    """
    from spm_opt.formats.hardware_schema import HardwareRecord, checked

    try:
        record: HardwareRecord = checked(HardwareRecord, data)
    except InputError as error:
        field = f"{where}.{error.field}" if error.field else where
        raise InputError(
            error.message, field=field, found=error.found, allowed=error.allowed
        ) from None
    return _restore(record)


def _pair(value: Fraction) -> list[int]:
    return [value.numerator, value.denominator]


def _overridden(data: object, overrides: Mapping[str, str]) -> object:
    allowed = settable_fields() if overrides else ()
    data = copy.deepcopy(data)
    for path, value in overrides.items():
        *sections, key = path.split(".")
        pattern = ".".join((*sections, "TYPE")) if key in DTYPE_BYTES else path
        if pattern not in allowed or key == "TYPE":
            raise InputError("this field cannot be set", field=f"--set {path}", allowed=allowed)
        place: Any = data
        for section in sections:
            place = place.setdefault(section, {}) if isinstance(place, dict) else None
        # where the file has no mapping at this place, the check of the whole file will say so
        if isinstance(place, dict):
            place[key] = value
    return data


def _build(file: HardwareFile) -> Hardware:
    hertz, compute, vector = file.frequency, file.compute, file.spm.vector_bandwidth
    return Hardware(
        name=file.name,
        description=file.description,
        frequency_hz=hertz,
        spm=Scratchpad(
            capacity_bytes=file.spm.capacity,
            alignment_bytes=file.spm.alignment,
            bytes_per_cycle=parse_bandwidth(file.spm.bandwidth, hertz),
            vector_bytes_per_cycle=None if vector is None else parse_bandwidth(vector, hertz),
        ),
        dram=Dram(
            bytes_per_cycle=parse_bandwidth(file.dram.bandwidth, hertz),
            latency_cycles=parse_cycles(file.dram.latency, hertz),
            burst_bytes=file.dram.burst,
            compression=_compression(file),
        ),
        compute=ComputeArray(
            unrollings=tuple(Unrolling(u.name, u.factors) for u in compute.unrollings),
            vector_lanes=compute.vector_lanes,
            cycles_per_mac=compute.cycles_per_mac,
            tile_overhead_cycles=parse_cycles(compute.tile_overhead, hertz),
            dataflow=_dataflow(file),
        ),
        energy=_energy(file),
    )


def _dataflow(file: HardwareFile) -> PeArray | None:
    """The array of the section ``dataflow``, where the planner is to use it.

    Raises
    ------
    InputError
        Where the file does not say all that it takes, or says two things.
    """
    kind, section = file.compute.dataflow, file.dataflow
    if kind is None:
        return None
    if section is None:
        raise InputError(
            "this section is missing: it describes the array of compute.dataflow", field="dataflow"
        )
    if section.kind != kind:
        raise InputError(
            "is not the dataflow of the section dataflow", field="compute.dataflow", found=kind,
            allowed=f"{section.kind} (dataflow.kind), or none",
        )  # fmt: skip
    if file.energy is not None and file.energy.neighbour is None:
        raise InputError(
            "this field is missing: with compute.dataflow, words move between processing elements",
            field="energy.neighbour",
        )
    pads = section.scratchpads
    return PeArray(
        kind, section.rows, section.columns, pads.filter, pads.ifmap, pads.psum, section.word
    )


def _compression(file: HardwareFile) -> Compression | None:
    found = file.dram.compression
    if found is None:
        return None
    if found.percent is not None:
        return Compression("ratio", percent=found.percent)
    return Compression("run_length", found.run_bits, found.word_bits)


def _energy(file: HardwareFile) -> Energy | None:
    energy = file.energy
    if energy is None:
        return None
    return Energy(
        energy.mac, energy.vector, energy.register_file, energy.spm, energy.dram,
        parse_leakage(energy.leakage, file.frequency), energy.zero_gating, energy.neighbour or 0,
    )  # fmt: skip


def _restore(record: HardwareRecord) -> Hardware:
    spm, dram, compute = record.spm, record.dram, record.compute
    vector, packing, array = spm.vector_bytes_per_cycle, dram.compression, compute.dataflow
    return Hardware(
        name=record.name,
        description=record.description,
        frequency_hz=record.frequency_hz,
        spm=Scratchpad(
            capacity_bytes=spm.capacity_bytes,
            alignment_bytes=spm.alignment_bytes,
            bytes_per_cycle=Fraction(*spm.bytes_per_cycle),
            vector_bytes_per_cycle=None if vector is None else Fraction(*vector),
        ),
        dram=Dram(
            Fraction(*dram.bytes_per_cycle),
            dram.latency_cycles,
            dram.burst_bytes,
            None if packing is None else Compression(**packing.model_dump()),
        ),
        compute=ComputeArray(
            unrollings=tuple(Unrolling(u.name, u.factors) for u in compute.unrollings),
            vector_lanes=compute.vector_lanes,
            cycles_per_mac=compute.cycles_per_mac,
            tile_overhead_cycles=compute.tile_overhead_cycles,
            dataflow=None if array is None else PeArray(**array.model_dump()),
        ),
        energy=None if record.energy is None else Energy(**record.energy.model_dump()),
    )
