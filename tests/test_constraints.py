"""What a user demands: the best plan that meets it, and no other; names; contradictions."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from draws import some_seeds
from oracles import Plan, TooManyPlansError, brute_force, by_cpsat, by_dynamic, cost_of
from random_worlds import World, make_world, random_chip, random_network, random_problem

import spm_opt
from spm_opt import InputError, NetworkBuilder
from spm_opt.constrain import (
    Homes,
    constrained,
    held,
    homes,
    keeps_whole,
    never_whole,
    runs_apart,
    runs_together,
)
from spm_opt.constraints import Constraints
from spm_opt.demands import demands
from spm_opt.errors import SpmTooSmallError
from spm_opt.fusion_dominance import essential
from spm_opt.graph.normalize import normalize
from spm_opt.problem import Problem
from spm_opt.site import Site

Accept = Callable[[Plan], bool]
#: of the first 24 problems and 72 networks, demands of every sort in little time: most of the
#: others have too many plans to try
PROBLEMS = (0, 1, 2, 4, 5, 6, 7, 9, 10, 11, 21)
WORLDS = (
    1, 2, 6, 7, 9, 10, 12, 15, 25, 26, 27, 30, 34, 35, 37, 43, 44, 45, 46, 50, 51, 52, 54, 58, 61,
    65, 68, 69,
)  # fmt: skip


# --- demands as one reads them off a plan ---------------------------------------------------------


def step_of(plan: Plan, part: int) -> int:
    return plan.own_step(part)


def is_pinned(problem: Problem, home: Homes) -> Accept:
    """Whole in SPM at every step from birth to last reader, and DRAM never gets it."""
    written = home.own | {t for t in home.around if problem.maps[t].joined}

    def accept(plan: Plan) -> bool:
        readers = {step_of(plan, part) for part in home.readers}
        writers = {step_of(plan, part) for part in home.writers}
        life = range(min(writers or readers), max(readers | writers) + 1)
        if not all(home.all & plan.maps[s] for s in life):
            return False
        for s in writers:
            c = plan.used[s]
            idle = not (c.keeps or c.stores or c.duration_cycles) and home.all & {*c.reads}
            if not (idle or written & {*c.keeps}):
                return False
        for s, c in enumerate(plan.used):
            if any(t in c.stores and not problem.maps[t].must_store for t in written):
                return False
            streamed = home.all if s in readers - writers else home.own
            if streamed & {*c.streams}:
                return False
        return True

    return accept


def is_never_whole(problem: Problem, home: Homes) -> Accept:
    """At no step in SPM as a whole."""

    def accept(plan: Plan) -> bool:
        readers = {step_of(plan, part) for part in home.readers}
        writers = {step_of(plan, part) for part in home.writers}
        for s, c in enumerate(plan.used):
            if home.own & plan.maps[s]:
                return False
            around = home.around & {*c.reads} if s in readers - writers else set()
            if s in writers:
                around = {t for t in home.around if problem.maps[t].joined} & {*c.keeps}
            if around:
                return False
        return True

    return accept


def is_together(parts: tuple[int, ...], wanted: bool) -> Accept:
    return lambda plan: (len({step_of(plan, part) for part in parts}) == 1) == wanted


def agree(
    problem: Problem, everything: Problem, accept: Accept, objective: str, patience: int
) -> bool:
    """Labels, boolean variables and the search over all plans; tells whether there is a plan."""
    cost, decision = by_dynamic(problem, objective)
    assert brute_force(everything, objective, cost, patience, accept).cost == cost
    assert by_cpsat(problem, objective)[0] == cost
    if decision is None:
        return False
    assert by_dynamic(essential(problem), objective)[0] == cost
    assert cost_of(problem, decision, objective) == cost
    return True


# --- small problems: every demand against every plan ----------------------------------------------


def pinned(problem: Problem, home: Homes) -> Problem:
    return held(problem, [home]).only(lambda c: keeps_whole(problem, c, home, False))


def unpinned(problem: Problem, home: Homes) -> Problem:
    return problem.only(lambda c: never_whole(problem, c, home))


@some_seeds(PROBLEMS, range(24))
@pytest.mark.parametrize("objective", ["latency", "dram"])
@pytest.mark.parametrize("demand", ["pin", "no_pin", "fuse", "no_fuse"])
def test_the_optimum_is_that_of_the_plans_that_meet_the_demand(
    demand: str, objective: str, seeds: Sequence[int]
):
    seen: Counter[str] = Counter()
    for seed in seeds:
        rng = random.Random(seed)
        problem = random_problem(rng, rng.random() < 0.75)
        free = by_dynamic(problem, objective)[0]
        if demand in ("pin", "no_pin"):
            t = rng.choice([t for t, m in enumerate(problem.maps) if m.readers])
            home = Homes(
                frozenset({t}), frozenset(), problem.maps[t].writers, problem.maps[t].readers
            )
            wanted = (pinned if demand == "pin" else unpinned)(problem, home)
            accept = (is_pinned if demand == "pin" else is_never_whole)(problem, home)
        else:
            begin = rng.randrange(problem.parts - 1)
            parts = begin, begin + 1
            spans = [(part, part + 1) for part in parts]
            rule = runs_together if demand == "fuse" else runs_apart
            wanted = problem.only(lambda c, rule=rule, spans=spans: rule(c, spans))
            accept = is_together(parts, demand == "fuse")
        everything = replace(problem, maps=wanted.maps)
        try:
            found = agree(wanted, everything, accept, objective, 3_000)
        except TooManyPlansError:
            seen["too many plans"] += 1
            continue
        dearer = found and by_dynamic(wanted, objective)[0] != free
        seen["dearer" if dearer else "as good" if found else "impossible"] += 1
    assert seen["too many plans"] <= len(seeds) // 3, seen
    # a demand that is not heeded would cost nothing
    assert seen["dearer"] >= 3, seen


# --- networks: names, slices, concatenations and splits -------------------------------------------


def random_world(seed: int) -> World | None:
    rng = random.Random(seed)
    try:
        world = make_world(
            random_network(rng, 4), random_chip(rng), rng.random() < 0.7, ("retain",),
            rng.random() < 0.6,
        )  # fmt: skip
    except SpmTooSmallError:
        return None
    return world if world.problem.parts <= 4 else None


def demanded(rng: random.Random, site: Site) -> Constraints:
    network = site.network
    maps = [name for name in network.tensors if network.readers[name]]
    layers = [layer.name for layer in network.layers]
    kind = rng.choice(["pin", "pin", "no_pin", "fuse", "no_fuse"])
    if "pin" in kind:
        return Constraints(**{kind: (rng.choice(maps),)})
    return Constraints(**{kind: (tuple(rng.sample(layers, 2)),)})


def acceptance(world: World, wanted: Constraints) -> Accept:
    site, problem = world.site, world.problem
    for name in wanted.pin:
        return is_pinned(problem, homes(site, name))
    for name in wanted.no_pin:
        return is_never_whole(problem, homes(site, name))
    for names in (*wanted.fuse, *wanted.no_fuse):
        index = {layer.name: i for i, layer in enumerate(site.network.layers)}
        spans = [site.spans[site.position[index[name]]] for name in names]
        parts = tuple(part for span in spans for part in range(*span))
        if wanted.fuse:
            return is_together(parts, True)
        one, other = spans
        return lambda plan: (
            not (
                {step_of(plan, p) for p in range(*one)} & {step_of(plan, p) for p in range(*other)}
            )
        )
    raise AssertionError(wanted)


@some_seeds(WORLDS, range(72))
def test_networks_are_planned_as_demanded(seeds: Sequence[int]):
    seen: Counter[str] = Counter()
    for seed in seeds:
        world = random_world(seed)
        rng = random.Random(seed + 1000)
        if world is None or len(world.site.network.layers) < 2:
            continue
        wanted = demanded(rng, world.site)
        problem = constrained(world.site, world.problem, world.recipes, wanted)
        everything = replace(world.everything, maps=problem.maps)
        objective = rng.choice(["latency", "dram"])
        try:
            found = agree(problem, everything, acceptance(world, wanted), objective, 1_200)
        except TooManyPlansError:
            seen["too many plans"] += 1
            continue
        name = next(iter((*wanted.pin, *wanted.no_pin)), None)
        if name is not None and homes(world.site, name).around:
            seen["map with several homes"] += found
        free = by_dynamic(world.problem, objective)[0]
        seen["dearer"] += found and by_dynamic(problem, objective)[0] != free
        seen[wanted.texts()[0].split()[0]] += found
    assert seen["too many plans"] <= 5 * len(seeds) // 18, seen
    kinds = ("--pin", "--no-pin", "--fuse", "--no-fuse", "map with several homes", "dearer")
    for kind in kinds:
        assert seen[kind] >= 1, seen


# --- names and contradictions ---------------------------------------------------------------------


def chain() -> NetworkBuilder:
    """Convolutions with activations that are folded, a view, and a residual connection."""
    b = NetworkBuilder("chain")
    x = b.input("x", (1, 4, 8, 8))
    a = b.relu(b.conv(x, 8, 3, padding=1, name="a"), name="a_act")
    d = b.conv(a, 8, 3, padding=1, name="d")
    e = b.add(d, a, name="e")
    f = b.conv(e, 8, 3, padding=1, name="f")
    b.output(b.flatten(f, name="flat"))
    return b


def wanted(**given) -> Constraints:
    source = chain().build()
    return demands(source, normalize(source), **given)


def test_names_of_folded_layers_and_views_mean_what_is_planned():
    assert wanted(pin=["a"]).pin == wanted(pin="a_act").pin == ("a_act",)
    assert wanted(fuse=["a_act,d"]).fuse == (("a", "d"),)
    # what is folded into one layer runs together anyway
    assert not wanted(fuse=[("a", "a_act")])
    assert wanted(order=["a", "a_act", "d", "e", "f", "flat"]).order == ("a", "d", "e", "f")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pin": ["a_akt"]}, "--pin: no such feature map; did you mean a_act"),
        ({"fuse": ["a,dd"]}, "--fuse: no such layer"),
        ({"fuse": ["a"]}, "--fuse: name at least two layers"),
        ({"fuse": ["a,flat"]}, "--fuse: this layer does not run"),
        ({"no_fuse": ["a,a_act"]}, "folded into one, 'a', and always run together"),
        ({"pin": ["f"]}, "--pin: no layer reads this map"),
        ({"pin": ["a"], "no_pin": ["a_act"]}, "--pin a_act contradicts --no-pin a_act"),
        ({"fuse": ["d,e"], "no_fuse": ["e,d"]}, "--fuse d,e contradicts --no-fuse e,d"),
        (
            {"fuse": ["d,e", "e,f"], "no_fuse": ["d,f"]},
            "--fuse d,e and --fuse e,f contradicts --no-fuse d,f",
        ),
        ({"pin": ["e"], "fuse": ["e,f"]}, "--pin e contradicts --fuse e,f: the map never leaves"),
        ({"order": ["a", "e", "d", "f"]}, "'e' comes before 'd', whose output 'd' it reads"),
        ({"order": ["a", "d", "f"]}, "--order: 1 layer(s) are missing: e"),
        ({"order": ["a", "a", "d", "e", "f"]}, "--order: this layer comes twice; found 'a'"),
        ({"order": ["a", "b", "d", "e", "f"]}, "--order: no such layer"),
    ],
)
def test_a_demand_that_cannot_be_gets_one_clear_message(given, message):
    with pytest.raises(InputError) as caught:
        wanted(**given)
    assert message in str(caught.value)


def solved(**given):
    return spm_opt.solve(
        chain(), "mobile_npu", overrides={"spm.capacity": given.pop("capacity", "4 KiB")},
        workers=1, time_limit=20, **given,
    )  # fmt: skip


def test_demands_are_met_recorded_and_printed():
    result = solved(no_fuse=["a,d"], pin=["a"], no_pin=["d"], order=["a", "d", "e", "f"])
    made = result.schedule.provenance
    assert made.constraints.no_fuse == (("a", "d"),)
    assert made.order == "given"
    assert not any({"a", "d"} <= {*step.layers} for step in result.schedule.steps)
    held_map = [b for b in result.schedule.buffers if b.kind == "map" and b.tensor == "a_act"]
    assert [b.count for b in held_map] == [8]
    assert not any(t.kind == "store" and t.tensor == "a_act" for t in result.schedule.transfers)
    assert "--pin a_act" in result.summary()
    assert result.to_dict()["constraints"]["pin"] == ["a_act"]
    assert spm_opt.check(result) == ()


def test_strategies_that_cannot_meet_a_demand_say_so():
    with pytest.raises(InputError, match="--pin a_act contradicts --strategy fuse"):
        solved(pin=["a"], strategy="fuse")
    with pytest.raises(InputError, match="--fuse a,d contradicts --strategy pin"):
        solved(fuse=["a,d"], strategy="pin")


def test_a_pin_that_does_not_fit_names_the_bytes():
    with pytest.raises(InputError) as caught:
        solved(pin=["a", "d", "e"], capacity="1 KiB")
    message = str(caught.value)
    assert "--pin a_act" in message
    assert "bytes of scratchpad are needed, 1024 are available" in message
    needed = int(message.split("at least ")[1].split()[0])
    with pytest.raises(InputError, match="are needed"):
        solved(pin=["a", "d", "e"], capacity=f"{needed - 16} B")
    assert solved(pin=["a", "d", "e"], capacity=f"{needed} B").verified


def test_layers_that_no_group_holds_cannot_be_fused():
    b = NetworkBuilder("apart")
    x = b.input("x", (1, 4, 8, 8))
    one, other = b.conv(x, 4, 1, name="one"), b.conv(x, 4, 1, name="other")
    b.output(one, other)
    with pytest.raises(InputError, match="--fuse one,other cannot be met: a group is a run of"):
        spm_opt.solve(b, "mobile_npu", fuse=[("one", "other")], time_limit=20, workers=1)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_order_file_names_layers(tmp_path, text):
    file = tmp_path / "order.txt"
    file.write_text(text)
    with pytest.raises(InputError, match=r"order\.txt: names no layer"):
        solved(order=file)
    file.write_text("a\n\nd\ne\nf\n")
    assert solved(order=file).schedule.provenance.constraints.order == ("a", "d", "e", "f")
    with pytest.raises(InputError, match="cannot read the order"):
        solved(order=tmp_path / "none.txt")
