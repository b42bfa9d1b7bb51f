"""A decision with groups in bands, told as one about the network whose runs are cut.

The joint model sees a group in bands as one step. What is laid out, timed, checked and emitted is
the network in which every band is a run of layers of its own (`spm_opt.graph.bands`), each band
a step, with constants that stay from the first to the last. Nothing is chosen here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from spm_opt.decision import Decision
from spm_opt.fusion import Recipe
from spm_opt.graph.bands import Banded, Bands, banded
from spm_opt.graph.network import Layer, Network
from spm_opt.parts import Part
from spm_opt.problem import Candidate, Problem
from spm_opt.site import Site, feature_maps, make_site, weight_loads


class BandConflictError(Exception):
    """A map is cut into columns by one group, and used otherwise by another one."""


@dataclass(frozen=True, slots=True)
class Told:
    """A decision and what it is about.

    Attributes
    ----------
    reserved : tuple of int
        Bytes of each step that a group in bands occupies in all of its bands.
    """

    site: Site
    problem: Problem
    recipes: tuple[Recipe, ...]
    decision: Decision
    reserved: tuple[int, ...]


def in_bands(site: Site, problem: Problem, recipes: tuple[Recipe, ...], decision: Decision) -> Told:
    """`decision`, told about the network in bands; as it is where it has none.

    Raises
    ------
    BandConflictError
        Where another group needs a map whole that a group in bands cuts.
    """
    chosen = [problem.candidates[k] for k in decision.candidates]
    cut = {s: recipes[c.recipe] for s, c in enumerate(chosen) if recipes[c.recipe].bands}
    if not cut:
        return Told(site, problem, recipes, decision, (0,) * len(chosen))
    return _Teller(site, problem, recipes, decision, cut).told()


def clashing(
    site: Site, problem: Problem, recipes: tuple[Recipe, ...], decision: Decision
) -> frozenset[int]:
    """Maps that a group in bands of `decision` cuts, and of which another group cuts channels."""
    chosen = [problem.candidates[k] for k in decision.candidates]
    cut = _maps_in_bands(chosen, recipes)
    return cut & {t for c in chosen for t in _by_channels(site, site.network, c, recipes[c.recipe])}


def beside_bands(
    site: Site, problem: Problem, recipes: tuple[Recipe, ...], decision: Decision
) -> Problem:
    """`problem` without what cuts the channels of maps that bands of `decision` cut."""
    cut = _maps_in_bands([problem.candidates[k] for k in decision.candidates], recipes)
    return problem.only(
        lambda c: cut.isdisjoint(_by_channels(site, site.network, c, recipes[c.recipe]))
    )


def without_bands(problem: Problem, recipes: tuple[Recipe, ...], maps: frozenset[int]) -> Problem:
    """`problem` without the groups in bands that cut any of these maps."""
    return problem.only(lambda c: not recipes[c.recipe].bands or maps.isdisjoint(_touched(c)))


def _maps_in_bands(chosen: Iterable[Candidate], recipes: tuple[Recipe, ...]) -> frozenset[int]:
    return frozenset(t for c in chosen if recipes[c.recipe].bands for t in _touched(c))


def _touched(candidate: Candidate) -> tuple[int, ...]:
    return (*candidate.reads, *candidate.streams, *candidate.keeps, *candidate.stores)


def _by_channels(
    site: Site, network: Network, candidate: Candidate, recipe: Recipe
) -> frozenset[int]:
    """Maps of which a group in one piece takes some channels at a time.

    The layers are those of `site`; their operators are asked for in `network`, which may be the
    one that the site's was made of.
    """
    sliced = recipe.part is not None and recipe.part.channels is not None
    if recipe.bands or (recipe.axis == "rows" and not sliced):
        return frozenset()
    touched = frozenset(_touched(candidate))
    if recipe.axis == "sums":
        return touched
    layers = [site.layer_at(position) for position in range(*recipe.positions)]
    return touched - {site.map_index[tensor] for tensor in _read_whole(network, layers)}


def _read_whole(network: Network, layers: list[Layer]) -> set[str]:
    """Maps of which every tile and slice of some layers reads all channels."""
    whole: dict[str, bool] = {}
    for layer in layers:
        for operand, own in zip(layer.inputs, network.sliced_reads[layer.name], strict=True):
            whole[operand.tensor] = whole.get(operand.tensor, True) and not own
    return {tensor for tensor, all_channels in whole.items() if all_channels}


class _Teller:
    """Renumbers one decision; holds the tables that its methods share."""

    def __init__(
        self, site: Site, problem: Problem, recipes: tuple[Recipe, ...], decision: Decision,
        cut: Mapping[int, Recipe],
    ) -> None:  # fmt: skip
        self.source, self.problem, self.decision = site, problem, decision
        self.chosen = [problem.candidates[k] for k in decision.candidates]
        self.used = [recipes[c.recipe] for c in self.chosen]
        runs = tuple(
            Bands(tuple(site.layer_at(p).name for p in range(*r.positions)), r.bands, r.kept)
            for r in cut.values()
        )
        self.banded: Banded = banded(site.network, runs)
        self.run_of = {step: number for number, step in enumerate(cut)}
        #: new parts of each old part: one, or one a band
        self.parts_of: dict[int, list[int]] = {}
        self.positions_of: dict[str, int] = {}
        self.source_positions = {site.layer_at(p).name: p for p in range(len(site.order))}
        order, parts = self._order()
        self.site = replace(
            make_site(
                self.banded.network, site.hardware, order, site.aliases, parts, site.energy
            ),
            source=site.network, bands=runs,
        )  # fmt: skip
        self.candidates: list[Candidate] = []
        self.recipes: list[Recipe] = []
        #: new steps of each old one
        self.steps: list[range] = []
        self.reserved: list[int] = []
        #: parts ``[first, end)`` between which each border is there
        self.borders: dict[int, tuple[int, int]] = {}

    def told(self) -> Told:
        for step in range(len(self.chosen)):
            begin = len(self.candidates)
            if step in self.run_of:
                self._bands(step)
            else:
                self._plain(step)
            self.steps.append(range(begin, len(self.candidates)))
        problem = replace(
            self.problem, parts=len(self.site.parts), maps=feature_maps(self.site),
            weights=weight_loads(self.site), candidates=tuple(self.candidates),
        )  # fmt: skip
        return Told(self.site, problem, tuple(self.recipes), self._decision(), tuple(self.reserved))

    # ---------------------------------------------------------------- order and parts

    def _order(self) -> tuple[tuple[int, ...], tuple[Part, ...]]:
        """Layers in order, every run band by band, and how they are cut into parts."""
        index = {layer.name: i for i, layer in enumerate(self.banded.network.layers)}
        begins = {self.used[step].positions[0]: step for step in self.run_of}
        order: list[int] = []
        parts: list[Part] = []
        position = 0
        while position < len(self.source.order):
            step = begins.get(position)
            names = [self.source.layer_at(position).name]
            if step is not None:
                run = self.run_of[step]
                names = [name for band in self.banded.runs[run] for name in band]
                names.append(self.banded.joins[run])
            for name in names:
                self.positions_of[name] = len(order)
                order.append(index[name])
                parts += self._parts(name, index[name], len(parts))
            position = position + 1 if step is None else self.used[step].positions[1]
        return tuple(order), tuple(parts)

    def _parts(self, name: str, index: int, begin: int) -> list[Part]:
        """Parts of a layer, as those of the layer that it stands for; windows have one."""
        known = self.source_positions
        position = known.get(name, known.get(name.rpartition("#")[0]))
        if position is None or name in self.banded.joins:
            return [Part(index, None, 0)]
        found: list[Part] = []
        for number in range(*self.source.spans[position]):
            part = self.source.parts[number]
            self.parts_of.setdefault(number, []).append(begin + len(found))
            found.append(Part(index, part.channels, part.weight_bytes))
        return found

    # ---------------------------------------------------------------- candidates

    def _add(self, candidate: Candidate, recipe: Recipe, reserved: int) -> None:
        self.candidates.append(replace(candidate, recipe=len(self.recipes)))
        self.recipes.append(recipe)
        self.reserved.append(reserved)

    def _plain(self, step: int) -> None:
        """A group in one piece, by its new numbers."""
        old, recipe = self.chosen[step], self.used[step]
        first, end = self.parts_of[old.first][0], self.parts_of[old.end - 1][0] + 1
        begin = self.positions_of[self.source.layer_at(recipe.positions[0]).name]
        positions = begin, begin + recipe.positions[1] - recipe.positions[0]
        layer = self.site.parts[first].layer
        part = None if recipe.part is None else replace(recipe.part, layer=layer)
        candidate = replace(
            old, first=first, end=end, reads=self._maps(old.reads), keeps=self._maps(old.keeps),
            streams=self._maps(old.streams), stores=self._maps(old.stores),
        )  # fmt: skip
        new = replace(recipe, positions=positions, part=part)
        self._check(candidate, new)
        self._add(candidate, new, 0)

    def _check(self, candidate: Candidate, recipe: Recipe) -> None:
        """No channels of a map that is cut into columns, and every map where it is looked for."""
        site, network = self.site, self.site.network
        if set(network.columnar) & {
            site.map_names[t] for t in _by_channels(site, self.source.network, candidate, recipe)
        }:
            raise BandConflictError
        used, made = {*candidate.reads, *candidate.streams}, {*candidate.keeps, *candidate.stores}
        layers = [site.layer_at(p) for p in range(*recipe.positions)]
        inside = {layer.output for layer in layers}
        for name in {o.tensor for layer in layers for o in layer.inputs} - inside:
            place = site.read_from.get(name)
            if site.map_index[name] not in used and (place is None or place.map not in used):
                raise BandConflictError
        last = recipe.positions[1] - 1
        for name in () if recipe.elided else inside:
            place = site.written_into.get(name)
            leaves = site.outside_readers(name, last) or name in network.outputs
            if (
                leaves
                and site.map_index[name] not in made
                and (place is None or place.map not in made)
            ):
                raise BandConflictError

    def _maps(self, numbers: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(self._map(t) for t in numbers))

    def _map(self, number: int) -> int:
        """The new number of a map: of a joined one where it is still joined of the same pieces."""
        own = len(self.source.map_index)
        if number < own:
            return self.site.map_index[self.source.map_names[number]]
        for t, plan in self.site.numbered_joined():
            if plan == self.source.joined[number - own]:
                return t
        raise BandConflictError

    def _bands(self, step: int) -> None:
        """A group in bands: a step each; what it makes is written where the bands are joined."""
        old, recipe = self.chosen[step], self.used[step]
        run = self.run_of[step]
        joined = self._joined(self.banded.joins[run])
        found: Mapping[str, str] = {}
        for number, names in enumerate(self.banded.runs[run]):
            kept = self.banded.borders[run][number]
            first, end = (self.positions_of[name] for name in (names[0], names[-1]))
            positions = first, end + 1
            tail = int(number == len(self.banded.runs[run]) - 1)
            new = replace(recipe, positions=positions, bands=(), tail=tail, kept=())
            spans = self.site.spans
            candidate = replace(
                old, first=spans[first][0], end=spans[end + tail][1],
                reads=self._with(self._maps(old.reads), found), streams=self._maps(old.streams),
                keeps=self._with((joined,) if old.keeps else (), kept),
                stores=(joined,) if old.stores else (),
            )  # fmt: skip
            for t in self._with((), found) + self._with((), kept):
                # from the band that keeps it until the one that finds it has run
                begin, _ = self.borders.get(t, (candidate.first, 0))
                self.borders[t] = begin, candidate.first + 1
            self._add(candidate, new, old.work_bytes - self._border_space(found, kept))
            found = kept

    def _with(self, numbers: Sequence[int], borders: Mapping[str, str]) -> tuple[int, ...]:
        return tuple(sorted((*numbers, *(self.site.map_index[n] for n in borders.values()))))

    def _border_space(self, found: Mapping[str, str], kept: Mapping[str, str]) -> int:
        """Space of borders that are there in a band; a new one as wide lies over the old one."""
        tensors, total = self.site.network.tensors, 0
        for tensor in {**found, **kept}:
            names = (own[tensor] for own in (found, kept) if tensor in own)
            total += sum(map(self.site.aligned, {tensors[name].size_bytes for name in names}))
        return total

    def _joined(self, name: str) -> int:
        output = _layer(self.banded.network.layers, name).output
        for t, plan in self.site.numbered_joined():
            if plan.tensor == output:
                return t
        raise BandConflictError

    # ---------------------------------------------------------------- the decision

    def _decision(self) -> Decision:
        old = self.decision
        leaders = {c.first: s for s, c in enumerate(self.chosen)}
        starts = [-1] * len(self.site.parts)
        for part, leader in enumerate(old.weight_starts):
            if leader >= 0:
                # constants of bands are those of the first
                starts[self.parts_of[part][0]] = self._leader(leaders[leader])
        return Decision(
            tuple(range(len(self.candidates))),
            tuple(
                (self._map(t), self._leader(leaders[first]), self._end(leaders[end - 1]))
                for t, first, end in old.resident
            )
            + tuple((t, *span) for t, span in self.borders.items()),
            tuple((self._map(t), self._leader(leaders[part])) for t, part in old.reloads),
            tuple(starts),
        )

    def _leader(self, step: int) -> int:
        """New part that leads the first of the steps that an old one became."""
        return self.candidates[self.steps[step][0]].first

    def _end(self, step: int) -> int:
        """One behind the new part that leads the last of them."""
        return self.candidates[self.steps[step][-1]].first + 1


def _layer(layers: Iterable[Layer], name: str) -> Layer:
    return next(layer for layer in layers if layer.name == name)
