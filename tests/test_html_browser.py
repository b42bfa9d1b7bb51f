"""The report in headless Chromium: hover, click, keys, sort, filter, zoom, print; no error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from big_schedule import long_schedule
from browser import MISSING, Browser
from schedule_fixture import prefetch, stripes

from spm_opt.html import report_html
from spm_opt.report import solve_figures
from spm_opt.scene import BUFFER_KINDS, Scene

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")

#: where the map's axes begin and end in the canvas, as draw.js has them
LEFT, RIGHT, TOP, BOTTOM = 104, 12, 8, 30


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    made = Browser()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page; at the end the console must have been silent."""

    def show(*schedules, **options) -> Browser:
        page = tmp_path / "report.html"
        page.write_text(report_html(schedules, **options), encoding="utf-8")
        browser.open(page)
        assert browser.run("return document.body.dataset.ready") is not None
        return browser

    browser.log()
    yield show
    assert browser.log() == []


def middle_of(browser: Browser, schedule, number: int) -> tuple[int, int]:
    """Where the middle of a buffer is drawn in the map, when everything is shown."""
    left, top, right, bottom = drawn_at(browser, schedule, number)
    return round((left + right) / 2), round((top + bottom) / 2)


def drawn_at(browser: Browser, schedule, number: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a buffer in the map, when everything is shown."""
    life, b = Scene(schedule).lifetimes[number], schedule.buffers[number]
    width, height = browser.run(
        "const c = document.querySelector('canvas.map'); return [c.clientWidth, c.clientHeight]"
    )
    along = (width - LEFT - RIGHT) / schedule.claims.latency_cycles
    up = (height - TOP - BOTTOM) / (1.03 * schedule.hardware.spm.capacity_bytes)
    floor = height - BOTTOM - up * b.offset_bytes
    left, right = LEFT + along * life.first_cycle, LEFT + along * life.last_cycle
    return left, floor - up * b.size_bytes, right, floor


def text(browser: Browser, selector: str) -> str:
    return browser.run("return document.querySelector(arguments[0]).innerText", selector)


def rows(browser: Browser, table: str) -> list[list[str]]:
    script = (
        "return [...document.querySelectorAll(arguments[0] + ' tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.innerText))"
    )
    return browser.run(script, table)


def shown(browser: Browser) -> list[float]:
    """Cycles that are shown."""
    return browser.run("return [TIME.begin, TIME.end]")


def test_hovering_over_a_box_says_what_it_is(opened):
    schedule = prefetch()
    page = opened(("plan", schedule))
    for number, (b, life) in enumerate(
        zip(schedule.buffers, Scene(schedule).lifetimes, strict=True)
    ):
        page.point("canvas.map", *middle_of(page, schedule, number))
        said = text(page, "#tip")
        assert said.startswith(f"{b.tensor} (")
        assert f"{b.size_bytes:,} B" in said
        assert f"at offset {b.offset_bytes:,}" in said
        assert f"lifetime: cycles {life.first_cycle:,} to {life.last_cycle:,}" in said
        if life.readers:
            assert f"read by {', '.join(life.readers)}" in said


def test_hovering_over_the_timeline_says_what_waits(opened):
    schedule = prefetch()
    page = opened(("plan", schedule))
    stall = max(
        (s for s in Scene(schedule).simulation.stalls if s.engine == "compute"),
        key=lambda s: s.cycles,
    )
    width = page.run("return document.querySelector('canvas.lanes').clientWidth")
    time = (stall.begin_cycle + stall.end_cycle) / 2 / schedule.claims.latency_cycles
    page.point("canvas.lanes", round(LEFT + time * (width - LEFT - RIGHT)), TOP + 2 * 28 + 12)
    assert f"compute waits for {Scene(schedule).awaited(stall)}" in text(page, "#tip")


def test_a_click_shows_the_layer_its_group_and_its_transfers(opened):
    schedule = prefetch()
    page = opened(("plan", schedule))
    names = [b.name for b in schedule.buffers]
    page.point("canvas.map", *middle_of(page, schedule, names.index("a.pinned")), click=True)
    said = text(page, "#details")
    assert said.startswith("a\n")
    assert "read by: b (kept in SPM)" in said
    moved = rows(page, "#details table")
    assert [row[0] for row in moved] == ["load weights a", "load map x"]
    assert len(page.run("return [...document.querySelectorAll('tr.chosen')]")) == 1
    page.press("\ue00c")  # Escape
    assert text(page, "#details") == ""


def test_wheel_buttons_and_keys_zoom_both_plots_together(opened):
    schedule = prefetch()
    page = opened(("plan", schedule))
    whole = [0, schedule.claims.latency_cycles]
    assert shown(page) == whole
    # the page scrolls where nobody asked for the canvas
    page.run("document.querySelector('canvas.map').scrollIntoView({block: 'center'})")
    page.wheel("canvas.map", 400, 100, -300)
    assert shown(page) == whole
    page.point("canvas.map", 400, 20, click=True)
    page.wheel("canvas.map", 400, 100, -300)
    begin, end = shown(page)
    assert 0 < begin < end < whole[1]
    page.press("0")
    assert shown(page) == whole
    page.press("+")
    assert shown(page)[1] - shown(page)[0] == pytest.approx(0.8 * whole[1])
    begin, _ = shown(page)
    page.press("\ue014")  # to the right
    assert shown(page)[0] > begin
    page.press("]")
    low, high = page.run("return [VIEWS[0].addresses.low, VIEWS[0].addresses.high]")
    assert high - low == pytest.approx(0.8 * 1.03 * schedule.hardware.spm.capacity_bytes)
    page.click("#fit")
    assert shown(page) == whole
    page.click("#zoom-in")
    assert shown(page)[1] - shown(page)[0] == pytest.approx(0.6 * whole[1])


def test_keys_alone_lead_to_every_box_and_its_layer(opened):
    schedule = prefetch()
    page = opened(("plan", schedule))
    page.run("document.querySelector('canvas.map').focus()")
    said = []
    for _ in schedule.buffers:
        page.press("n")
        said.append(text(page, "#say").split(" (")[0])
    assert sorted(said) == sorted(b.tensor for b in schedule.buffers)
    page.press("\ue007")  # Enter
    assert text(page, "#details") != ""
    page.run("document.querySelector('#layers tbody tr').focus()")
    page.press("\ue015")  # down
    page.press("\ue007")
    assert text(page, "#details").startswith("b\n")


def test_the_table_sorts_and_filters(opened):
    page = opened(("plan", long_schedule(30)))
    table = "#layers table"
    assert len(rows(page, table)) == 30
    assert text(page, "#layers th[aria-sort=none] button").startswith("layer")
    heads = page.run("return [...document.querySelectorAll('#layers th')].map((h) => h.innerText)")
    column = next(n for n, head in enumerate(heads) if head.startswith("DRAM feature map"))
    page.click(f"#layers th:nth-child({column + 1}) button")
    found = [int(row[column].replace(",", "")) for row in rows(page, table)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]
    page.click(f"#layers th:nth-child({column + 1}) button")
    found = [int(row[column].replace(",", "")) for row in rows(page, table)]
    assert found == sorted(found)
    page.type("#layers input", "block.1 conv3")
    assert [row[0] for row in rows(page, table)] == ["block.1.conv3"]
    assert text(page, "#layers .filters .note") == "1 of 30"
    page.run("const i = document.querySelector('#layers input'); i.value = ''; i.oninput?.()")


def test_the_summary_has_the_figures(opened):
    schedule = prefetch()
    page = opened(("plan", schedule))
    said = dict(rows(page, "#summary-body > table"))
    assert said["latency"].startswith(f"{schedule.claims.latency_cycles:,} cycles")
    assert said["DRAM traffic"].startswith(f"{schedule.claims.dram_bytes:,} B")
    assert said["status"] == "optimal, gap 0.00 %"


def test_two_schedules_and_their_differences(opened):
    one, two = prefetch(), stripes()
    page = opened(("one", one), ("two", two), strategies=[solve_figures(one, verified=True)] * 2)
    assert page.run("return document.querySelectorAll('canvas.map').length") == 2
    said = {row[0]: row[1:] for row in rows(page, "#summary-body > table")}
    saved = one.claims.latency_cycles - two.claims.latency_cycles
    assert saved > 0
    assert said["latency"][2].startswith(f"−{saved:,} cycles")
    assert shown(page) == [0, one.claims.latency_cycles]
    differences = rows(page, "#layers table")
    a = next(row for row in differences if row[0] == "a")
    assert int(a[4].replace("−", "-").replace(",", "").replace("same", "0")) == (
        int(a[3].replace(",", "")) - int(a[2].replace(",", ""))
    )


def test_what_would_help_is_told(opened):
    point = {"value": "16 KiB", "latency_cycles": 10, "dram_bytes": 5, "status": "optimal",
             "gap": 0.0, "verdict": "proven"}  # fmt: skip
    axis = {"name": "scratchpad", "title": "More scratchpad", "headline": "It helps.",
            "points": [point]}  # fmt: skip
    asked = {"time_limit": 1, "latency_cycles": 20, "lower_bound_cycles": 15, "axes": [axis]}
    page = opened(("plan", prefetch()), what_if=asked)
    said = text(page, "#help-body")
    assert "It helps." in said
    assert "faster than any plan on the machine as it is" in said
    assert "−10 (-50.0 %)" in said


@pytest.mark.parametrize("name", ["<img src=x onerror=document.title='bad'>", "\U0001f600 é"])
def test_names_are_shown_as_they_are(opened, name):
    schedule = prefetch()
    schedule = replace(schedule, network=replace(schedule.network, name=name))
    page = opened(("plan", schedule))
    assert name in text(page, "figcaption")
    assert page.run("return document.title") != "bad"


def test_a_thousand_layers_open_within_three_seconds(opened):
    page = opened(("plan", long_schedule(1000, tiles=3)))
    assert int(page.run("return document.body.dataset.ready")) <= 3000
    page.point("canvas.map", 300, 100)
    page.run("document.querySelector('canvas.map').focus()")
    spent = page.run(
        "const t = performance.now(); for (let n = 0; n < 5; n++) VIEWS[0].paint();"
        "return (performance.now() - t) / 5"
    )
    # a frame that a person sees as motion, on a slow machine
    assert spent < 300
    page.type("#layers input", "block.99.conv9")
    assert [row[0] for row in rows(page, "#layers table")] == ["block.99.conv9"]


def test_the_report_prints(opened, tmp_path):
    page = opened(("plan", long_schedule(200)))
    page.print(tmp_path / "report.pdf")
    printed = (tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    # every row of the table is on paper, not only those that the screen shows
    assert len(rows(page, "#layers table")) == 200
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 3


def test_pixels_of_the_map_are_those_of_the_buffers(opened):
    schedule = prefetch()
    page = opened(("plan", schedule))
    colours = {name: kind.colour for name, kind in BUFFER_KINDS.items()}
    script = (
        "const c = document.querySelector('canvas.map'), r = window.devicePixelRatio;"
        "const all = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return arguments[0].map(([x, y]) => [0, 1, 2].map((n) => "
        "all[4 * (Math.round(y * r) * c.width + Math.round(x * r)) + n]))"
    )
    # in a corner, where no name stands
    places, wanted = [], []
    for number, b in enumerate(schedule.buffers):
        left, top, right, bottom = drawn_at(page, schedule, number)
        if right - left > 12 and bottom - top > 12:
            places.append((left + 3, top + 3))
            wanted.append(tuple(bytes.fromhex(colours[b.kind][1:])))
    assert len(wanted) >= 6
    assert [tuple(pixel) for pixel in page.run(script, places)] == wanted
