"""The report as a file: whole, safe, and true to the schedule; and what its command refuses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
from big_schedule import long_schedule
from schedule_fixture import ALL, fused, prefetch

from spm_opt import api, whatif
from spm_opt.cli import main
from spm_opt.graph.network import Network
from spm_opt.html import report_html
from spm_opt.report import solve_figures
from spm_opt.result import Result
from spm_opt.scene import Scene
from spm_opt.schedule import Schedule
from spm_opt.verify import verify


def embedded(page: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


def test_the_long_schedule_of_these_tests_is_valid():
    assert verify(long_schedule(24, tiles=2)) == ()


@pytest.mark.parametrize("name", ALL)
def test_the_page_holds_the_whole_schedule(name):
    schedule = ALL[name]()
    (found,) = embedded(report_html([("plan", schedule)]))["schedules"]
    assert found["figures"] == json.loads(json.dumps(solve_figures(schedule, verified=True)))
    assert sum(t[6] for t in found["transfers"]) == schedule.claims.dram_bytes
    assert sum(c[4] - c[3] for c in found["computes"]) == schedule.claims.compute_cycles
    texts = found["texts"]
    assert [texts[b[2]] for b in found["buffers"]] == [b.tensor for b in schedule.buffers]
    assert [(b[3], b[4]) for b in found["buffers"]] == [
        (b.offset_bytes, b.size_bytes) for b in schedule.buffers
    ]
    stalls = Scene(schedule).simulation.stalls
    assert sum(s[2] - s[1] for s in found["stalls"]) == sum(s.cycles for s in stalls)
    assert all(len(row) == len(found["columns"]) for row in found["layers"])
    column = found["columns"].index("layer")
    computed = dict.fromkeys(c.layer for c in schedule.computes)
    assert [row[column] for row in found["layers"]] == list(computed)


def test_the_page_asks_no_network():
    page = report_html([("plan", prefetch())])
    assert not re.search(r"https?://|\bsrc=|@import|url\(|fetch\(|XMLHttpRequest", page)
    assert "default-src 'none'" in page
    assert "{{" not in page


def renamed(schedule: Schedule, name: str) -> Schedule:
    """The schedule of a network of another name."""
    old = schedule.network
    network = Network(name, old.tensors, old.layers, old.inputs, old.outputs, ("</script><b>",))
    return replace(schedule, network=network)


@pytest.mark.parametrize("name", ["</script><script>alert(1)//", "{{data}}", "a & b <i>", "\ud800"])
def test_names_from_foreign_files_are_never_markup(name):
    page = report_html([("plan", renamed(prefetch(), name))])
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    (found,) = embedded(page)["schedules"]
    assert found["figures"]["model"] == name
    assert found["figures"]["warnings"] == ["</script><b>"]


def test_long_curves_keep_their_peaks(monkeypatch):
    schedule = long_schedule(60)
    monkeypatch.setattr("spm_opt.html.data._LIVE_POINTS", 20)
    (found,) = embedded(report_html([("plan", schedule)]))["schedules"]
    simulation = Scene(schedule).simulation
    assert len(simulation.occupancy) > 40
    assert len(found["live"]) <= 2 * 20
    assert max(found["live"][1::2]) == simulation.peak_live_bytes


# ------------------------------------------------------------------------------- what would help


def solver(latencies: dict[tuple[int, Fraction], int], asked: list):
    """A planner that finds these latencies, by capacity and bandwidth."""

    def solve(network, machine, **options):
        asked.append((machine, options))
        latency = latencies[machine.spm.capacity_bytes, machine.dram.bytes_per_cycle]
        claims = SimpleNamespace(dram_bytes=latency * 2)
        return SimpleNamespace(
            latency_cycles=latency, status="feasible", gap=0.25,
            schedule=SimpleNamespace(claims=claims),
        )  # fmt: skip

    return solve


def test_what_if_says_what_is_proven_what_is_found_and_what_is_neither():
    plan = prefetch()
    plan = replace(
        plan,
        claims=replace(plan.claims, latency_cycles=1000),
        provenance=replace(plan.provenance, latency_lower_bound_cycles=900),
    )
    asked: list = []
    now, wide = plan.hardware.spm.capacity_bytes, plan.hardware.dram.bytes_per_cycle
    found = whatif.what_if(
        plan, 7.0, (Fraction(9, 8), Fraction(2), Fraction(4)),
        solver({
            (now * 9 // 8, wide): 950, (now * 2, wide): 980, (now * 4, wide): 899,
            (now, wide * 9 / 8): 1200, (now, wide * 2): 1000, (now, wide * 4): 1001,
        }, asked),
    )  # fmt: skip
    spm, dram = found["axes"]
    assert [(p["latency_cycles"], p["verdict"]) for p in spm["points"]] == [
        (950, "found"), (950, "none"), (899, "proven"),
    ]  # fmt: skip
    assert [(p["latency_cycles"], p["verdict"]) for p in dram["points"]] == [(1000, "none")] * 3
    assert [p["dram_bytes"] for p in spm["points"]] == [1900, 1900, 1798]
    assert [p["value"] for p in spm["points"]] == ["9 KiB", "16 KiB", "32 KiB"]
    assert "comes at 9 KiB (8 KiB now): 950 cycles, 5.00% fewer" in spm["headline"]
    assert "From 32 KiB on that is impossible." in spm["headline"]
    assert dram["headline"].startswith("No faster plan was found with a larger DRAM bandwidth")
    assert all(options["time_limit"] == 7.0 for _, options in asked)
    # one resource at a time
    for machine, _ in asked:
        same = machine.spm == plan.hardware.spm, machine.dram == plan.hardware.dram
        assert sorted(same) == [False, True]


def test_what_if_plans_for_real():
    plan = api.solve(
        fused().network, fused().hardware, workers=1, deterministic_limit=1.0, time_limit=20
    ).schedule
    found = whatif.what_if(plan, 5.0, (Fraction(2),))
    for axis in found["axes"]:
        (point,) = axis["points"]
        assert point["latency_cycles"] <= plan.claims.latency_cycles
    # the queue is what this network waits for
    assert found["axes"][1]["points"][0]["verdict"] != "none"


# ------------------------------------------------------------------------------- command line


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    Result(prefetch()).save(tmp_path / "plan")
    return tmp_path / "plan"


def test_report_writes_one_file(plan, tmp_path, capsys):
    file = tmp_path / "report.html"
    assert main(["report", str(plan), "-o", str(file)]) == 0
    assert embedded(file.read_text(encoding="utf-8"))["strategies"] == []
    assert capsys.readouterr().out == ""


def test_report_of_two_tells_them_apart(plan, tmp_path):
    other = replace(prefetch(), provenance=replace(prefetch().provenance, strategy="pin"))
    Result(other).save(tmp_path / "other")
    Result(prefetch()).save(tmp_path / "again")
    file = tmp_path / "report.html"
    for name, labels in (("other", ["joint", "pin"]), ("again", ["plan", "again"])):
        assert main(["report", str(plan), str(tmp_path / name), "-o", str(file)]) == 0
        found = embedded(file.read_text(encoding="utf-8"))["schedules"]
        assert [p["label"] for p in found] == labels


def test_report_finds_the_strategies_beside_it(tmp_path):
    for strategy in ("joint", "pin", "fuse"):
        made = replace(prefetch().provenance, strategy=strategy)
        Result(replace(prefetch(), provenance=made)).save(tmp_path / strategy)
    # another machine is no comparison
    alien = replace(prefetch().provenance, strategy="greedy")
    Result(replace(fused(), provenance=alien)).save(tmp_path / "greedy")
    file = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "pin" / "schedule.json"), "-o", str(file)]) == 0
    found = embedded(file.read_text(encoding="utf-8"))["strategies"]
    assert [s["strategy"] for s in found] == ["joint", "fuse", "pin"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "x.pdf"], "--output: a report is an HTML file; found 'x.pdf'; allowed: .html"),
        (["-o", "missing/x.html"], "--output: no such directory; found 'missing'"),
        (["PLAN", "PLAN", "-o", "x.html"], "a report shows one schedule or two; found 3"),
        (["-o", "x.html", "--time-limit", "0"], "--time-limit: must be positive; found 0.0"),
    ],
)
def test_report_refuses_with_one_message(plan, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    options = [str(plan) if option == "PLAN" else option for option in options]
    assert main(["report", str(plan), *options]) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_path.glob("x*"))


def test_report_refuses_an_invalid_schedule(plan, tmp_path, capsys):
    schedule = prefetch()
    claims = replace(schedule.claims, dram_bytes=1)
    Result(replace(schedule, claims=claims)).save(plan)
    assert main(["report", str(plan), "-o", str(tmp_path / "x.html")]) == 1
    assert "the schedule is invalid" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()
