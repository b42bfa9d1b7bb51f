"""The command ``spm-opt alloc``: a CSV of buffers in, offsets out. It has no rule of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spm_opt.errors import InputError

if TYPE_CHECKING:
    from spm_opt.allocation.buffers import Allocation, Buffer, Region

EXIT_CODES: Final = {"placed": 0, "infeasible": 3, "not found": 4}
ALLOC_EPILOG: Final = (
    "Exit codes: 0 placed; 1 an input or an option is wrong; 3 proved that no placement exists; "
    "4 none found within the limit."
)
#: names of live buffers that a message spells out
_SHOWN: Final = 12


def alloc(
    buffers: Annotated[
        Path,
        typer.Argument(
            metavar="BUFFERS.csv", help="columns id,lower,upper,size[,alignment,offset,region]"
        ),
    ],
    capacity: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="bytes to fit [default: the lowest peak is searched]"),
    ] = None,
    align: Annotated[str, typer.Option(metavar="SIZE", help="every offset is a multiple")] = "1",
    region: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SIZE", help="an address space of its own; may be repeated"),
    ] = None,
    time_limit: Annotated[
        float, typer.Option(help="seconds of search, counted in work: a run repeats exactly")
    ] = 60.0,
    seed: Annotated[int, typer.Option(help="seed of the search")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT.csv", help="buffers with offsets")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="picture of addresses over time")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object on standard output")
    ] = False,
) -> int:
    """Give every buffer of BUFFERS.csv an address: within a capacity, or with the lowest peak."""
    from spm_opt.allocation.solve import allocate
    from spm_opt.formats.alloc_csv import read_buffers

    if plot is not None and plot.suffix.lower() != ".svg":
        raise InputError("unknown kind of picture", field="--plot", found=str(plot), allowed=".svg")
    listed = read_buffers(buffers)
    regions = tuple(_region(text) for text in region or ())
    began = time.perf_counter()
    try:
        found = allocate(
            listed,
            None if capacity is None else _size("--capacity", capacity),
            alignment=_size("--align", align),
            regions=regions,
            time_limit=time_limit,
            seed=seed,
        )
    except InputError as error:
        # the others are about options
        raise (error.in_file(str(buffers)) if _is_in_file(error) else error) from None
    seconds = time.perf_counter() - began
    _write(output, plot, listed, found, regions)
    if as_json:
        typer.echo(json.dumps(_figures(listed, found, seconds), indent=2, allow_nan=False))
    else:
        typer.echo("\n".join(_lines(listed, found, regions, seconds)))
    return EXIT_CODES[found.status]


def _write(
    output: Path | None,
    plot: Path | None,
    buffers: Sequence[Buffer],
    found: Allocation,
    regions: Sequence[Region],
) -> None:
    from spm_opt.emit.alloc_svg import allocation_svg
    from spm_opt.formats.alloc_csv import allocation_text
    from spm_opt.formats.atomic import write_atomically

    try:
        # what does not fit is worth a picture, but no file of offsets to build on
        if output is not None and found.placed:
            write_atomically(output, allocation_text(buffers, found))
        if plot is not None and found.offsets is not None:
            spans = [(r.name, r.capacity) for r in regions]
            write_atomically(plot, allocation_svg(buffers, found, spans))
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=error.filename) from None


def _figures(buffers: Sequence[Buffer], found: Allocation, seconds: float) -> dict[str, Any]:
    placed: list[dict[str, Any]] = []
    if found.placed and found.offsets is not None:
        placed = [{"id": b.id, "offset": o} for b, o in zip(buffers, found.offsets, strict=True)]
        for entry, name in zip(placed, found.regions, strict=False):
            entry["region"] = name
    return {
        "status": found.status,
        "buffers": len(buffers),
        "capacity": found.capacity,
        "peak": found.peak,
        "bound": found.bound,
        "gap": found.gap,
        "load": found.crowd.load,
        "load_time": found.crowd.time,
        "load_buffers": list(found.crowd.buffers),
        "load_regions": list(found.crowd.regions),
        "method": found.method,
        "seconds": round(seconds, 3),
        "offsets": placed,
    }


def _lines(
    buffers: Sequence[Buffer], found: Allocation, regions: Sequence[Region], seconds: float
) -> list[str]:
    heads = {
        "placed": f"placed {len(buffers)} buffers",
        "infeasible": "no placement exists (proved)",
        "not found": "no placement found within the limit (a longer --time-limit may help)",
    }
    lines = [heads[found.status]]
    if found.peak is not None and found.gap is not None:
        what = "peak" if found.placed else "best peak"
        lines.append(f"{what:<10} {found.peak} bytes")
        lines.append(f"{'bound':<10} {found.bound} bytes")
        lines.append(f"{'gap':<10} {100 * found.gap:.2f} %")
    lines.append(f"{'seconds':<10} {seconds:.2f}")
    if not found.placed:
        lines += _misfit(found, regions)
    return lines


def _misfit(found: Allocation, regions: Sequence[Region]) -> list[str]:
    """What was needed, what there is, and where it is tightest."""
    needed, asked = found.bound, found.crowd.regions
    available = found.capacity or sum(r.capacity for r in regions if not asked or r.name in asked)
    where = f" in {', '.join(asked)}" if asked else ""
    if asked:
        needed = found.crowd.load
    names = found.crowd.buffers
    shown = ", ".join(names[:_SHOWN]) + (
        f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
    )
    return [
        f"needed     at least {needed} bytes{where}, available {available}",
        f"tightest   at time {found.crowd.time}: {found.crowd.load} bytes alive in "
        f"{len(names)} buffers: {shown}",
    ]


def _is_in_file(error: InputError) -> bool:
    """Whether an error names a buffer, or all of them, rather than an option."""
    return (error.field or "").startswith("buffer")


def _region(text: str) -> Region:
    from spm_opt.allocation.buffers import Region

    name, equals, size = text.partition("=")
    if not equals or not name.strip():
        raise InputError("no region", field="--region", found=text, allowed="NAME=SIZE")
    return Region(name.strip(), _size("--region", size.strip()))


def _size(field: str, text: str) -> int:
    from spm_opt.units import QuantityError, parse_size

    try:
        size = parse_size(
            int(text) if text.isascii() and text.isdigit() and len(text) < 100 else text
        )
    except QuantityError as error:
        raise InputError(error.reason, field=field, found=text, allowed=error.allowed) from None
    if size <= 0:
        raise InputError("must be positive", field=field, found=text)
    return size
