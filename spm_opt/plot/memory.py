"""The memory map: scratchpad addresses over time."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from spm_opt.plot.style import (
    FONT,
    INK,
    Fit,
    axes_or_new,
    kinds_shown,
    legend,
    size_axis,
    text_colour,
    time_axis,
    title,
)
from spm_opt.scene import BUFFER_KINDS, Scene, short_name
from spm_opt.schedule import Schedule

#: what is claimed, but not written yet or read no more
_IDLE: Final = "#E4E4E4"

Box = tuple[float, float, float, float]


def plot_memory_map(schedule: Schedule, ax: Any = None) -> Any:
    """Every buffer as a box: bytes of the scratchpad up, time along.

    A box runs from the first command that touches the buffer to the last. Grey around it is space
    that the buffer has claimed, at the borders of steps, and does not use then; what stays white is
    free. A buffer that takes over the bytes of another one has a dashed border.

    Parameters
    ----------
    schedule : Schedule
    ax : matplotlib Axes, optional
        New ones by default.

    Returns
    -------
    matplotlib Axes
    """
    from matplotlib.collections import PolyCollection

    ax = axes_or_new(ax, 14.0, 7.0)
    scene, capacity = Scene(schedule), schedule.hardware.spm.capacity_bytes
    time_axis(ax, schedule.claims.latency_cycles)
    ax.set_ylim(0, capacity * 1.05)
    size_axis(ax.yaxis, "scratchpad address", capacity)
    claimed, used = _boxes(scene)
    ax.add_collection(PolyCollection([_corners(b) for b in claimed], facecolors=_IDLE))
    for (kind, shared), boxes in used.items():
        found = PolyCollection(
            [_corners(box) for box in boxes], facecolors=BUFFER_KINDS[kind].colour,
            edgecolors="white" if not shared else INK, linewidths=0.5 if not shared else 0.9,
            linestyles="--" if shared else "-",
        )  # fmt: skip
        ax.add_collection(found)
    ax.axhline(capacity, color=INK, linewidth=1.5)
    title(ax, schedule, "what lies where in the scratchpad, and when")
    legend(ax, _handles(schedule), 9)
    _label(ax, scene)
    return ax


def _handles(schedule: Schedule) -> list[Any]:
    """Legend entries of what occurs."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shown = kinds_shown(b.kind for b in schedule.buffers)
    handles: list[Any] = [Patch(color=kind.colour, label=kind.label) for kind in shown]
    handles.append(Patch(color=_IDLE, label="claimed, idle"))
    if any(b.shares is not None for b in schedule.buffers):
        handles.append(Patch(facecolor="white", edgecolor=INK, linestyle="--", label="in place"))
    handles.append(Line2D([], [], color=INK, linewidth=1.5, label="capacity"))
    return handles


def _boxes(scene: Scene) -> tuple[list[Box], dict[tuple[str, bool], list[Box]]]:
    """Boxes that are claimed, and those that are used, by kind and by whether they share bytes."""
    claimed: list[Box] = []
    used: dict[tuple[str, bool], list[Box]] = defaultdict(list)
    for buffer, life in zip(scene.schedule.buffers, scene.lifetimes, strict=True):
        offset, size = buffer.offset_bytes, buffer.size_bytes
        claimed.append((life.claim_cycle, offset, life.release_cycle - life.claim_cycle, size))
        box = (life.first_cycle, offset, life.last_cycle - life.first_cycle, size)
        used[buffer.kind, buffer.shares is not None].append(box)
    # what lies over something else is drawn last
    return claimed, dict(sorted(used.items(), key=lambda item: item[0][1]))


def _corners(box: Box) -> list[tuple[float, float]]:
    x, y, width, height = box
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def _label(ax: Any, scene: Scene) -> None:
    fit, hidden = Fit.of(ax), _covered(scene)
    for n, (buffer, life) in enumerate(zip(scene.schedule.buffers, scene.lifetimes, strict=True)):
        end = min(life.last_cycle, hidden.get(n, life.last_cycle))
        box = (life.first_cycle, buffer.offset_bytes, end - life.first_cycle, buffer.size_bytes)
        colour = text_colour(BUFFER_KINDS[buffer.kind].colour)
        fit.label(box, (buffer.tensor, short_name(buffer.tensor, 12)), colour)
    capacity = scene.schedule.hardware.spm.capacity_bytes
    ax.annotate(
        f"{scene.schedule.claims.spm_peak_bytes / capacity:.1%} used at most", (1, capacity),
        xycoords=("axes fraction", "data"), xytext=(-4, 4), textcoords="offset points",
        ha="right", va="bottom", fontsize=FONT, color=INK,
    )  # fmt: skip


def _covered(scene: Scene) -> dict[int, int]:
    """Cycle from which a buffer that takes over a buffer's bytes is drawn over it."""
    found: dict[int, int] = {}
    for buffer, life in zip(scene.schedule.buffers, scene.lifetimes, strict=True):
        if buffer.shares is not None:
            start = found.get(buffer.shares, life.first_cycle)
            found[buffer.shares] = min(start, life.first_cycle)
    return found
