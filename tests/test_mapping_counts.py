"""Exact counts of mappings against a brute-force walk over tiles with sets of elements."""

from __future__ import annotations

import random
from dataclasses import asdict, replace

import mapping_worlds as worlds
import numpy as np
import pytest
from mapping_oracle import Oracle

from spm_opt import mapping_counts, mapping_lines, mapping_live
from spm_opt.api import load_hardware, load_network
from spm_opt.boxes import Span
from spm_opt.cost.box import box_cycles
from spm_opt.cost.compute import tile_cycles
from spm_opt.errors import InputError
from spm_opt.mapping_counts import evaluate
from spm_opt.mapping_prices import duration
from spm_opt.pipeline import pipeline_spans

HARDWARE = load_hardware("mobile_npu")


def cases(seed, count):
    rng = random.Random(seed)
    found = 0
    while found < count:
        world = rng.choice([worlds.images, worlds.images, worlds.sequences])
        try:
            fused = world(rng)
        except InputError:
            continue  # a skip that leads nowhere
        for _ in range(3):
            found += 1
            yield fused, worlds.mapping(rng, fused)


def differences(fused, mapping):
    try:
        counts = asdict(evaluate(fused, mapping, HARDWARE))
    except InputError as error:
        # maps that are read outside and that no tile needs all of
        return {} if "outside" in error.message else {"error": (error, None)}
    wanted = Oracle(fused, mapping).figures()
    return {k: (counts[k], v) for k, v in wanted.items() if counts[k] != v}


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_a_walk_over_elements(seed):
    for fused, mapping in cases(seed, 100):
        assert differences(fused, mapping) == {}, (fused.layers, mapping)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(100, 130))
def test_counts_of_thousands_of_groups(seed):
    for fused, mapping in cases(seed, 500):
        assert differences(fused, mapping) == {}, (fused.layers, mapping)


def _without_again(at, none, left, wanted, both):
    """What another tile of a loop without reuse drops, taken for kept."""
    return INSIDE(replace(at, after=at.after * at.reuse), none, left, wanted, both)


def _all_reused(need):
    return replace(PROFILE(need), before=PROFILE(need).before * 0)


INSIDE, PROFILE = mapping_live._inside, mapping_lines.profile


@pytest.mark.parametrize(
    ("room", "name", "wrong"),
    [
        (mapping_live, "_inside", _without_again),
        (mapping_counts, "profile", _all_reused),
        (mapping_lines, "fresh", lambda need: need),
    ],
)
def test_the_walk_sees_mistakes(monkeypatch, room, name, wrong):
    monkeypatch.setattr(room, name, wrong)
    found = (differences(fused, mapping) for fused, mapping in cases(11, 1000))
    assert any(found)


def test_ends_and_begins_never_go_back():
    need = Span(np.array([0, 4, 2**40, 3]), np.array([5, 6, 0, 5]))
    widened = mapping_lines._forward(need)
    assert widened.begin.tolist() == [0, 3, 2**40, 3]
    assert widened.end.tolist() == [5, 6, 0, 6]


def test_prices_of_boxes_are_those_of_tiles_where_they_are_rows_or_slices():
    network = load_network("mobilenet_v2")
    rows = np.array([1, 3, 7])
    read = np.array([100, 5000, 10**6])
    for layer in network.layers[:20]:
        shape, dtype = layer.output_shape, network.tensors[layer.output].dtype
        if len(shape) < 4:
            continue
        for channels in (None, 32) if shape[1] % 32 == 0 else (None,):
            lengths = [np.array([n]) for n in (1, channels or shape[1])]
            box = box_cycles(layer, dtype, HARDWARE, [*lengths, rows, np.array([shape[3]])], read)
            assert (box == tile_cycles(layer, dtype, HARDWARE, rows, read, channels)).all()


@pytest.mark.parametrize("depth", [1, 2])
def test_the_pipeline_is_that_of_every_step(depth):
    rng = np.random.default_rng(3)
    for tiles in (1, 2, 3, 7, 20):
        compute, load, store = rng.integers(0, 9, (3, 40, tiles)) * rng.integers(0, 2, (3, 40, 1))
        spans = pipeline_spans(compute, load, store, store * 0, depth).duration_cycles
        own = [duration(*(a[i].tolist() for a in (compute, load, store)), depth) for i in range(40)]
        assert own == spans.tolist()
