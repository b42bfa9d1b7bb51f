"""Rectangles of a layout's buffers: the address problem that a plan poses.

Buffers that share bytes have them one after another, or side by side: one rectangle for all.
"""

from __future__ import annotations

from collections.abc import Sequence

from spm_opt.allocation.rectangles import Rectangle
from spm_opt.schedule import Buffer


def rectangles(buffers: Sequence[Buffer]) -> tuple[list[Rectangle], list[int]]:
    """What to place, and for each buffer the number of its rectangle."""
    held = hosts(buffers)
    found: dict[int, Rectangle] = {}
    for buffer, host in zip(buffers, held, strict=True):
        known = found.get(host, Rectangle(buffer.first_step, buffer.end_step, buffer.size_bytes))
        begin, end = min(known.begin, buffer.first_step), max(known.end, buffer.end_step)
        found[host] = Rectangle(begin, end, known.size)
    numbers = {host: n for n, host in enumerate(found)}
    return list(found.values()), [numbers[host] for host in held]


def hosts(buffers: Sequence[Buffer]) -> list[int]:
    """For each buffer, the one whose bytes it has in the end."""
    return [_host(buffers, index) for index in range(len(buffers))]


def _host(buffers: Sequence[Buffer], index: int) -> int:
    """The buffer whose bytes a buffer has in the end."""
    shares = buffers[index].shares
    return index if shares is None else _host(buffers, shares)
