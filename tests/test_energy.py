"""Energy: units, prices of tiles against sums by hand, claims, the objectives energy and edp."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from oracles import least_energy, prove
from random_worlds import random_chip, random_network
from small_problems import fmap, group, problem

from spm_opt import solve
from spm_opt.cost.energy import Tiles, mac_fj, tile_energy
from spm_opt.dynamic import Prices, solve_dynamic
from spm_opt.errors import InputError, SpmTooSmallError
from spm_opt.formats.hardware_yaml import hardware_from_dict, hardware_to_dict
from spm_opt.formats.schedule_json import schedule_from_json, schedule_to_json
from spm_opt.formats.tables import layers_csv
from spm_opt.fusion import make_candidates
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.hardware import ComputeArray, Energy, Hardware, Unrolling
from spm_opt.parts import source_order
from spm_opt.planner_edp import Front, Line
from spm_opt.problem import Problem
from spm_opt.schedule import Schedule
from spm_opt.site import Site, feature_maps, make_site, weight_loads
from spm_opt.units import QuantityError, format_energy, parse_energy, parse_leakage
from spm_opt.verify import verify

ENERGY = Energy({"int8": 300, "float32": 4600}, 100, 30, 2500, 162500, 20000)


# --------------------------------------------------------------------------- units and hardware


@pytest.mark.parametrize(
    ("text", "per", "expected"),
    [("300 fJ", "", 300), ("3.1pJ/B", "B", 3100), ("2 nJ", "B", 2_000_000), ("0 fJ", "", 0)],
)
def test_energies_are_read(text: str, per: str, expected: int) -> None:
    assert parse_energy(text, per) == expected


@pytest.mark.parametrize("text", ["3", "3 J", "0.5 fJ", "-1 pJ", "1 pJ/s", 7])
def test_other_texts_are_no_energy(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_energy(text, "B")


def test_leakage_is_power_over_the_clock_or_energy_a_cycle() -> None:
    assert parse_leakage("20 mW", 10**9) == 20_000
    assert parse_leakage("1 nW", 3 * 10**6) == 1  # rounded up
    assert parse_leakage("8 pJ/cycle", 10**9) == 8_000
    with pytest.raises(QuantityError):
        parse_leakage("8 pJ/B", 10**9)


def test_energy_is_printed_for_people() -> None:
    assert [format_energy(n) for n in (5, 1500, 2 * 10**12)] == ["5 fJ", "1.500 pJ", "2.000 mJ"]


def test_energies_are_embedded_exactly() -> None:
    chip = replace(random_chip(random.Random(0)), energy=ENERGY)
    assert hardware_from_dict(hardware_to_dict(chip)) == chip
    plain = replace(chip, energy=None)
    assert hardware_from_dict(hardware_to_dict(plain)) == plain


def test_a_chip_without_energies_is_refused_by_name(tmp_path) -> None:
    from spm_opt.formats.catalogue import find_hardware

    text = Path(find_hardware("mobile_npu")).read_text(encoding="utf-8")
    file = tmp_path / "chip.yaml"
    file.write_text(text.partition("\nenergy:")[0], encoding="utf-8")
    for objective in ("energy", "edp"):
        with pytest.raises(InputError, match=r"chip\.yaml: energy: energy cannot be counted"):
            solve("squeezenet1_1", file, objective=objective)
    file.write_text(text.replace("int8: 300 fJ, ", ""), encoding="utf-8")
    with pytest.raises(InputError, match=r"chip\.yaml: energy\.mac\.int8"):
        solve("squeezenet1_1", file, objective="energy")


def test_a_type_takes_the_energy_of_its_width() -> None:
    assert mac_fj(ENERGY, "uint8") == 300
    with pytest.raises(InputError, match=r"energy\.mac\.float16"):
        mac_fj(ENERGY, "float16")


# --------------------------------------------------------------------------- one tile


def chip_of(*unrollings: dict[str, int]) -> Hardware:
    found = tuple(Unrolling(str(n), u) for n, u in enumerate(unrollings))
    compute = ComputeArray(found, vector_lanes=4)
    return replace(random_chip(random.Random(1)), compute=compute, energy=ENERGY)


def tiles(*rows: int, channels: int | None = None) -> Tiles:
    count = np.array(rows, dtype=np.int64)
    return Tiles(count, np.zeros_like(count), 10 * count, np.full_like(count, 7), channels)


def test_a_convolution_by_hand() -> None:
    b = NetworkBuilder("one")
    x = b.input("x", (1, 4, 6, 5))
    b.output(b.conv(x, 8, 3, padding=1))
    layer = b.build().layers[0]
    # 3 of 4 channels and all columns of the window at once: 2 x 3 sums for 4 x 3 x 3 products
    found = tile_energy(layer, "int8", chip_of({"c": 3, "fx": 3, "k": 2}), tiles(2, 0))
    macs, outputs = 2 * 5 * 8 * 36, 2 * 5 * 8
    assert found.mac_fj.tolist() == [300 * macs, 0]
    assert found.register_fj.tolist() == [30 * (2 * macs + 8 * outputs * 6), 0]
    assert found.vector_fj.tolist() == [0, 0]
    assert found.spm_weights_fj.tolist() == [7 * 2500, 0]
    assert found.spm_maps_fj.tolist() == [20 * 2500, 0]


def test_sums_are_those_of_the_unrolling_that_is_fastest() -> None:
    b = NetworkBuilder("one")
    x = b.input("x", (1, 16, 4, 4))
    b.output(b.conv(x, 4, 1))
    layer = b.build().layers[0]
    deep, wide = {"c": 16}, {"k": 4, "ox": 2}
    both = tile_energy(layer, "int8", chip_of(wide, deep), tiles(4))
    assert both.total_fj == tile_energy(layer, "int8", chip_of(deep), tiles(4)).total_fj
    assert both.total_fj < tile_energy(layer, "int8", chip_of(wide), tiles(4)).total_fj


def test_slices_of_channels_share_out_the_work() -> None:
    b = NetworkBuilder("one")
    x = b.input("x", (1, 4, 6, 5))
    b.output(b.conv(x, 8, 3, padding=1))
    layer, chip = b.build().layers[0], chip_of({"c": 4, "k": 2})
    whole, part = (
        tile_energy(layer, "int8", chip, tiles(6, channels=width)) for width in (None, 2)
    )
    assert (4 * part.mac_fj == whole.mac_fj).all()
    assert (4 * part.register_fj == whole.register_fj).all()


# --------------------------------------------------------------------------- solvers


def drawn(seed: int) -> Problem:
    """A random problem with energies that do not follow its other prices."""
    from random_worlds import random_problem

    rng = random.Random(seed)
    found = random_problem(rng, rng.random() < 0.75, False)
    return replace(
        found,
        cuts=rng.random() < 0.5,
        leakage_fj=rng.choice([0, 1, 5]),
        candidates=tuple(replace(c, energy_fj=rng.randint(0, 60)) for c in found.candidates),
        maps=tuple(replace(m, reload_fj=rng.randint(0, 20)) for m in found.maps),
    )


@pytest.mark.parametrize("seed", range(24))
def test_labels_cpsat_and_every_plan_agree_on_energy(seed: int) -> None:
    case = drawn(seed)
    solved = solve_dynamic(case, Prices(case.leakage_fj, 0, 1))
    assert solved.complete
    found = prove(case, "energy").value
    if solved.decision is None:
        assert found is None
        return
    value = solved.energy_fj + case.leakage_fj * solved.latency_cycles
    assert found == value
    assert least_energy(case, value) == value


def test_leakage_decides_between_fast_and_frugal() -> None:
    fast = replace(group(0, 1, 10, moved=1, streams=(0,)), energy_fj=100)
    lean = replace(group(0, 1, 30, moved=1, streams=(0,)), energy_fj=20)
    case = problem(8, (fmap(4, readers=(0,)),), {}, fast, lean)
    for leakage, best in ((0, 1), (3, 1), (5, 0)):
        solved = solve_dynamic(replace(case, leakage_fj=leakage), Prices(leakage, 0, 1))
        assert solved.decision is not None
        assert solved.decision.candidates == (best,)


def worlds(seed: int) -> tuple[Site, Problem] | None:
    rng = random.Random(seed)
    network, chip = random_network(rng, 4), replace(random_chip(rng), energy=ENERGY)
    site = make_site(network, chip, source_order(network), energy=True)
    try:
        candidates = make_candidates(site, bands=False).candidates
    except SpmTooSmallError:
        return None
    return site, Problem(
        len(site.parts), chip.spm.capacity_bytes, feature_maps(site), weight_loads(site),
        candidates, leakage_fj=ENERGY.leakage_fj,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_pruning_keeps_what_is_frugal(seed: int) -> None:
    world = worlds(seed)
    if world is None:
        pytest.skip("a layer does not fit")
    site, pruned = world
    everything = replace(
        pruned, candidates=make_candidates(site, prune=False, bands=False).candidates
    )
    for prices in (Prices(ENERGY.leakage_fj, 0, 1), Prices(0, 0, 1)):
        one, other = (solve_dynamic(p, prices) for p in (pruned, everything))
        assert one.complete and other.complete  # noqa: PT018
        assert (one.decision is None) == (other.decision is None)
        cost = [prices.per_cycle * s.latency_cycles + s.energy_fj for s in (one, other)]
        assert cost[0] == cost[1]


# --------------------------------------------------------------------------- whole plans


def planned(seed: int, objective: str) -> Schedule | None:
    rng = random.Random(seed)
    network, chip = random_network(rng, 3), replace(random_chip(rng), energy=ENERGY)
    try:
        return solve(
            network, chip, objective=objective, time_limit=60, workers=1, orders=1,
        ).schedule  # fmt: skip
    except SpmTooSmallError:
        return None


def figures(schedule: Schedule) -> dict[str, int]:
    claims = schedule.claims
    assert claims.energy is not None
    total = claims.energy.total_fj
    return {
        "latency": claims.latency_cycles, "energy": total, "edp": total * claims.latency_cycles,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_no_objective_is_beaten_by_another(seed: int) -> None:
    plans = {o: planned(seed, o) for o in ("latency", "energy", "edp")}
    found = {o: figures(plan) for o, plan in plans.items() if plan is not None}
    for objective, own in found.items():
        rivals = found if objective == "edp" else ("latency", "energy")
        assert own[objective] == min(found[rival][objective] for rival in rivals)
        made = plans[objective].provenance  # type: ignore[union-attr]
        # bounds are below whatever any search found
        assert all(made.objective_bound <= other[objective] for other in found.values())


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    found = next(s for s in (planned(seed, "energy") for seed in range(20)) if s is not None)
    assert found.claims.energy is not None
    return found


def test_claims_are_recomputed(schedule: Schedule) -> None:
    assert verify(schedule) == ()
    energy = schedule.claims.energy
    assert energy is not None
    for name, value in asdict(energy).items():
        wrong = replace(energy, **{name: value + 1})
        broken = verify(replace(schedule, claims=replace(schedule.claims, energy=wrong)))
        assert any(f"the claim energy.{name}" in sentence for sentence in broken)
    without = verify(replace(schedule, claims=replace(schedule.claims, energy=None)))
    assert any("no energy is claimed" in sentence for sentence in without)


def test_energy_survives_the_file(schedule: Schedule) -> None:
    assert schedule_from_json(schedule_to_json(schedule)) == schedule


def test_layers_add_up_to_all_but_leakage(schedule: Schedule) -> None:
    rows = list(csv.DictReader(io.StringIO(layers_csv(schedule))))
    energy = schedule.claims.energy
    assert energy is not None
    assert sum(int(row["energy_fj"]) for row in rows) == energy.total_fj - energy.leakage_fj
    assert sum(int(row["weights_fj"]) for row in rows) == energy.weights_fj
    assert sum(int(row["maps_fj"]) for row in rows) == energy.maps_fj
    assert sum(int(row["mac_fj"]) for row in rows) == energy.mac_fj


# --------------------------------------------------------------------------- the front


def line(per_cycle: int, per_fj: int, points: list[tuple[int, int]]) -> Line:
    from spm_opt.dynamic import Solved

    cycles, energy = min(points, key=lambda p: per_cycle * p[0] + per_fj * p[1])
    value = per_cycle * cycles + per_fj * energy
    return Line(per_cycle, per_fj, value, Solved(None, cycles, 0, energy, True))


@pytest.mark.parametrize("seed", range(20))
def test_no_point_is_below_the_lowest_corner(seed: int) -> None:
    rng = random.Random(seed)
    points = [(rng.randint(1, 40), rng.randint(1, 40)) for _ in range(rng.randint(1, 12))]
    case = problem(8, (fmap(4, readers=(0,)),), {}, group(0, 1, 1, streams=(0,)))
    front = Front(case, rng.choice([0, 3]), 1)
    least = min(front.product((Fraction(c), Fraction(e))) for c, e in points)
    for per_cycle, per_fj in ((1, 0), (0, 1), (1, 1), (3, 1), (1, 4)):
        front.add(line(per_cycle, per_fj, points))
        if len(front.lines) > 1:
            lowest = front.lowest()
            assert lowest is not None
            assert front.product(lowest[0]) <= least
