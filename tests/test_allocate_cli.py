"""``spm-opt alloc``: CSV in and out, exit codes, figures, the picture, mistakes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import allocate_oracle as oracle
import pytest

from spm_opt.allocation import Buffer, Region, allocate
from spm_opt.cli import main
from spm_opt.emit.alloc_svg import allocation_svg
from spm_opt.errors import InputError
from spm_opt.formats.alloc_csv import allocation_text, parse_buffers, read_buffers


@pytest.fixture
def gadget(tmp_path: Path) -> str:
    lines = [f"{b.id},{b.lower},{b.upper},{b.size}" for b in oracle.gadget()]
    path = tmp_path / "gadget.csv"
    path.write_text("\n".join(("id,lower,upper,size", *lines, "")))
    return str(path)


def test_placed_buffers_come_back_as_they_were_with_offsets(gadget, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert main(["alloc", gadget, "--capacity", "11", "-o", str(out)]) == 0
    assert "placed 7 buffers" in capsys.readouterr().out
    back = read_buffers(out)
    assert [(b.id, b.lower, b.upper, b.size) for b in back] == [
        (b.id, b.lower, b.upper, b.size) for b in oracle.gadget()
    ]
    # the offsets are now fixed: the same file is a placement already
    assert main(["alloc", str(out), "--capacity", "11"]) == 0
    assert allocate(back, 11).offsets == tuple(b.offset for b in back)


def test_a_misfit_says_what_is_needed_where(gadget, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert main(["alloc", gadget, "--capacity", "10", "-o", str(out)]) == 3
    text = capsys.readouterr().out
    assert "no placement exists (proved)" in text
    assert "needed     at least 11 bytes, available 10" in text
    assert "tightest   at time 8: 10 bytes alive in 3 buffers: 5, 2, 4" in text
    assert not out.exists()


def test_a_misfit_of_one_region_counts_only_what_must_lie_there(tmp_path, capsys):
    path = tmp_path / "regions.csv"
    path.write_text(
        "id,lower,upper,size,region\na,0,2,4,fast\nb,1,3,4,fast\nc,0,9,50,slow\nd,1,2,1,\n"
    )
    regions = ["--region", "fast=6", "--region", "slow=100"]
    assert main(["alloc", str(path), *regions]) == 3
    text = capsys.readouterr().out
    assert "needed     at least 8 bytes in fast, available 6" in text
    assert "tightest   at time 1: 8 bytes alive in 2 buffers: a, b" in text
    assert main(["alloc", str(path), *regions, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["load_regions"] == ["fast"]


def test_not_found_in_time_is_told_apart(gadget, capsys):
    # no work is allowed: the greedy placements fail at 10, and nothing is proved
    assert main(["alloc", gadget, "--capacity", "10", "--time-limit", "0", "--json"]) == 4
    figures = json.loads(capsys.readouterr().out)
    assert (figures["status"], figures["peak"], figures["offsets"]) == ("not found", 11, [])


def test_json_is_one_object(gadget, capsys):
    assert main(["alloc", gadget, "--json", "--align", "2"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["status"] == "placed"
    assert figures["gap"] == (figures["peak"] - figures["bound"]) / figures["bound"]
    assert all(entry["offset"] % 2 == 0 for entry in figures["offsets"])


def test_regions_from_the_command_line(tmp_path, capsys):
    path = tmp_path / "b.csv"
    path.write_text("id,lower,upper,size,region\na,0,2,4,\nb,0,2,4,fast slow\nc,0,2,2,fast\n")
    out = tmp_path / "o.csv"
    options = ["--region", "fast=6", "--region", "slow=4", "-o", str(out)]
    assert main(["alloc", str(path), *options]) == 0
    assert out.read_text().splitlines()[0] == "id,lower,upper,size,offset,region"
    assert read_buffers(out)[2].regions == ("fast",)


def test_the_picture_is_svg_with_a_box_for_each_buffer(gadget, tmp_path):
    picture = tmp_path / "p.svg"
    assert main(["alloc", gadget, "--capacity", "11", "--plot", str(picture)]) == 0
    tree = ElementTree.parse(picture)
    titles = [e.text for e in tree.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 7
    assert titles[0].startswith("0: [")
    assert main(["alloc", gadget, "--plot", str(tmp_path / "p.png")]) == 1


def test_ids_that_xml_cannot_hold_do_not_break_the_picture(tmp_path):
    path, picture = tmp_path / "b.csv", tmp_path / "p.svg"
    path.write_text("id,lower,upper,size\na\x01,0,2,4\n")
    assert main(["alloc", str(path), "--plot", str(picture)]) == 0
    ElementTree.parse(picture)


def test_a_picture_of_regions_has_a_chart_each():
    buffers = [Buffer("<a>", 0, 2, 4), Buffer("b", 0, 2, 4)]
    regions = [Region("x", 4), Region("y", 4)]
    found = allocate(buffers, regions=regions)
    svg = allocation_svg(buffers, found, [(r.name, r.capacity) for r in regions])
    ElementTree.fromstring(svg)
    assert "address x" in svg
    assert "address y" in svg


def test_other_names_of_columns_are_read():
    # `end` is the last moment of life, as in MiniMalloc
    buffers = parse_buffers("buffer_id,start,end,size,alignment\nx,3,5,8,4\ny,0,0,1,\n")
    assert buffers == (Buffer("x", 3, 6, 8, alignment=4), Buffer("y", 0, 1, 1))


def test_alignment_survives_the_round_trip():
    buffers = parse_buffers("id,lower,upper,size,alignment\nx,3,5,8,4\ny,0,4,1,\n")
    again = parse_buffers(allocation_text(buffers, allocate(buffers)))
    assert [b.alignment for b in again] == [4, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; allowed: a header: id,lower,upper,size"),
        ("id,lower,upper\n", "line 1: missing columns; found 'size'"),
        ("id,lower,upper,size,gaps\n", "line 1: unknown column; found 'gaps'"),
        ("id,lower,lower,upper,size\n", "line 1: a column twice; found 'lower'"),
        ("id,lower,upper,size\na,0,1\n", "line 2: 3 cells for 4 columns"),
        ("id,lower,upper,size\n\na,0,1,x\n", "line 3: size: is no whole number of 63 bits"),
        ("id,lower,upper,size\na,0,1,4.5\n", "line 2: size: is no whole number"),
        ("id,lower,upper,size\na,0,1,0\n", "line 2: buffer 'a': size: must be positive; found 0"),
        ("id,lower,upper,size\na,0,1,-3\n", "line 2: buffer 'a': size: must be positive; found -3"),
        ("id,lower,upper,size\na,2,2,1\n", "lower must be less than upper"),
        ("id,lower,upper,size\na,0,1,9223372036854775808\n", "size: must fit 63 bits"),
        ("id,lower,upper,size\na,0,1,1\nb,0,1,1\na,0,1,1\n", "line 4: the id of line 2 again"),
        ("id,lower,upper,size\n,0,1,1\n", "line 2: an empty id"),
        ('id,lower,upper,size\n"a,0,1,1\n', "line 2: no CSV"),
        ("id,lower,upper,size,alignment,offset\na,0,1,1,4,2\n", "no multiple of the alignment 4"),
    ],
)
def test_a_malformed_file_gets_one_message_with_its_line(tmp_path, capsys, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert main(["alloc", str(path)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"spm-opt: error: {path}: ")
    assert message in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--capacity", "0"], "--capacity: must be positive"),
        (["--capacity", "1 parsec"], "--capacity"),
        (["--capacity", "9" * 5000], "--capacity"),
        (["--align", "-4"], "--align"),
        (["--region", "fast"], "--region: no region; found 'fast'; allowed: NAME=SIZE"),
        (["--region", "a=8", "--capacity", "8"], "regions have capacities of their own"),
        (["-o", "no/such/directory/x.csv"], "error: no/such/directory/x.csv: cannot be written"),
        (["-o", "."], "error: .: cannot be written: Is a directory"),
    ],
)
def test_a_wrong_option_gets_one_message(gadget, capsys, options, message):
    assert main(["alloc", gadget, *options]) == 1
    assert message in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_buffers(tmp_path / "none.csv")


def test_buffers_that_contradict_one_another_are_named_with_their_file(tmp_path, capsys):
    path = tmp_path / "fixed.csv"
    path.write_text("id,lower,upper,size,offset\na,0,4,8,4\nb,3,9,8,8\n")
    assert main(["alloc", str(path), "--capacity", "64"]) == 1
    assert capsys.readouterr().err.startswith(f"spm-opt: error: {path}: buffer 'b': offset: ")
    assert main(["alloc", str(path), "--time-limit", "-1"]) == 1
    assert str(path) not in capsys.readouterr().err
