"""Figures say what the schedule says, and nothing in them covers a text."""

from __future__ import annotations

import random
import re
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
from big_schedule import long_schedule
from schedule_fixture import ALL, prefetch
from test_scene import drawn

from spm_opt import cli_plot
from spm_opt.api import load_schedule
from spm_opt.cli import main
from spm_opt.exploration import Exploration, ExploredPoint
from spm_opt.mapping import Traffic
from spm_opt.plot import (
    FIGURES,
    plot_graph,
    plot_memory_map,
    plot_pareto,
    plot_timeline,
    plot_traffic,
)
from spm_opt.plot.style import kinds_shown
from spm_opt.result import Result
from spm_opt.scene import BUFFER_KINDS, Scene
from spm_opt.schedule import Schedule
from spm_opt.stream import COMPUTE

pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parent.parent


@cache
def long() -> Schedule:
    return long_schedule(60)


SCHEDULES = {
    **{name: ALL[name] for name in ("stripes", "fused", "prefetch", "slices")},
    "long": long,
    "by lot": lambda: drawn(6),
}


@cache
def figure(kind: str, name: str):
    """A figure that nobody changes."""
    return FIGURES[kind](SCHEDULES[name]())


def texts(axes) -> list:
    """All texts that can be seen, with their places in pixels."""
    axes.figure.draw_without_rendering()
    found = [*axes.texts, axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
    if axes.axison:
        for place, labels, limits in (
            (0, axes.get_xticklabels(which="both"), sorted(axes.get_xlim())),
            (1, axes.get_yticklabels(which="both"), sorted(axes.get_ylim())),
        ):
            # ticks beyond the limits exist, but are not drawn
            found += [t for t in labels if limits[0] <= t.get_position()[place] <= limits[1]]
    legend = axes.get_legend()
    if legend is not None:
        found += legend.get_texts()
    return [t for t in found if t.get_text() and t.get_visible()]


def boxes(axes) -> list[tuple[str, object]]:
    return [(t.get_text(), t.get_window_extent()) for t in texts(axes)]


def touching(placed: list[tuple[str, object]]) -> list[tuple[str, str]]:
    found = []
    for (a, p), (b, q) in combinations(placed, 2):
        wide = min(p.x1, q.x1) - max(p.x0, q.x0)
        high = min(p.y1, q.y1) - max(p.y0, q.y0)
        if wide > 1 and high > 1:
            found.append((a, b))
    return found


@pytest.mark.parametrize("kind", FIGURES)
@pytest.mark.parametrize("name", SCHEDULES)
def test_no_text_covers_another_and_all_are_on_the_page(name, kind):
    axes = figure(kind, name)
    placed = boxes(axes)
    assert touching(placed) == []
    page = axes.figure.bbox
    for text, box in placed:
        assert box.x0 >= page.x0 - 1, text
        assert box.x1 <= page.x1 + 1, text
        assert box.y0 >= page.y0 - 1, text
        assert box.y1 <= page.y1 + 1, text


@pytest.mark.parametrize("kind", FIGURES)
def test_texts_can_be_read_at_half_the_size(kind):
    # on paper, half of 7 points is the least that is printed
    assert all(t.get_fontsize() >= 7 for t in texts(figure(kind, "long")))


@pytest.mark.parametrize("kind", [kind for kind in FIGURES if kind != "graph"])
def test_axes_have_units(kind):
    axes = figure(kind, "prefetch")
    units = ("cycles)", "KiB)", "MiB)", "byte", "cycle", "order of execution")
    labels = [axes.get_xlabel(), *([axes.get_ylabel()] if kind != "timeline" else [])]
    assert all(any(unit in label for unit in units) for label in labels), labels


@pytest.mark.parametrize("kind", FIGURES)
def test_figures_are_drawn_onto_the_axes_that_one_brings(kind):
    from matplotlib.figure import Figure

    mine = Figure(figsize=(9, 6)).subplots()
    assert FIGURES[kind](prefetch(), mine) is mine


def rectangles(axes, colour: str) -> list[tuple[float, float, float, float]]:
    """Boxes of one colour in data: left, bottom, right, top."""
    from matplotlib.colors import to_hex

    found = []
    for collection in axes.collections:
        colours = [to_hex(c) for c in collection.get_facecolor()]
        if colours and colours[0].lower() == colour.lower():
            for path in collection.get_paths():
                (x0, y0), (x1, y1) = path.vertices.min(axis=0), path.vertices.max(axis=0)
                found.append((x0, y0, x1, y1))
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_memory_map_has_a_box_for_every_buffer(name):
    from spm_opt.scene import BUFFER_KINDS

    schedule = SCHEDULES[name]()
    axes = figure("memory", name)
    expected: dict[str, list] = {}
    for b, life in zip(schedule.buffers, Scene(schedule).lifetimes, strict=True):
        box = (life.first_cycle, b.offset_bytes, life.last_cycle, b.offset_bytes + b.size_bytes)
        expected.setdefault(BUFFER_KINDS[b.kind].colour, []).append(box)
    for colour, found in expected.items():
        assert sorted(rectangles(axes, colour)) == sorted(found)
    capacity = schedule.hardware.spm.capacity_bytes
    assert any(set(line.get_ydata()) == {capacity} for line in axes.lines)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_timeline_is_as_long_as_the_schedule_is_busy(name):
    schedule = SCHEDULES[name]()
    axes = figure("timeline", name)
    computed = sum(x1 - x0 for x0, _, x1, _ in rectangles(axes, "#009E73"))
    assert computed == schedule.claims.compute_cycles
    stalls = Scene(schedule).simulation.stalls
    waited = sum(x1 - x0 for x0, _, x1, _ in rectangles(axes, "#D55E00"))
    assert waited == sum(s.cycles for s in stalls if s.command is not None)


def test_a_timeline_names_what_the_longest_stall_waits_for():
    schedule = prefetch()
    stalls = [s for s in Scene(schedule).simulation.stalls if s.engine == COMPUTE]
    longest = max(stalls, key=lambda s: s.cycles)
    awaited = Scene(schedule).awaited(longest)
    assert any(awaited in t.get_text() for t in plot_timeline(schedule).texts)


@pytest.mark.parametrize("name", SCHEDULES)
def test_bars_of_traffic_add_up_to_the_claim(name):
    schedule = SCHEDULES[name]()
    total = schedule.claims.dram_bytes
    assert sum(bar.get_height() for bar in figure("traffic", name).patches) == total
    both = plot_traffic([schedule, schedule])
    assert sum(bar.get_height() for bar in both.patches) == 2 * total


def test_a_graph_tells_how_maps_travel():
    axes = plot_graph(prefetch())
    arrows = [t for t in axes.texts if getattr(t, "arrow_patch", None) is not None]
    # a to b is pinned; b to c, the input and the output go through DRAM
    bold = [a for a in arrows if a.arrow_patch.get_linewidth() > 2]
    dashed = [a for a in arrows if a.arrow_patch.get_linestyle() not in ("-", "solid")]
    assert (len(bold), len(dashed), len(arrows)) == (1, 3, 4)


@pytest.mark.parametrize("seed", range(6))
def test_lines_of_a_graph_run_through_no_layer(seed):
    axes = plot_graph(drawn(seed))
    inner = [
        (p.get_x() + 0.01, p.get_y() + 0.01, p.get_x() + p.get_width() - 0.01,
         p.get_y() + p.get_height() - 0.01)
        for p in axes.patches if p.get_zorder() == 3
    ]  # fmt: skip
    for line in axes.lines:
        (x0, x1), (y0, y1) = sorted(line.get_xdata()), sorted(line.get_ydata())
        for left, bottom, right, top in inner:
            assert x1 < left or x0 > right or y1 < bottom or y0 > top


def explored() -> Exploration:
    rng = random.Random(0)
    points = tuple(
        ExploredPoint(1024 << n, 1024 << n, Traffic(0, 9_000_000 >> n), n % 2 * 500,
                      rng.randrange(10**5, 10**6), True)
        for n in range(8)
    )  # fmt: skip
    return Exploration("net", "chip", ("a", "b"), points, points[:2], (), 20_000, 8, 0, True)


def test_a_pareto_plot_has_every_point():
    axes = plot_pareto(explored())
    assert sum(len(c.get_offsets()) for c in axes.collections if len(c.get_offsets()) > 1) == 8
    assert touching(boxes(axes)) == []


# ------------------------------------------------------------------------------- command line


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    Result(prefetch()).save(tmp_path / "plan")
    return tmp_path / "plan"


@pytest.mark.parametrize(
    ("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_plot_writes_each_format(plan, tmp_path, suffix, begins):
    file = tmp_path / f"figure.{suffix}"
    assert main(["plot", str(plan), "--kind", "timeline", "-o", str(file)]) == 0
    assert file.read_bytes().startswith(begins)


def test_plot_compares_the_traffic_of_plans(plan, tmp_path):
    file = tmp_path / "traffic.svg"
    command = ["plot", str(plan), str(plan / "schedule.json"), "--kind", "traffic", "-o", str(file)]
    assert main(command) == 0
    assert file.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "x.gif"], "--output: unknown format of figures; found 'x.gif'"),
        (["-o", "x"], "allowed: .png, .svg, .pdf"),
        (["-o", "x.png", "--kind", "pie"], "--kind: unknown kind of figure; found 'pie'"),
        (["-o", "missing/x.png"], "--output: no such directory; found 'missing'"),
        (["-o", "x.png", "--dpi", "0"], "--dpi: out of range; found 0"),
        (["PLAN", "-o", "x.png"], "shows one schedule, not 2"),
    ],
)
def test_plot_refuses_with_one_message(plan, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    options = [str(plan) if option == "PLAN" else option for option in options]
    assert main(["plot", str(plan), *options]) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not list(tmp_path.glob("x*"))


def test_plot_says_what_to_install(plan, tmp_path, monkeypatch, capsys):
    def no_matplotlib(schedule):
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setitem(FIGURES, "memory", no_matplotlib)
    assert main(["plot", str(plan), "-o", str(tmp_path / "x.png")]) == 1
    assert "pip install 'spm-opt[plot]'" in capsys.readouterr().err


def test_a_schedule_read_again_gives_the_same_figure(plan):
    one, two = plot_memory_map(prefetch()), plot_memory_map(load_schedule(plan))
    assert rectangles(one, "#0072B2") == rectangles(two, "#0072B2")


def test_the_example_of_the_documents_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    exec(compile(example, "figures.md", "exec"), {})
    assert (tmp_path / "memory.svg").read_bytes().startswith(b"<?xml")


def test_the_documents_name_every_kind_of_figure():
    text = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", text, re.M))
    assert named == {kind: figure.__name__ for kind, figure in FIGURES.items()}
    assert tuple(FIGURES) == cli_plot.KINDS


@pytest.mark.parametrize("kind", BUFFER_KINDS)
def test_a_legend_names_every_kind_of_buffer(kind: str) -> None:
    assert kinds_shown([kind]) == [BUFFER_KINDS[kind]]
