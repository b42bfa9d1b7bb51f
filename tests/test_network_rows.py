"""Rows that nobody needs: strides larger than their window."""

from __future__ import annotations

import spm_opt
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network, needed_rows
from spm_opt.graph.pieces import compulsory_map_bytes


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


def test_channels_that_nobody_needs_are_not_compulsory():
    builder = NetworkBuilder("narrow")
    x = builder.input("x", (1, 64, 8, 8))
    builder.output(builder.unary(builder.slice(builder.slice(x, 1, 0, 32), 1, 3, 5), "tanh"))
    network = builder.build()
    assert sum(compulsory_map_bytes(network).values()) == 2 * 2 * 64
    assert_above_the_roofline(network)


def test_what_is_joined_and_taken_apart_again_is_compulsory_in_part():
    builder = NetworkBuilder("joined")
    x, y = (builder.input(name, (1, 4, 8, 8)) for name in "xy")
    joined = builder.concat([x, y], axis=1)
    builder.output(builder.unary(builder.slice(joined, 1, 3, 6), "tanh"))
    network = builder.build()
    assert sum(compulsory_map_bytes(network).values()) == (1 + 2 + 3) * 64
    assert_above_the_roofline(network)


def test_an_input_that_is_an_output_stays_where_it_is():
    builder = NetworkBuilder("through")
    x, z = (builder.input(name, (1, 4, 8, 8)) for name in "xz")
    builder.output(builder.unary(x, "tanh"), z)
    network = builder.build()
    assert sum(compulsory_map_bytes(network).values()) == 2 * 4 * 64
    assert_above_the_roofline(network)


def assert_above_the_roofline(network: Network):
    result = spm_opt.solve(network, overrides={"dram.latency": 0}, workers=1)
    assert result.verified
    assert result.roofline_cycles <= result.latency_cycles
