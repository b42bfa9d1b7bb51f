"""The ``dataflow:`` section of a hardware file, as the models of dataflows take it.

It prices nothing; the rest of the file is `hardware_yaml`'s.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from spm_opt.dataflow import AccessEnergy, SpatialArray
from spm_opt.errors import InputError
from spm_opt.formats.yaml_text import load_yaml
from spm_opt.units import parse_bandwidth

if TYPE_CHECKING:
    from spm_opt.formats.hardware_schema import DataflowSection, HardwareFile


def read_dataflow(path: str | Path) -> SpatialArray:
    """The spatial array of a hardware file.

    Raises
    ------
    InputError
        Naming file and field, as `read_hardware` does; or if the file has no such section.
    """
    from spm_opt.formats.hardware_schema import HardwareFile, checked

    try:
        file: HardwareFile = checked(HardwareFile, load_yaml(path))
    except InputError as error:
        raise error.in_file(str(path)) from None
    if file.dataflow is None:
        raise InputError("this section is missing", file=str(path), field="dataflow")
    return _build(file, file.dataflow)


def _build(file: HardwareFile, section: DataflowSection) -> SpatialArray:
    energy, pads = section.energy, section.scratchpads
    return SpatialArray(
        kind=section.kind,
        pe_rows=section.rows,
        pe_columns=section.columns,
        filter_words=pads.filter,
        ifmap_words=pads.ifmap,
        psum_words=pads.psum,
        word_bytes=section.word,
        map_bytes=section.regions.maps,
        weight_bytes=section.regions.weights,
        bank_bytes=section.regions.bank,
        buffer_bytes_per_cycle=parse_bandwidth(file.spm.bandwidth, file.frequency),
        dram_bytes_per_cycle=parse_bandwidth(file.dram.bandwidth, file.frequency),
        frequency_hz=file.frequency,
        exposed_share=Fraction(section.exposed_percent, 100),
        energy=AccessEnergy(
            register=Fraction(energy.register_file),
            neighbour=Fraction(energy.neighbour),
            buffer=Fraction(energy.buffer),
            dram=Fraction(energy.dram),
        ),
    )
