"""The allocator's section of the results, and the curve of its growth, out of the rows measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

METHODS = (
    "spm_opt", "without deep rule", "without CP-SAT", "without tree search", "plain CP-SAT",
    "first fit", "best fit", "hill climb",
)  # fmt: skip
#: picture of the growth curve: pixels, and the ranges of its two logarithmic axes
_WIDTH, _HEIGHT, _MARGIN = 520, 320, 56
_BUFFERS, _SECONDS = (3, 5), (-2, 2)


@dataclass(frozen=True)
class Row:
    """One instance with one method: the results of all seeds, the median CPU seconds."""

    group: str
    name: str
    buffers: int
    method: str
    results: tuple[str, ...]
    seconds: float

    @property
    def text(self) -> str:
        return self.results[0] if len(set(self.results)) == 1 else " / ".join(self.results)

    def cells(self) -> tuple[str, ...]:
        return (self.group, self.name, str(self.buffers), self.method, self.text,
                f"{self.seconds:.2f}")  # fmt: skip


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def section(rows: Sequence[Row]) -> str:
    """All tables, each under the line that says what it holds."""
    parts = (
        ("The public instances at full capacity: CPU seconds where placed, how far above the load "
         "where not (*-*: not found).", _public(rows)),
        ("Their variants: reversed in time, and less 3 % of their buffers (three draws, both "
         "ways).", _counts(rows, "variants", lambda row: row.name.split()[0])),
        ("The lowest peak, above the load, one a seed.", _lowest(rows)),
        ("Perfect guillotine packings.",
         _counts(rows, "guillotine", lambda row: row.name.split()[0])),
        ("Guillotine packings less 4 % of their pieces.",
         _counts(rows, "guillotine -4 %", lambda row: row.name.split()[0])),
        ("Lifetimes of unrolled networks, lowest peak ([picture](allocator_growth.svg)).",
         _networks(rows)),
    )  # fmt: skip
    return "\n\n".join(f"{title}\n\n{body}" for title, body in parts)


def _public(rows: Sequence[Row]) -> str:
    found = {(row.name, row.method): row for row in rows if row.group == "public"}
    methods = [m for m in METHODS if any(method == m for _, method in found)]
    names = dict.fromkeys(name for name, _ in found)
    return table(
        ("instance", "buffers", *methods),
        (
            (n, str(found[n, "spm_opt"].buffers), *(_outcome(found[n, m]) for m in methods))
            for n in names
        ),
    )


def _outcome(row: Row) -> str:
    placed = sum(result == "placed" for result in row.results)
    if placed == len(row.results):
        return f"{row.seconds:.2f}"
    if placed:
        return f"{row.seconds:.2f} ({placed} of {len(row.results)})"
    return "-" if row.results[0] == "not found" else row.text


def _counts(rows: Sequence[Row], group: str, key) -> str:
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        if row.group == group:
            kinds.setdefault(key(row), []).append(row)
    return table(
        ("instances", "buffers", "placed", "median s", "slowest s"),
        (
            (
                kind,
                str(max(row.buffers for row in of)),
                f"{sum(row.text == 'placed' for row in of)} of {len(of)}",
                f"{statistics.median(row.seconds for row in of):.2f}",
                f"{max(row.seconds for row in of):.2f}",
            )
            for kind, of in kinds.items()
        ),
    )


def _lowest(rows: Sequence[Row]) -> str:
    lines = (
        (row.name, str(row.buffers), row.text, f"{row.seconds:.2f}")
        for row in rows
        if row.group == "lowest peak"
    )
    return table(("instance", "buffers", "above the load", "median s"), lines)


def _networks(rows: Sequence[Row]) -> str:
    lines = (
        (f"{row.buffers:,}", row.text, f"{row.seconds:.2f}")
        for row in rows
        if row.group == "networks"
    )
    return table(("buffers", "above the load", "median s"), lines)


def growth_svg(rows: Sequence[Row]) -> str:
    """CPU seconds over buffers, both logarithmic, beside a second for each thousand."""
    points = [(row.buffers, row.seconds) for row in rows if row.group == "networks"]
    drawn = " ".join(f"{_x(n):.1f},{_y(s):.1f}" for n, s in points)
    width, height = _WIDTH + 2 * _MARGIN, _HEIGHT + 2 * _MARGIN
    bottom, right = _MARGIN + _HEIGHT, _MARGIN + _WIDTH
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        *(_rule(_MARGIN, _y(10.0**p), right, _y(10.0**p)) for p in _powers(_SECONDS)),
        *(_rule(_x(10.0**p), _MARGIN, _x(10.0**p), bottom) for p in _powers(_BUFFERS)),
        *(_text(_MARGIN - 6, _y(10.0**p) + 4, "end", f"{10.0**p:g}") for p in _powers(_SECONDS)),
        *(_text(_x(10**p), bottom + 18, "middle", f"{10**p:,}") for p in _powers(_BUFFERS)),
        _text(_MARGIN + _WIDTH / 2, bottom + 40, "middle", "buffers"),
        _text(_MARGIN - 6, _MARGIN - 16, "start", "CPU seconds"),
        f'<line x1="{_x(1e3):.1f}" y1="{_y(1.0):.1f}" x2="{_x(1e5):.1f}" y2="{_y(100.0):.1f}" '
        'stroke="#9c755f" stroke-dasharray="6 3"/>',
        _text(_x(4e3), _y(4.0) - 10, "end", "1 s each 1,000"),
        f'<polyline points="{drawn}" fill="none" stroke="#4e79a7" stroke-width="2"/>',
        *(f'<circle cx="{_x(n):.1f}" cy="{_y(s):.1f}" r="4" fill="#4e79a7"/>' for n, s in points),
        *(_text(_x(n), _y(s) - 10, "middle", f"{s:.2g} s") for n, s in points),
        "</svg>",
    ]
    return "\n".join([*lines, ""])


def _powers(span: tuple[int, int]) -> range:
    return range(span[0], span[1] + 1)


def _x(buffers: float) -> float:
    low, high = _BUFFERS
    return _MARGIN + _WIDTH * (math.log10(buffers) - low) / (high - low)


def _y(seconds: float) -> float:
    low, high = _SECONDS
    share = (math.log10(max(seconds, 10.0**low)) - low) / (high - low)
    return _MARGIN + _HEIGHT * (1 - share)


def _rule(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
