"""Networks in SoMa's table form: what is wrong in a table is named; which cases a call means."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from spm_opt.errors import InputError

REPO = Path(__file__).resolve().parent.parent
HEAD = (
    "id,name,type,C,K,R,S,H,W,sH,sW,G,N,ifm_c,ifm_h,ifm_w,ofm_c,ofm_h,ofm_w,ofm_bytes,weight_bytes,"
    "dyn_weight,ops,ifm_prevs,wgt_prevs,ext_prevs,full_cycles"
)
FIRST = "0,conv,Conv,3,8,3,3,8,8,1,1,1,1,3,8,8,8,8,8,512,216,0,13824,,,0,64"
SECOND = "1,conv,Conv,8,8,1,1,8,8,1,1,1,1,8,8,8,8,8,8,512,64,0,4096,0,,,64"


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(REPO / "benchmarks"), *sys.path])


def tables(folder: Path, *lines: str) -> Path:
    (folder / "net_layers.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def cases(*words: str) -> list[Any]:
    import soma

    return list(soma.wanted(soma.parse(list(words))))


def test_a_table_is_a_network(tmp_path: Path) -> None:
    from soma_tables import network_of

    net = network_of(tables(tmp_path, HEAD, FIRST, SECOND), "net")
    assert [layer.cycles for layer in net.layers] == [64, 64]
    assert (net.inputs, net.outputs) == (("input 0",), ("map 1",))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "has no layers"),
        ((HEAD,), "has no layers"),
        ((HEAD.replace("full_cycles", "cycles"), FIRST), "line 1: lacks the columns full_cycles"),
        ((HEAD, FIRST, "1,conv,Conv"), "line 3: 27 cells"),
        ((HEAD, FIRST.replace(",64", ",x")), "line 2: full_cycles"),
        ((HEAD, FIRST.replace(",64", ",-64")), "line 2: full_cycles"),
        ((HEAD, FIRST.replace(",512,", ",0,")), "line 2: ofm_bytes"),
        (
            (HEAD, FIRST.replace("Conv,3,", "Conv,4,").replace(",1,1,1,1,", ",1,1,3,1,")),
            "line 2: C",
        ),
        ((HEAD, FIRST, SECOND.replace(",0,,,64", ",7,,,64")), "line 3: ifm_prevs"),
        ((HEAD, FIRST, SECOND.replace(",0,,,64", ",1,,,64")), "line 3: ifm_prevs"),
        ((HEAD, FIRST, SECOND.replace(",0,,,64", ",0,7,,64")), "line 3: wgt_prevs"),
        ((HEAD, FIRST, SECOND.replace(",0,,,64", ",,,,64")), "line 3: ifm_prevs and ext_prevs"),
        ((HEAD, FIRST, SECOND.replace(",0,,,64", ",0,,1,64")), "line 3: ifm_c"),
        ((HEAD, FIRST, FIRST), "line 3: id"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, lines: tuple[str, ...], words: str) -> None:
    from soma_tables import network_of

    with pytest.raises(InputError) as caught:
        network_of(tables(tmp_path, *lines), "net")
    assert words in str(caught.value)
    assert "net_layers.csv" in str(caught.value)


def test_a_wrong_table_of_trimmed_cycles_is_named(tmp_path: Path) -> None:
    from soma_tables import network_of

    folder = tables(tmp_path, HEAD, FIRST, SECOND)
    (folder / "net_schedule_cycles.csv").write_text("id,name,cycles\n0,conv,60\n1,conv,x\n")
    with pytest.raises(InputError, match=r"net_schedule_cycles\.csv: line 3: cycles"):
        network_of(folder, "net")
    (folder / "net_schedule_cycles.csv").write_text("id,name,cycles\n0,conv,60\n")
    assert [layer.cycles for layer in network_of(folder, "net").layers] == [60, 64]


def test_an_unknown_network_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import soma

    monkeypatch.setattr(sys, "argv", ["soma.py", "--tables", str(tmp_path), "--net", "other"])
    assert soma.main() == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "other_layers.csv" in told


def test_cases_are_the_published_ones_or_those_asked_for() -> None:
    import soma

    assert cases() == list(soma.PUBLISHED)
    assert cases("--net", "randwire_small") == [soma.PUBLISHED[-1]]
    assert cases("--net", "mine") == [("mine", 16, "8 MiB", None)]
    assert cases("--net", "resnet50", "--dram", "32") == [("resnet50", 32, "8 MiB", 873_883)]
    # a machine of one's own for every published network: never an empty table for the docs
    assert [case[:3] for case in cases("--dram", "8")] == [
        (net, 8, "8 MiB") for net in dict.fromkeys(case[0] for case in soma.PUBLISHED)
    ]
    assert soma.is_published(soma.parse([]))
    for words in (["--dram", "8"], ["--spm", "4 MiB"], ["--net", "a"], ["--variants", "free"]):
        assert not soma.is_published(soma.parse(words))


@pytest.mark.parametrize("words", [["--dram", "0"], ["--dram", "-1"], ["--variants", "some"]])
def test_wrong_options_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        cases(*words)


@pytest.mark.parametrize("complaints", [[], ["row 3 was never loaded"]])
def test_a_plan_that_is_refused_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    complaints: list[str],
) -> None:  # fmt: skip
    import soma

    folder = tables(tmp_path, HEAD, FIRST, SECOND)
    monkeypatch.setattr(soma, "verify", lambda schedule: complaints)
    monkeypatch.setattr(sys, "argv", ["soma.py", "--tables", str(folder), "--net", "net"])
    assert soma.main() == bool(complaints)
    told = capsys.readouterr()
    assert ("| NO |" in told.out) == bool(complaints)
    assert all(sentence in told.err for sentence in complaints)
