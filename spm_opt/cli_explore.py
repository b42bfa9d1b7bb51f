"""The command ``spm-opt explore``: trade-offs of fused layers, printed and saved.

It has no rule of its own.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spm_opt.cli_help import Quiet
from spm_opt.cli_settings import parse_dims, parse_overrides
from spm_opt.errors import InputError
from spm_opt.units import QuantityError, format_bytes, parse_size

if TYPE_CHECKING:
    from spm_opt.exploration import Exploration, ExploredPoint
    from spm_opt.mapping import Counts, Mapping, Traffic

EXPLORE_EPILOG: Final = (
    "Exit codes: 0 done; 1 an input or an option is wrong: one message on standard error."
)


def explore(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="catalogue name, YAML or ONNX")],
    hw: Annotated[
        str, typer.Option("--hw", metavar="HW", help="catalogue name or YAML file")
    ] = "mobile_npu",
    layers: Annotated[
        str | None,
        typer.Option(metavar="FIRST:LAST", help="names or numbers, inclusive: one fused set"),
    ] = None,
    least: Annotated[
        str | None, typer.Option("--min", metavar="SIZE", help="least scratchpad, as 64KiB")
    ] = None,
    most: Annotated[
        str | None, typer.Option("--max", metavar="SIZE", help="most scratchpad")
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", readable=False, help="count this mapping, no search"),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="plan in int8 | int16 | float16 | float32")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="batch of the model")] = None,
    dim: Annotated[
        list[str] | None,
        typer.Option("--dim", metavar="NAME=N", help="a symbolic dimension of an ONNX model"),
    ] = None,
    double_buffer: Annotated[
        bool, typer.Option("--double-buffer", help="a tile loads while the one before computes")
    ] = False,
    time_limit: Annotated[
        float, typer.Option(help="seconds of each solve, without --layers")
    ] = 10.0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", readable=False,
                     help="write points.csv, a mapping for each point, and a plot there"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="hardware field")
    ] = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Scratchpad against DRAM bytes, recomputed MACs and latency, one point a breakpoint.

    With --layers the layers run as one fused set, in every tiling and with every choice of what is
    kept; without, the whole network is planned at one capacity after another.
    """
    from spm_opt import exploration

    common: dict[str, Any] = {
        "layers": layers, "dtype": dtype, "batch": batch, "double_buffer": double_buffer,
        "overrides": parse_overrides(overrides or ()), "dims": parse_dims(dim or ()),
    }  # fmt: skip
    if mapping is not None:
        from spm_opt.formats.mapping_yaml import read_mapping

        chosen = read_mapping(mapping)
        try:
            counts = exploration.evaluate_mapping(model, hw, chosen, **common)
        except InputError as error:
            of_file = (error.field or "").startswith(("loops", "retain"))
            raise (error.in_file(str(mapping)) if of_file else error) from None
        typer.echo(_json(counts_figures(counts)) if as_json else counts_text(counts))
        return
    if output is not None:
        from spm_opt.result import require_writable

        require_writable(output)
    found = exploration.explore(
        model, hw, minimum=_size(least, "--min"), maximum=_size(most, "--max"),
        time_limit=time_limit, **common,
    )  # fmt: skip
    if output is not None:
        _save(found, output, quiet)
    typer.echo(_json(figures(found)) if as_json else points_text(found))


def _size(text: str | None, option: str) -> int | None:
    try:
        return None if text is None else parse_size(text)
    except QuantityError as error:
        raise InputError(error.reason, field=option, found=text, allowed=error.allowed) from None


def _json(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=2, allow_nan=False)


def figures(found: Exploration) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    return {
        "model": found.model,
        "hardware": found.hardware,
        "layers": list(found.layers),
        "minimum_dram_bytes": found.minimum_dram_bytes,
        "points": [point_figures(p) for p in found.points],
        "staircase": [point_figures(p, False) for p in found.staircase],
        "layer_by_layer": [point_figures(p, False) for p in found.layer_by_layer],
        "layer_by_layer_merged": [point_figures(p, False) for p in found.layer_by_layer_merged],
        "kept": found.kept,
        "dropped": found.dropped,
        "complete": found.complete,
    }


def point_figures(point: ExploredPoint, with_mapping: bool = True) -> dict[str, Any]:
    """One point as plain data."""
    plain: dict[str, Any] = {
        "spm_bytes": point.spm_bytes,
        "spm_feature_map_bytes": point.spm_feature_map_bytes,
        "dram_bytes": _traffic(point.dram_bytes),
        "recomputed_macs": point.recomputed_macs,
        "latency_cycles": point.latency_cycles,
        "fused": point.fused,
    }
    if with_mapping:
        plain["mapping"] = [{"last": n, **_mapping(m)} for n, m in point.mappings]
    return plain


def _traffic(moved: Traffic) -> dict[str, int]:
    return {
        "total": moved.total,
        "weights": moved.weights,
        "feature_maps": moved.feature_maps,
    }


def _mapping(mapping: Mapping) -> dict[str, Any]:
    return {
        "loops": [{"axis": loop.axis, "size": loop.size} for loop in mapping.loops],
        "retain": {
            "feature_maps": {n: list(axes) for n, axes in mapping.feature_maps.items()},
            "weights": {n: list(axes) for n, axes in mapping.weights.items()},
        },
    }


def counts_figures(counts: Counts) -> dict[str, Any]:
    """Counts of one mapping as plain data."""
    return {
        "spm_bytes": counts.spm_bytes,
        "spm_feature_map_bytes": counts.spm_feature_map_bytes,
        "dram_bytes": _traffic(counts.traffic),
        "macs": counts.macs,
        "recomputed_macs": counts.recomputed_macs,
        "latency_cycles": counts.latency_cycles,
        "tiles": counts.tiles,
        "peaks": dict(counts.peaks),
        "weight_peaks": dict(counts.weight_peaks),
        "moved": dict(counts.moved),
        "weights_moved": dict(counts.weights_moved),
    }


def counts_text(counts: Counts) -> str:
    """Counts of one mapping for people."""
    lines = [
        f"tiles            {counts.tiles:,}",
        f"scratchpad       {counts.spm_bytes:,} B, {counts.spm_feature_map_bytes:,} B without "
        "weights",
        f"DRAM             {counts.traffic.total:,} B: weights {counts.traffic.weights:,}, maps "
        f"{counts.traffic.feature_maps:,}",
        f"MACs             {counts.macs:,}, of these {counts.recomputed_macs:,} again",
        f"latency          {counts.latency_cycles:,} cycles",
        "peak of each buffer, bytes moved:",
    ]
    for name, peak in counts.peaks.items():
        lines.append(f"  {name:<28} {peak:>14,} {counts.moved.get(name, 0):>14,}")
    for name, peak in counts.weight_peaks.items():
        lines.append(f"  {'weights of ' + name:<28} {peak:>14,} {counts.weights_moved[name]:>14,}")
    return "\n".join(lines)


def points_text(found: Exploration) -> str:
    """The staircase as a table, and what was compared."""
    lines = [
        f"{found.model} on {found.hardware}, {len(found.layers)} layers "
        f"{found.layers[0]} to {found.layers[-1]}",
        f"{'scratchpad':>12} {'DRAM':>12} {'weights':>12} {'maps':>12} {'MACs again':>14} "
        f"{'cycles':>14}  runs",
    ]
    for p in found.staircase:
        moved = p.dram_bytes
        sizes = (p.spm_bytes, moved.total, moved.weights, moved.feature_maps)
        lines.append(
            " ".join(f"{format_bytes(size):>12}" for size in sizes)
            + f" {p.recomputed_macs:>14,} {p.latency_cycles:>14,}  "
            + ("fused" if p.fused else "layer by layer")
        )
    lines.append(
        f"{format_bytes(found.minimum_dram_bytes)} move anyway; {found.kept:,} points kept, "
        f"{found.dropped:,} dropped"
    )
    return "\n".join(lines)


def _save(found: Exploration, folder: Path, quiet: bool) -> None:
    from spm_opt.formats.atomic import write_atomically
    from spm_opt.formats.mapping_yaml import mapping_text

    texts = {"points.csv": _csv(found)}
    for i, point in enumerate(found.points):
        for name, mapping in point.mappings if point.fused else ():
            texts[f"mapping_{i:03d}.yaml"] = f"# tiles of {name}\n{mapping_text(mapping)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(folder / name, text)
        plotted = _plot(found, folder, quiet)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=str(folder)) from None
    if quiet:
        return
    typer.echo(f"wrote points.csv, {len(texts) - 1} mappings{plotted} to {folder}", err=True)


def _csv(found: Exploration) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((
        "point", "curve", "fused", "spm_bytes", "spm_feature_map_bytes", "dram_bytes",
        "dram_weight_bytes", "dram_feature_map_bytes", "recomputed_macs", "latency_cycles",
    ))  # fmt: skip
    for curve in ("points", "layer_by_layer", "layer_by_layer_merged"):
        for i, p in enumerate(getattr(found, curve)):
            moved = p.dram_bytes
            writer.writerow((
                i, curve, str(p.fused).lower(), p.spm_bytes, p.spm_feature_map_bytes, moved.total,
                moved.weights, moved.feature_maps, p.recomputed_macs, p.latency_cycles,
            ))  # fmt: skip
    return text.getvalue()


def _plot(found: Exploration, folder: Path, quiet: bool) -> str:
    try:
        from spm_opt.plot import plot_staircase

        axes = plot_staircase(found)
    except ImportError:
        if not quiet:
            typer.echo("note: no plot without matplotlib: pip install 'spm-opt[plot]'", err=True)
        return ""
    axes.figure.savefig(folder / "staircase.svg")
    return ", staircase.svg"
