"""Why no plan meets what a user demands: how much space it takes, or that no space would do."""

from __future__ import annotations

from dataclasses import replace

from spm_opt.constrain import Homes, constrained, homes
from spm_opt.errors import InputError
from spm_opt.fusion import MAX_GROUP_LAYERS, make_candidates
from spm_opt.params import SolveParams
from spm_opt.problem import Candidate, Problem, covering
from spm_opt.site import Site, make_site


def unmet(site: Site, problem: Problem, params: SolveParams) -> InputError:
    """The error for demands that no plan of any order tried meets.

    Parameters
    ----------
    site, problem
        Of one of the orders.
    """
    demands, available = params.constraints, problem.capacity_bytes
    roomy = _with_space_for_all(site, problem, params)
    pins = [homes(site, name) for name in demands.pin]
    needed, worst = 0, 0
    for part, members in enumerate(covering(roomy)):
        found = [_space(roomy, roomy.candidates[k], pins) for k in members]
        if not found:
            return _never(site, part, params)
        if min(found) > needed:
            needed, worst = min(found), part
    texts = ", ".join(demands.texts())
    if needed <= available:
        return InputError(
            f"no {params.strategy} plan meets all demands at once: {texts}", field="constraints"
        )
    layer = site.network.layers[site.parts[worst].layer].name
    alive = [
        f"--pin {name}" for name, home in zip(demands.pin, pins, strict=True)
        if _birth(home) <= worst <= max(home.readers, default=-1)
    ]  # fmt: skip
    return InputError(
        f"{', '.join(alive) or texts} cannot be met: at layer {layer!r} at least {needed} bytes of "
        f"scratchpad are needed, {available} are available",
        field="constraints",
    )


def _never(site: Site, part: int, params: SolveParams) -> InputError:
    """The error where some part cannot run as demanded, whatever the scratchpad."""
    layer = site.network.layers[site.parts[part].layer].name
    for names, given in params.constraints.together():
        if layer in names:
            texts = " and ".join(f"--fuse {','.join(group)}" for group in given)
            return InputError(
                f"{texts} cannot be met: a group is a run of at most {MAX_GROUP_LAYERS} whole "
                "layers, one after another in the order, all of which feed the last one",
                field="constraints",
            )
    texts = ", ".join(params.constraints.texts())
    return InputError(
        f"layer {layer!r} can run in no way that meets all demands: {texts}", field="constraints"
    )


def _with_space_for_all(site: Site, problem: Problem, params: SolveParams) -> Problem:
    """The same order and parts, in a scratchpad that holds everything at once."""
    total = sum(m.size_bytes for m in problem.maps) + sum(w.size_bytes for w in problem.weights)
    spm = replace(site.hardware.spm, capacity_bytes=problem.capacity_bytes + 2 * total)
    roomy = make_site(
        site.network, replace(site.hardware, spm=spm), site.order, site.aliases, site.parts
    )
    offer = make_candidates(roomy, bands=False, blocks=False)
    whole = replace(problem, capacity_bytes=spm.capacity_bytes, candidates=offer.candidates)
    return constrained(roomy, whole, offer.recipes, params.constraints)


def _space(problem: Problem, candidate: Candidate, pins: list[Homes]) -> int:
    """Bytes that a candidate takes at the least, with what is pinned meanwhile."""
    sizes = [m.size_bytes for m in problem.maps]
    weights = sum(w.size_bytes for w in problem.weights[candidate.first : candidate.end])
    total = candidate.work_bytes + (0 if candidate.streams_weights else weights)
    total += sum(sizes[t] for t in candidate.reads)
    for home in pins:
        # a piece may lie in a map that is counted once for all: it is left out
        passing = max(home.writers, default=problem.parts) < candidate.first <= max(
            home.readers, default=-1
        )  # fmt: skip
        if passing and not home.around and not home.all.intersection(candidate.reads):
            total += sizes[min(home.own)]
    return total


def _birth(home: Homes) -> int:
    return min(home.writers, default=min(home.readers, default=0))
