"""Figures: one function each, onto axes that the caller may bring. matplotlib is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from spm_opt.exploration import Exploration, ExploredPoint

_MEBIBYTE: Final = 2**20
_KIBIBYTE: Final = 2**10


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
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(7.0, 4.5), layout="constrained").subplots()
    fused = [p for p in found.points if p.fused]
    for points, label in (
        (fused, "fused"),
        (found.layer_by_layer, "layer by layer"),
        (found.layer_by_layer_merged, "layer by layer, pools merged"),
    ):
        if points:
            _steps(ax, points, label)
    least = found.minimum_dram_bytes / _MEBIBYTE
    ax.axhline(least, color="black", linestyle=":", label=f"minimum ({least:.2f} MiB)")
    ax.set(xlabel="scratchpad (KiB)", ylabel="DRAM traffic (MiB)", xscale="log", title=found.model)
    ax.legend()
    return ax


def _steps(ax: Any, points: Sequence[ExploredPoint], label: str) -> None:
    falling: list[ExploredPoint] = []
    for point in sorted(points, key=lambda p: p.costs()):
        if not falling or point.dram_bytes.total < falling[-1].dram_bytes.total:
            falling.append(point)
    sizes = [p.spm_bytes / _KIBIBYTE for p in falling]
    moved = [p.dram_bytes.total / _MEBIBYTE for p in falling]
    ax.step(sizes, moved, where="post", marker="o", markersize=3, label=label)
