"""Measured kernels: the table is read, priced, and refused where it is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import spm_opt
from spm_opt.api import load_hardware
from spm_opt.cost.compute import least_cycles, tile_cycles
from spm_opt.errors import InputError
from spm_opt.formats.cycles_csv import with_measured_cycles
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.graph.normalize import normalize


def network() -> Network:
    net = NetworkBuilder("two", dtype="int8")
    x = net.input("x", (1, 8, 16, 16))
    y = net.conv(x, 8, 3, padding=1, name="a")
    net.output(net.conv(y, 8, 1, name="b"))
    return normalize(net.build())


def priced(net: Network, name: str, rows: list[int], channels: int | None = None) -> list[int]:
    layer = next(layer for layer in net.layers if layer.name == name)
    hardware = load_hardware("mobile_npu", {"compute.tile_overhead": "0 cycles"})
    counts = np.array(rows, dtype=np.int64)
    found: list[int] = tile_cycles(layer, "int8", hardware, counts, counts, channels).tolist()
    return found


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cycles.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_tiles_cost_what_was_measured_and_others_lie_between(tmp_path: Path) -> None:
    path = table(tmp_path, "layer,rows,cycles\na,4,100\na,8,160\na,16,320\n")
    net = with_measured_cycles(network(), path)
    assert priced(net, "a", [4, 8, 16]) == [100, 160, 320]
    # between two of them on the line; below the least in proportion; nothing costs nothing
    assert priced(net, "a", [6, 2, 1, 0]) == [130, 50, 25, 0]
    # half of the channels take half as long
    assert priced(net, "a", [8], channels=4) == [80]
    assert priced(net, "b", [16]) == priced(network(), "b", [16])


def test_the_bound_is_the_cheapest_row(tmp_path: Path) -> None:
    net = with_measured_cycles(network(), table(tmp_path, "layer,rows,cycles\na,4,100\na,8,160\n"))
    hardware = load_hardware("mobile_npu", {"compute.tile_overhead": "0 cycles"})
    assert least_cycles(net.layers[0], "int8", hardware) == 320
    for height in range(1, 17):
        counts = [height] * (16 // height) + [16 % height]
        assert sum(priced(net, "a", counts)) >= 320


def test_numbers_of_tiles_are_rows(tmp_path: Path) -> None:
    net = with_measured_cycles(network(), table(tmp_path, "layer,tiles,cycles\na,1,400\na,4,90\n"))
    assert net.layers[0].tile_cycles == ((4, 90), (16, 400))


def test_a_plan_with_a_table_claims_its_cycles(tmp_path: Path) -> None:
    path = table(tmp_path, "layer,tiles,cycles\na,1,40000\n")
    slow = spm_opt.solve(network(), "mobile_npu", cycles=path, time_limit=20, workers=1)
    fast = spm_opt.solve(network(), "mobile_npu", time_limit=20, workers=1)
    assert slow.compute_cycles >= 40_000 > fast.compute_cycles
    assert spm_opt.check(slow.schedule) == ()


def test_a_plan_with_the_most_cycles_is_checked(tmp_path: Path) -> None:
    path = table(tmp_path, f"layer,rows,cycles\na,16,{2**36}\nb,1,{2**32}\n")
    slow = spm_opt.solve(network(), "mobile_npu", cycles=path, time_limit=2, workers=1)
    assert slow.compute_cycles >= 2**36


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("layer,cycles\na,3\n", "line 1"),
        ("layer,rows,cycles\nq,3,4\n", "'q'"),
        ("layer,rows,cycles\na,17,4\n", "1 .. 16"),
        ("layer,rows,cycles\na,0,4\n", "positive"),
        ("layer,rows,cycles\na,3,-4\n", "positive"),
        (f"layer,rows,cycles\na,3,{2**45}\n", "1 .. "),
        (f"layer,rows,cycles\na,1,{2**36}\n", f"1 .. {2**32}"),
        (f"layer,rows,cycles\na,3,{'9' * 5000}\n", "positive"),
        (f"layer,rows,cycles\na,{'9' * 5000},3\n", "positive"),
        ("layer,rows,cycles\na,3\n", "three cells"),
        ("layer,rows,cycles\na,3,4\na,3,5\n", "line 3"),
    ],
)  # fmt: skip
def test_wrong_tables_are_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        with_measured_cycles(network(), table(tmp_path, text))
    assert words in str(caught.value)
    assert "cycles.csv" in str(caught.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        with_measured_cycles(network(), tmp_path / "nowhere.csv")
