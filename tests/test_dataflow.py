"""Models of dataflows: counts beside walked loop nests, searches, capacities, the chip itself."""

from __future__ import annotations

import itertools
import sys
from dataclasses import astuple, replace
from fractions import Fraction
from pathlib import Path

import dataflow_oracle as oracle
import pytest

from spm_opt.cost.compression import run_length_factor
from spm_opt.cost.row_stationary import (
    RowMapping,
    RowMappings,
    accesses,
    best_mapping,
    mapped,
    violations,
)
from spm_opt.cost.spatial import ConvNest, Sparsity, energies, layer_cost, processing
from spm_opt.cost.stationary import best_stationary, counted
from spm_opt.errors import InputError
from spm_opt.formats.dataflow_yaml import read_dataflow
from spm_opt.formats.hardware_yaml import read_hardware

REPO = Path(__file__).resolve().parent.parent
CHIP = read_dataflow(REPO / "hw" / "eyeriss.yaml")
RAW = Sparsity()
NESTS = (
    ConvNest(images=3, groups=1, filters=5, channels=7, rows_in=9, kernel=3),
    ConvNest(images=2, groups=2, filters=6, channels=3, rows_in=11, kernel=3, stride=2),
    ConvNest(images=5, groups=1, filters=7, channels=9, rows_in=1, kernel=1),
    ConvNest(images=1, groups=1, filters=4, channels=2, rows_in=12, kernel=4, stride=3),
)
MAPPINGS = (
    RowMapping(m=4, n=2, e=2, p=2, q=2, r=2, t=1),
    RowMapping(m=3, n=1, e=3, p=1, q=1, r=1, t=3),
    RowMapping(m=4, n=3, e=4, p=2, q=3, r=1, t=2),
    RowMapping(m=99, n=99, e=99, p=2, q=1, r=2, t=1),
)


def clipped(nest, mapping):
    return replace(
        mapping,
        m=min(mapping.m, nest.filters),
        n=min(mapping.n, nest.images),
        e=min(mapping.e, nest.rows_out),
    )


def check_memories(counts, walked):
    assert counts.mac_cycles == walked["cycles"]
    assert counts.buffer_map_words == walked["buffer"]
    assert counts.buffer_weight_words == walked["buffer weights"]
    assert counts.dram_weight_words == walked["weights"]
    assert counts.dram_ifmap_words == walked["ifmap"]
    assert counts.dram_ofmap_words == walked["ofmap"]


@pytest.mark.parametrize("nest", NESTS, ids=str)
@pytest.mark.parametrize("mapping", MAPPINGS, ids=str)
def test_row_stationary_counts_are_those_of_the_walked_nest(nest, mapping):
    mapping = clipped(nest, mapping)
    counts, walked = mapped(nest, mapping), oracle.row_stationary(nest, mapping)
    check_memories(counts, walked)
    assert nest.macs == walked["macs"]
    assert counts.active_pes == nest.kernel * mapping.e * mapping.r * mapping.t
    arrivals = walked["filters in"] + walked["rows in"]
    assert counts.register_words == 4 * walked["macs"] + arrivals
    assert counts.neighbour_words == arrivals + walked["hops"]


FILLS = ({"m": 4, "n": 2, "e": 2}, {"m": 3, "n": 1, "e": 1}, {"m": 99, "n": 99, "e": 99})


def fill_of(nest, fill):
    most = {"m": nest.filters, "n": nest.images, "e": nest.rows_out}
    return {key: min(value, most[key]) for key, value in fill.items()}


@pytest.mark.parametrize(("nest", "fill"), list(itertools.product(NESTS, FILLS)), ids=str)
@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("weight_stationary", {"channels": 2, "filters": 3}),
        ("no_local_reuse", {"taps": 4, "filters": 3}),
        ("output_stationary", {"filters": 2, "images": 2, "rows": 2, "columns": 3}),
    ],
)
def test_other_dataflows_count_what_the_walked_nest_does(kind, array, nest, fill):
    side = {"filters": nest.filters, "images": nest.images}
    array = {key: min(value, side.get(key, nest.rows_out if key in ("rows", "columns") else 99))
             for key, value in array.items()}  # fmt: skip
    extents = {**array, **fill_of(nest, fill)}
    counts, walked = counted(kind, nest, extents), getattr(oracle, kind)(nest, extents)
    check_memories(counts, walked)
    assert counts.register_words == walked["registers"]
    assert counts.neighbour_words == walked["neighbours"]


SMALL = replace(CHIP, pe_rows=6, pe_columns=4, filter_words=24, ifmap_words=6, psum_words=3,
                map_bytes=2048, weight_bytes=256, bank_bytes=64)  # fmt: skip


@pytest.mark.parametrize("nest", NESTS, ids=str)
@pytest.mark.parametrize("objective", [energies, processing])
def test_the_search_is_never_worse_than_any_mapping_that_fits(nest, objective):
    found = best_mapping(nest, SMALL, RAW, objective)
    assert violations(nest, found, SMALL) == ()
    best = price(nest, found, objective)
    tried = 0
    ranges = (nest.filters, nest.images, nest.rows_out, 3, 6, 4, 4)
    for sizes in itertools.product(*(sorted({1, 2, n - 1, n} - {0}) for n in ranges)):
        mapping = RowMapping(*sizes)
        whole = mapping.m == nest.filters or mapping.m % (mapping.p * mapping.t) == 0
        if whole and not violations(nest, mapping, SMALL):
            tried += 1
            assert best <= price(nest, mapping, objective) * (1 + 1e-12), mapping
    assert tried > 20


def price(nest, mapping, objective):
    return float(objective(nest, accesses(nest, RowMappings.of(mapping)), SMALL, RAW)[0])


@pytest.mark.parametrize("nest", NESTS, ids=str)
@pytest.mark.parametrize("kind", ["weight_stationary", "output_stationary", "no_local_reuse"])
def test_other_searches_keep_the_array_and_gain_by_a_larger_buffer(kind, nest):
    tight = best_stationary(nest, replace(SMALL, kind=kind), RAW, energies)
    wide = best_stationary(nest, replace(SMALL, kind=kind, map_bytes=1 << 20), RAW, energies)
    assert tight.accesses.active_pes <= SMALL.pes
    assert held_words(kind, nest, tight.extents) <= SMALL.map_bytes // SMALL.word_bytes
    costs = [layer_cost(nest, found.accesses, SMALL, RAW).energy for found in (wide, tight)]
    assert costs[0] <= costs[1]


def held_words(kind, nest, of):
    """What a fill keeps in the buffer, in its leanest form."""
    rows = min((of["e"] - 1) * nest.stride + nest.kernel, nest.rows_in)
    if kind == "output_stationary":
        maps = of["n"] * nest.channels * rows * nest.rows_in
        weights = nest.channels * (of["m"] * nest.kernel**2 + nest.kernel * nest.rows_in)
        return min(maps, weights) if of["m"] == nest.filters else weights
    channels = of["channels"] if kind == "weight_stationary" else -(-of["taps"] // nest.kernel**2)
    maps = of["n"] * min(channels, nest.channels) * rows * nest.rows_in
    return maps + of["n"] * of["m"] * of["e"] * nest.rows_out


def test_violations_name_every_limit():
    nest = NESTS[0]
    beyond = RowMapping(m=6, n=4, e=8, p=25, q=5, r=9, t=9)
    names = {text.split(":")[0] for text in violations(nest, beyond, CHIP)}
    assert names == {
        "filter scratchpad words", "ifmap scratchpad words", "psum scratchpad words", "PE sets",
        "weight bytes of a pass", "images of a fill", "filters of a fill",
        "output rows of a strip",
    }  # fmt: skip
    large = ConvNest(images=1, groups=1, filters=512, channels=64, rows_in=226, kernel=3)
    assert violations(large, RowMapping(512, 1, 14, 1, 1, 1, 1), CHIP)[0].startswith("map banks")


def test_run_length_code_by_hand():
    assert run_length_factor(Fraction(0)) == 1
    assert run_length_factor(Fraction(1, 4)) == 1
    # pairs that end a run of 31 zeros without an element behind it are few
    assert 0 < run_length_factor(Fraction(5, 8)) - Fraction(1, 2) < Fraction(1, 10**6)
    assert run_length_factor(Fraction(1)) == Fraction(64, 48) / 32
    with pytest.raises(ValueError, match="between 0 and 1"):
        run_length_factor(Fraction(5, 4))


def test_zeros_save_energy_and_dram_but_no_processing_time():
    nest, mapping = NESTS[0], clipped(NESTS[0], MAPPINGS[0])
    raw, sparse = (
        layer_cost(nest, mapped(nest, mapping), CHIP, Sparsity(Fraction(z), Fraction(z)))
        for z in ("0", "0.8")
    )
    assert sparse.cycles == raw.cycles
    assert sparse.dram_bytes < raw.dram_bytes
    assert sparse.exposed_cycles < raw.exposed_cycles
    # MAC and weight read of four fifths of all MACs
    assert raw.chip_energy - sparse.chip_energy == 2 * nest.macs * Fraction(4, 5)


def test_without_a_dataflow_the_planner_reads_the_same_chip_with_and_without_the_section(tmp_path):
    path = REPO / "hw" / "eyeriss.yaml"
    text = path.read_text(encoding="utf-8")
    bare = tmp_path / "bare.yaml"
    head, _, rest = text.partition("dataflow:\n")
    bare.write_text(head + "compute:\n" + rest.partition("\ncompute:\n")[2], encoding="utf-8")
    none = {"compute.dataflow": "none"}
    assert read_hardware(bare, none) == read_hardware(path, none)
    with pytest.raises(InputError, match="dataflow: this section is missing"):
        read_dataflow(bare)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: row_stationary", "kind: rows", "dataflow.kind: is no dataflow; found 'rows'"),
        ("exposed_percent: 75", "exposed_percent: 175", "is too large; found 175"),
        ("filter: 224", "filtre: 224", "dataflow.scratchpads: unknown field; found 'filtre'"),
        ("bank: 4 KiB", "bank: 0 KiB", "dataflow.regions.bank: must be positive"),
    ],
)
def test_mistakes_in_the_section_are_named(tmp_path, old, new, message):
    path = tmp_path / "chip.yaml"
    text = (REPO / "hw" / "eyeriss.yaml").read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_dataflow(path)


def test_alexnet_agrees_with_the_silicon(monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [str(REPO / "benchmarks"), *sys.path])
    import eyeriss

    assert eyeriss.main(["--net", "alexnet"]) == 0
    assert "within all limits" in capsys.readouterr().out
    rows, whole = eyeriss.compare("alexnet", CHIP)
    assert [row.modelled.active_pes for row in rows] == [154, 135, 156, 156, 156]
    facts = eyeriss.yaml.safe_load(eyeriss.FACTS.read_text(encoding="utf-8"))["alexnet"]
    for row in rows:
        nest = ConvNest(images=facts["batch"], **facts["layers"][row.layer])
        assert violations(nest, row.mapping, CHIP) == ()
    # and the check can say no
    slow = replace(CHIP, buffer_bytes_per_cycle=Fraction(5))
    rows, whole = eyeriss.compare("alexnet", slow)
    assert any("processing_ms" in text for text in eyeriss.outside("alexnet", rows, whole))
    assert len(astuple(whole.modelled)) == len(eyeriss.COLUMNS)


def test_vgg16_is_as_far_from_the_silicon_as_the_docs_say(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(REPO / "benchmarks"), *sys.path])
    import eyeriss

    rows, whole = eyeriss.compare("vgg16", CHIP)
    assert all(abs(eyeriss.error(row, "dram_mb")) < 0.2 for row in rows)
    assert eyeriss.outside("vgg16", rows, whole) == ["total processing_ms: -38.4%, limit 20%"]
    page = (REPO / "docs" / "silicon.md").read_text(encoding="utf-8")
    assert eyeriss.table(rows, whole) in page
    assert eyeriss.table(*eyeriss.compare("alexnet", CHIP)) in page
