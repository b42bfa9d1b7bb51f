"""DRAM traffic by layer and kind, of one plan or of several side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from spm_opt.formats.tables import BookedLayers
from spm_opt.plot.style import FONT, INK, axes_or_new, size_axis
from spm_opt.scene import short_name
from spm_opt.schedule import Schedule
from spm_opt.units import format_bytes

#: what is moved: its colour
_SORTS: Final = {
    "load weights": "#E69F00", "load maps": "#56B4E9", "store maps": "#CC79A7",
}  # fmt: skip
#: what tells plans apart where colours tell kinds
_HATCHES: Final = ("", "////", "....", "xxxx", "\\\\\\\\", "oo")
#: layers that are named along the axis at most
_NAMED: Final = 70


def plot_traffic(schedule: Schedule | Sequence[Schedule], ax: Any = None) -> Any:
    """DRAM bytes of each layer, stacked by kind; several plans as bars side by side.

    What a layer loads for others too is booked on the first that reads it. Layers that move nothing
    in any of the plans are left out.

    Parameters
    ----------
    schedule : Schedule or sequence of Schedule
        Plans of one network.
    ax : matplotlib Axes, optional
        New ones by default.

    Returns
    -------
    matplotlib Axes
    """
    from matplotlib.patches import Patch

    plans = [schedule] if isinstance(schedule, Schedule) else list(schedule)
    moved = [layer_traffic(plan) for plan in plans]
    names = [n for n in _in_order(plans) if any(found.get(n) for found in moved)]
    ax = axes_or_new(ax, min(20.0, max(8.0, 2 + 0.18 * len(names) * len(plans) ** 0.5)), 5.6)
    width = 0.84 / len(plans)
    for p, found in enumerate(moved):
        places = [n + (p - (len(plans) - 1) / 2) * width for n in range(len(names))]
        _bars(ax, places, width, [found.get(name, {}) for name in names], _HATCHES[p % 6])
    _name_layers(ax, names)
    size_axis(ax.yaxis, "DRAM traffic", ax.get_ylim()[1])
    ax.grid(axis="y", linewidth=0.4)
    ax.set_axisbelow(True)
    first = plans[0]
    text = f"{first.network.name} on {first.hardware.name}: DRAM bytes of each layer"
    ax.set_title(text, loc="left", fontsize=FONT + 2)
    handles = [Patch(color=colour, label=sort) for sort, colour in _SORTS.items()]
    for plan, hatch in zip(plans, _HATCHES * (1 + len(plans) // 6), strict=False):
        total = format_bytes(plan.claims.dram_bytes)
        handles.append(
            Patch(facecolor="white", edgecolor=INK, hatch=hatch,
                  label=f"{plan.provenance.strategy}: {total}")
        )  # fmt: skip
    ax.legend(handles=handles, fontsize=FONT, loc="best", framealpha=0.9)
    return ax


def layer_traffic(schedule: Schedule) -> dict[str, dict[str, int]]:
    """Bytes over the pins by layer, then by kind of transfer (``load weights`` and so on)."""
    booked = BookedLayers(schedule)
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for t in schedule.transfers:
        sort = f"{t.kind} {'weights' if t.role == 'weights' else 'maps'}"
        found[booked.layer(t)][sort] += t.moved_bytes
    return found


def _in_order(plans: Sequence[Schedule]) -> list[str]:
    """Layers in the order of execution of the first plan, then those that only others have."""
    return list(dict.fromkeys(c.layer for plan in plans for c in plan.computes))


def _bars(
    ax: Any, places: list[float], width: float, moved: list[dict[str, int]], hatch: str
) -> None:
    floor = [0] * len(places)
    for sort, colour in _SORTS.items():
        heights = [found.get(sort, 0) for found in moved]
        ax.bar(places, heights, width, bottom=floor, color=colour, hatch=hatch, edgecolor="white",
               linewidth=0.3)  # fmt: skip
        floor = [low + high for low, high in zip(floor, heights, strict=True)]


def _name_layers(ax: Any, names: list[str]) -> None:
    every = -(-len(names) // _NAMED)
    shown = range(0, len(names), max(every, 1))
    ax.set_xticks(list(shown), [short_name(names[n], 24) for n in shown], rotation=90,
                  fontsize=FONT)  # fmt: skip
    ax.set_xlim(-0.8, max(len(names) - 0.2, 1))
    ax.tick_params(axis="y", labelsize=FONT)
    rest = "" if every <= 1 else f" (one in {every} named)"
    ax.set_xlabel(f"layers that move something, in order of execution{rest}", fontsize=FONT + 1)
