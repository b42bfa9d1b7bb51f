"""Hardware files: presets, every mistake with its message, overrides, the embedded form."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spm_opt.errors import InputError
from spm_opt.formats.hardware_yaml import (
    hardware_from_dict,
    hardware_to_dict,
    read_hardware,
    settable_fields,
)
from spm_opt.formats.yaml_text import load_yaml
from spm_opt.hardware import (
    LOOP_DIMENSIONS,
    ComputeArray,
    Dram,
    Hardware,
    Scratchpad,
    Unrolling,
)

REPO = Path(__file__).resolve().parent.parent
PRESETS = {
    # name: (MACs per cycle, capacity, DRAM bytes per cycle)
    "mobile_npu": (1024, 512 * 1024, Fraction(8)),
    "soma_edge": (8192, 8 * 2**20, Fraction(16)),
    "soma_cloud": (65536, 32 * 2**20, Fraction(128)),
    "eyeriss": (168, 108 * 1024, Fraction(12, 5)),
    "onsram": (1521, 2 * 2**20, Fraction(32)),
    "ethos_u65": (512, 384 * 1024, Fraction(15, 4)),
}
GOOD: dict[str, Any] = {
    "name": "chip",
    "frequency": "1 GHz",
    "spm": {"capacity": "64 KiB", "alignment": "16 B", "bandwidth": "32 B/cycle"},
    "dram": {"bandwidth": "4 GB/s", "latency": "100 cycles", "burst": "32 B"},
    "compute": {
        "vector_lanes": 8,
        "cycles_per_mac": {"int8": 1, "float32": 4},
        "unrollings": [{"name": "dense", "c": 8, "k": 4}, {"name": "rows", "oy": 8}],
    },
}


def write(directory: Path, data: object) -> Path:
    path = directory / "chip.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def changed(*path: str | int, to: object = None, drop: bool = False) -> Any:
    data = copy.deepcopy(GOOD)
    place: Any = data
    for key in path[:-1]:
        place = place[key]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return data


# presets


def test_every_preset_is_listed_here() -> None:
    assert {path.stem for path in (REPO / "hw").glob("*.yaml")} == set(PRESETS)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_preset_says_what_is_published(name: str) -> None:
    hardware = read_hardware(REPO / "hw" / f"{name}.yaml")
    macs, capacity, bandwidth = PRESETS[name]
    assert hardware.name == name
    assert hardware.description
    assert hardware.compute.macs_per_cycle == macs
    assert hardware.spm.capacity_bytes == capacity
    assert hardware.dram.bytes_per_cycle == bandwidth
    for unrolling in hardware.compute.unrollings:
        width = 1
        for factor in unrolling.factors.values():
            width *= factor
        assert width <= macs, unrolling.name


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_field_of_a_preset_has_a_source(name: str) -> None:
    lines = (REPO / "hw" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    commented = False
    for line in lines:
        stripped = line.strip()
        if stripped.startswith("#"):
            commented = True
        elif not stripped:
            commented = False
        elif stripped.startswith(
            ("name:", "description:", "spm:", "dram:", "compute:", "dataflow:", "energy:", "- ")
        ):
            continue
        else:
            assert commented, f"{name}: {stripped!r} has no comment above"
            commented = False


def test_the_default_machine() -> None:
    npu = read_hardware(REPO / "hw" / "mobile_npu.yaml")
    assert npu.frequency_hz == 10**9
    assert (npu.spm.alignment_bytes, npu.dram.burst_bytes) == (64, 64)
    assert npu.dram.latency_cycles == 200
    assert npu.compute.vector_lanes == 64
    assert {"c": 32, "k": 32} in [dict(u.factors) for u in npu.compute.unrollings]


def test_soma_spreads_a_layer_in_six_ways() -> None:
    edge = read_hardware(REPO / "hw" / "soma_edge.yaml").compute
    assert len(edge.unrollings) == 6
    assert edge.vector_lanes == 512
    assert {tuple(sorted(u.factors)) for u in edge.unrollings} == {
        ("c", "k"), ("b", "c", "k"), ("c", "k", "ox"), ("c", "k", "oy"), ("c", "k", "ox", "oy"),
    }  # fmt: skip


def test_the_docs_table_names_every_field_and_preset() -> None:
    text = (REPO / "docs" / "hardware.md").read_text(encoding="utf-8")
    for field in settable_fields():
        assert f"`{field.removesuffix('.TYPE')}`" in text, field
    for name in PRESETS:
        assert f"`{name}`" in text, name
    for dimension in LOOP_DIMENSIONS:
        assert f"`{dimension}`" in text, dimension


# reading


def test_values_are_exact(tmp_path: Path) -> None:
    assert read_hardware(write(tmp_path, GOOD)) == Hardware(
        name="chip",
        frequency_hz=10**9,
        spm=Scratchpad(65536, 16, Fraction(32)),
        dram=Dram(Fraction(4), 100, 32),
        compute=ComputeArray(
            unrollings=(Unrolling("dense", {"c": 8, "k": 4}), Unrolling("rows", {"oy": 8})),
            vector_lanes=8,
            cycles_per_mac={"int8": 1, "float32": 4},
        ),
    )


def test_times_and_bandwidths_follow_the_frequency(tmp_path: Path) -> None:
    path = write(tmp_path, changed("dram", "latency", to="101 ns"))
    hardware = read_hardware(path, {"frequency": "1.5 GHz"})
    assert hardware.dram.latency_cycles == 152  # 151.5 rounded up
    assert hardware.dram.bytes_per_cycle == Fraction(8, 3)
    assert hardware.spm.bytes_per_cycle == 32


MISTAKES: list[tuple[Any, str]] = [
    (changed("spm", "size", to="1 B"),
     "spm: unknown field; found 'size'; "
     "allowed: capacity, alignment, bandwidth, vector_bandwidth"),
    (changed("colour", to="red"),
     "unknown field; found 'colour'; allowed: name, description, frequency, spm, dram, "
     "compute, dataflow, energy"),
    (changed("dram", "latency", drop=True), "dram.latency: this field is missing"),
    (changed("spm", drop=True), "spm: this field is missing"),
    (changed("name", drop=True), "name: this field is missing"),
    (changed("compute", "unrollings", 1, "name", drop=True),
     "compute.unrollings[1].name: this field is missing"),
    (changed("spm", "capacity", to="64 parsec"),
     "spm.capacity: has the unknown unit 'parsec'; found '64 parsec'; "
     "allowed: a number and one of B, kB, KB, MB, GB, KiB, MiB, GiB"),
    (changed("frequency", to="1000"),
     "frequency: has no unit; found '1000'; allowed: a number and one of Hz, kHz, MHz, GHz"),
    (changed("dram", "bandwidth", to=8),
     "dram.bandwidth: is no bandwidth; found 8; allowed: a number and one of B, kB, KB, MB, GB, "
     "KiB, MiB, GiB, then /s or /cycle, such as '8 GB/s', '32 B/cycle'"),
    (changed("dram", "latency", to="3 B"),
     "dram.latency: has the unknown unit 'B'; found '3 B'; "
     "allowed: a number and one of cycle, cycles, ns, us, ms"),
    (changed("spm", "capacity", to="0 KiB"), "spm.capacity: must be positive; found '0 KiB'"),
    (changed("spm", "capacity", to=-1), "spm.capacity: must not be negative; found -1"),
    (changed("spm", "capacity", to="0.3 B"),
     "spm.capacity: is not a whole number of bytes; found '0.3 B'"),
    (changed("spm", "capacity", to="1e9 GiB"),
     "spm.capacity: is too large; found '1e9 GiB'; allowed: at most 1099511627776 bytes"),
    (changed("spm", "bandwidth", to="0 B/cycle"),
     "spm.bandwidth: must be positive; found '0 B/cycle'"),
    (changed("dram", "latency", to="-1 cycles"),
     "dram.latency: must not be negative; found '-1 cycles'"),
    (changed("frequency", to="-1 GHz"), "frequency: must be positive; found '-1 GHz'"),
    (changed("compute", "vector_lanes", to=0), "compute.vector_lanes: must be positive; found 0"),
    (changed("compute", "vector_lanes", to=True),
     "compute.vector_lanes: is no whole number; found True; "
     "allowed: a whole number without a unit"),
    (changed("compute", "vector_lanes", to=1.5),
     "compute.vector_lanes: is no whole number; found 1.5; "
     "allowed: a whole number without a unit"),
    (changed("compute", "unrollings", 0, "z", to=4),
     "compute.unrollings[0]: unknown loop dimension; found 'z'; "
     "allowed: name, b, g, k, c, oy, ox, fy, fx"),
    (changed("compute", "unrollings", 0, "c", to=0),
     "compute.unrollings[0].c: must be positive; found 0"),
    (changed("compute", "unrollings", to=[]),
     "compute.unrollings: has no element; found []; allowed: at least one unrolling"),
    (changed("compute", "unrollings", to={"c": 4}),
     "compute.unrollings: must be a list; found {'c': 4}"),
    (changed("compute", "unrollings", 1, "name", to="dense"),
     "compute.unrollings: is the name of two unrollings; found 'dense'"),
    (changed("compute", "cycles_per_mac", to={"int7": 1}),
     "compute.cycles_per_mac: is no element type; found 'int7'; allowed: bool, int8, uint8, int16, "
     "uint16, float16, bfloat16, int32, uint32, float32, int64, uint64, float64"),
    (changed("compute", "cycles_per_mac", to={"int8": 0}),
     "compute.cycles_per_mac.int8: must be positive; found 0"),
    (changed("spm", to="512 KiB"), "spm: must be a mapping; found '512 KiB'"),
    (changed("spm", to=None), "spm: must be a mapping; found nothing"),
    (changed("name", to=12), "name: must be a text; found 12"),
    (changed("name", to=""), "name: must not be empty; found ''"),
    ([1, 2], "must be a mapping; found [1, 2]"),
    ("chip", "must be a mapping; found 'chip'"),
    ({**GOOD, 3: 4}, "[3]: the key must be a text; found 3"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), MISTAKES, ids=[m[:60] for _, m in MISTAKES])
def test_a_mistake_gives_one_message(tmp_path: Path, data: Any, message: str) -> None:
    path = write(tmp_path, data)
    with pytest.raises(InputError) as caught:
        read_hardware(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_misspelt_field_is_named_before_the_missing_one(tmp_path: Path) -> None:
    data = changed("spm", "capacity", drop=True)
    data["spm"]["capcity"] = "1 KiB"
    with pytest.raises(InputError, match="found 'capcity'"):
        read_hardware(write(tmp_path, data))


# YAML text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"a: [1,\nb: 2\n", "not valid YAML: line 3, column 1: "),
        (b"a:\n\t- b\n", "not valid YAML: line 2, column 1: "),
        (b"a: 1\nb:\n  c: 1\n  c: 2\n",
         "not valid YAML: line 4, column 3: the key 'c' is written twice"),
        (b"a: *x\n", "not valid YAML: line 1, column 4: "),
        (b"a: !!python/object/apply:os.getcwd []\n", "not valid YAML: line 1, column 4: "),
        (b"a: 1\n---\nb: 2\n", "not valid YAML: line 2, column 1: "),
        (bytes(range(128, 256)), "is not a text file (byte 0 is no UTF-8); YAML is needed"),
        (b"a: \x00\x01", "is not a text file (special character at position 3)"),
        (b"a: 2024-13-45\n", "not valid YAML: "),
        (b"[" * 100_000, "line 1: more than 100 levels of nesting"),
        (b"- " * 100_000, "line 1: more than 100 levels of nesting"),
    ],
)  # fmt: skip
def test_text_that_is_no_yaml(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_yaml(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: no such file$"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(InputError, match=r"is a directory, not a file$"):
        load_yaml(tmp_path)
    with pytest.raises(InputError, match=r"cannot be read: embedded null byte$"):
        load_yaml("a\0b")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match=r"cannot be read: Permission denied$"):
        load_yaml(write(tmp_path, GOOD))


def test_merged_keys_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("a: &x {p: 1, q: 1}\nb: {<<: *x, p: 2}\n", encoding="utf-8")
    assert load_yaml(path) == {"a": {"p": 1, "q": 1}, "b": {"p": 2, "q": 1}}


# overrides


DATAFLOW = {
    "kind": "weight_stationary", "rows": 4, "columns": 8, "word": "1 B",
    "scratchpads": {"filter": 5, "ifmap": 6, "psum": 7},
    "regions": {"maps": "32 KiB", "weights": "8 KiB", "bank": "4 KiB"},
    "exposed_percent": 75,
    "energy": {"register_file": 1, "neighbour": 2, "buffer": 6, "dram": 200},
}  # fmt: skip
ENERGIES = {
    "mac": {"int8": "1 fJ", "int16": "1 fJ"}, "vector": "1 fJ", "register_file": "1 fJ",
    "neighbour": "1 fJ", "spm": "1 fJ", "dram": "1 fJ", "leakage": "1 fJ/cycle",
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "text", "read"),
    [
        ("name", "other", lambda h: h.name == "other"),
        ("description", "x", lambda h: h.description == "x"),
        ("frequency", "2GHz", lambda h: h.frequency_hz == 2 * 10**9),
        ("spm.capacity", "256KiB", lambda h: h.spm.capacity_bytes == 2**18),
        ("spm.alignment", "1", lambda h: h.spm.alignment_bytes == 1),
        ("spm.bandwidth", "7 B/cycle", lambda h: h.spm.bytes_per_cycle == 7),
        ("spm.vector_bandwidth", "9 B/cycle", lambda h: h.spm.vector_bytes_per_cycle == 9),
        ("dram.bandwidth", "1 GB/s", lambda h: h.dram.bytes_per_cycle == 1),
        ("dram.latency", "0", lambda h: h.dram.latency_cycles == 0),
        ("dram.burst", "128B", lambda h: h.dram.burst_bytes == 128),
        ("dram.compression", "60 %", lambda h: h.dram.compression is not None),
        ("compute.vector_lanes", "16", lambda h: h.compute.vector_lanes == 16),
        ("compute.tile_overhead", "5 cycles", lambda h: h.compute.tile_overhead_cycles == 5),
        ("compute.cycles_per_mac.int16", "3", lambda h: h.compute.cycles_per_mac["int16"] == 3),
        ("compute.dataflow", "weight_stationary", lambda h: h.compute.dataflow is not None),
        ("energy.mac", "1 pJ", lambda h: set(h.energy.mac_fj.values()) == {1000}),
        ("energy.mac.int16", "7 fJ", lambda h: h.energy.mac_fj["int16"] == 7),
        ("energy.vector", "7 fJ", lambda h: h.energy.vector_fj == 7),
        ("energy.register_file", "7 fJ/B", lambda h: h.energy.register_fj == 7),
        ("energy.neighbour", "7 fJ/B", lambda h: h.energy.neighbour_fj == 7),
        ("energy.spm", "7 pJ/B", lambda h: h.energy.spm_fj == 7000),
        ("energy.dram", "7 pJ", lambda h: h.energy.dram_fj == 7000),
        ("energy.leakage", "7 mW", lambda h: h.energy.leakage_fj == 7000),
        ("energy.zero_gating", "true", lambda h: h.energy.zero_gating),
    ],
)
def test_every_settable_field_can_be_set(
    tmp_path: Path, path: str, text: str, read: Callable[[Hardware], bool]
) -> None:
    file = write(tmp_path, {**GOOD, "dataflow": DATAFLOW, "energy": ENERGIES})
    assert not (path != "compute.cycles_per_mac.int16" and read(read_hardware(file)))
    assert read(read_hardware(file, {path: text}))


def test_the_list_of_settable_fields_is_complete() -> None:
    named = {name for name, *_ in test_every_settable_field_can_be_set.pytestmark[0].args[1]}
    assert {f.replace("TYPE", "int16") for f in settable_fields()} == named


def test_an_override_supplies_what_the_file_lacks(tmp_path: Path) -> None:
    path = write(tmp_path, changed("spm", "capacity", drop=True))
    assert read_hardware(path, {"spm.capacity": "1 KiB"}).spm.capacity_bytes == 1024


@pytest.mark.parametrize(
    "path",
    ["spm.capcity", "spm", "", "compute.unrollings", "compute.unrollings[0].c", "spm.int8",
     "compute.cycles_per_mac", "compute.cycles_per_mac.TYPE", "compute.cycles_per_mac.int7"],
)  # fmt: skip
def test_what_cannot_be_set(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError) as caught:
        read_hardware(write(tmp_path, GOOD), {path: "1"})
    assert str(caught.value) == (
        f"--set {path}: this field cannot be set; allowed: {', '.join(settable_fields())}"
    )


def test_a_wrong_value_names_the_option_not_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_hardware(write(tmp_path, GOOD), {"spm.capacity": "0"})
    assert str(caught.value) == "--set spm.capacity: must be positive; found '0'"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("energy.mac", "-1", "has no unit; found '-1'; allowed: a number and one of fJ, pJ, nJ"),
        ("energy.zero_gating", "maybe",
         "is neither yes nor no; found 'maybe'; allowed: true or false"),
    ],
)  # fmt: skip
def test_a_value_for_several_fields_names_the_option_too(
    tmp_path: Path, path: str, value: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_hardware(write(tmp_path, {**GOOD, "energy": ENERGIES}), {path: value})
    assert str(caught.value) == f"--set {path}: {message}"


def test_a_mistake_of_the_file_is_not_blamed_on_the_option(tmp_path: Path) -> None:
    path = write(tmp_path, changed("spm", to="512 KiB"))
    with pytest.raises(InputError) as caught:
        read_hardware(path, {"spm.capacity": "1 KiB"})
    assert str(caught.value) == f"{path}: spm: must be a mapping; found '512 KiB'"


# the embedded form

counts = st.integers(1, 2**40)
ratios = st.fractions(min_value=Fraction(1, 10**9), max_value=10**6)
machines = st.builds(
    Hardware,
    name=st.text(max_size=5),
    description=st.text(max_size=5),
    frequency_hz=counts,
    spm=st.builds(Scratchpad, counts, counts, ratios, st.none() | ratios),
    dram=st.builds(Dram, ratios, st.integers(0, 10**6), counts),
    compute=st.builds(
        ComputeArray,
        unrollings=st.lists(
            st.builds(
                Unrolling, st.text(max_size=3), st.dictionaries(st.sampled_from("bgkc"), counts)
            ),
            min_size=1,
            max_size=3,
        ).map(tuple),
        vector_lanes=counts,
        cycles_per_mac=st.dictionaries(st.sampled_from(["int8", "float32"]), counts),
        tile_overhead_cycles=st.integers(0, 100),
    ),
)


@given(machines)
def test_embedding_is_exact(machine: Hardware) -> None:
    data = hardware_to_dict(machine)
    assert hardware_from_dict(json.loads(json.dumps(data))) == machine
    assert pickle.loads(pickle.dumps(machine)) == machine


def leaves(data: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items: Any = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    return [path] + [leaf for key, value in items for leaf in leaves(value, (*path, key))]


EMBEDDED = hardware_to_dict(read_hardware(REPO / "hw" / "soma_edge.yaml"))


@pytest.mark.parametrize("path", leaves(EMBEDDED), ids=str)
def test_every_embedded_value_is_checked(path: tuple[str | int, ...]) -> None:
    for wrong in ({"surprise": 1.5}, -1):
        data: Any = copy.deepcopy(EMBEDDED)
        place = data
        for key in path[:-1]:
            place = place[key]
        if path:
            place[path[-1]] = wrong
        else:
            data = wrong
        with pytest.raises(InputError) as caught:
            hardware_from_dict(data, "schedule.hardware")
        assert (caught.value.field or "").startswith("schedule.hardware")


def test_an_embedded_field_that_is_missing_or_unknown() -> None:
    data = copy.deepcopy(EMBEDDED)
    del data["dram"]["burst_bytes"]
    with pytest.raises(InputError, match=r"^hardware\.dram\.burst_bytes: this field is missing$"):
        hardware_from_dict(data)
    data = copy.deepcopy(EMBEDDED)
    data["compute"]["unrollings"][0]["factors"]["z"] = 2
    with pytest.raises(InputError, match="is no loop dimension; found 'z'; allowed: b, g, k, c"):
        hardware_from_dict(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frequency_hz": 0}, "frequency: must be positive; found '0'"),
        ({"spm": Scratchpad(0, 1, Fraction(1))}, "spm.capacity: must be positive; found '0'"),
        ({"dram": Dram(Fraction(0), 1, 1)}, "dram.bandwidth: must be positive; found '0'"),
        ({"dram": Dram(Fraction(1), -1, 1)}, "dram.latency: must not be negative; found -1"),
        ({"compute": ComputeArray((), 1)}, "compute.unrollings: at least one unrolling is needed"),
    ],
)
def test_hardware_built_in_python_is_checked_too(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "name": "x",
        "frequency_hz": 1,
        "spm": Scratchpad(1, 1, Fraction(1)),
        "dram": Dram(Fraction(1), 0, 1),
        "compute": ComputeArray((Unrolling("u", {}),), 1),
    }
    Hardware(**fields)
    with pytest.raises(InputError) as caught:
        Hardware(**{**fields, **change})
    assert str(caught.value) == message
