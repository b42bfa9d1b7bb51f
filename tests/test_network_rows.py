"""Rows that nobody needs: strides larger than their window."""

from __future__ import annotations

import spm_opt
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network, needed_rows


def strided() -> Network:
    builder = NetworkBuilder("strided")
    x = builder.conv(builder.input("x", (1, 4, 9, 8)), 4, 3, padding=1, name="every")
    builder.output(builder.conv(x, 4, 1, stride=3, name="third"))
    return builder.build()


def test_rows_between_strides_are_not_needed():
    rows = needed_rows(strided())
    assert rows == {"x": 8, "every": 3, "third": 3}


def test_rows_of_outputs_are_all_needed():
    builder = NetworkBuilder("both")
    x = builder.conv(builder.input("x", (1, 4, 9, 8)), 4, 3, padding=1, name="every")
    builder.output(x, builder.conv(x, 4, 1, stride=3, name="third"))
    assert needed_rows(builder.build()) == {"x": 9, "every": 9, "third": 3}


def test_a_plan_that_leaves_rows_out_stays_above_its_roofline():
    for capacity in ("512 KiB", "2 KiB"):
        result = spm_opt.solve(strided(), overrides={"spm.capacity": capacity}, workers=1)
        assert result.verified
        assert result.recomputed_macs == 0
        assert result.roofline_cycles <= result.latency_cycles
