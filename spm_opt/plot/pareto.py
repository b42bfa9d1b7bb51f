"""Trade-offs of `spm_opt.explore`: scratchpad against traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from spm_opt.plot.style import FONT, axes_or_new, log_axis

if TYPE_CHECKING:
    from spm_opt.exploration import Exploration, ExploredPoint

_MEBIBYTE: Final = 2**20
_KIBIBYTE: Final = 2**10
_CURVES: Final = (
    ("fused", "#0072B2", "o"),
    ("layer by layer", "#D55E00", "s"),
    ("layer by layer, pools merged", "#009E73", "^"),
)


def plot_staircase(found: Exploration, ax: Any = None) -> Any:
    """DRAM bytes over scratchpad bytes: fused, layer by layer, and the least that moves anyway.

    Parameters
    ----------
    found : Exploration
    ax : matplotlib Axes, optional
        New ones by default.

    Returns
    -------
    matplotlib Axes
    """
    ax = axes_or_new(ax, 7.0, 4.5)
    fused = [p for p in found.points if p.fused]
    curves = (fused, found.layer_by_layer, found.layer_by_layer_merged)
    for points, (label, colour, marker) in zip(curves, _CURVES, strict=True):
        if points:
            _steps(ax, points, label, colour, marker)
    least = found.minimum_dram_bytes / _MEBIBYTE
    ax.axhline(least, color="black", linestyle=":", label=f"minimum ({least:.2f} MiB)")
    ax.set(xlabel="scratchpad (KiB)", ylabel="DRAM traffic (MiB)", xscale="log", title=found.model)
    log_axis(ax.xaxis)
    ax.legend(fontsize=FONT)
    return ax


def plot_pareto(found: Exploration, ax: Any = None) -> Any:
    """Every point of the Pareto front: scratchpad along, traffic up, latency as colour.

    Points that compute again what others keep are diamonds. The line is the staircase: from which
    scratchpad on less traffic is possible.

    Parameters
    ----------
    found : Exploration
    ax : matplotlib Axes, optional
        New ones by default.

    Returns
    -------
    matplotlib Axes
    """
    ax = axes_or_new(ax, 8.0, 5.0)
    _steps(ax, found.points, "staircase", "#777777", "")
    drawn = None
    slowest = max((p.latency_cycles for p in found.points), default=1)
    fastest = min((p.latency_cycles for p in found.points), default=0)
    for again, marker in ((False, "o"), (True, "D")):
        points = [p for p in found.points if bool(p.recomputed_macs) is again]
        if points:
            drawn = ax.scatter(
                [p.spm_bytes / _KIBIBYTE for p in points],
                [p.dram_bytes.total / _MEBIBYTE for p in points],
                c=[p.latency_cycles / 1000 for p in points], cmap="cividis", marker=marker, s=34,
                vmin=fastest / 1000, vmax=slowest / 1000, edgecolors="white", linewidths=0.5,
                label="computes halos again" if again else "computes all once", zorder=3,
            )  # fmt: skip
    if drawn is not None:
        bar = ax.get_figure().colorbar(drawn, ax=ax)
        bar.set_label("latency (thousand cycles)", fontsize=FONT + 1)
    least = found.minimum_dram_bytes / _MEBIBYTE
    ax.axhline(least, color="black", linestyle=":", label=f"minimum ({least:.2f} MiB)")
    ax.set(xscale="log")
    ax.set_xlabel("scratchpad (KiB)", fontsize=FONT + 1)
    ax.set_ylabel("DRAM traffic (MiB)", fontsize=FONT + 1)
    text = f"{found.model} on {found.hardware}: {len(found.points):,} points that nothing beats"
    ax.set_title(text, loc="left", fontsize=FONT + 2)
    log_axis(ax.xaxis)
    ax.legend(fontsize=FONT)
    return ax


def _steps(ax: Any, points: Sequence[ExploredPoint], label: str, colour: str, marker: str) -> None:
    falling: list[ExploredPoint] = []
    for point in sorted(points, key=lambda p: p.costs()):
        if not falling or point.dram_bytes.total < falling[-1].dram_bytes.total:
            falling.append(point)
    sizes = [p.spm_bytes / _KIBIBYTE for p in falling]
    moved = [p.dram_bytes.total / _MEBIBYTE for p in falling]
    ax.step(sizes, moved, where="post", marker=marker, markersize=3, label=label, color=colour)
