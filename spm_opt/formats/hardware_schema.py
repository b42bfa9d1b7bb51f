"""The shape of a hardware file and of embedded hardware, for pydantic; one message per mistake.

Knows how every key is spelled and which values it takes. It opens no file and builds no
`Hardware` (see `hardware_yaml`): apart from it because importing pydantic takes time.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, ValidationError
from pydantic import field_validator as check

from spm_opt.dataflow import KINDS
from spm_opt.errors import InputError
from spm_opt.graph.network import DTYPE_BYTES
from spm_opt.hardware import LOOP_DIMENSIONS
from spm_opt.units import (
    QuantityError,
    parse_bandwidth,
    parse_cycles,
    parse_energy,
    parse_frequency,
    parse_leakage,
    parse_size,
)

# Beyond every chip, and small enough that no product of two of them overflows 64 bits.
_MOST_BYTES: Final = 2**40
_MOST_CYCLES: Final = 10**9
_MOST_COUNT: Final = 2**20
_MOST_HERTZ: Final = 10**12
_MOST_FJ: Final = 10**6


def _count(value: object, most: int = _MOST_COUNT) -> int:
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise QuantityError("is no whole number", value, "a whole number without a unit")
    return _within(value, value, 1, most, "")


def _within(value: int, found: object, least: int, most: int, unit: str) -> int:
    if value < least:
        raise QuantityError("must be positive" if least else "must not be negative", found)
    if value > most:
        raise QuantityError("is too large", found, f"at most {most}{unit}")
    return value


def _percent(value: object) -> int:
    return _count(value, 100)


def _flag(value: object) -> bool:
    """True or false, in an override as text."""
    flag = {"true": True, "false": False}.get(value) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise QuantityError("is neither yes nor no", value, "true or false")
    return flag


def _run_bits(value: object) -> int:
    return _count(value, 16)


def _word_bits(value: object) -> int:
    return _count(value, 1024)


def _compression(value: object) -> object:
    """A mapping; or in short: the name of the code, a ratio, or none."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text in ("none", "run_length"):
        return None if text == "none" else {}
    if text.endswith("%"):
        return {"percent": text[:-1]}
    raise QuantityError("is no compression", value, "run_length, a ratio such as '60 %', or none")


def _size(value: Any) -> int:
    return _within(parse_size(value), value, 1, _MOST_BYTES, " bytes")


def _frequency(value: Any) -> int:
    return _within(parse_frequency(value), value, 1, _MOST_HERTZ, " Hz")


def _time(value: Any) -> str | int:
    # kept as text: it means cycles only together with the frequency
    _within(parse_cycles(value, 1), value, 0, _MOST_CYCLES, " cycles")
    return value  # type: ignore[no-any-return]


def _bandwidth(value: Any) -> str:
    if parse_bandwidth(value, 1) > 10**18:
        raise QuantityError("is too large", value, "at most 1e18 B/s")
    return value  # type: ignore[no-any-return]


def _energy(value: Any) -> int:
    return _within(parse_energy(value), value, 0, _MOST_FJ, " fJ")


def _energy_per_byte(value: Any) -> int:
    return _within(parse_energy(value, "B"), value, 0, _MOST_FJ, " fJ/B")


def _leakage(value: Any) -> str:
    # kept as text: power means energy only together with the frequency
    _within(parse_leakage(value, 1), value, 0, 10**18, " fJ/cycle")
    return value  # type: ignore[no-any-return]


def _energies_of_types(value: Any) -> dict[str, int]:
    """One energy for every element type, or a mapping."""
    if isinstance(value, dict):
        return value
    return dict.fromkeys(DTYPE_BYTES, value)


Size = Annotated[int, BeforeValidator(_size)]
Frequency = Annotated[int, BeforeValidator(_frequency)]
Time = Annotated[str | int, BeforeValidator(_time)]
Bandwidth = Annotated[str, BeforeValidator(_bandwidth)]
Count = Annotated[int, BeforeValidator(_count)]
FemtoJoules = Annotated[int, BeforeValidator(_energy)]
FemtoJoulesPerByte = Annotated[int, BeforeValidator(_energy_per_byte)]
Leakage = Annotated[str, BeforeValidator(_leakage)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=200)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SpmSection(_Section):
    """``spm:`` of a hardware file."""

    capacity: Size
    alignment: Size
    bandwidth: Bandwidth
    vector_bandwidth: Bandwidth | None = None


class CompressionSection(_Section):
    """``dram.compression`` of a hardware file: of a run-length code, or a ratio in percent."""

    run_bits: Annotated[int, BeforeValidator(_run_bits)] = 5
    word_bits: Annotated[int, BeforeValidator(_word_bits)] = 64
    percent: Annotated[int, BeforeValidator(_percent)] | None = None


class DramSection(_Section):
    """``dram:`` of a hardware file."""

    bandwidth: Bandwidth
    latency: Time
    burst: Size
    compression: Annotated[CompressionSection | None, BeforeValidator(_compression)] = None


class UnrollingSection(_Section):
    """One element of ``compute.unrollings``: a name and at least one loop dimension."""

    name: Name
    b: Count = 1
    g: Count = 1
    k: Count = 1
    c: Count = 1
    oy: Count = 1
    ox: Count = 1
    fy: Count = 1
    fx: Count = 1

    @property
    def factors(self) -> dict[str, int]:
        """Loop dimensions that the file names."""
        return {d: getattr(self, d) for d in LOOP_DIMENSIONS if d in self.model_fields_set}


def _known_types(types: dict[str, int]) -> dict[str, int]:
    for name in types:
        if name not in DTYPE_BYTES:
            raise QuantityError("is no element type", name, ", ".join(DTYPE_BYTES))
    return types


def _distinct_names(unrollings: tuple[Any, ...]) -> tuple[Any, ...]:
    seen: set[str] = set()
    for unrolling in unrollings:
        if unrolling.name in seen:
            raise QuantityError("is the name of two unrollings", unrolling.name)
        seen.add(unrolling.name)
    if not unrollings:
        raise QuantityError("has no element", [], "at least one unrolling")
    return unrollings


def _dataflow_kind(kind: str) -> str:
    if kind not in KINDS:
        raise QuantityError("is no dataflow", kind, ", ".join(KINDS))
    return kind


def _dataflow_choice(kind: object) -> str | None:
    """A dataflow, or none."""
    if kind == "none":
        return None
    if kind not in KINDS:
        raise QuantityError("is no dataflow", kind, ", ".join((*KINDS, "none")))
    return str(kind)


class ComputeSection(_Section):
    """``compute:`` of a hardware file."""

    vector_lanes: Count
    tile_overhead: Time = 0
    cycles_per_mac: dict[StrictStr, Count] = {}
    unrollings: tuple[UnrollingSection, ...]
    dataflow: Annotated[str | None, BeforeValidator(_dataflow_choice)] = None

    _types = check("cycles_per_mac")(staticmethod(_known_types))
    _names = check("unrollings")(staticmethod(_distinct_names))


class ScratchpadWords(_Section):
    """``dataflow.scratchpads``: words of one PE."""

    filter: Count
    ifmap: Count
    psum: Count


class BufferRegions(_Section):
    """``dataflow.regions`` of the global buffer, and the bank of which they are made."""

    maps: Size
    weights: Size
    bank: Size


class AccessEnergies(_Section):
    """``dataflow.energy``: of one word, in MACs."""

    register_file: Count
    neighbour: Count
    buffer: Count
    dram: Count


class DataflowSection(_Section):
    """``dataflow:`` of a hardware file; the planner reads it where ``compute.dataflow`` says so."""

    kind: StrictStr
    rows: Count
    columns: Count
    word: Size
    scratchpads: ScratchpadWords
    regions: BufferRegions
    exposed_percent: Annotated[int, BeforeValidator(_percent)]
    energy: AccessEnergies

    _kinds = check("kind")(staticmethod(_dataflow_kind))


class EnergySection(_Section):
    """``energy:`` of a hardware file."""

    mac: Annotated[dict[StrictStr, FemtoJoules], BeforeValidator(_energies_of_types)]
    vector: FemtoJoules
    register_file: FemtoJoulesPerByte
    spm: FemtoJoulesPerByte
    dram: FemtoJoulesPerByte
    leakage: Leakage
    zero_gating: Annotated[bool, BeforeValidator(_flag)] = False
    neighbour: FemtoJoulesPerByte | None = None

    _types = check("mac")(staticmethod(_known_types))


class HardwareFile(_Section):
    """A whole hardware file."""

    name: Name
    description: StrictStr = ""
    frequency: Frequency
    spm: SpmSection
    dram: DramSection
    compute: ComputeSection
    dataflow: DataflowSection | None = None
    energy: EnergySection | None = None


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Positive = Annotated[int, Field(gt=0)]
Ratio = Annotated[list[Positive], Field(min_length=2, max_length=2)]


class SpmRecord(_Record):
    """Scratchpad as embedded in a schedule."""

    capacity_bytes: Positive
    alignment_bytes: Positive
    bytes_per_cycle: Ratio
    vector_bytes_per_cycle: Ratio | None = None


class CompressionRecord(_Record):
    """Compression as embedded in a schedule."""

    kind: Annotated[str, Field(pattern="^(run_length|ratio)$")]
    run_bits: Annotated[int, Field(gt=0, le=16)]
    word_bits: Annotated[int, Field(gt=0, le=1024)]
    percent: Annotated[int, Field(gt=0, le=100)]


class DramRecord(_Record):
    """DRAM as embedded in a schedule."""

    bytes_per_cycle: Ratio
    latency_cycles: Annotated[int, Field(ge=0)]
    burst_bytes: Positive
    compression: CompressionRecord | None = None


class UnrollingRecord(_Record):
    """Unrolling as embedded in a schedule."""

    name: str
    factors: dict[str, Positive]

    @check("factors")
    @classmethod
    def _dimensions(cls, factors: dict[str, int]) -> dict[str, int]:
        for name in factors:
            if name not in LOOP_DIMENSIONS:
                raise QuantityError("is no loop dimension", name, ", ".join(LOOP_DIMENSIONS))
        return factors


class ArrayRecord(_Record):
    """Array that keeps a dataflow as embedded in a schedule."""

    kind: Annotated[str, Field(pattern=f"^({'|'.join(KINDS)})$")]
    rows: Positive
    columns: Positive
    filter_words: Positive
    ifmap_words: Positive
    psum_words: Positive
    word_bytes: Positive


class ComputeRecord(_Record):
    """Compute array as embedded in a schedule."""

    vector_lanes: Positive
    tile_overhead_cycles: Annotated[int, Field(ge=0)]
    cycles_per_mac: dict[str, Positive]
    unrollings: Annotated[list[UnrollingRecord], Field(min_length=1)]
    dataflow: ArrayRecord | None = None


RecordedFj = Annotated[int, Field(ge=0, le=_MOST_FJ)]


class EnergyRecord(_Record):
    """Energies as embedded in a schedule."""

    mac_fj: dict[str, RecordedFj]
    vector_fj: RecordedFj
    register_fj: RecordedFj
    spm_fj: RecordedFj
    dram_fj: RecordedFj
    leakage_fj: Annotated[int, Field(ge=0)]
    zero_gating: bool = False
    neighbour_fj: RecordedFj = 0


class HardwareRecord(_Record):
    """Hardware as embedded in a schedule."""

    name: str
    description: str
    frequency_hz: Positive
    spm: SpmRecord
    dram: DramRecord
    compute: ComputeRecord
    energy: EnergyRecord | None = None


_MESSAGES: Final[Mapping[str, str]] = {
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "string_too_long": "is too long",
    "invalid_key": "the key must be a text",
    "int_type": "must be a whole number",
    "greater_than": "must be positive",
    "greater_than_equal": "must not be negative",
    "less_than_equal": "is too large",
}


def checked(model: type[BaseModel], data: object) -> Any:
    """`data` as a `model`.

    Raises
    ------
    InputError
        For the first mistake: dotted field, what was found, what is allowed; no file.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # a misspelt key is also a missing one: the unknown key says more
        mistakes = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise _input_error(model, mistakes[0]) from None


def dotted(location: tuple[int | str, ...]) -> str:
    """Field path such as ``compute.unrollings[0].c``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _input_error(model: type[BaseModel], mistake: Any) -> InputError:
    location, kind = mistake["loc"], mistake["type"]
    field = dotted(location) or None
    if kind == "missing":
        return InputError("this field is missing", field=field)
    if kind == "extra_forbidden":
        owner = _section(model, location[:-1])
        dimension = owner is UnrollingSection
        return InputError(
            "unknown loop dimension" if dimension else "unknown field",
            field=dotted(location[:-1]) or None,
            found=location[-1],
            allowed=tuple(owner.model_fields),
        )
    cause = mistake.get("ctx", {}).get("error")
    if isinstance(cause, QuantityError):
        return InputError(
            cause.reason, field=field, found=_short(cause.found), allowed=cause.allowed
        )
    message = _MESSAGES.get(kind, mistake["msg"])
    return InputError(message, field=field, found=_short(mistake["input"]))


def _section(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    for part in location:
        if isinstance(part, str):
            annotation: Any = model.model_fields[part].annotation
            inner = getattr(annotation, "__args__", (annotation,))[0]
            model = inner
    return model


def _short(found: object) -> object:
    if found is None:
        return _Shown("nothing")
    if isinstance(found, (str, int, float)) and len(str(found)) <= 60:
        return found
    # reprlib: a few lines of YAML aliases can stand for more text than memory holds
    text = reprlib.repr(found)
    return _Shown(text if len(text) <= 60 else text[:57] + "...")


class _Shown:
    """A value whose repr is a given text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text
