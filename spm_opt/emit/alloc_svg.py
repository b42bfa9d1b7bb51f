"""The picture of an allocation: addresses over time, as SVG text. It makes no choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from spm_opt.allocation.buffers import Allocation, Buffer

_WIDTH: Final = 1000
_HEIGHT: Final = 560
_MARGIN: Final = 60
#: fill colours, taken in turn by the buffers in their order
_COLOURS: Final = (
    "#4e79a7", "#f28e2b", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f",
)  # fmt: skip


def allocation_svg(
    buffers: Sequence[Buffer], allocation: Allocation, regions: Sequence[tuple[str, int]] = ()
) -> str:
    """Draw time to the right, addresses upwards; one chart a region, the capacity in red.

    Parameters
    ----------
    buffers : sequence of Buffer
    allocation : Allocation
        With offsets.
    regions : sequence of (str, int)
        Name and capacity of each region, where there are several.
    """
    offsets = allocation.offsets
    if offsets is None:
        raise ValueError("the allocation holds no offsets")
    charts = list(regions) or [("", allocation.capacity or 0)]
    homes = allocation.regions or ("",) * len(buffers)
    body: list[str] = []
    for n, (name, capacity) in enumerate(charts):
        shown = [
            (i, b, offset)
            for i, (b, offset, home) in enumerate(zip(buffers, offsets, homes, strict=True))
            if home == name
        ]
        body += _chart(shown, name, capacity, n * (_HEIGHT + 2 * _MARGIN), buffers)
    height = len(charts) * (_HEIGHT + 2 * _MARGIN)
    width = _WIDTH + 2 * _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12">'
    )
    return "\n".join((head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>\n"))


def _chart(
    shown: Sequence[tuple[int, Buffer, int]],
    name: str,
    capacity: int,
    top: int,
    buffers: Sequence[Buffer],
) -> Iterator[str]:
    begin = min((b.lower for b in buffers), default=0)
    end = max((b.upper for b in buffers), default=1)
    peak = max([capacity, *(offset + b.size for _, b, offset in shown), 1])
    floor = top + _MARGIN + _HEIGHT

    def x(time: int) -> float:
        return _MARGIN + _WIDTH * (time - begin) / (end - begin)

    def y(address: int) -> float:
        return floor - _HEIGHT * address / peak

    for i, b, offset in shown:
        left, low = x(b.lower), y(offset + b.size)
        yield (
            f'<rect x="{left:.2f}" y="{low:.2f}" width="{x(b.upper) - left:.2f}" '
            f'height="{y(offset) - low:.2f}" fill="{_COLOURS[i % len(_COLOURS)]}" '
            f'stroke="black" stroke-width="0.4"><title>{_legible(b.id)}: [{offset}, '
            f"{offset + b.size}) during [{b.lower}, {b.upper})</title></rect>"
        )
    if capacity:
        yield (
            f'<line x1="{_MARGIN}" x2="{_MARGIN + _WIDTH}" y1="{y(capacity):.2f}" '
            f'y2="{y(capacity):.2f}" stroke="red" stroke-dasharray="6 3"/>'
        )
    yield (
        f'<path d="M{_MARGIN} {top + _MARGIN}V{floor}H{_MARGIN + _WIDTH}" fill="none" '
        'stroke="black"/>'
    )
    yield _text(_MARGIN, floor + 18, "middle", str(begin))
    yield _text(_MARGIN + _WIDTH, floor + 18, "middle", str(end))
    yield _text(_MARGIN + _WIDTH // 2, floor + 36, "middle", "time")
    yield _text(_MARGIN - 4, floor, "end", "0")
    yield _text(_MARGIN - 4, top + _MARGIN + 4, "end", str(peak))
    yield _text(_MARGIN, top + _MARGIN - 14, "start", f"address {name}".strip())


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{_legible(text)}</text>'


def _legible(name: str) -> str:
    """A name as XML, without the characters that no XML may hold."""
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name))
