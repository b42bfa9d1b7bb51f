"""Options of ``solve`` that demand something of the plan, or ask why it is what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from spm_opt.explanation import Reason

Pin = Annotated[
    list[str] | None,
    typer.Option("--pin", metavar="TENSOR", help="keep this map whole in SPM, never spilled"),
]
NoPin = Annotated[
    list[str] | None,
    typer.Option("--no-pin", metavar="TENSOR", help="never keep this map whole in SPM"),
]
Fuse = Annotated[
    list[str] | None, typer.Option("--fuse", metavar="A,B", help="run these layers in one group")
]
NoFuse = Annotated[
    list[str] | None,
    typer.Option("--no-fuse", metavar="A,B", help="never run two of these layers in one group"),
]
Order = Annotated[
    Path | None,
    typer.Option(metavar="FILE", readable=False, help="layer order to use: one name a line"),
]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="what each large map was, and what the alternative would cost"),
]
ExplainMaps = Annotated[
    int, typer.Option(metavar="N", help="maps to price, the largest first", min=0)
]
ExplainTime = Annotated[
    float, typer.Option(metavar="SECONDS", help="limit for all alternatives together")
]


def reason_figures(reasons: Sequence[Reason]) -> list[dict[str, Any]]:
    """Explanations as plain data, for ``--json``."""
    return [
        {
            "tensor": r.tensor,
            "size_bytes": r.size_bytes,
            "chosen": r.chosen,
            "alternative": list(r.alternative.texts()),
            "latency_cycles": r.latency_cycles,
            "dram_bytes": r.dram_bytes,
            "cost": r.cost,
            "least_cost": r.least_cost,
            "proven": r.proven,
            "note": r.note,
        }
        for r in reasons
    ]


def reason_texts(figures: Sequence[Mapping[str, Any]], objective: str) -> list[str]:
    """Explanations as lines of text: priced maps first, then how many of each sort are left."""
    unit = "bytes" if objective == "dram" else "cycles"
    priced = [f for f in figures if f["cost"] is not None or f["note"]]
    lines = [f"what each of the largest {len(priced)} maps is, and the best plan without that:"]
    lines += [
        f"  {f['tensor']}, {f['size_bytes']:,} B: {f['chosen']}; with "
        f"{' '.join(f['alternative'])} {_cost(f, unit)}"
        for f in priced
    ]
    rest = [f["chosen"] for f in figures if f["cost"] is None and not f["note"]]
    counts = ", ".join(f"{rest.count(c)} {c}" for c in dict.fromkeys(rest))
    return [*lines, f"  not priced: {counts}"] if rest else lines


def _cost(figures: Mapping[str, Any], unit: str) -> str:
    if figures["cost"] is None:
        return f"there is none: {figures['note']}"
    cost = f"{figures['cost']:+,} {unit}"
    if figures["proven"]:
        return f"{cost} (proven)"
    return f"{cost} (not proven; at least {figures['least_cost']:+,})"
