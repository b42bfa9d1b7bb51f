"""What a finished plan says of itself: the figures that every interface prints, and their tables.

Figures are read off the schedule (facts, not search); tables are `rich` renderables for people.
This room must not know how a schedule is found, and it opens no file.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from spm_opt.constraints import Constraints
from spm_opt.graph.bands import border_joins, border_maps
from spm_opt.schedule import Buffer, Claims, Schedule
from spm_opt.units import align_up, format_bytes, format_energy

if TYPE_CHECKING:  # rich takes longer to import than `spm-opt --help` should
    from rich.console import RenderableType
    from rich.table import Table

#: columns of a table that is turned into text; a terminal uses its own width
TEXT_WIDTH = 100


class DramBytes(TypedDict):
    """Bytes over the DRAM pins: all, constants, feature maps."""

    total: int
    weights: int
    feature_maps: int


class AliasBytes(TypedDict):
    """Bytes saved by maps that lie over or inside others.

    ``in_place``: scratchpad bytes of buffers that took over those of another one; ``not_copied``:
    bytes of the maps that concatenations and splits did not have to copy.
    """

    in_place: int
    not_copied: int


class ConstraintFigures(TypedDict):
    """What the user demanded of the plan."""

    pin: list[str]
    no_pin: list[str]
    fuse: list[list[str]]
    no_fuse: list[list[str]]
    order: list[str]


class SolveFigures(TypedDict):
    """One solve in numbers: the object that ``spm-opt solve --json`` prints."""

    model: str
    hardware: str
    strategy: str
    objective: str
    status: str
    latency_cycles: int
    modelled_latency_cycles: int
    latency_lower_bound_cycles: int
    gap: float
    roofline_cycles: int
    compute_cycles: int
    dram_bytes: DramBytes
    dram_footprint_bytes: int
    dram_reused_bytes: int
    energy_fj: EnergyFigures | None
    energy_delay_fj_cycles: int | None
    macs: int
    recomputed_macs: int
    spm_peak_bytes: int
    spm_load_bytes: int
    spm_capacity_bytes: int
    layers: int
    groups: int
    fused_layers: int
    banded_groups: int
    pinned_feature_maps: int
    aliased_bytes: AliasBytes
    solve_seconds: float
    verified: bool
    order: str
    orders_tried: int
    candidates: CandidateFigures
    constraints: ConstraintFigures
    warnings: list[str]


class CandidateFigures(TypedDict):
    """Groups that there were to choose from, and those left out since others are as good."""

    kept: int
    dropped: int


class LargestLayer(TypedDict):
    """The layer with the largest working set: inputs, output and constants, all whole."""

    name: str
    working_set_bytes: int


class InfoFigures(TypedDict):
    """One network in numbers: the object that ``spm-opt info --json`` prints."""

    model: str
    hardware: str
    dtypes: list[str]
    layers: int
    operators: dict[str, int]
    macs: int
    parameters: int
    weight_bytes: int
    feature_map_bytes: int
    largest_layer: LargestLayer
    minimum_spm_bytes: int
    minimum_spm_layer: str
    minimum_peak_bytes: int
    spm_capacity_bytes: int
    warnings: list[str]


class EnergyFigures(TypedDict):
    """Femtojoules by level; of scratchpad and DRAM also by tensor kind."""

    total: int
    mac: int
    register_file: int
    neighbour: int
    vector: int
    spm: int
    dram: int
    leakage: int
    weights: int
    feature_maps: int


class Ratios(TypedDict):
    """A strategy over the best baseline; None where the baseline's number is zero."""

    latency: float | None
    dram_total: float | None
    dram_feature_maps: float | None
    energy: float | None


class ComparisonFigures(TypedDict):
    """Strategies side by side: the object that ``spm-opt compare --json`` prints."""

    model: str
    hardware: str
    best_baseline: str | None
    ratios: dict[str, Ratios]
    strategies: list[SolveFigures]


def energy_figures(claims: Claims) -> EnergyFigures | None:
    """Claimed energy, where there is one."""
    energy = claims.energy
    if energy is None:
        return None
    return EnergyFigures(
        total=energy.total_fj,
        mac=energy.mac_fj,
        register_file=energy.register_file_fj,
        neighbour=energy.neighbour_fj,
        vector=energy.vector_fj,
        spm=energy.spm_fj,
        dram=energy.dram_fj,
        leakage=energy.leakage_fj,
        weights=energy.weights_fj,
        feature_maps=energy.maps_fj,
    )


def relative_gap(value: int, bound: int) -> float:
    """``(value - bound) / value``: how much better than `value` a plan could still be."""
    return (value - bound) / value if value else 0.0


def groups_of(schedule: Schedule) -> list[tuple[str, ...]]:
    """Layers of every group, as the network was given: all bands of a group are one."""
    runs = {f"{run.layers[0]}#": run.layers for run in schedule.bands}
    found: list[tuple[str, ...]] = []
    for step in schedule.steps:
        heads = (f"{name.rpartition('#')[0]}#" for name in step.layers)
        run = next((runs[head] for head in heads if head in runs), None)
        if run is None:
            found.append(step.layers)
        elif not found or found[-1] != run:
            found.append(run)
    return found


def fused_layer_count(schedule: Schedule) -> int:
    """Layers that run in a group with another layer."""
    return sum(len(layers) for layers in groups_of(schedule) if len(layers) > 1)


def _demand_rows(figures: ConstraintFigures) -> list[tuple[str, str]]:
    """A line for each demand of the user; the order is told with the layers'."""
    texts = Constraints(
        tuple(figures["pin"]), tuple(figures["no_pin"]), tuple(map(tuple, figures["fuse"])),
        tuple(map(tuple, figures["no_fuse"])),
    ).texts()  # fmt: skip
    return [("" if n else "demanded", text) for n, text in enumerate(texts)]


def _bands_row(figures: SolveFigures) -> list[tuple[str, str]]:
    """A line for groups in bands of columns, where there are some."""
    count = figures["banded_groups"]
    return [("in bands of columns", f"{count} groups" if count > 1 else "1 group")] if count else []


def pinned_map_count(schedule: Schedule) -> int:
    """Feature maps held whole in SPM past the step that first fills them.

    Borders of bands are no maps of the network.
    """
    held = (b for b in schedule.buffers if b.kind == "map" and b.end_step > b.first_step + 1)
    return len({buffer.tensor for buffer in held} - border_maps(schedule.network))


def spm_load_bytes(schedule: Schedule) -> int:
    """Most bytes that are resident at any step: no placement of these buffers ends lower."""
    resident: list[dict[int, int]] = [{} for _ in schedule.steps]
    for buffer in schedule.buffers:
        for step in range(buffer.first_step, buffer.end_step):
            # buffers that share bytes have one address
            resident[step][_host(schedule, buffer)] = buffer.size_bytes
    return max((sum(sizes.values()) for sizes in resident), default=0)


def _host(schedule: Schedule, buffer: Buffer) -> int:
    """Identity of the bytes that a buffer has: its own, or those that it took over."""
    while buffer.shares is not None:
        buffer = schedule.buffers[buffer.shares]
    return id(buffer)


def alias_bytes(schedule: Schedule) -> AliasBytes:
    """What lies over or inside something else."""
    network = schedule.network
    # what bands are joined from, and see of a map, nobody would copy
    done = {command.layer for command in schedule.computes} | network.windows
    done |= {f"{run.layers[-1]}#join" for run in schedule.bands}
    done |= border_joins(network)
    idle = [layer.output for layer in network.layers if layer.name not in done]
    return AliasBytes(
        in_place=sum(b.size_bytes for b in schedule.buffers if b.shares is not None),
        not_copied=sum(network.tensors[name].size_bytes for name in idle),
    )


def dram_regions(schedule: Schedule) -> list[tuple[int, int]]:
    """Bytes of DRAM ``[begin, end)``, in whole bursts, of every tensor that it holds."""
    network, burst = schedule.network, schedule.hardware.dram.burst_bytes
    sizes = {"weights:" + layer.name: layer.weight_bytes for layer in network.layers}
    # maps first: a tensor of the source may itself be called "weights:..."
    sizes |= {name: tensor.size_bytes for name, tensor in network.tensors.items()}
    return [
        (address, address + align_up(sizes[name], burst))
        for name, address in schedule.dram_addresses.items()
    ]


def solve_figures(schedule: Schedule, *, verified: bool) -> SolveFigures:
    """Every number that a solve reports.

    Parameters
    ----------
    schedule : Schedule
    verified : bool
        Whether the checker accepted it.

    Returns
    -------
    SolveFigures
        ``gap`` is `relative_gap` of the objective (latency or DRAM bytes).
    """
    made, claims = schedule.provenance, schedule.claims
    regions = dram_regions(schedule)
    footprint = max((end for _, end in regions), default=0)
    energy = energy_figures(claims)
    return SolveFigures(
        model=schedule.network.name,
        hardware=schedule.hardware.name,
        strategy=made.strategy,
        objective=made.objective,
        status=made.status,
        latency_cycles=claims.latency_cycles,
        modelled_latency_cycles=made.modelled_latency_cycles,
        latency_lower_bound_cycles=made.latency_lower_bound_cycles,
        gap=relative_gap(made.objective_value, made.objective_bound),
        roofline_cycles=claims.roofline_cycles,
        compute_cycles=claims.compute_cycles,
        dram_bytes=DramBytes(
            total=claims.dram_bytes,
            weights=claims.dram_weight_bytes,
            feature_maps=claims.dram_feature_map_bytes,
        ),
        dram_footprint_bytes=footprint,
        dram_reused_bytes=sum(end - begin for begin, end in regions) - footprint,
        energy_fj=energy,
        energy_delay_fj_cycles=energy["total"] * claims.latency_cycles if energy else None,
        macs=claims.macs,
        recomputed_macs=claims.recomputed_macs,
        spm_peak_bytes=claims.spm_peak_bytes,
        spm_load_bytes=spm_load_bytes(schedule),
        spm_capacity_bytes=schedule.hardware.spm.capacity_bytes,
        layers=len(schedule.origin.layers),
        groups=len(groups_of(schedule)),
        fused_layers=fused_layer_count(schedule),
        banded_groups=len(schedule.bands),
        pinned_feature_maps=pinned_map_count(schedule),
        aliased_bytes=alias_bytes(schedule),
        solve_seconds=made.solve_seconds,
        verified=verified,
        order=made.order,
        orders_tried=made.orders_tried,
        candidates=CandidateFigures(kept=made.candidates, dropped=made.candidates_dropped),
        constraints=_constraint_figures(made.constraints),
        warnings=list(schedule.network.warnings),
    )


def _candidates(figures: CandidateFigures) -> str:
    return f"{figures['kept']:,}, and {figures['dropped']:,} that others are as good as"


def _constraint_figures(demands: Constraints) -> ConstraintFigures:
    return ConstraintFigures(
        pin=list(demands.pin),
        no_pin=list(demands.no_pin),
        fuse=[list(names) for names in demands.fuse],
        no_fuse=[list(names) for names in demands.no_fuse],
        order=list(demands.order),
    )


def comparison_figures(solves: Sequence[SolveFigures]) -> ComparisonFigures:
    """Strategies side by side, with their ratios to the best baseline.

    The best baseline is the strategy other than ``joint`` with the least objective (then the
    least latency, then the first).
    """
    baselines = [solve for solve in solves if solve["strategy"] != "joint"]
    best = min(baselines, key=_merit, default=None)
    return ComparisonFigures(
        model=solves[0]["model"] if solves else "",
        hardware=solves[0]["hardware"] if solves else "",
        best_baseline=best["strategy"] if best else None,
        ratios={solve["strategy"]: _ratios(solve, best) for solve in solves} if best else {},
        strategies=list(solves),
    )


def solve_table(
    figures: SolveFigures, frequency_hz: int | None = None, waits: Sequence[str] = ()
) -> Table:
    """One solve as a two-column table; with the clock, latency in milliseconds too.

    `waits` are lines about what the compute engine stood still for.
    """
    table = _table(f"{figures['model']} on {figures['hardware']}", ("", ""))
    for name, text in _solve_rows(figures, frequency_hz):
        table.add_row(name, text)
    for n, text in enumerate(waits):
        table.add_row("" if n else "compute waits", text)
    return table


def comparison_table(comparison: ComparisonFigures) -> Table:
    """Strategies side by side, one row each."""
    table = _table(
        f"{comparison['model']} on {comparison['hardware']}",
        ("strategy", "status", "latency", "gap", "DRAM", "weights", "maps", "groups", "pinned",
         "latency ratio", "DRAM ratio", "energy", "energy ratio"),
    )  # fmt: skip
    for solve in comparison["strategies"]:
        table.add_row(*_comparison_row(solve, comparison["ratios"].get(solve["strategy"])))
    if comparison["best_baseline"] is not None:
        table.caption = (
            f"latency in cycles, traffic in bytes; ratios to {comparison['best_baseline']}, "
            "the best baseline"
        )
    return table


def info_table(figures: InfoFigures) -> Table:
    """A network as a two-column table."""
    table = _table(figures["model"], ("", ""))
    for name, text in _info_rows(figures):
        table.add_row(name, text)
    return table


def as_text(renderable: RenderableType, width: int = TEXT_WIDTH) -> str:
    """A renderable as plain text, the same on every terminal."""
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, legacy_windows=False).print(renderable)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _table(title: str, headers: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    named = any(headers)
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=named)
    for i, header in enumerate(headers):
        table.add_column(header, justify="right" if i and named else "left", overflow="fold")
    return table


def _merit(solve: SolveFigures) -> tuple[int, int]:
    traffic, latency = solve["dram_bytes"]["total"], solve["latency_cycles"]
    first = {
        "dram": traffic,
        "energy": solve["energy_fj"]["total"] if solve["energy_fj"] else None,
        "edp": solve["energy_delay_fj_cycles"],
    }.get(solve["objective"])
    return (latency, traffic) if first is None else (first, latency)


def _ratio(value: int, base: int) -> float | None:
    return value / base if base else None


def _ratios(solve: SolveFigures, base: SolveFigures) -> Ratios:
    own, other = solve["dram_bytes"], base["dram_bytes"]
    return Ratios(
        latency=_ratio(solve["latency_cycles"], base["latency_cycles"]),
        dram_total=_ratio(own["total"], other["total"]),
        dram_feature_maps=_ratio(own["feature_maps"], other["feature_maps"]),
        energy=_energy_ratio(solve, base),
    )


def _energy_ratio(solve: SolveFigures, base: SolveFigures) -> float | None:
    own, other = solve["energy_fj"], base["energy_fj"]
    return _ratio(own["total"], other["total"]) if own and other else None


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"


def _percent(part: float) -> str:
    return f"{100 * part:.2f} %"


def _size(size_bytes: int) -> str:
    exact = f"{size_bytes:,} B"
    return exact if size_bytes < 1024 else f"{exact} ({format_bytes(size_bytes)})"


def _latency(cycles: int, frequency_hz: int | None) -> str:
    text = f"{cycles:,} cycles"
    return text if frequency_hz is None else f"{text} ({1e3 * cycles / frequency_hz:.3f} ms)"


def _aliased(saved: AliasBytes) -> str:
    return f"{_size(saved['in_place'])} in place, {_size(saved['not_copied'])} not copied"


def _footprint(figures: SolveFigures) -> str:
    saved = figures["dram_reused_bytes"]
    again = f", {_size(saved)} saved by reuse" if saved else ""
    return f"{_size(figures['dram_footprint_bytes'])}{again}"


def _solve_rows(figures: SolveFigures, frequency_hz: int | None) -> list[tuple[str, str]]:
    dram = figures["dram_bytes"]
    latency, roofline = figures["latency_cycles"], figures["roofline_cycles"]
    times = f"; latency is {latency / roofline:.3f} times that" if roofline else ""
    used = figures["spm_peak_bytes"] / figures["spm_capacity_bytes"]
    rows = [
        ("strategy", f"{figures['strategy']}, least {figures['objective']}"),
        ("status", f"{figures['status']}, gap {_percent(figures['gap'])}"),
        ("latency", _latency(latency, frequency_hz)),
        ("  with barriers", f"{figures['modelled_latency_cycles']:,} cycles"),
        ("lower bound", f"{figures['latency_lower_bound_cycles']:,} cycles"),
        ("roofline", f"{roofline:,} cycles{times}"),
        ("compute", f"{figures['compute_cycles']:,} cycles"),
        ("DRAM traffic", _size(dram["total"])),
        ("  weights", _size(dram["weights"])),
        ("  feature maps", _size(dram["feature_maps"])),
        ("DRAM footprint", _footprint(figures)),
        *_energy_rows(figures["energy_fj"], frequency_hz),
        ("MACs", f"{figures['macs']:,} and {figures['recomputed_macs']:,} recomputed"),
        ("SPM peak", f"{_size(figures['spm_peak_bytes'])}, {_percent(used)} of the capacity"),
        ("saved by aliases", _aliased(figures["aliased_bytes"])),
        ("layers", f"{figures['layers']} in {figures['groups']} groups"),
        ("fused layers", str(figures["fused_layers"])),
        *_bands_row(figures),
        ("pinned feature maps", str(figures["pinned_feature_maps"])),
        ("layer order", f"{figures['order']} ({figures['orders_tried']} tried)"),
        ("candidates", _candidates(figures["candidates"])),
        *_demand_rows(figures["constraints"]),
        ("verified", "yes" if figures["verified"] else "no"),
        ("solved in", f"{figures['solve_seconds']:.1f} s"),
    ]
    return rows + [("warning", text) for text in figures["warnings"]]


def _energy_rows(
    energy: EnergyFigures | None, frequency_hz: int | None
) -> list[tuple[str, str]]:  # fmt: skip
    """Levels, then tensor kinds of scratchpad and DRAM; nothing where energy is not known."""
    if energy is None:
        return []

    def row(name: str, part: int) -> tuple[str, str]:
        share = _percent(part / energy["total"]) if energy["total"] else "-"
        return f"  {name}", f"{format_energy(part)}, {share}"

    return [
        ("energy", format_energy(energy["total"])),
        row("MACs", energy["mac"]),
        row("register files", energy["register_file"]),
        row("between PEs", energy["neighbour"]),
        row("vector unit", energy["vector"]),
        row("SPM", energy["spm"]),
        row("DRAM", energy["dram"]),
        row("leakage", energy["leakage"]),
        row("moving weights", energy["weights"]),
        row("moving maps", energy["feature_maps"]),
    ]


def _comparison_row(solve: SolveFigures, ratios: Ratios | None) -> tuple[str, ...]:
    dram, energy = solve["dram_bytes"], solve["energy_fj"]
    return (
        solve["strategy"],
        solve["status"],
        f"{solve['latency_cycles']:,}",
        _percent(solve["gap"]),
        f"{dram['total']:,}",
        f"{dram['weights']:,}",
        f"{dram['feature_maps']:,}",
        str(solve["groups"]),
        str(solve["pinned_feature_maps"]),
        _times(ratios["latency"] if ratios else None),
        _times(ratios["dram_total"] if ratios else None),
        format_energy(energy["total"]) if energy else "-",
        _times(ratios["energy"] if ratios else None),
    )


def _info_rows(figures: InfoFigures) -> list[tuple[str, str]]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in figures["operators"].items())
    largest = figures["largest_layer"]
    minimum = _size(figures["minimum_spm_bytes"])
    rows = [
        ("layers", f"{figures['layers']}: {kinds}"),
        ("element types", ", ".join(figures["dtypes"])),
        ("MACs", f"{figures['macs']:,}"),
        ("parameters", f"{figures['parameters']:,}"),
        ("weights", _size(figures["weight_bytes"])),
        ("feature maps", _size(figures["feature_map_bytes"])),
        ("largest layer", f"{largest['name']}: {_size(largest['working_set_bytes'])}"),
        ("minimum SPM", f"{minimum} in stripes, set by {figures['minimum_spm_layer']}"),
        ("to pin everything", f"{_size(figures['minimum_peak_bytes'])} at least"),
        ("SPM of " + figures["hardware"], _size(figures["spm_capacity_bytes"])),
    ]
    return rows + [("warning", text) for text in figures["warnings"]]
