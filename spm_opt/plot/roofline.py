"""The roofline: what each group reaches, and what compute and DRAM allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from spm_opt.plot.style import FONT, INK, axes_or_new, log_axis, title
from spm_opt.scene import short_name
from spm_opt.schedule import Schedule

#: groups that are named, those that take longest
_NAMED: Final = 8
#: where a name may stand beside its point: points right and up, alignment
_SPOTS: Final = (
    (9, -3, "left"), (-9, -3, "right"), (9, 9, "left"), (-9, -15, "right"), (9, -15, "left"),
    (-9, 9, "right"), (9, 22, "left"), (9, -28, "left"), (-9, -28, "right"),
)  # fmt: skip
#: points of the roof that names keep away from
_ALONG: Final = 150


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    macs: int
    moved_bytes: int
    cycles: int


def plot_roofline(schedule: Schedule, ax: Any = None) -> Any:
    """MACs per cycle over MACs per DRAM byte: a point a group, a star for the network.

    The roof is the lower of the array's peak and the bandwidth times the intensity (Williams,
    Waterman, Patterson 2009). Cycles of a group include what it waited for. Weights count for the
    group that reads them, whenever they were loaded, so that a group whose weights came early can
    lie above the slope. Groups that move no byte stand at the right edge.

    Parameters
    ----------
    schedule : Schedule
    ax : matplotlib Axes, optional
        New ones by default.

    Returns
    -------
    matplotlib Axes
    """
    ax = axes_or_new(ax, 8.0, 5.6)
    groups = [g for g in _groups(schedule) if g.macs and g.cycles]
    peak = schedule.hardware.compute.macs_per_cycle
    bandwidth = float(schedule.hardware.dram.bytes_per_cycle)
    moving = [g.macs / g.moved_bytes for g in groups if g.moved_bytes]
    low = min([*moving, peak / bandwidth]) / 2
    high = max([*moving, peak / bandwidth]) * 4
    ax.set(xscale="log", yscale="log", xlim=(low, high))
    ridge = peak / bandwidth
    ax.plot([low, ridge, high], [low * bandwidth, peak, peak], color=INK, linewidth=1.5,
            label=f"roof: {peak:,} MACs/cycle, {bandwidth:g} B/cycle of DRAM")  # fmt: skip
    _points(ax, [g for g in groups if g.moved_bytes], high, "o", "group")
    _points(ax, [g for g in groups if not g.moved_bytes], high, ">", "group that moves nothing")
    _network(ax, schedule)
    _dress(ax, schedule)
    star = (schedule.claims.macs / max(schedule.claims.dram_bytes, 1),
            schedule.claims.macs / max(schedule.claims.latency_cycles, 1))  # fmt: skip
    _name(ax, groups, high, [*_roof(low, high, ridge, peak), star])
    return ax


def _dress(ax: Any, schedule: Schedule) -> None:
    """Axes, title and legend; the limits are set."""
    ax.set_xlabel("MACs per DRAM byte", fontsize=FONT + 1)
    ax.set_ylabel("MACs per cycle", fontsize=FONT + 1)
    ax.tick_params(labelsize=FONT)
    log_axis(ax.xaxis)
    log_axis(ax.yaxis)
    ax.grid(which="major", linewidth=0.4)
    title(ax, schedule, "roofline of its groups")
    ax.legend(fontsize=FONT, loc="lower right")


def _groups(schedule: Schedule) -> list[_Group]:
    """Steps, all slices of a layer as one."""
    macs = {layer.name: layer.macs for layer in schedule.network.layers}
    done = {c.layer for c in schedule.computes}
    moved = [0] * len(schedule.steps)
    for t in schedule.transfers:
        moved[t.step if t.kind == "store" else t.need_step] += t.moved_bytes
    found: dict[tuple[str, ...], _Group] = {}
    for step, bytes_ in zip(schedule.steps, moved, strict=True):
        before = found.get(step.layers)
        work = sum(macs[name] for name in step.layers if name in done)
        name = short_name(step.layers[0])
        more = f" +{len(step.layers) - 1}" if len(step.layers) > 1 else ""
        cycles = step.end_cycle - step.start_cycle
        if before is not None:
            bytes_, cycles = bytes_ + before.moved_bytes, cycles + before.cycles
        found[step.layers] = _Group(name + more, work, bytes_, cycles)
    return list(found.values())


def _place(group: _Group, edge: float) -> tuple[float, float]:
    intensity = group.macs / group.moved_bytes if group.moved_bytes else edge * 0.9
    return intensity, group.macs / group.cycles


def _points(ax: Any, groups: list[_Group], edge: float, marker: str, label: str) -> None:
    if groups:
        longest = max(g.cycles for g in groups)
        x, y = zip(*(_place(g, edge) for g in groups), strict=True)
        sizes = [15 + 150 * g.cycles / longest for g in groups]
        ax.scatter(x, y, sizes, marker=marker, color="#0072B2", alpha=0.65, linewidths=0.5,
                   edgecolors="white", label=f"{label} (area: cycles)", zorder=3)  # fmt: skip


def _network(ax: Any, schedule: Schedule) -> None:
    claims = schedule.claims
    if claims.macs and claims.dram_bytes and claims.latency_cycles:
        ax.scatter(
            [claims.macs / claims.dram_bytes], [claims.macs / claims.latency_cycles], [190],
            marker="*", color="#D55E00", edgecolors="white", zorder=4, label="whole network",
        )  # fmt: skip


def _name(ax: Any, groups: list[_Group], edge: float, obstacles: list[tuple[float, float]]) -> None:
    """Name the groups that take longest, as far as their names touch no other mark."""
    from matplotlib.transforms import Bbox

    ax.get_figure().draw_without_rendering()
    inside, pixel = ax.get_window_extent(), ax.get_figure().dpi / 72
    taken: list[Any] = []
    marks = ax.transData.transform([*(_place(g, edge) for g in groups), *obstacles])
    for group in sorted(groups, key=lambda g: -g.cycles)[:_NAMED]:
        x, y = ax.transData.transform(_place(group, edge))
        width, height = len(group.name) * 0.63 * FONT * pixel, FONT * 1.2 * pixel
        for dx, dy, side in _SPOTS:
            left = x + dx * pixel - (width if side == "right" else 0)
            box = Bbox.from_bounds(left, y + dy * pixel, width, height)
            clear = _within(box, inside)
            if clear and not any(map(box.overlaps, taken)) and not box.count_contains(marks):
                taken.append(box)
                ax.annotate(
                    group.name, _place(group, edge), xytext=(dx, dy), ha=side, fontsize=FONT,
                    textcoords="offset points", color=INK,
                )  # fmt: skip
                break


def _within(box: Any, outer: Any) -> bool:
    along = outer.x0 < box.x0 and box.x1 < outer.x1
    return bool(along and outer.y0 < box.y0 and box.y1 < outer.y1)


def _roof(low: float, high: float, ridge: float, peak: float) -> list[tuple[float, float]]:
    """Points along the roof, close together."""
    found = []
    for n in range(_ALONG + 1):
        x = low * (high / low) ** (n / _ALONG)
        found.append((x, min(peak, x * peak / ridge)))
    return found
