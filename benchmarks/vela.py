"""MobileNetV2 int8 for DRAM traffic, next to Arm Vela 5.2.0 at the SRAM sizes that it was given.

    python benchmarks/vela.py [--json]

Vela compresses weights and spm_opt does not, so each tool's bytes are compared above its own figure
when everything fits. Vela's are its own estimates (its budget is not a cap); here the capacity is.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from page import write_section

import spm_opt

#: SPM bytes, Vela's excess in MB: 3.59, 4.15 and 5.84 over 3.26 (U55); 10.16, 24.54 over 3.84 (U65)
CASES = ((492_544, 0.33), (361_984, 0.89), (258_048, 6.3), (48_128, 20.7))
ROOM = "16 MiB"


def dram_bytes(capacity: str, time_limit: float) -> dict:
    """Plan for the least traffic in a scratchpad of `capacity`."""
    began = time.monotonic()
    try:
        result = spm_opt.solve(
            "mobilenet_v2", "mobile_npu", objective="dram", dtype="int8", time_limit=time_limit,
            overrides={"spm.capacity": capacity},
        )  # fmt: skip
    except spm_opt.SpmOptError as error:
        return {"capacity": capacity, "status": "none", "reason": str(error)}
    return {
        "capacity": capacity,
        "status": result.status,
        "gap": result.gap,
        "spm_peak_bytes": result.spm_peak_bytes,
        "dram_bytes": result.dram_bytes["total"],
        "seconds": time.monotonic() - began,
    }


def table(rows: list[dict]) -> str:
    lines = [
        "| SPM bytes | DRAM bytes | above all-fits, MB | Vela, MB | status | gap | seconds |",
        "|--:|--:|--:|--:|---|--:|--:|",
    ]
    for row in rows:
        if row["status"] == "none":
            lines.append(f"| {row['capacity']} | - | - | {row['vela_mb']} | {row['reason']} | | |")
            continue
        lines.append(
            f"| {row['capacity']} | {row['dram_bytes']:,} | {row['excess_mb']:.3f} "
            f"| {row['vela_mb']} | {row['status']} | {row['gap']:.2%} | {row['seconds']:.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--time-limit", type=float, default=120.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    least = dram_bytes(ROOM, arguments.time_limit)["dram_bytes"]
    rows = []
    for capacity, vela_mb in CASES:
        row = dram_bytes(str(capacity), arguments.time_limit) | {"vela_mb": vela_mb}
        if row["status"] != "none":
            row["excess_mb"] = (row["dram_bytes"] - least) / 1e6
        rows.append(row)
        print(f"{capacity}: {row['status']}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({"all_fits_bytes": least, "rows": rows}))
    else:
        text = f"Everything fits: {least:,} bytes.\n\n{table(rows)}"
        print(text)
        write_section("vela", text)
    return 0 if all(row.get("excess_mb", 1e9) < row["vela_mb"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
