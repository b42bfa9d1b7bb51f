"""The page: one HTML file that holds its style, its programs and its data, and asks no network."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from spm_opt.html.data import schedule_data
from spm_opt.report import SolveFigures
from spm_opt.schedule import Schedule

__all__ = ["report_html"]

#: programs, in the order in which they need each other
SCRIPTS: Final = ("base.js", "draw.js", "view.js", "table.js", "report.js")


def report_html(
    schedules: Sequence[tuple[str, Schedule]],
    strategies: Sequence[SolveFigures] = (),
    what_if: Mapping[str, Any] | None = None,
) -> str:
    """The report of one schedule, or of two and their differences.

    Parameters
    ----------
    schedules : sequence of (str, Schedule)
        One or two, with what to call them; schedules that the checker accepted.
    strategies : sequence of SolveFigures
        Other strategies on the same machine, for the comparison.
    what_if : mapping, optional
        What `spm_opt.whatif.what_if` found.

    Returns
    -------
    str
        A whole HTML document.
    """
    data = {
        "schedules": [schedule_data(schedule, label) for label, schedule in schedules],
        "strategies": list(strategies),
        "what_if": None if what_if is None else dict(what_if),
    }
    title = " and ".join(
        f"{plan.network.name} on {plan.hardware.name}, {label}" for label, plan in schedules
    )
    page = _text("report.html")
    for mark, text in (
        ("{{title}}", html.escape(title)),
        ("{{style}}", _text("report.css")),
        ("{{script}}", "\n".join(_text(name) for name in SCRIPTS)),
        # last: nothing that data hold may look like a mark
        ("{{data}}", _embedded(data)),
    ):
        page = page.replace(mark, text)
    return page


def _embedded(data: object) -> str:
    """JSON that cannot end the element that it stands in; names come from foreign files."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _text(name: str) -> str:
    return (files("spm_opt.html") / name).read_text(encoding="utf-8")
