"""A tiny network and a made-up schedule, for tests of the interfaces alone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from spm_opt import Hardware, Network, NetworkBuilder, Schedule
from spm_opt.hardware import ComputeArray, Dram, Scratchpad, Unrolling
from spm_opt.schedule import Buffer, Claims, Provenance, Step


def tiny_builder() -> NetworkBuilder:
    """Three layers, about a kilobyte each."""
    builder = NetworkBuilder("tiny")
    image = builder.input("image", (1, 4, 8, 8))
    first = builder.conv(image, 8, kernel=3, padding=1, name="first")
    second = builder.conv(first, 8, kernel=3, padding=1, name="second")
    builder.output(builder.conv(second, 4, kernel=1, name="third"))
    return builder


def tiny_network() -> Network:
    return tiny_builder().build()


def tiny_hardware(capacity_bytes: int = 2048) -> Hardware:
    return Hardware(
        name="toy",
        frequency_hz=10**9,
        spm=Scratchpad(capacity_bytes, 16, Fraction(64)),
        dram=Dram(Fraction(4), 10, 16),
        compute=ComputeArray((Unrolling("k x c", {"k": 4, "c": 4}),), vector_lanes=8),
    )


def buffer(tensor: str, kind: str, first: int, end: int) -> Buffer:
    return Buffer(f"{tensor}@{first}", kind, tensor, 0, 512, 8, 64, first, end)


def fake_schedule(**made) -> Schedule:
    """Not a plan that would pass the checker: only its records are read.

    Step 0 fuses two layers. ``first`` is pinned for one step more, ``second`` is not, although
    its map is whole; the weights stay for two steps.
    """
    provenance = Provenance(
        strategy="joint", objective="latency", prefetch=True, status="feasible",
        objective_value=1000, objective_bound=900, latency_lower_bound_cycles=900,
        order="natural", orders_tried=1, solver="9.12", seed=0, workers=1, time_limit=1.0,
        deterministic_limit=None, solve_seconds=0.25,
    )  # fmt: skip
    return Schedule(
        network=replace(tiny_network(), warnings=("node 'odd' is opaque",)),
        hardware=tiny_hardware(),
        provenance=replace(provenance, **made),
        steps=(
            Step(("first", "second"), None, "rows", 2, 2, "retain", 0, 600),
            Step(("third",), None, "rows", 1, 1, "retain", 600, 1000),
        ),
        buffers=(
            buffer("first", "map", 0, 2),
            buffer("second", "map", 1, 2),
            buffer("third", "weights", 0, 2),
        ),
        transfers=(),
        computes=(),
        dram_addresses={},
        claims=Claims(
            latency_cycles=1000, compute_cycles=800, dram_bytes=700, dram_weight_bytes=200,
            dram_feature_map_bytes=500, macs=64_000, recomputed_macs=64, spm_peak_bytes=1536,
            roofline_cycles=500,
        ),
    )  # fmt: skip
