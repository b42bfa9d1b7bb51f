"""Schedules as files: equal when read back, described by the schema, clear when wrong."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import jsonschema
import pytest
from schedule_fixture import ALL, prefetch, single

import spm_opt.formats.atomic as atomic
from spm_opt.errors import InputError
from spm_opt.formats.atomic import write_atomically
from spm_opt.formats.network_json import network_from_dict, network_to_dict
from spm_opt.formats.records import from_plain, to_plain
from spm_opt.formats.schedule_json import (
    schedule_from_json,
    schedule_schema,
    schedule_to_json,
)
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.ops import KINDS, Op
from spm_opt.verify import verify

Document = dict[str, Any]


@pytest.mark.parametrize("name", ALL)
def test_a_schedule_read_back_is_equal_and_valid(name: str) -> None:
    schedule = ALL[name]()
    text = schedule_to_json(schedule)
    again = schedule_from_json(text)
    assert again == schedule
    assert schedule_to_json(again) == text
    assert verify(again) == ()


@pytest.mark.parametrize("name", ALL)
def test_the_file_satisfies_the_shipped_schema(name: str) -> None:
    schema = schedule_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(schedule_to_json(ALL[name]())))


def test_the_schema_knows_every_operator_and_refuses_what_the_reader_refuses() -> None:
    schema = schedule_schema()
    kinds = schema["$defs"]["layer"]["properties"]["op"]["properties"]["kind"]["enum"]
    assert set(kinds) == set(KINDS)
    document = json.loads(schedule_to_json(single()))
    document["computes"][0]["tiles"] = 3
    with pytest.raises(jsonschema.ValidationError, match="tiles"):
        jsonschema.Draft202012Validator(schema).validate(document)


def test_records_stand_one_a_line() -> None:
    lines = schedule_to_json(prefetch()).splitlines()
    assert sum(line.startswith('  {"kind": "load"') for line in lines) == 5
    assert max(map(len, lines)) < 800


def test_numbers_that_json_lacks_survive() -> None:
    schedule = single()
    endless = replace(schedule.provenance, time_limit=math.inf, deterministic_limit=0.1)
    odd = replace(schedule, provenance=endless)
    text = schedule_to_json(odd)
    assert schedule_from_json(text) == odd
    jsonschema.Draft202012Validator(schedule_schema()).validate(json.loads(text))


#: a value of every type that an operator's field may have
SAMPLES: dict[Any, list[Any]] = {
    int: [3], bool: [True, False], str: ["mean"], float: [0.1, math.inf, -math.inf],
    tuple[int, ...]: [(), (1, 2, 3)], str | None: [None, "relu"],
    tuple[int, ...] | None: [None, (4,)], tuple[tuple[int, tuple[int, ...]], ...]: [((0, (1, 2)),)],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_operator_survives(kind: str) -> None:
    hints = get_type_hints(KINDS[kind])
    columns = [SAMPLES[hints[item.name]] for item in fields(KINDS[kind])]
    for values in itertools.product(*columns):
        op = KINDS[kind](*values)
        plain = json.loads(json.dumps(to_plain(op), allow_nan=False))
        assert plain["kind"] == kind
        assert from_plain(Op, plain, "op") == op


def test_views_warnings_and_measured_cycles_survive() -> None:
    b = NetworkBuilder("seen")
    flat = b.flatten(b.conv(b.input("x", (2, 3, 4, 4)), 4, 3, padding=1))
    b.output(b.linear(flat, 5))
    conv, linear = b.build().layers
    assert linear.inputs[0].row_axis is None
    assert conv.images == 2
    network = replace(
        b.build(),
        layers=(conv, replace(linear, cycles=12, folded=("bn", "relu"))),
        warnings=("read with care",),
        aliases={"z": "x"},
    )
    assert network_from_dict(json.loads(json.dumps(network_to_dict(network)))) == network


def put(*path: str | int, value: object) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        *parents, last = path
        target: Any = document
        for key in parents:
            target = target[key]
        target[last] = value

    return change


def cut(*path: str | int) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        *parents, last = path
        target: Any = document
        for key in parents:
            target = target[key]
        del target[last]

    return change


WRONG: list[tuple[Callable[[Document], None], str]] = [
    (put("version", value=1), "plan.json: version: this version of the format is unknown; found 1"),
    (put("version", value=True), "version of the format is unknown; found True"),
    (put("format", value="other"), "plan.json: format: this is no schedule; found 'other'"),
    (cut("format"), "plan.json: format: this is no schedule"),
    (cut("hardware"), "plan.json: hardware: this field is missing"),
    (cut("steps"), "plan.json: steps: this field is missing"),
    (put("extra", value=1), "plan.json: extra: unknown field; found 'extra'; allowed: provenance"),
    (put("steps", value={}), "plan.json: steps: must be a list"),
    (put("steps", 0, "tiles", value="3"), "plan.json: steps[0].tiles: must be a whole number"),
    (put("steps", 0, "tiles", value=True), "steps[0].tiles: must be a whole number; found True"),
    (put("steps", 0, "layers", value=[1]), "steps[0].layers[0]: must be a text; found 1"),
    (put("computes", 0, "rows", value=[1]), "computes[0].rows: must be a list of 2; found [1]"),
    (put("buffers", 1, "offset_bytes", value=1.5), "buffers[1].offset_bytes: must be a whole"),
    (cut("transfers", 0, "role"), "transfers[0].role: this field is missing"),
    (put("claims", value=[]), "plan.json: claims: must be a mapping"),
    (put("provenance", "prefetch", value=1), "provenance.prefetch: must be true or false"),
    (put("provenance", "solve_seconds", value="x"), "provenance.solve_seconds: must be a number"),
    (put("dram_addresses", "x", value=None), "dram_addresses.x: must be a whole number"),
    (put("network", "layers", 0, "op", "kind", value="conf"), "op.kind: unknown operator"),
    (put("network", "layers", 0, "op", "groups", value=3), "network.a: conv channels are not div"),
    (put("network", "layers", 0, "op", "groups", value=0), "fields do not fit together"),
    (put("network", "layers", 0, "op", "stride", value=[]), "fields do not fit together"),
    (put("network", "layers", 0, "output", value="gone"), "not listed; found 'gone'"),
    (put("network", "inputs", value=["gone"]), "network: this tensor is not listed; found 'gone'"),
    (put("network", "tensors", 1, "name", value="x"), "two tensors have the same name"),
    (put("network", "tensors", 0, "dtype", value="int9"), "unknown element type; found 'int9'"),
    (put("hardware", "spm", "capacity_bytes", value=0), "hardware.spm.capacity_bytes"),
    (put("hardware", "frequency_hz", value=None), "hardware.frequency_hz"),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=[words[:60] for _, words in WRONG])
def test_a_wrong_file_gets_one_clear_message(
    change: Callable[[Document], None], words: str
) -> None:
    document = json.loads(schedule_to_json(single()))
    change(document)
    with pytest.raises(InputError) as caught:
        schedule_from_json(json.dumps(document), "plan.json")
    assert words in str(caught.value)
    assert str(caught.value).startswith("plan.json: ")
    assert "\n" not in str(caught.value)


TEXTS = {
    "": "no JSON",
    "[]": "a schedule is a mapping; found 'list'",
    "null": "a schedule is a mapping",
    "{}": "format: this is no schedule",
    '{"version": NaN}': "NaN is no JSON number",
    "[" * 100_000: "no JSON that can be read",
    '{"version": ' + "9" * 5000 + "}": "no JSON that can be read",
}


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_text_that_is_no_schedule(text: str) -> None:
    with pytest.raises(InputError) as caught:
        schedule_from_json(text, "plan.json")
    assert TEXTS[text] in str(caught.value)


def test_a_truncated_file_names_the_place() -> None:
    text = schedule_to_json(single())
    for length in range(1, len(text) - 2, 97):
        with pytest.raises(InputError, match=r"^plan.json: line \d+, column \d+: this is no JSON"):
            schedule_from_json(text[:length], "plan.json")


def test_writing_replaces_the_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_atomically(target, "old")
    target.chmod(0o640)
    write_atomically(target, "new: ä\n")
    assert target.read_text("utf-8") == "new: ä\n"
    assert target.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_interrupted_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    target = tmp_path / "a.txt"
    write_atomically(target, "old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, failing, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    # a pipe stands for devices: run as root, `-o /dev/null` took the device away
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(pipe, "text")
        assert os.read(end, 99) == b"text"
    finally:
        os.close(end)
    assert pipe.is_fifo()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "a.txt", tmp_path / "b.txt"
    target.write_text("old")
    link.symlink_to("a.txt")
    write_atomically(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_missing_directory_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_atomically(tmp_path / "nowhere" / "a.txt", "text")
    assert os.listdir(tmp_path) == []
