"""The search of mappings against all of them, and what ``spm-opt explore`` prints and writes."""

from __future__ import annotations

import csv
import itertools
import json
import random

import pytest

import spm_opt
from spm_opt.api import load_hardware, load_network
from spm_opt.cli import main
from spm_opt.errors import InputError
from spm_opt.exploration import merged_runs
from spm_opt.formats.mapping_yaml import mapping_text, read_mapping
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.mapping import Loop, Mapping
from spm_opt.mapping_counts import evaluate
from spm_opt.mapping_search import search
from spm_opt.mapping_set import FusionSet, fusion_set

HARDWARE = load_hardware("mobile_npu")
VGG = ("features.0", "features.10")


def pools() -> FusionSet:
    b = NetworkBuilder("pools")
    x = b.input("x", (1, 1, 6, 5))
    b.output(b.max_pool(b.max_pool(x, 3, 1, 1, name="a"), (3, 2), 1, name="b"))
    return fusion_set(b.build())


def skip() -> FusionSet:
    b = NetworkBuilder("skip")
    x = b.input("x", (1, 1, 5, 4))
    b.output(b.add(x, b.depthwise(b.max_pool(x, 3, 1, 1, name="a"), 3, 1, 1, name="c")))
    return fusion_set(b.build())


def products() -> FusionSet:
    b = NetworkBuilder("products")
    b.output(b.linear(b.linear(b.input("x", (4, 3)), 2, bias=False), 4, bias=False))
    return fusion_set(b.build())


def every_mapping(fused):
    """All of them: loops, sizes, and choices of every tensor."""
    names = (*fused.inputs, *fused.intermediates)
    weighted = [layer.name for layer in fused.layers if layer.weight_bytes]
    for count in range(min(3, len(fused.axes)) + 1):
        for axes in itertools.permutations(fused.axes, count):
            for sizes in itertools.product(*(range(1, fused.extent(a)) for a in axes)):
                loops = tuple(Loop(a, s) for a, s in zip(axes, sizes, strict=True))
                subsets = [
                    tuple(a for a, k in zip(axes, kept, strict=True) if k)
                    for kept in itertools.product((1, 0), repeat=count)
                ]
                for kept in itertools.product(subsets, repeat=len(names) + len(weighted)):
                    maps = dict(zip(names, kept, strict=False))
                    yield Mapping(loops, maps, dict(zip(weighted, kept[len(names) :], strict=True)))


def costs(counts):
    return (
        counts.spm_bytes, counts.traffic.total, counts.recomputed_macs, counts.latency_cycles,
    )  # fmt: skip


@pytest.mark.parametrize("world", [pools, skip, products])
def test_no_mapping_beats_the_front(world):
    fused = world()
    found = search(fused, HARDWARE)
    assert found.complete
    front = [costs(p.counts) for p in found.points]
    every = list(every_mapping(fused))
    for mapping in random.Random(1).sample(every, min(len(every), 300)):
        counts = costs(evaluate(fused, mapping, HARDWARE))
        if not any(all(a <= b for a, b in zip(p, counts, strict=True)) for p in front):
            # equal in the first three, and dropped there: latency alone is not compared in a tiling
            assert any(all(a <= b for a, b in zip(p, counts[:3], strict=False)) for p in front)


@pytest.mark.parametrize("double_buffer", [False, True])
def test_points_are_what_their_mappings_cost(double_buffer):
    for fused in (pools(), skip(), products()):
        for point in search(fused, HARDWARE, double_buffer).points:
            assert evaluate(fused, point.mapping, HARDWARE, double_buffer) == point.counts


def test_vgg_fused_moves_the_published_bytes():
    fused = fusion_set(load_network("vgg19", dtype="float32"), *VGG)
    counts = evaluate(fused, Mapping((Loop("rows", 1), Loop("columns", 1))), HARDWARE)
    assert counts.traffic.feature_maps == 3_813_376
    assert counts.recomputed_macs == 0
    # conv1_1 again for its halo between rows: less than the 362 KB of the publication
    first = {fused.intermediates[0]: ("columns",)}
    less = evaluate(fused, Mapping((Loop("rows", 1), Loop("columns", 1)), first), HARDWARE)
    assert less.traffic.feature_maps == 3_813_376
    assert less.spm_feature_map_bytes < 362_000
    assert less.recomputed_macs < 0.05 * less.macs


def test_vgg_layer_by_layer_is_the_published_bound():
    fused = fusion_set(load_network("vgg19", dtype="float32"), *VGG)

    def moved(runs):
        sets = (FusionSet(fused.network, run) for run in runs)
        return sum(evaluate(s, Mapping(), HARDWARE).traffic.feature_maps for s in sets)

    assert moved(merged_runs(fused)) / 2**20 == pytest.approx(49.6, abs=0.05)
    assert moved((layer,) for layer in fused.layers) / 2**20 == pytest.approx(86.3, abs=0.05)


@pytest.fixture(scope="module")
def alexnet():
    return spm_opt.explore("alexnet", layers="conv1:conv2", dtype="float32")


def test_alexnet_saves_what_was_published(alexnet):
    best = alexnet.staircase[-1]
    assert best.fused
    assert best.dram_bytes.feature_maps / 2**20 == pytest.approx(1.302, abs=0.001)
    merged = alexnet.layer_by_layer_merged[-1].dram_bytes.feature_maps
    assert best.dram_bytes.feature_maps / merged - 1 == pytest.approx(-0.291, abs=0.001)
    assert best.dram_bytes.total == alexnet.minimum_dram_bytes


def test_staircases_fall(alexnet):
    for stairs in (alexnet.staircase, alexnet.layer_by_layer, alexnet.layer_by_layer_merged):
        steps = [(p.spm_bytes, p.dram_bytes.total) for p in stairs]
        assert all(a[0] < b[0] and a[1] > b[1] for a, b in itertools.pairwise(steps))


def test_mappings_are_read_back(alexnet, tmp_path):
    file = tmp_path / "m.yaml"
    for point in alexnet.points:
        for _, mapping in point.mappings:
            file.write_text(mapping_text(mapping))
            assert read_mapping(file) == mapping


@pytest.mark.parametrize(
    ("text", "field", "allowed"),
    [
        ("[]", "", "loops"),
        ("loop: []", "loop", "loops"),
        ("loops: 3", "loops", "axis"),
        ("loops: [{axis: rows}]", "loops[0].size", "1 or more"),
        ("loops: [{axis: rows, size: 0}]", "loops[0].size", "1 to 7"),
        ("loops: [{axis: row, size: 1}]", "loops[0].axis", "rows"),
        ("loops: [{axis: rows, size: 1}, {axis: rows, size: 2}]", "loops[1].axis", "once"),
        ("retain: {weights: {conv9: []}}", "retain.weights", "conv1"),
        ("retain: {feature_maps: {x: [rows]}}", "retain.feature_maps.x", "none"),
        ("retain: {feature_maps: {x: rows}}", "retain.feature_maps.x", "[axis"),
    ],
)
def test_a_wrong_mapping_is_one_message(tmp_path, capsys, text, field, allowed):
    model, file = tmp_path / "n.yaml", tmp_path / "wrong.yaml"
    model.write_text(
        "name: n\ninputs:\n  x: {shape: [1, 2, 7, 7]}\nlayers:\n"
        "- {name: conv1, op: conv, out_channels: 2, kernel: 3, padding: 1}\n"
    )
    file.write_text(text)
    assert main(["explore", str(model), "--mapping", str(file)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (message,) = captured.err.splitlines()
    assert "wrong.yaml" in message
    assert field in message
    assert allowed in message


def test_layers_that_are_not_there(capsys):
    assert main(["explore", "alexnet", "--layers", "conv1:conv9"]) == 1
    (message,) = capsys.readouterr().err.splitlines()
    assert "conv9" in message
    assert "pool1" in message
    with pytest.raises(InputError, match="comes after"):
        spm_opt.explore("alexnet", layers="conv2:conv1")


def test_json_and_files(tmp_path, capsys):
    arguments = ["explore", "alexnet", "--layers", "pool5:8", "--max", "64KiB"]
    assert main([*arguments, "--json", "-o", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["points"]
    for point in found["points"]:
        assert point["spm_bytes"] <= 64 * 1024
        assert set(point["dram_bytes"]) == {"total", "weights", "feature_maps"}
        assert isinstance(point["fused"], bool)
        assert point["mapping"]
    with (tmp_path / "points.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["curve"] == "points"]
    assert [int(r["spm_bytes"]) for r in rows] == [p["spm_bytes"] for p in found["points"]]


def test_one_mapping_is_counted(tmp_path, capsys):
    file = tmp_path / "m.yaml"
    file.write_text("loops: [{axis: rows, size: 9}]\n")
    command = ["explore", "alexnet", "--layers", "conv1:conv2", "--mapping", str(file), "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tiles"] == 3
    assert found["dram_bytes"]["feature_maps"] == 3 * 227 * 227 + 256 * 27 * 27


def test_a_whole_network_is_planned():
    b = NetworkBuilder("small")
    x = b.conv(b.input("x", (1, 8, 16, 16)), 16, 3, 1, 1)
    b.output(b.conv(x, 8, 3, 1, 1))
    found = spm_opt.explore(b.build(), minimum=3000, maximum=6000, time_limit=5)
    # a plan counts whole bursts
    assert 0 <= found.staircase[-1].dram_bytes.total - found.minimum_dram_bytes < 64
    assert all(3000 <= p.spm_bytes <= 6000 for p in found.points)
